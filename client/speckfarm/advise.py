"""`farm.advise`: the search for decimators, run as jobs of the farm one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from speckfarm.advice import Advice, AdviceStep, overrun_in, step_of
from speckfarm.check import check_model
from speckfarm.create import create_job
from speckfarm.decimation import Overrun, find_least, most_runs
from speckfarm.errors import BadRequest
from speckfarm.job import Job
from speckfarm.operands import ModelLike, RecordingLike, register_model, register_recordings
from speckfarm.options import QUEUE_KEYS, JobOptions, split_options
from speckfarm.result import Result

if TYPE_CHECKING:
    from speckfarm.connection import Connection

Observer = Callable[[AdviceStep], None]
Wait = Callable[[Job, "float | None"], Result]  # what is left of the time in seconds
RESETS = ("subtract", "zero")


def advise(
    connection: Connection,
    model: ModelLike,
    recordings: Sequence[RecordingLike],
    options: JobOptions,
    *,
    max_runs: int | None,
    runs: Runs,
) -> Advice:
    """Search for the least decimation without overrun, then compare reset modes at it.

    Raises what `run` and `Job.wait` raise, and BadRequest BAD_ARGUMENT for options that the search
    decides itself.
    """
    _check(options, recordings, max_runs)
    sources = _sources(connection, model, options)
    runs.prepare(connection, model, recordings, options)
    bound = most_runs(sources) if max_runs is None else max_runs
    outcome = find_least(runs.measure, sources, max_runs=bound)
    if outcome.verdict == "removed":
        runs.compare_resets(outcome.decimator)
    first = runs.steps[0]
    suspect = outcome.overrun or Overrun(layer=first.suspect, excess=first.excess)
    return Advice(
        verdict=outcome.verdict,
        decimator=outcome.decimator,
        is_least=outcome.is_least,
        suspect=suspect.layer,
        excess=suspect.excess,
        board_kind=runs.board_kind,
        steps=tuple(runs.steps),
        max_runs=bound,
    )


class Runs:
    """The jobs of a search, one after the other; each is on the farm whether or not one waits."""

    def __init__(
        self, *, wait: Wait, observer: Observer | None = None, timeout: float | None = None
    ) -> None:
        self.steps: list[AdviceStep] = []
        self.board_kind: str | None = None
        self._wait = wait
        self._observer = observer
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def prepare(
        self,
        connection: Connection,
        model: ModelLike,
        recordings: Sequence[RecordingLike],
        options: JobOptions,
    ) -> None:
        """Upload what is missing, once for all runs."""
        self._connection = connection
        self._options = options
        self._model = register_model(connection, model)
        self._recordings = register_recordings(connection, recordings)

    def measure(self, decimator: Mapping[int, int]) -> Overrun | None:
        """Run with these decimators; what the run says of its cores."""
        result = self._result({**self._options, "decimator": dict(decimator)})
        reset = self._options.get("reset")
        self._note(
            step_of(
                result,
                decimator=decimator,
                reset=reset if isinstance(reset, str) else None,
                is_search=True,
            )
        )
        return overrun_in(result)

    def compare_resets(self, decimator: Mapping[int, int]) -> None:
        """Run with each reset mode that was not asked for."""
        for reset in RESETS:
            if self._options.get("reset") != reset:
                options = {**self._options, "decimator": dict(decimator), "reset": reset}
                result = self._result(options)
                self._note(step_of(result, decimator=decimator, reset=reset, is_search=False))

    def _result(self, options: Mapping[str, object]) -> Result:
        made = cast("JobOptions", dict(options))
        job = create_job(self._connection, self._model, self._recordings, made)
        left_s = None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
        result = self._wait(job, left_s)
        self.board_kind = result.board_kind
        return result

    def _note(self, step: AdviceStep) -> None:
        self.steps.append(step)
        if self._observer is not None:
            self._observer(step)


def _check(options: JobOptions, recordings: Sequence[RecordingLike], max_runs: int | None) -> None:
    if not recordings:
        raise BadRequest("NO_RECORDING", "advise() needs at least one recording")
    if max_runs is not None and (isinstance(max_runs, bool) or max_runs < 1):
        text = f"max_runs is {max_runs!r}; a whole number from 1 is wanted"
        raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": "max_runs"})
    for name, why in (
        ("decimator", "decimators are what is searched for"),
        ("request_id", "a search is many jobs, each with an id of its own"),
    ):
        if options.get(name):
            text = f"{name} cannot be given: {why}. Leave it out"
            raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": name})


def _sources(
    connection: Connection, model: ModelLike, options: JobOptions
) -> dict[int, tuple[int, ...]]:
    """Layers that feed each layer; a model that cannot run is refused when it is queued."""
    settings, queue = split_options(options, QUEUE_KEYS)
    chip = queue.get("chip")
    report = check_model(connection, model, settings, chip=chip, also_known=QUEUE_KEYS)
    return {layer.layer: layer.sources for layer in report.layers}
