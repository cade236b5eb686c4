"""`speckfarm run --compare twin`: a real board beside its twin, what differs first."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speckfarm.cli_answers import MOST_ROWS, counted, device_line
from speckfarm.cli_output import Answer, Screen
from speckfarm.cli_settings import job_options
from speckfarm.cli_wait import interruptible
from speckfarm.compare import cancel_all
from speckfarm.errors import BadRequest
from speckfarm.words import FINAL_STATES

if TYPE_CHECKING:
    from speckfarm.comparison import Comparison, Figure, Lags, RecordingComparison
    from speckfarm.farm import Farm
    from speckfarm.job import Job
    from speckfarm.variation import Spread

REPEATS = 5
MOST_NAMES = 5  # in one line
COLUMNS = ("name", "board_per_s", "std_per_s", "twin_per_s", "difference_per_s", "excess")


def compare(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm run --compare twin`; the first Ctrl-C leaves the jobs, a second cancels them."""
    _check(args)
    jobs: list[Job] = []
    seen: dict[str, str] = {}

    def tell(found: Sequence[Job]) -> None:
        jobs[:] = found
        for job in found:
            if screen.is_for_people and seen.get(job.id) != job.last_state:
                screen.note(f"job {job.id} ({job.to_dict()['board_kind']}): {job.last_state}")
            seen[job.id] = job.last_state

    try:
        found = farm.compare(
            args.model,
            *args.recordings,
            repeats=args.repeats or REPEATS,
            twin=args.twin or "",
            timeout=args.timeout,
            observer=tell,
            **job_options(args),
        )
    except KeyboardInterrupt:
        if all(job.last_state in FINAL_STATES for job in jobs):
            raise
        what = f"The comparison ends; each of its jobs {' '.join(job.id for job in jobs)}"
        with interruptible(what, "speckfarm watch JOB", lambda: cancel_all(jobs), screen):
            raise
    screen.show(comparison_answer(found, as_csv=screen.output == "csv"))


def _check(args: argparse.Namespace) -> None:
    for flag, given, why in (
        ("--vary", args.vary, "it repeats a job on boards of one kind"),
        ("--detach", args.detach, "the results meet here, and there is nothing to attach to again"),
        ("--sim", args.sim, "a comparison runs on both kinds of board"),
        ("--real", args.real, "a comparison runs on both kinds of board"),
    ):
        if given:
            text = f"{flag} does not go with --compare: {why}. Leave out one of them"
            raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": flag})


def comparison_answer(found: Comparison, *, as_csv: bool) -> Answer:
    """CSV has a row for each class, layer and recording; the table the first two."""
    figures = [*found.classes, *found.layers]
    shown = figures
    if len(figures) > MOST_ROWS:
        shown = [each for each in figures if each.differs][:MOST_ROWS]
    rows = [_row(each) for each in shown]
    if as_csv:
        rows = [_row(each) | _NO_RECORDING for each in figures]
        rows += [_row(each.output_spikes) | _recording(each) for each in found.recordings]
    below = [] if len(shown) == len(figures) else [_left_out(len(shown), len(figures))]
    below += [*_predictions(found), *_chip_time(found), *_judgement(found), *_warnings(found)]
    return Answer(
        plain=found.to_dict(), rows=rows, columns=COLUMNS, above=_about(found), below=below
    )


def _row(each: Figure) -> dict[str, object]:
    return each.to_dict() | {"board": " ".join(map(str, each.board))}


_NO_RECORDING = dict.fromkeys((
    "recording",
    "label",
    "predictions",
    "twin_prediction",
    "overruns",
    "twin_overrun",
    "endings",
))


def _recording(each: RecordingComparison) -> dict[str, object]:
    """What a row of a recording has besides its spikes."""
    return {
        "recording": each.recording,
        "label": each.label,
        "predictions": " ".join(map(str, each.predictions)),
        "twin_prediction": each.twin_prediction,
        "overruns": " ".join(word or "unknown" for word in each.overruns),
        "twin_overrun": each.twin_overrun,
        "endings": " ".join(word or "unknown" for word in each.endings),
    }


def _about(found: Comparison) -> list[str]:
    repeats = counted(len(found.jobs), "repeat")
    lines = [
        f"board {found.board} (real {found.chip}): {repeats}, jobs {' '.join(found.jobs)}",
        f"twin {found.twin} (simulated {found.chip}): job {found.twin_job}",
    ]
    if (device := found.device) is not None:
        lines.insert(1, device_line(device))
    return lines


def _left_out(shown: int, total: int) -> str:
    return f"{shown} of {total} classes and layers are shown, those that differ (all: -o csv)"


def _predictions(found: Comparison) -> list[str]:
    total = len(found.recordings)
    line = f"predictions: {found.agreeing} of {counted(total, 'recording')} agree with the twin"
    if found.is_judged:
        line += f" in every repeat; {found.changing} change between repeats"
    if found.accuracy is None or found.twin_accuracy is None:
        return [line]
    board = _range(found.accuracy, ".3f")
    return [line, f"accuracy: board {board}, twin {found.twin_accuracy:.3f}"]


def _chip_time(found: Comparison) -> list[str]:
    """Lags and overruns of both, one line each: they are never added up."""
    board = [verdict for each in found.recordings for verdict in each.overruns]
    twin = [each.twin_overrun for each in found.recordings]
    return [
        f"lag in us, board: {_lags(found.lags)}",
        f"lag in us, twin: {_lags(found.twin_lags)}",
        f"overrun, board: {_verdicts(board)} (recordings times repeats); twin: {_verdicts(twin)}",
    ]


def _lags(lags: Lags) -> str:
    figures = {"p50": lags.p50_us, "p99": lags.p99_us, "drain": lags.drain_us}
    listed = ", ".join(f"{k} {_range(v, '.1f')}" for k, v in figures.items() if v is not None)
    if not listed:
        return "none measured"
    error = "" if lags.error_us is None else f", error {lags.error_us:.1f}"
    return f"{listed} ({lags.method}{error})"


def _range(spread: Spread, shape: str) -> str:
    low, high = format(spread.min, shape), format(spread.max, shape)
    return low if low == high else f"{low} to {high}"


def _verdicts(found: Sequence[str | None]) -> str:
    counts = Counter(word or "unknown" for word in found)
    return ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))


def _judgement(found: Comparison) -> list[str]:
    if not found.is_judged:
        return ["one repeat has no spread, so no difference is judged: --repeats 5 would tell"]
    total, differing = len(found.figures), len(found.differences)
    line = (
        f"{differing} of {total} figures (classes, layers, recordings) differ by more than "
        "2 standard deviations of the repeats + 1 spike"
    )
    return [line, *(f"  {_difference(each)}" for each in found.differences[:MOST_NAMES])]


def _difference(each: Figure) -> str:
    sides = f"board {each.mean:g} +- {each.std:.3g} spikes, twin {each.twin}"
    return f"{each.name}: {sides}: {each.excess:.3g} times what is allowed"


def _warnings(found: Comparison) -> list[str]:
    lines = []
    if found.parallel_layers:
        layers = ", ".join(map(str, found.parallel_layers))
        lines.append(
            f"on cores 0 and 1: layer {layers}; these cores work in parallel, so a board need not "
            "repeat itself there"
        )
    if names := found.cut_short:
        listed = ", ".join(names[:MOST_NAMES]) + (" ..." if len(names) > MOST_NAMES else "")
        lines.append(
            f"ended by the drain limit, with spikes still coming: {listed}; what came later is "
            "missing on the board"
        )
    return lines
