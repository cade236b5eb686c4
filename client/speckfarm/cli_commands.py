"""What each command does: calls on a Farm, and an Answer to print. No parsing, no exit codes."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from speckfarm.benchmark import Benchmark
from speckfarm.cli_output import Answer, Screen, flat
from speckfarm.cli_settings import grid_options, job_options, setting_options, sweep_axes
from speckfarm.cli_wait import JobLines, interruptible
from speckfarm.errors import BadRequest
from speckfarm.farm import Farm
from speckfarm.job import Job, JobEvent
from speckfarm.login import login
from speckfarm.progress import is_watched
from speckfarm.report import Report
from speckfarm.result import Result

MOST_ROWS = 20  # recordings listed in full on a terminal; more become a summary
Command = Callable[[Farm, argparse.Namespace, Screen], None]


class _Listed(Protocol):
    def to_dict(self) -> dict[str, object]: ...


def check(farm: Farm, args: argparse.Namespace, screen: Screen) -> Report:
    """`speckfarm check`."""
    report = farm.check(args.model, chip=args.chip, **setting_options(args))
    verdict = "can run" if report.deployable else "cannot run"
    rows = [layer.to_dict() for layer in report.layers]
    answer = Answer(
        plain=report.to_dict(),
        rows=[flat(f.to_dict()) for f in report.findings] if screen.output == "csv" else rows,
        above=[str(finding) for finding in report.findings],
        below=[f"model {report.model[:12]} {verdict} on {report.chip}"],
    )
    screen.show(answer)
    return report


def run(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm run`."""
    _follow(farm.run(args.model, *args.recordings, **job_options(args)), args, screen)


