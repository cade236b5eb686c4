"""`farm.compare`: one job some times on a real board and once on a simulated one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

from speckfarm.check import check_model
from speckfarm.create import create_job
from speckfarm.errors import (
    BadRequest,
    FarmUnavailable,
    JobEnded,
    SpeckfarmError,
    WaitTimeout,
    name_in,
)
from speckfarm.job import Job
from speckfarm.lists import list_boards
from speckfarm.operands import ModelLike, RecordingLike, register_model, register_recordings
from speckfarm.options import QUEUE_KEYS, JobOptions, split_options
from speckfarm.patience import Patience
from speckfarm.reattach import PATIENCE_S
from speckfarm.side_by_side import measure_comparison
from speckfarm.words import FINAL_STATES

if TYPE_CHECKING:
    from speckfarm.comparison import Comparison
    from speckfarm.connection import Connection
    from speckfarm.result import Result

Observer = Callable[[Sequence[Job]], None]
Create = Callable[[str, "str | None"], Job]  # kind of board, and which one

# Between two looks at the jobs: several are followed at once, with a call each.
PAUSE_S = 0.5
NEEDS_BOTH = (
    "a comparison needs a real board and a simulated one of the same chip: `speckfarm boards` "
    "lists them, --chip, --board and --twin (in Python chip=, board=, twin=) pick others. Without "
    "a real board `speckfarm run --vary N` shows how much a simulated one varies by itself"
)


def compare(
    connection: Connection,
    model: ModelLike,
    recordings: Sequence[RecordingLike],
    options: JobOptions,
    *,
    repeats: int,
    runs: ComparedRuns,
) -> Comparison:
    """Queue the jobs, wait for them, compare. Raises what `run` and `Job.wait` raise.

    If one job ends without a result the others are cancelled. Raises BadRequest BAD_ARGUMENT for
    options that a comparison decides itself.
    """
    _check(options, recordings, repeats)
    settings, queue = split_options(options, QUEUE_KEYS)
    chip = queue.get("chip")
    report = check_model(connection, model, settings, chip=chip, also_known=QUEUE_KEYS)
    known = register_model(connection, model)
    files = register_recordings(connection, recordings)

    def create(kind: str, board: str | None) -> Job:
        chosen = {**options, "chip": report.chip, "kind": kind, "board": board}
        return create_job(connection, known, files, cast("JobOptions", chosen))

    board = queue.get("board") or _only_board(connection, report.chip)
    found, twin = runs.run(create, repeats=repeats, board=board)
    return measure_comparison(found, twin, report.layers)


class ComparedRuns:
    """The jobs of a comparison; they are on the farm whether or not somebody waits."""

    def __init__(
        self, *, observer: Observer | None = None, timeout: float | None = None, twin: str = ""
    ) -> None:
        self._jobs: list[Job] = []
        self._twin = twin or None  # None: any simulated board
        self._observer = observer
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._patience = Patience(PATIENCE_S)

    def run(
        self, create: Create, *, repeats: int, board: str | None
    ) -> tuple[list[Result], Result]:
        """Results of the repeats and of the twin.

        All is queued at once if the board is known; else the first repeat finds it.
        """
        try:
            first = self._add(create("real", board))
            twin = self._add(create("simulated", self._twin))
            if board is None and repeats > 1:
                self._wait_for([first])
                board = first.result().board
            more = [self._add(create("real", board)) for _ in range(repeats - 1)]
            self._wait_for(self._jobs)
            return [job.result() for job in (first, *more)], twin.result()
        except (WaitTimeout, FarmUnavailable):
            raise  # the jobs go on
        except SpeckfarmError as error:
            cancel_all(self._jobs)
            if error.reason == "NO_MATCHING_BOARD":
                error.advice = NEEDS_BOTH
            raise

    def _add(self, job: Job) -> Job:
        self._jobs.append(job)
        self._tell()
        return job

    def _tell(self) -> None:
        if self._observer is not None:
            self._observer(tuple(self._jobs))

    def _wait_for(self, jobs: Sequence[Job]) -> None:
        """Until these have succeeded; raises the error of any job that ended otherwise."""
        while True:
            try:
                for job in self._jobs:
                    job.refresh()
                self._patience.renew()
            except FarmUnavailable as error:
                self._patience.pause(error, at_most_s=self._left_s())
                continue
            self._tell()
            for job in self._jobs:
                _raise_its_error(job)
            if all(job.last_state == "SUCCEEDED" for job in jobs):
                return
            time.sleep(min(PAUSE_S, self._left_s()))

    def _left_s(self) -> float:
        """Seconds until the time is over; raises WaitTimeout then."""
        left_s = float("inf") if self._deadline is None else self._deadline - time.monotonic()
        if left_s > 0:
            return left_s
        names = " ".join(job.id for job in self._jobs)
        text = f"Stopped waiting for jobs {names}. They were not touched and go on."
        error = WaitTimeout("WAIT_TIMEOUT", text, metadata={"waited_for": f"jobs {names}"})
        error.advice = "`speckfarm result JOB` shows each of them when it has ended"
        raise error


def cancel_all(jobs: Sequence[Job]) -> None:
    """Cancel what has not ended; one that ends meanwhile is left as it is."""
    for job in jobs:
        if job.last_state not in FINAL_STATES:
            with suppress(SpeckfarmError):
                job.cancel()


def _raise_its_error(job: Job) -> None:
    """If it ended without a result."""
    if job.last_state in FINAL_STATES and job.last_state != "SUCCEEDED":
        try:
            job.result()
        except JobEnded as error:
            name_in(error, f"On the {job.to_dict()['board_kind']} board")
            raise


def _check(options: JobOptions, recordings: Sequence[RecordingLike], repeats: int) -> None:
    if not recordings:
        raise BadRequest("NO_RECORDING", "compare() needs at least one recording")
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        text = f"repeats is {repeats!r}; a whole number from 1 is wanted"
        raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": "repeats"})
    for name, why in (
        ("kind", "a comparison runs on a real board and on a simulated one"),
        ("request_id", "a comparison is many jobs, each with an id of its own"),
    ):
        if options.get(name):
            text = f"{name} cannot be given: {why}. Leave it out"
            raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": name})


def _only_board(connection: Connection, chip: str) -> str | None:
    """The farm's real board of this chip; None if there are several or none."""
    fitting = [
        each for each in list_boards(connection) if each.kind == "real" and each.chip == chip
    ]
    return fitting[0].board if len(fitting) == 1 else None
