"""The `speckfarm` command: parse, do, print, and an exit code that scripts can rely on."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from speckfarm.cli_parser import UsageFault, build_parser, parse

if TYPE_CHECKING:
    from speckfarm.cli_output import Screen
    from speckfarm.errors import SpeckfarmError
    from speckfarm.findings import Finding

OK, BUG, USAGE, REJECTED, FAILED, CANCELLED, EXPIRED, UNREACHABLE, TIMED_OUT = range(9)
INTERRUPTED = 130  # as shells have it: 128 + SIGINT
USAGE_REASONS = frozenset({
    "AXIS_TWICE", "BAD_ADDRESS", "BAD_ARGUMENT", "BAD_TIME", "EXTRA_MISSING", "GRID_EMPTY",
    "GRID_TOO_LARGE", "GROUP_UNKNOWN", "INVALID_ARGUMENT", "NOTHING_TO_PLOT", "NO_RECORDING",
    "PAGE_SIZE_INVALID", "PAGE_TOKEN_INVALID", "REQUEST_ID_INVALID", "SETTING_OUT_OF_RANGE",
    "TIMEOUT_INVALID", "TIME_INVALID", "UNKNOWN_BOARD_KIND", "UNKNOWN_CHIP", "UNKNOWN_GROUP",
    "UNKNOWN_SETTING", "UNKNOWN_STATE",
})  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        args = parse(argv)
    except UsageFault as fault:
        return _print_usage(fault, sys.argv[1:] if argv is None else argv)
    if args.version:
        return _print_version()
    if args.command is None:
        build_parser().print_help()
        return USAGE
    from speckfarm.cli_output import Screen  # after parsing: --help must not cost gRPC

    screen = Screen(getattr(args, "output", "table"))
    try:
        with _shown_log(screen):
            return _guarded(args, screen)
    except BrokenPipeError:  # e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        queued = "; what was queued goes on, `speckfarm jobs` lists it"
        screen.note(
            "interrupted" + (queued if args.command in ("run", "flash", "bench", "advise") else "")
        )
        return INTERRUPTED


@contextmanager
def _shown_log(screen: Screen) -> Iterator[None]:
    from speckfarm.cli_wait import Notes

    logger, notes = logging.getLogger("speckfarm"), Notes()
    if screen.is_for_people:
        logger.addHandler(notes)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(notes)


def _guarded(args: argparse.Namespace, screen: Screen) -> int:
    from speckfarm.cli_wait import Detached
    from speckfarm.errors import SpeckfarmError

    try:
        return _do(args, screen)
    except Detached:
        return OK
    except SpeckfarmError as error:
        screen.error(error, advice(error))
        return exit_code(error)


def _do(args: argparse.Namespace, screen: Screen) -> int:
    from speckfarm.cli_commands import COMMANDS, log_in
    from speckfarm.farm import connect
    from speckfarm.report import Report

    if args.command == "login":
        log_in(args, screen)
        return OK
    if args.command == "export":
        from speckfarm.cli_export import run_export  # needs torch, as few commands do

        return run_export(args, screen)
    with connect(getattr(args, "server", None), getattr(args, "token", None)) as farm:
        outcome = COMMANDS[args.command](farm, args, screen)
    rejected = isinstance(outcome, Report) and not outcome.deployable
    return REJECTED if rejected else OK


def exit_code(error: SpeckfarmError) -> int:
    """The exit code that stands for an error."""
    from speckfarm import errors

    table: list[tuple[type[SpeckfarmError], int]] = [
        (errors.ModelRejected, REJECTED),
        (errors.JobFailed, FAILED),
        (errors.JobCancelled, CANCELLED),
        (errors.JobExpired, EXPIRED),
        (errors.WaitTimeout, TIMED_OUT),
        (errors.FarmUnavailable, UNREACHABLE),
        (errors.Unauthenticated, UNREACHABLE),
        (errors.NotAllowed, UNREACHABLE),
        (errors.NotFound, USAGE),
        (errors.AlreadyExists, USAGE),
        (errors.WrongState, USAGE),
        (errors.FarmFault, BUG),
    ]
    if isinstance(error, errors.BadRequest):  # what is left are files that cannot be read
        return USAGE if error.reason in USAGE_REASONS else REJECTED
    if isinstance(error, errors.Exhausted):
        return REJECTED if error.reason == "UPLOAD_TOO_LARGE" else UNREACHABLE
    return next(code for kind, code in table if isinstance(error, kind))


def advice(error: SpeckfarmError) -> str:
    """What to do, where the message does not say it already."""
    from speckfarm import errors

    table: list[tuple[type[SpeckfarmError], str]] = [
        (errors.ModelRejected, _about_findings(error)),
        (errors.WaitTimeout, _attach_again(error.metadata.get("waited_for", ""))),
        (errors.JobFailed, "`speckfarm show JOB` has the settings; docs/reference/errors.md"),
        (
            errors.JobExpired,
            "`speckfarm boards` shows who has them; raise --queue-timeout",
        ),
        (errors.JobEnded, ""),
        (errors.FarmUnavailable, "see whether the server runs, and --server, SPECKFARM_SERVER"),
        (errors.Unauthenticated, "log in with `speckfarm login HOST:PORT`"),
        (errors.NotAllowed, "ask its owner or the farm's operator"),
        (errors.FarmFault, "report it with the time; the server's log has more"),
    ]
    if error.advice:
        return error.advice
    if "`" in error.message:
        return ""  # it names the command to run
    return next((text for kind, text in table if isinstance(error, kind)), "")


def _about_findings(error: SpeckfarmError) -> str:
    findings = getattr(error, "findings", ())
    about_settings = {each.message.startswith("Setting ") for each in findings if _is_error(each)}
    if about_settings == {True}:
        return "change the settings as the findings say"
    return (
        "change the network"
        + (" and the settings" if True in about_settings else "")
        + (" as the findings say")
    )


def _is_error(finding: Finding) -> bool:
    return finding.severity == "error"


def _attach_again(waited_for: str) -> str:
    kind, _, name = waited_for.partition(" ")
    return f"attach again with `speckfarm {'watch' if kind == 'job' else 'bench --resume'} {name}`"


def _print_usage(fault: UsageFault, words: Sequence[str]) -> int:
    from speckfarm.cli_output import Screen
    from speckfarm.errors import BadRequest

    wants_json = {"json", "-ojson", "--output=json"} & set(words)
    error = BadRequest("BAD_ARGUMENT", str(fault))
    Screen("json" if wants_json else "table").error(error, f"see `{fault.command} --help`")
    return USAGE


def _print_version() -> int:
    import speckfarm

    print(f"speckfarm {speckfarm.__version__}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