def flash(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm flash`."""
    _follow(farm.flash(args.model, **job_options(args)), args, screen)


def bench(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm bench`."""
    benchmark = _create_benchmark(farm, args)
    if args.detach:
        screen.show(_benchmarks([benchmark]))
        return
    if screen.is_for_people:
        screen.note(f"benchmark {benchmark.id}: {benchmark.points_total} points")

    def tell(done: int, total: int) -> None:
        if screen.is_for_people:
            screen.note(f"{done} of {total} points")

    again = f"speckfarm bench --resume {benchmark.id}"
    with interruptible(f"Benchmark {benchmark.id}", again, benchmark.cancel, screen):
        benchmark.wait(args.timeout, observer=None if is_watched() else tell)
    if args.csv:
        benchmark.to_csv(args.csv)
    rows = benchmark.table()
    screen.show(Answer(plain=benchmark.to_dict(), rows=rows, columns=_shown_columns(rows)))


def jobs(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm jobs`."""
    found = farm.jobs(states=args.state, user=args.user, benchmark=args.benchmark, limit=args.limit)
    columns = ("job", "state", "user", "chip", "board_kind", "board", "model", "created")
    screen.show(_listed(found, columns))


def show(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm show`."""
    screen.show(_one(farm.job(args.job)))


def watch(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm watch`; raises as `run` does if the job ends without a result."""
    job = farm.job(args.job)
    again = f"speckfarm watch {job.id}"
    with interruptible(f"Job {job.id}", again, job.cancel, screen):
        for event in job.watch(args.timeout):
            screen.show_event(event.to_dict(), _event_words(event))
    job.result()


def cancel(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm cancel`."""
    screen.show(_one(farm.job(args.job).cancel()))


def result(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm result`."""
    screen.show(_result(farm.job(args.job).result()))


def boards(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm boards [drain|undrain ID]`."""
    if args.action != "list" and not args.board:
        raise BadRequest("BAD_ARGUMENT", f"`speckfarm boards {args.action}` needs a board's id")
    if args.action == "drain":
        found = [farm.drain(args.board)]
    elif args.action == "undrain":
        found = [farm.undrain(args.board)]
    else:
        found = farm.boards()
    columns = ("board", "kind", "chip", "state", "health", "enabled", "user", "job", "since")
    screen.show(_listed(found, (*columns, "message")))


def models(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm models`."""
    screen.show(_listed(farm.models(limit=args.limit)))


def recordings(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm recordings`."""
    screen.show(_listed(farm.recordings(limit=args.limit)))


def benches(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm benches`."""
    screen.show(_benchmarks(farm.benchmarks(limit=args.limit)))


def usage(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm usage`."""
    rows = farm.usage(by=args.by, since=args.since)
    screen.show(_listed(rows, _without_empty_names(rows)))


def latency(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm latency`."""
    rows = farm.latency(by=args.by, since=args.since)
    figures = ("n", "p50_us", "p90_us", "p99_us", "max_us", "drain_us", "method")
    columns = [name for name in _without_empty_names(rows) if name != "latency"]
    screen.show(_listed(rows, [*columns, *(f"latency_{name}" for name in figures)]))


def info(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm info`."""
    found = farm.info()
    rows = [{"chip": chip.chip, "boards": chip.boards} for chip in found.chips]
    lines = [
        f"{found.server} runs speckfarm {found.version} and knows you as {found.user}",
        f"{found.queued_jobs} jobs wait, {found.active_jobs} are on boards",
        f"models up to {found.max_model_bytes} bytes, recordings up to "
        f"{found.max_recording_bytes} bytes, benchmarks up to {found.max_benchmark_points} points",
    ]
    screen.show(Answer(plain=found.to_dict(), rows=rows, above=lines))


def log_in(args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm login`; the only command that needs no farm."""
    found = login(
        args.address,
        token=getattr(args, "token", None),
        fingerprint=args.fingerprint,
        accept_any=args.yes,
    )
    line = f"logged in to {found.server} as {found.user}; it is the default now"
    screen.show(Answer(plain=found.to_dict(), above=[line]))


def _create_benchmark(farm: Farm, args: argparse.Namespace) -> Benchmark:
    if args.resume:
        return farm.find_benchmark(args.resume)
    if not args.model or not args.recordings:
        text = "`speckfarm bench` needs a model and at least one recording, or --resume ID"
        raise BadRequest("BAD_ARGUMENT", text)
    many = [args.model, *args.more_models]
    axes = sweep_axes(args.sweep)
    return farm.benchmark(many, *args.recordings, sweep=axes, **grid_options(args))


def _follow(job: Job, args: argparse.Namespace, screen: Screen) -> None:
    if args.detach:
        for finding in job.findings:
            screen.note(str(finding))
        plain = job.to_dict()  # people get the id alone: JOB=$(speckfarm run --detach ...)
        screen.show(Answer(plain=plain, rows=[flat(plain)], above=[job.id], is_drawn=False))
        return
    observer = None if is_watched() else JobLines(screen)
    with interruptible(f"Job {job.id}", f"speckfarm watch {job.id}", job.cancel, screen):
        found = job.wait(args.timeout, observer=observer)
    screen.show(_result(found))


def _result(found: Result) -> Answer:
    rows = [flat(each.to_dict()) for each in found.recordings]
    plain = found.to_dict()
    lines = [str(finding) for finding in found.findings]
    lines.append(
        f"job {found.job_id} on {found.board} ({found.board_kind} {plain['chip']}), "
        f"{found.timings_ms['total']:.0f} ms from accepted to result"
    )
    columns = ["name", "label", "prediction", "input_events", "output_events", "decision_us"]
    columns += ["latency_p50_us", "latency_p99_us", "latency_drain_us"]
    is_drawn = len(rows) <= MOST_ROWS
    below = _figures(found) if is_drawn else [_predictions(found), *_figures(found)]
    return Answer(
        plain=plain, rows=rows, columns=columns, above=lines, below=below, is_drawn=is_drawn
    )


def _figures(found: Result) -> list[str]:
    lags = found.latency
    if lags.n == 0:
        return [found.summary()]
    figures = [
        f"{name} {value:.1f}"
        for name, value in [
            ("p50", lags.p50_us),
            ("p90", lags.p90_us),
            ("p99", lags.p99_us),
            ("max", lags.max_us),
            ("drain", lags.drain_us),
        ]
        if value is not None
    ]
    error = "" if lags.error_us is None else f", error {lags.error_us:.1f}"
    method = f"{lags.n} spikes, {lags.method}{error}"
    return [f"lag in us: {', '.join(figures)} ({method})", found.summary()]


def _predictions(found: Result) -> str:
    counts = Counter(each.prediction for each in found.recordings)
    listed = ", ".join(f"{feature}: {n}" for feature, n in sorted(counts.items()))
    return f"predictions {listed} (every recording: -o csv)"


def _one(job: Job) -> Answer:
    plain = job.to_dict()
    width = max(len(name) for name in plain)
    lines = [f"{k:<{width}}  {_words(v)}" for k, v in plain.items() if k != "settings"]
    return Answer(plain=plain, rows=[flat(plain)], above=lines, is_drawn=False)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return f"{value.get('message')} [{value.get('reason')}]"
    if isinstance(value, list):
        return " ".join(str(each) for each in value) or "-"
    return "-" if value is None else str(value)


def _event_words(event: JobEvent) -> str:
    clock = "" if event.time is None else f"{event.time.astimezone():%H:%M:%S} "
    is_running = event.state == "RUNNING" and event.recordings_done
    words = f"{event.recordings_done} recordings done" if is_running else event.message
    return f"{clock}{event.state} {words}".rstrip()


def _benchmarks(found: Sequence[Benchmark]) -> Answer:
    plain = [benchmark.summary_dict() for benchmark in found]
    axes = [" ".join(f"{k}={','.join(v)}" for k, v in each.axes.items()) for each in found]
    columns = ("benchmark", "user", "created", "chip", "axes", "points_done", "points_total")
    rows = [flat(each | {"axes": words}) for each, words in zip(plain, axes, strict=True)]
    below = [] if plain else ["nothing to list"]
    return Answer(plain=plain, rows=rows, columns=columns, below=below)


def _listed(found: Sequence[_Listed], columns: Sequence[str] = ()) -> Answer:
    plain = [each.to_dict() for each in found]
    below = [] if plain else ["nothing to list"]
    return Answer(plain=plain, rows=[flat(each) for each in plain], columns=columns, below=below)


def _shown_columns(rows: Sequence[dict[str, object]]) -> list[str]:
    hidden = {"job", "lags"} | ({"error"} if not any(row["error"] for row in rows) else set())
    return [name for name in (rows[0] if rows else {}) if name not in hidden]


def _without_empty_names(rows: Sequence[_Listed]) -> list[str]:
    columns = list(rows[0].to_dict()) if rows else []
    named = any(row.to_dict().get("name") for row in rows)
    return [name for name in columns if name != "name" or named]


COMMANDS: dict[str, Callable[[Farm, argparse.Namespace, Screen], object]] = {
    each.__name__: each
    for each in (
        check, run, flash, bench, jobs, show, watch, cancel, result, boards, models, recordings,
        benches, usage, latency, info,
    )
}  # fmt: skip
