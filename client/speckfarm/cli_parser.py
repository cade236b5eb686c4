"""The command line of `speckfarm`, as argparse knows it; docs/reference/cli.md describes it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import NoReturn, TypeAlias

from speckfarm import cli_advise, cli_configuration, cli_plot
from speckfarm.cli_export import add_export
from speckfarm.cli_flags import SETTING_FLAGS, limit, seconds

Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"

DESCRIPTION = "Run spiking networks on a lab's Speck boards, or on simulated ones."
EPILOG = (
    "Exit codes: 0 ok, 1 a bug, 2 usage, 3 rejected by the check or unreadable, 4 job failed, "
    "5 cancelled, 6 expired in the queue, 7 unreachable or not allowed, 8 client timeout."
)


class UsageFault(Exception):
    """The command line cannot be understood; `command` is what to ask for help."""

    def __init__(self, message: str, command: str) -> None:
        super().__init__(message)
        self.command = command


class Parser(argparse.ArgumentParser):
    """Raises instead of printing ten lines of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageFault."""
        raise UsageFault(message, self.prog)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line. Raises UsageFault, with the nearest option if one is unknown."""
    parser = build_parser()
    try:
        args, rest = parser.parse_known_args(words)
    except UsageFault as fault:
        raise _explained(fault, parser, sys.argv[1:] if words is None else words) from None
    unknown = [word for word in rest if word.startswith("-")]
    if rest and not unknown and hasattr(args, "recordings"):
        args.recordings += rest  # argparse wants all operands in one piece; people do not
        return args
    if not rest:
        return args
    command = _subparsers(parser).choices[args.command] if args.command else parser
    if not unknown:
        raise UsageFault(f"{rest[0]} is one argument too many", command.prog)
    raise _unknown_option(command, unknown[0])


def build_parser() -> Parser:
    """The whole command line."""
    parser = Parser("speckfarm", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    _add_common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_model_commands(commands)
    _add_bench(commands)
    _add_diagnosis(commands)
    _add_job_commands(commands)
    _add_lists(commands)
    _add_common(add_export(commands))
    _add_login(commands)
    return parser


def _explained(fault: UsageFault, parser: Parser, words: Sequence[str]) -> UsageFault:
    """Names a misspelt command, or an unknown option that hides behind missing operands."""
    commands = _subparsers(parser).choices
    command = next((each for each in commands.values() if each.prog == fault.command), None)
    if command is None:
        wrong = next((word for word in words if f"invalid choice: {word!r}" in str(fault)), None)
        near = get_close_matches(wrong or "", commands, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(commands)}"
        text = f"No command is called {wrong}{hint}" if wrong and commands else str(fault)
        return UsageFault(text if "COMMAND" in str(fault) else str(fault), fault.command)
    if "-o/--output" in str(fault) and "--out" in command._option_string_actions:
        return UsageFault(f"{fault}; the file to write is -O FILE", fault.command)
    flags = [word.partition("=")[0] for word in words if word.startswith("--")]
    known = tuple(command._option_string_actions)
    unknown = [flag for flag in flags if not any(each.startswith(flag) for each in known)]
    if unknown and "required" in str(fault):
        return _unknown_option(command, unknown[0])
    return fault


def _unknown_option(command: Parser, word: str) -> UsageFault:
    flag = word.partition("=")[0]
    known = command._option_string_actions  # argparse shows no list
    near = get_close_matches(flag, known, n=1)
    if flag == "--kind" and "--real" in known:
        near = ["--real or --sim"]  # as kind= of Python is spelt here
    hint = f"; did you mean {near[0]}?" if near else ""
    return UsageFault(f"{command.prog} has no option {flag}{hint}", command.prog)


def _subparsers(parser: Parser) -> Subparsers:
    return next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))


def _add_model_commands(commands: Subparsers) -> None:
    check = _command(commands, "check", "tell whether a model would run, and why not")
    check.add_argument("model", metavar="FILE", help="model file, or digest or name on the farm")
    check.add_argument("--chip", help="chip, e.g. speck2f; default: the farm's first")
    _add_settings(check)
    run = _command(commands, "run", "run a model on recordings and wait for the result")
    run.add_argument("model", metavar="MODEL", help="model file, or digest or name on the farm")
    run.add_argument("recordings", metavar="RECORDING", nargs="+", help="recording file, or digest")
    _add_queue(run)
    run.add_argument("--keep-lags", action="store_true", help="keep every lag beside the result")
    run.add_argument(
        "--vary", metavar="N", type=limit,
        help="run N more times with the unknown order varied; show how much the outputs vary",
    )  # fmt: skip
    run.add_argument(
        "--compare", choices=("twin",),
        help="run on a real board and on a simulated one, and show where they differ",
    )  # fmt: skip
    run.add_argument(
        "--repeats", metavar="N", type=limit, help="of --compare on the real board; default 5"
    )
    run.add_argument("--twin", metavar="ID", help="of --compare, this simulated board; default any")
    _add_settings(run)
    flash = _command(commands, "flash", "configure a board with a model, without recordings")
    flash.add_argument("model", metavar="MODEL", help="model file, or digest or name on the farm")
    _add_queue(flash)
    _add_settings(flash)
    fetch = _command(commands, "configuration", cli_configuration.TEXT)
    cli_configuration.add_arguments(fetch)
    _add_settings(fetch)


