"""`speckfarm bench` and `speckfarm run --vary`: grids of jobs, and how much their outputs vary."""

from __future__ import annotations

import argparse
from pathlib import Path

from speckfarm import cli_answers as answers
from speckfarm.benchmark import Benchmark
from speckfarm.cli_files import check_writable, unwritable
from speckfarm.cli_output import Screen
from speckfarm.cli_settings import grid_options, setting_options, sweep_axes
from speckfarm.cli_variation import variation_answer
from speckfarm.cli_wait import interruptible
from speckfarm.errors import BadRequest, JobCancelled
from speckfarm.farm import Farm
from speckfarm.progress import is_watched

# Of `run`, and not of a benchmark.
_JOB_FLAGS = ("board", "queue_timeout", "run_timeout", "keep_lags")


def bench(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm bench`; raises JobCancelled after the table if points were cancelled."""
    if args.csv:
        check_writable("--csv", Path(args.csv))  # before hours of work
    benchmark = _find_benchmark(farm, args) if args.resume else _create_benchmark(farm, args)
    if args.detach:
        screen.show(answers.id_answer(benchmark.id, benchmark.summary_dict()))
        return
    again = f"speckfarm bench --resume {benchmark.id}" + (" --variation" * args.variation)
    _wait(benchmark, again, args, screen)
    rows = benchmark.table()
    if args.variation:
        screen.show(variation_answer(benchmark.variation(), as_csv=screen.output == "csv"))
    else:
        models = (str(row["model"]) for row in rows)
        labels = answers.model_labels(farm, models) if screen.is_for_people else {}
        screen.show(answers.benchmark_answer(benchmark, labels))
    if args.csv:
        _write_csv(benchmark, Path(args.csv))
    if cancelled := sum(row["state"] == "CANCELLED" for row in rows):
        total = answers.counted(benchmark.points_total, "point")
        text = f"Benchmark {benchmark.id}: {cancelled} of {total} cancelled"
        raise JobCancelled("JOB_CANCELLED", text, metadata={"benchmark": benchmark.id})


def vary(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm run --vary N`."""
    for name in _JOB_FLAGS:
        if getattr(args, name):
            flag = f"--{name.replace('_', '-')}"
            text = (
                f"{flag} is of single jobs; --vary queues a benchmark, which runs on every board "
                f"of its kind. Leave out one of them"
            )
            raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": flag})
    benchmark = farm.vary(args.model, *args.recordings, runs=args.vary, **grid_options(args))
    if args.detach:
        screen.show(answers.id_answer(benchmark.id, benchmark.summary_dict()))
        return
    _wait(benchmark, f"speckfarm bench --resume {benchmark.id} --variation", args, screen)
    screen.show(variation_answer(benchmark.variation(), as_csv=screen.output == "csv"))


def _wait(benchmark: Benchmark, again: str, args: argparse.Namespace, screen: Screen) -> None:
    total = answers.counted(benchmark.points_total, "point")
    if screen.is_for_people:
        screen.note(f"benchmark {benchmark.id}: {total}")

    def tell(done: int, _: int) -> None:
        if screen.is_for_people:
            screen.note(f"{done} of {total}")

    with interruptible(f"Benchmark {benchmark.id}", again, benchmark.cancel, screen):
        benchmark.wait(args.timeout, observer=None if is_watched() else tell)


def _create_benchmark(farm: Farm, args: argparse.Namespace) -> Benchmark:
    if not args.model or not args.recordings:
        text = "`speckfarm bench` needs a model and at least one recording, or --resume ID"
        raise BadRequest("BAD_ARGUMENT", text)
    many = [args.model, *args.more_models]
    axes = sweep_axes(args.sweep)
    return farm.benchmark(many, *args.recordings, sweep=axes, **grid_options(args))


def _find_benchmark(farm: Farm, args: argparse.Namespace) -> Benchmark:
    given = [args.model, args.recordings, args.more_models, args.sweep, args.chip]
    if any(given) or args.sim or args.real or setting_options(args):
        text = "--resume attaches to a benchmark as it was made; give no models, files or settings"
        raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": "--resume"})
    return farm.find_benchmark(args.resume)


def _write_csv(benchmark: Benchmark, path: Path) -> None:
    try:
        benchmark.to_csv(path)
    except OSError as error:  # e.g. the disk is full by now
        raise unwritable("--csv", path, error.strerror or str(error)) from None
