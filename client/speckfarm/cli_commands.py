"""What each command does: calls on a Farm, and an Answer to print. No parsing, no exit codes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from speckfarm import cli_answers as answers
from speckfarm.cli_advise import advise
from speckfarm.cli_bench import bench, vary
from speckfarm.cli_comparison import compare
from speckfarm.cli_configuration import configuration
from speckfarm.cli_output import Answer, Screen, bytes_words
from speckfarm.cli_plot import plot
from speckfarm.cli_settings import job_options, setting_options
from speckfarm.cli_wait import JobLines, interruptible
from speckfarm.errors import BadRequest
from speckfarm.farm import Farm
from speckfarm.job import Job, JobEvent, job_dict
from speckfarm.login import login
from speckfarm.progress import is_watched
from speckfarm.report import Report
from speckfarm.rows import (
    read_board,
    read_latency_row,
    read_model,
    read_recording,
    read_usage_row,
)
from speckfarm.v1 import boards_pb2, jobs_pb2, models_pb2, recordings_pb2, usage_pb2


def check(farm: Farm, args: argparse.Namespace, screen: Screen) -> Report:
    """`speckfarm check`."""
    report = farm.check(args.model, chip=args.chip, **setting_options(args))
    name = Path(args.model).name
    screen.show(answers.report_answer(report, name, as_csv=screen.output == "csv"))
    return report


def run(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm run`."""
    if args.compare:
        compare(farm, args, screen)
        return
    for flag, given in (("--repeats", args.repeats), ("--twin", args.twin)):
        if given is not None:
            text = f"{flag} is of --compare twin, which is not given. Leave it out, or add that"
            raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": flag})
    if args.vary:
        vary(farm, args, screen)
        return
    _follow(farm.run(args.model, *args.recordings, **job_options(args)), args, screen)


def flash(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm flash`."""
    _follow(farm.flash(args.model, **job_options(args)), args, screen)


def jobs(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm jobs`."""
    found = farm.jobs(states=args.state, user=args.user, benchmark=args.benchmark, limit=args.limit)
    if args.benchmark and not found:
        farm.find_benchmark(args.benchmark)  # raises NotFound if there is none of that name
    models = (str(job.to_dict()["model"]) for job in found)
    labels = answers.model_labels(farm, filter(None, models)) if screen.is_for_people else {}
    columns = ("job", "state", "user", "chip", "board_kind", "board", "model", "created")
    empty = job_dict(jobs_pb2.Job())
    screen.show(answers.list_answer(found, columns, empty=empty, labels=labels))


def show(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm show`."""
    screen.show(answers.job_answer(farm.job(args.job)))


def watch(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm watch`; raises as `run` does if the job ends without a result."""
    job = farm.job(args.job)
    again = f"speckfarm watch {job.id}"
    last: JobEvent | None = None
    with interruptible(f"Job {job.id}", again, job.cancel, screen):
        for event in job.watch(args.timeout):
            if not screen.is_for_people or _is_news(event, last, job.recordings_total):
                screen.show_event(event.to_dict(), answers.event_words(event))
                last = event
    job.result()


def cancel(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm cancel`."""
    screen.show(answers.job_answer(farm.job(args.job).cancel()))


def result(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm result`."""
    screen.show(answers.result_answer(farm.job(args.job).result()))


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
    if screen.is_for_people:
        screen.show(answers.boards_answer(found))
        return
    screen.show(answers.list_answer(found, empty=read_board(boards_pb2.Board()).to_dict()))


def models(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm models`."""
    empty = read_model(models_pb2.Model()).to_dict()
    screen.show(answers.list_answer(farm.models(limit=args.limit), empty=empty))


def recordings(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm recordings`."""
    empty = read_recording(recordings_pb2.Recording()).to_dict()
    screen.show(answers.list_answer(farm.recordings(limit=args.limit), empty=empty))


def benches(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm benches`."""
    screen.show(answers.benchmarks_answer(farm.benchmarks(limit=args.limit)))


def usage(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm usage`."""
    rows = farm.usage(by=args.by, since=args.since)
    empty = read_usage_row(usage_pb2.UsageRow()).to_dict()
    screen.show(answers.list_answer(rows, answers.without_empty_names(rows), empty=empty))


def latency(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm latency`."""
    rows = farm.latency(by=args.by, since=args.since)
    figures = ("n", "p50_us", "p90_us", "p99_us", "max_us", "drain_us", "method")
    columns = [name for name in answers.without_empty_names(rows) if name != "latency"]
    columns += [f"latency_{name}" for name in figures]
    empty = read_latency_row(usage_pb2.LatencyRow()).to_dict()
    screen.show(answers.list_answer(rows, columns, empty=empty))


def info(farm: Farm, args: argparse.Namespace, screen: Screen) -> None:
    """`speckfarm info`."""
    found = farm.info()
    rows = [{"chip": chip.chip, "boards": chip.boards} for chip in found.chips]
    lines = [
        f"{found.server} runs speckfarm {found.version} and knows you as {found.user}",
        f"{found.queued_jobs} jobs wait, {found.active_jobs} are on boards",
        f"models up to {bytes_words(found.max_model_bytes)}, recordings up to "
        f"{bytes_words(found.max_recording_bytes)}, benchmarks up to "
        f"{answers.counted(found.max_benchmark_points, 'point')}",
    ]
    header = ("chip", "boards")
    screen.show(Answer(plain=found.to_dict(), rows=rows, above=lines, header=header))


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


def _is_news(event: JobEvent, last: JobEvent | None, total: int) -> bool:
    """Whether people want a line: every event, and progress in tenths."""
    if last is None or event.sequence != last.sequence or event.message != last.message:
        return True
    return 10 * event.recordings_done // max(total, 1) > 10 * last.recordings_done // max(total, 1)


def _follow(job: Job, args: argparse.Namespace, screen: Screen) -> None:
    if args.detach:
        for finding in job.findings:
            if finding.severity != "info":
                screen.note(str(finding))
        screen.show(answers.id_answer(job.id, job.to_dict()))
        return
    observer = None if is_watched() else JobLines(screen)
    with interruptible(f"Job {job.id}", f"speckfarm watch {job.id}", job.cancel, screen):
        found = job.wait(args.timeout, observer=observer)
    screen.show(answers.result_answer(found))


COMMANDS: dict[str, Callable[[Farm, argparse.Namespace, Screen], object]] = {
    each.__name__: each
    for each in (
        check, run, flash, configuration, bench, advise, plot, jobs, show, watch, cancel, result,
        boards, models, recordings, benches, usage, latency, info,
    )
}  # fmt: skip