def _add_bench(commands: Subparsers) -> None:
    bench = _command(commands, "bench", "run models over a grid of settings; ends in one table")
    bench.add_argument("model", metavar="MODEL", nargs="?", help="model file, digest or name")
    bench.add_argument("recordings", metavar="RECORDING", nargs="*", help="recording files")
    bench.add_argument(
        "--model", dest="more_models", metavar="FILE", action="append", default=[],
        help="a further model; may be repeated",
    )  # fmt: skip
    bench.add_argument(
        "--sweep", metavar="KEY=V1,V2", action="append", default=[],
        help="a setting and its values, e.g. decimator.0=off,2,4; may be repeated",
    )  # fmt: skip
    bench.add_argument("--csv", metavar="FILE", help="write the table to a file as well")
    bench.add_argument(
        "--variation", action="store_true",
        help="show how much outputs vary between the points instead of the table",
    )  # fmt: skip
    bench.add_argument("--resume", metavar="ID", help="attach to an existing benchmark again")
    _add_kind(bench)
    _add_waiting(bench)
    _add_settings(bench)


def _add_diagnosis(commands: Subparsers) -> None:
    advise = _command(commands, "advise", cli_advise.TEXT)
    cli_advise.add_arguments(advise)
    _add_board(advise)
    _add_timeout(advise)
    _add_settings(advise)
    cli_plot.add_arguments(_command(commands, "plot", cli_plot.TEXT))


def _add_job_commands(commands: Subparsers) -> None:
    jobs = _command(commands, "jobs", "list jobs, newest first")
    jobs.add_argument("--state", action="append", default=[], help="only this state; repeatable")
    jobs.add_argument("--user", help="only this user's")
    jobs.add_argument("--benchmark", metavar="ID", help="only this benchmark's")
    _add_limit(jobs)
    verbs = {
        "show": "show one job as it is now",
        "watch": "show what happens to a job until it ends",
        "cancel": "end a job",
        "result": "show what a succeeded job measured",
    }
    for name, text in verbs.items():
        command = _command(commands, name, text)
        command.add_argument("job", metavar="JOB", help="job id")
        if name == "watch":
            command.add_argument(
                "--timeout", metavar="S", type=seconds, help="stop after S seconds"
            )


def _add_lists(commands: Subparsers) -> None:
    boards = _command(commands, "boards", "list boards, or take one out of service and back")
    boards.add_argument(
        "action", nargs="?", choices=("list", "drain", "undrain"), default="list",
        help="drain: out of service after its current job; undrain: back; default list",
    )  # fmt: skip
    boards.add_argument("board", metavar="ID", nargs="?", help="board to drain or undrain")
    plain = {
        "models": "list registered models, newest first",
        "recordings": "list registered recording files, newest first",
        "benches": "list benchmarks, newest first",
    }
    for name, text in plain.items():
        _add_limit(_command(commands, name, text))
    usage = _command(commands, "usage", "sum up who used what")
    _add_by(usage, "user", "board", "model", "day")
    latency = _command(commands, "latency", "merge the latency of all succeeded jobs")
    _add_by(latency, "model", "board", "week")
    for command in (usage, latency):
        command.add_argument(
            "--since", metavar="TIME", help="e.g. 24h, 7d, 4w, 2026-03-01; default: everything"
        )
    _command(commands, "info", "show version, chips and limits of the farm, and who you are")


def _add_login(commands: Subparsers) -> None:
    login = _command(commands, "login", "accept a farm's certificate once and keep your token")
    login.add_argument("address", metavar="HOST:PORT", help="the farm's address")
    login.add_argument("--fingerprint", metavar="SHA256", help="accept this certificate only")
    login.add_argument("--yes", action="store_true", help="accept whatever certificate is shown")


def _command(commands: Subparsers, name: str, text: str) -> Parser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    _add_common(command)
    return command


def _add_common(parser: Parser) -> None:
    # SUPPRESS: a default here would overwrite what was given before the command's name.
    group = parser.add_argument_group("farm and output")
    suppress = argparse.SUPPRESS
    group.add_argument("--server", metavar="HOST:PORT", default=suppress, help="the farm's address")
    group.add_argument(
        "--token", metavar="TOKEN", default=suppress,
        help="your token; others on this machine can see it, SPECKFARM_TOKEN they cannot",
    )  # fmt: skip
    group.add_argument(
        "-o", "--output", choices=("table", "json", "csv"), default=suppress,
        help="how to print; default table",
    )  # fmt: skip


def _add_queue(parser: Parser) -> None:
    _add_board(parser)
    _add_waiting(parser)


def _add_board(parser: Parser) -> None:
    _add_kind(parser)
    parser.add_argument("--board", metavar="ID", help="only this board")
    parser.add_argument(
        "--queue-timeout", metavar="S", type=seconds, help="longest wait in the queue; default 24 h"
    )
    parser.add_argument(
        "--run-timeout", metavar="S", type=seconds,
        help="longest run; default by the recordings' length",
    )  # fmt: skip


def _add_kind(parser: Parser) -> None:
    parser.add_argument("--chip", help="chip, e.g. speck2f; default: the farm's first")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--sim", action="store_true", help="simulated boards only")
    kind.add_argument("--real", action="store_true", help="real boards only")


def _add_waiting(parser: Parser) -> None:
    _add_timeout(parser)
    parser.add_argument("--detach", action="store_true", help="do not wait; print the id")


def _add_timeout(parser: Parser) -> None:
    parser.add_argument(
        "--timeout", metavar="S", type=seconds, help="stop waiting after S seconds; the job goes on"
    )


def _add_limit(parser: Parser) -> None:
    parser.add_argument(
        "--limit", metavar="N", type=limit, default=50, help="at most N; default 50"
    )


def _add_by(parser: Parser, *groups: str) -> None:
    text = f"what makes a row; default {groups[0]}"
    parser.add_argument("--by", choices=groups, default=groups[0], help=text)


def _add_settings(parser: Parser) -> None:
    group = parser.add_argument_group("settings (docs/reference/settings.md)")
    for flag, options in SETTING_FLAGS.items():
        group.add_argument(flag, **options)  # type: ignore[arg-type]
