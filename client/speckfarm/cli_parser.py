"""The command line of `speckfarm`, as argparse knows it; docs/reference/cli.md describes it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TypeAlias

Subparsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DESCRIPTION = "Run spiking networks on a lab's Speck boards, or on simulated ones."
EPILOG = (
    "Exit codes: 0 ok, 1 a bug, 2 usage, 3 rejected by the check or unreadable, 4 job failed, "
    "5 cancelled, 6 expired in the queue, 7 unreachable or not allowed, 8 client timeout."
)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser("speckfarm", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    _add_common(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_model_commands(commands)
    _add_bench(commands)
    _add_job_commands(commands)
    _add_lists(commands)
    _add_login(commands)
    return parser


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
    _add_settings(run)
    flash = _command(commands, "flash", "configure a board with a model, without recordings")
    flash.add_argument("model", metavar="MODEL", help="model file, or digest or name on the farm")
    _add_queue(flash)
    _add_settings(flash)


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
    bench.add_argument("--resume", metavar="ID", help="attach to an existing benchmark again")
    _add_kind(bench)
    _add_waiting(bench)
    _add_settings(bench)


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
            command.add_argument("--timeout", metavar="S", type=float, help="stop after S seconds")


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


def _command(commands: Subparsers, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    _add_common(command)
    return command


def _add_common(parser: argparse.ArgumentParser) -> None:
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


def _add_queue(parser: argparse.ArgumentParser) -> None:
    _add_kind(parser)
    parser.add_argument("--board", metavar="ID", help="only this board")
    parser.add_argument(
        "--queue-timeout", metavar="S", type=float, help="longest wait in the queue; default 24 h"
    )
    parser.add_argument(
        "--run-timeout", metavar="S", type=float,
        help="longest run; default by the recordings' length",
    )  # fmt: skip
    _add_waiting(parser)


def _add_kind(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chip", help="chip, e.g. speck2f; default: the farm's first")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--sim", action="store_true", help="simulated boards only")
    kind.add_argument("--real", action="store_true", help="real boards only")


def _add_waiting(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout", metavar="S", type=float, help="stop waiting after S seconds; the job goes on"
    )
    parser.add_argument("--detach", action="store_true", help="do not wait; print the id")


def _add_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", metavar="N", type=int, default=50, help="at most N; default 50")


def _add_by(parser: argparse.ArgumentParser, *groups: str) -> None:
    text = f"what makes a row; default {groups[0]}"
    parser.add_argument("--by", choices=groups, default=groups[0], help=text)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings (docs/reference/settings.md)")
    for flag, options in SETTING_FLAGS.items():
        group.add_argument(flag, **options)  # type: ignore[arg-type]


SETTING_FLAGS: Mapping[str, Mapping[str, object]] = {
    "--reset": {
        "metavar": "[LAYER=]MODE", "action": "append",
        "help": "subtract or zero, for all layers or one; repeatable",
    },
    "--lower-clip": {
        "metavar": "X", "type": float, "help": "lower clip of the state, times threshold",
    },
    "--input-dt-us": {
        "metavar": "US", "type": float, "help": "time step for which NIR's r was written",
    },
    "--decimator": {
        "metavar": "LAYER=N", "action": "append",
        "help": "1 output spike in N passes; repeatable",
    },
    "--monitor": {
        "metavar": "L1,L2", "help": "layers to record besides the exit layer",
    },
    "--core": {
        "metavar": "LAYER=CORE", "action": "append", "help": "pin a layer; repeatable",
    },
    "--polarity": {
        "metavar": "WORD", "help": "keep, merge, on or off",
    },
    "--slow-clock-hz": {
        "metavar": "HZ", "type": float, "help": "rate of the slow clock that drives biases",
    },
    "--state": {
        "metavar": "WORD", "help": "reset or keep neurons between recordings",
    },
}  # fmt: skip
