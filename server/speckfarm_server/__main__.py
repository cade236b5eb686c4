"""`speckfarm-server`: serve, user add|list|revoke, migrate, backup, doctor."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from speckfarm_server.config import FarmConfig, load
from speckfarm_server.errors import FarmError

# Python's 700 are reached by every other job and by every import; hardly anything is a cycle.
GC_THRESHOLD = 20_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the command; returns its exit code: 0 done, 1 refused, 2 usage."""
    options = make_parser().parse_args(arguments)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what it says to people, errors say better
    os.umask(0o077)  # data, tokens and keys are this OS user's
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    for noisy in ("alembic", "numba"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return int(options.command(options) or 0)
    except ModuleNotFoundError as error:
        text = f"{error.name} is not installed; the server needs pip install 'speckfarm[server]'"
        print(f"speckfarm-server: {text}", file=sys.stderr)
        return 1
    except FarmError as error:
        print(f"speckfarm-server: {error.message} [{error.reason}]", file=sys.stderr)
        return 1


def serve(options: argparse.Namespace) -> None:
    """Run the server until it is told to stop."""
    config = _config(options)
    gc.set_threshold(GC_THRESHOLD)
    import uvloop

    from speckfarm_server.server import serve as serve_farm

    uvloop.run(serve_farm(config))


def migrate(options: argparse.Namespace) -> None:
    """Bring the database to this version's schema."""
    _open_database(_config(options))
    print("the database is up to date")


def add_user(options: argparse.Namespace) -> None:
    """Create a user and print the token, once."""
    from speckfarm_server.store import users

    with _open_database(_config(options)).begin() as connection:
        token = users.add_user(connection, options.name)
    print(token)
    print("Shown once: give it to the user, for `speckfarm login HOST:PORT`.", file=sys.stderr)


def list_users(options: argparse.Namespace) -> None:
    """Print all users."""
    from speckfarm_server.store import users

    with _open_database(_config(options)).begin() as connection:
        for user in users.list_users(connection):
            since = datetime.fromtimestamp(user.created_us / 1e6).isoformat(" ", "minutes")
            print(f"{user.name:<32} since {since}{'' if user.revoked_us is None else '  revoked'}")


def revoke_user(options: argparse.Namespace) -> None:
    """Refuse all tokens of a user; a running server does so within a second."""
    from speckfarm_server.store import users

    with _open_database(_config(options)).begin() as connection:
        users.revoke_user(connection, options.name)
    print(f"all tokens of {options.name} are revoked")


def back_up(options: argparse.Namespace) -> None:
    """Copy the data folder of a server that may be running, and print where it is."""
    from speckfarm_server import backup

    data = _config(options).data_folder
    target = options.to or data / "backups"
    made = backup.back_up(data, target, config=options.config, keep=options.keep)
    print(f"{made.folder}: database, {made.blobs} blobs ({made.new_blobs} of them new)")


def doctor(options: argparse.Namespace) -> int:
    """Print what is right and wrong with this host; 1 if anything is wrong."""
    if options.prove != bool(options.board):
        print("speckfarm-server doctor: --prove and --board B go together", file=sys.stderr)
        return 2
    if options.prove:
        return prove_board(options)
    from speckfarm_server.doctor.examine import examine
    from speckfarm_server.doctor.line import as_json, as_text, is_healthy

    lines = examine(lambda: _config(options), options.config)
    print(as_json(lines) if options.output == "json" else as_text(lines))
    return 0 if is_healthy(lines) else 1


def prove_board(options: argparse.Namespace) -> int:
    """Ask a board what nobody has published; 1 if an experiment could not run."""
    from speckfarm_server.prove.command import prove

    def say(line: str) -> None:
        print(line, flush=True)

    folder = _config(options).data_folder
    try:
        return 0 if prove(folder, options.board, out=options.out, say=say) else 1
    except KeyboardInterrupt:
        print("stopped: its jobs are cancelled, nothing was written", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """What the command understands."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, help="farm.toml; default: built-in defaults")
    common.add_argument("--data", help="data folder; default: the user's data folder")
    parser = argparse.ArgumentParser(
        prog="speckfarm-server",
        description="Owns the Speck boards of one host and runs jobs on them.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("serve", parents=[common], help="run the server")
    command.add_argument(
        "--listen", help="HOST:PORT; default 127.0.0.1:50051; port 0: any free one"
    )
    command.set_defaults(command=serve)
    command = commands.add_parser("migrate", parents=[common], help="update the database's schema")
    command.set_defaults(command=migrate)
    _add_upkeep(commands, common)
    user = commands.add_parser("user", help="who may use the farm")
    actions = user.add_subparsers(required=True, metavar="ACTION")
    for name, action, text in (
        ("add", add_user, "create a user and print the token, once"),
        ("revoke", revoke_user, "refuse all tokens of a user"),
    ):
        command = actions.add_parser(name, parents=[common], help=text)
        command.add_argument("name", help="1 to 32 of a-z 0-9 . _ -, a letter first")
        command.set_defaults(command=action)
    command = actions.add_parser("list", parents=[common], help="print all users")
    command.set_defaults(command=list_users)
    return parser


def _add_upkeep(commands: Any, common: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "backup", parents=[common], help="copy the data folder; the server may run"
    )
    command.add_argument(
        "--to", type=Path, help="folder that gets the new backup; default: backups in the data"
    )
    command.add_argument(
        "--keep", type=int, default=7, help="how many of the newest stay; default 7"
    )
    command.set_defaults(command=back_up)
    command = commands.add_parser(
        "doctor", parents=[common], help="tell whether this host can run a farm, and what to do"
    )
    command.add_argument("-o", "--output", choices=("table", "json"), default="table")
    command.add_argument("--listen", help="as for serve")
    command.add_argument(
        "--prove", action="store_true", help="run experiments on --board, through the queue"
    )
    command.add_argument("--board", help="which board to prove; the server must be running")
    command.add_argument(
        "--out", type=Path, default=Path(), help="folder for the proof; default: this one"
    )
    command.set_defaults(command=doctor)


def _config(options: argparse.Namespace) -> FarmConfig:
    config = load(options.config) if options.config else FarmConfig()
    if options.data:
        config = replace(config, data=options.data)
    if getattr(options, "listen", None):
        config = replace(config, listen=options.listen)
    return config


def _open_database(config: FarmConfig):  # type: ignore[no-untyped-def]
    from speckfarm_server.store.database import migrate as run_migrations
    from speckfarm_server.store.database import open_engine

    config.data_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = open_engine(config.data_folder / "farm.db", writes=True)
    run_migrations(engine)
    return engine


if __name__ == "__main__":
    sys.exit(main())
