"""How often the overrun verdict is right, and how far off estimated lags are.

    python benchmarks/overrun_sweep.py [--runs 700] [--seed 100000] [--processes 2]

Each run is a network, a recording and a board, a twin whose constants the estimator does not know
(overrun_cases.py). Truth is how late the board's input came in: for more than 1 % of the recording
is an overrun, never by more than 1 us is healthy, and what lies between is not scored. Runs are
numbered from `--seed`; those below 100000 were used to develop the rules.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from overrun_cases import Case, Played, draw, play

from speckfarm_server.align import Outputs
from speckfarm_server.estimate import Track, track
from speckfarm_server.overrun import HELD_BACK_SHARE, Overrun, Verdict, judge
from speckfarm_server.unloaded import UnloadedTwin

HEALTHY_US = 1.0
AS_BUSY = 0.95  # cores this near to the busiest one are as guilty
TRUTHS = ("overrun", "healthy", "between")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run, judged."""

    seed: int
    truth: str
    overrun: Overrun
    share: float  # busy time of the named core over that of the busiest; 0 without a name
    is_busiest: bool
    error_us: tuple[float, float] | None  # of lags: median and 90th percentile; None: no lags
    covered: float  # share of lags whose error is within the one stated
    is_artefact: bool  # start-up burst, or a step of the stamps
    words: str


def main() -> None:
    """Run all and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=700)
    parser.add_argument("--seed", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    began_s = time.perf_counter()
    seeds = range(arguments.seed, arguments.seed + arguments.runs)
    run_case(arguments.seed)  # compiles once
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        runs = pool.map(run_case, seeds, chunksize=4)
    print(f"{len(runs)} runs in {time.perf_counter() - began_s:.0f} s")
    print_confusion(runs)
    print_guilty(runs)
    print_errors(runs)


def run_case(seed: int) -> Run:
    """Draw, play and judge one run."""
    case = draw(seed)
    played = play(case)
    tracks, overrun = estimate_and_judge(case, played)
    exit_layer = len(case.configuration.cores) - 1
    mine = played.lag_us[played.layer == exit_layer]
    error_us, covered = None, 1.0
    exit_track = next((each for each in tracks if each.layer == exit_layer), None)
    if exit_track is not None:
        off_us = np.abs(exit_track.lags_us - mine)
        off_us = off_us[~np.isnan(off_us)]
        error_us = (float(np.median(off_us)), float(np.quantile(off_us, 0.9)))
        covered = float(np.mean(off_us <= exit_track.error_us))
    return Run(
        seed=seed,
        truth=truth_of(case, played),
        overrun=overrun,
        share=0.0 if overrun.layer is None else float(played.share[overrun.layer]),
        is_busiest=overrun.layer == played.guilty,
        error_us=error_us,
        covered=covered,
        is_artefact=case.start_burst_us > 0 or case.stamps.step_us != 0,
        words=(
            f"{case.network}, {case.pattern}, {case.duration_us / 1e3:.0f} ms, "
            f"{len(mine)} outputs, held back {played.held_back_us / 1e3:.2f} ms, "
            f"depth {case.hidden.fifo_depth}"
        ),
    )


def truth_of(case: Case, played: Played) -> str:
    """One of TRUTHS."""
    if played.held_back_us > HELD_BACK_SHARE * case.duration_us:
        return "overrun"
    return "healthy" if played.held_back_us <= HEALTHY_US else "between"


def estimate_and_judge(case: Case, played: Played) -> tuple[list[Track], Overrun]:
    """What the farm would do with the outputs of a real board."""
    twin = UnloadedTwin(case.configuration)
    for _ in twin.run(case.packed):
        pass
    tracks = []
    for core in reversed(case.configuration.cores):
        mine = played.layer == core.layer
        outputs = Outputs(t_us=played.stamp_us[mine], address=played.address[mine])
        predicted, cause = twin.result.of(core.layer)
        found = track(core.layer, outputs, predicted, cause, twin.result.demand)
        tracks += [] if found is None else [found]
    return tracks, judge(tracks, twin.result.demand)


def print_confusion(runs: Sequence[Run]) -> None:
    """Truth against verdict, and why nothing was concluded."""
    counts = Counter((run.truth, run.overrun.verdict.value) for run in runs)
    print(f"\n{'truth':12}" + "".join(f"{verdict.value:>14}" for verdict in Verdict))
    for truth in TRUTHS:
        print(f"{truth:12}" + "".join(f"{counts[truth, v.value]:14}" for v in Verdict))
    scored = [run for run in runs if run.truth != "between" and is_concluded(run)]
    right = sum(is_right(run) for run in scored)
    print(f"right: {right} of {len(scored)} scored and concluded = {right / len(scored):.2%}")
    wrong = [run for run in scored if not is_right(run)]
    called = sum(run.is_artefact for run in wrong if run.truth == "healthy")
    artefacts = sum(run.is_artefact and run.truth == "healthy" for run in runs)
    print(f"start-up bursts and steps called drift: {called} of {artefacts} healthy runs with them")
    for run in wrong:
        print(f"  wrong: {run.seed} {run.truth} {run.overrun.verdict.value}: {run.words}")
    why = Counter((run.truth, run.overrun.why) for run in runs if not is_concluded(run))
    for (truth, words), count in sorted(why.items(), key=lambda item: TRUTHS.index(item[0][0])):
        print(f"  INCONCLUSIVE, {truth}: {count:3} {words}")


def is_concluded(run: Run) -> bool:
    """Whether the verdict says something."""
    return run.overrun.verdict is not Verdict.INCONCLUSIVE


def is_right(run: Run) -> bool:
    """Whether a verdict is the truth, of a run that is scored and concluded."""
    return (run.overrun.verdict is Verdict.EXCEEDED) == (run.truth == "overrun")


def print_guilty(runs: Sequence[Run]) -> None:
    """How often the right core was named in overruns."""
    named = [run for run in runs if run.truth == "overrun" and run.overrun.layer is not None]
    busiest = sum(run.is_busiest for run in named)
    near = sum(run.share >= AS_BUSY for run in named)
    print(f"\nnamed core is the busiest: {busiest} of {len(named)} = {busiest / len(named):.1%}")
    print(f"named core is as busy within {1 - AS_BUSY:.0%}: {near} = {near / len(named):.1%}")
    for run in named:
        if not run.is_busiest:
            print(f"  {run.seed}: named one is {run.share:.2f} as busy as the busiest: {run.words}")


def print_errors(runs: Sequence[Run]) -> None:
    """How far estimated lags are from the truth, by the truth of the run."""
    print("\nerror of lags, exit layer   runs   p50 of p50   p90 of p90   within error_us")
    for truth in TRUTHS:
        measured = [run for run in runs if run.truth == truth and run.error_us is not None]
        middle = np.median([run.error_us[0] for run in measured if run.error_us])
        high = np.quantile([run.error_us[1] for run in measured if run.error_us], 0.9)
        covered = np.mean([run.covered for run in measured])
        print(f"{truth:26}{len(measured):6}{middle:10.0f} us{high:10.0f} us{covered:17.1%}")


if __name__ == "__main__":
    main()
