"""The `speckfarm` command: parse, do, print, and an exit code that scripts can rely on."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from speckfarm.cli_parser import build_parser

if TYPE_CHECKING:
    from speckfarm.cli_output import Screen
    from speckfarm.errors import SpeckfarmError

OK, BUG, USAGE, REJECTED, FAILED, CANCELLED, EXPIRED, UNREACHABLE, TIMED_OUT = range(9)
USAGE_REASONS = frozenset({
    "AXIS_TWICE", "BAD_ADDRESS", "BAD_ARGUMENT", "BAD_TIME", "GRID_EMPTY", "GRID_TOO_LARGE",
    "GROUP_UNKNOWN", "INVALID_ARGUMENT", "NO_RECORDING", "PAGE_SIZE_INVALID", "PAGE_TOKEN_INVALID",
    "REQUEST_ID_INVALID", "SETTING_OUT_OF_RANGE", "TIMEOUT_INVALID", "TIME_INVALID",
    "UNKNOWN_BOARD_KIND", "UNKNOWN_CHIP", "UNKNOWN_GROUP", "UNKNOWN_SETTING", "UNKNOWN_STATE",
})  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.version:
        return _print_version()
    if args.command is None:
        parser.print_help()
        return USAGE
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # our own errors say what is wrong
    from speckfarm.cli_output import Screen  # after parsing: --help must not cost gRPC

    screen = Screen(getattr(args, "output", "table"))
    try:
        with _shown_log(screen):
            return _guarded(args, screen)
    except BrokenPipeError:  # e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        screen.note("interrupted; what was queued goes on, `speckfarm jobs` lists it")
        return CANCELLED


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
        (
            errors.ModelRejected,
            "change the network as the findings say",
        ),
        (errors.WaitTimeout, "attach again with `speckfarm watch JOB` or `bench --resume ID`"),
        (errors.JobFailed, "`speckfarm show JOB` has the settings; docs/reference/errors.md"),
        (
            errors.JobExpired,
            "`speckfarm boards` shows who has them; raise --queue-timeout",
        ),
        (errors.JobEnded, ""),
        (errors.FarmUnavailable, "see whether the server runs, and --server, SPECKFARM_SERVER"),
        (errors.Unauthenticated, "log in with `speckfarm login HOST:PORT`"),
        (errors.NotAllowed, "ask the job's owner or the farm's operator"),
        (errors.FarmFault, "report it with the time; the server's log has more"),
    ]
    if "`" in error.message:
        return ""  # it names the command to run
    return next((text for kind, text in table if isinstance(error, kind)), "")


def _print_version() -> int:
    import speckfarm

    print(f"speckfarm {speckfarm.__version__}")
    return OK


if __name__ == "__main__":
    sys.exit(main())
