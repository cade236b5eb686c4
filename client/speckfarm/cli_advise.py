"""`speckfarm advise`: decimators that remove an overrun, as a table and ready to paste."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from speckfarm.cli_flags import limit

if TYPE_CHECKING:
    from speckfarm.advice import Advice, AdviceStep
    from speckfarm.cli_output import Answer, Row, Screen
    from speckfarm.farm import Farm
    from speckfarm.job import Job
    from speckfarm.result import Result

TEXT = "find the least decimation that removes an overrun"
COLUMNS = (
    "run", "decimator", "reset", "overrun", "accuracy", "output_spikes", "p99_us", "drain_us",
    "busiest_layer", "msynops_per_s", "msynops_limit", "job",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the queue and the settings."""
    parser.add_argument("model", metavar="MODEL", help="model file, or digest or name on the farm")
    parser.add_argument("recordings", metavar="RECORDING", nargs="+", help="recording file, digest")
    parser.add_argument(
        "--max-runs", metavar="N", type=limit,
        help="at most N runs of the search; default 1 + 8 for each layer that feeds another one",
    )  # fmt: skip
    parser.add_argument(
        "--keep-lags", action="store_true", help="keep every lag beside each result, for `plot`"
    )


def advise(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm advise`; Ctrl-C ends the search and leaves its present job as `run` does."""
    from speckfarm.cli_settings import job_options
    from speckfarm.cli_wait import interruptible

    def wait(job: Job, left_s: float | None) -> Result:
        what = f"Job {job.id} of the search"
        with interruptible(what, f"speckfarm watch {job.id}", job.cancel, screen):
            return job.wait(left_s)

    def tell(step: AdviceStep) -> None:
        if screen.is_for_people:
            screen.note(_words(step))

    advice = farm.advise(
        args.model,
        *args.recordings,
        max_runs=args.max_runs,
        timeout=args.timeout,
        observer=tell,
        wait=wait,
        **job_options(args),
    )
    screen.show(advice_answer(advice))


def advice_answer(advice: Advice) -> Answer:
    """The runs as a table, then what they say and what to paste."""
    from speckfarm.cli_output import Answer

    rows = [_row(number, step) for number, step in enumerate(advice.steps, start=1)]
    below = [str(advice)]
    if advice.after is not None:
        below += [*_costs(advice.before, advice.after), f"  speckfarm run ... {advice.flags}"]
        below.append(f"  farm.run(..., {advice.keywords})")
    return Answer(plain=advice.to_dict(), rows=rows, columns=COLUMNS, below=below)


def _row(number: int, step: AdviceStep) -> Row:
    return {
        "run": number,
        "decimator": _decimator(step),
        "reset": step.reset,
        "overrun": _overrun(step),
        "accuracy": step.accuracy,
        "output_spikes": step.output_spikes,
        "p99_us": step.p99_us,
        "drain_us": step.drain_us,
        "drift_us_per_s": step.drift_us_per_s,
        "busiest_layer": step.busiest_layer,
        "msynops_per_s": _millions(step.synops_per_s),
        "msynops_limit": _millions(step.synops_limit),
        "job": step.job,
    }


def _decimator(step: AdviceStep) -> str:
    return " ".join(f"{layer}={n}" for layer, n in step.decimator.items()) or "off"


def _overrun(step: AdviceStep) -> str:
    if step.overrun:
        return _suspect(step)
    return "inconclusive" if step.inconclusive else "no"


def _suspect(step: AdviceStep) -> str:
    where = "yes" if step.suspect is None else f"layer {step.suspect}"
    return where if step.excess is None else f"{where}, x{step.excess:.2g}"


def _words(step: AdviceStep) -> str:
    what = f"decimator {_decimator(step)}" + ("" if step.is_search else f", reset {step.reset}")
    return f"{what}: " + (f"overrun ({_suspect(step)})" if step.overrun else "no overrun")


def _costs(before: AdviceStep, after: AdviceStep) -> list[str]:
    """Figures before and after, on one line."""
    figures = {
        "accuracy": (before.accuracy, after.accuracy, "{:.3g}"),
        "p99 lag in us": (before.p99_us, after.p99_us, "{:.1f}"),
        "drain in us": (before.drain_us, after.drain_us, "{:.1f}"),
        "output spikes": (before.output_spikes, after.output_spikes, "{:d}"),
    }
    listed = ", ".join(
        f"{name} {shape.format(one)} -> {shape.format(other)}"
        for name, (one, other, shape) in figures.items()
        if one is not None and other is not None
    )
    return [listed]


def _millions(rate: float | None) -> float | None:
    return None if rate is None else round(rate / 1e6, 3)
