"""farm.toml: what an operator can set, with units and defaults. Unknown keys are errors."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from speckfarm_server.chip import find_chip
from speckfarm_server.errors import BadInput

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MI = 1024 * 1024
MAX_PORT = 65535
BOARD_KINDS = ("simulated", "real", "scripted")
FIRST_EVENTS = ("keep", "sacrifice")
KNOWN_ANSWERS = ("required", "told")
CHIPS_OF_DEVKITS = ("speck2f", "speck2e")  # boards/samna/names.py has their devkits
# Of printable ASCII, as it stands in file names, commands and tables.
_BOARD_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEYS_OF_DEVKITS = ("usb", "device", "serial")
_CHOICES = {
    "kind": (BOARD_KINDS, "CONFIG_BOARD_KIND"),
    "first_event": (FIRST_EVENTS, "CONFIG_FIRST_EVENT"),
    "known_answer": (KNOWN_ANSWERS, "CONFIG_KNOWN_ANSWER"),
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, kw_only=True)
class BoardConfig:
    """One board: [[boards]]."""

    id: str  # what users see
    kind: str = "simulated"  # "simulated" or "real"; "scripted" is for tests and benchmarks only
    chip: str = "speck2f"
    script: str = "{}"  # JSON for scripted boards: see boards/scripted.py
    # Which devkit a real board is. What is left empty may be anything, but one must fit alone.
    usb: str = ""  # USB path of its port, e.g. "2-1.3"
    device: str = ""  # the vendor's type, e.g. "Speck2fDevKit"
    serial: str = ""  # most devkits have none
    # A chip may lose the first event after a state reset (BMI, on speck2f): "keep" puts in what was
    # recorded; "sacrifice" sends the first event once more before it, to be lost in its place.
    first_event: str = "keep"
    # What a wrong known answer does: "required" keeps jobs away, "told" only says so.
    known_answer: str = "required"
    # File of `doctor --prove`, from the folder of farm.toml if relative: what a real board
    # answered, or whose constants a simulated one has.
    proof: str = ""


@dataclass(frozen=True, kw_only=True)
class UsbConfig:
    """Where the operating system shows USB devices: [usb]. Other values only inside containers."""

    sysfs: str = "/sys/bus/usb/devices"
    nodes: str = "/dev/bus/usb"


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """Certificate: [tls]. Without one, a self-signed one is made for a non-loopback address."""

    certificate: str = ""  # path of a PEM file with the certificate (chain)
    key: str = ""  # path of a PEM file with its private key


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """Limits: [limits]."""

    max_model_bytes: int = 16 * MI
    max_recording_bytes: int = 1024 * MI
    max_benchmark_points: int = 1000
    max_job_recordings: int = 100_000  # in all files of one job
    max_queued_jobs: int = 100_000
    queue_timeout_s: float = 24 * 3600.0  # default of a job
    cancel_grace_s: float = 10.0  # then the board's process is replaced
    lease_s: float = 15.0  # a board at work that is silent for so long counts as hung
    heartbeat_s: float = 3.0  # an idle real board is asked how it is so often, and has as long
    quarantine_s: float = 5.0  # a board that failed twice in a row is tried again after it
    start_s: float = 300.0  # longest start of a board's process; a simulator may have to compile
    max_attempts: int = 3  # attempts that boards may spoil before a job fails


@dataclass(frozen=True, kw_only=True)
class FarmConfig:
    """The whole file."""

    listen: str = "127.0.0.1:50051"
    data: str = ""  # folder; default: the user's data folder
    tls: TlsConfig = field(default_factory=TlsConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    usb: UsbConfig = field(default_factory=UsbConfig)
    boards: tuple[BoardConfig, ...] = (BoardConfig(id="twin-0"), BoardConfig(id="twin-1"))

    @property
    def data_folder(self) -> Path:
        """Where everything is kept."""
        return Path(self.data) if self.data else default_data_folder()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of `listen`; BadInput CONFIG_LISTEN_INVALID."""
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > MAX_PORT:
            text = f"listen is {self.listen!r}; wanted: HOST:PORT, port up to {MAX_PORT}"
            raise BadInput("CONFIG_LISTEN_INVALID", text, found=self.listen)
        return host, int(port)

    @property
    def uses_tls(self) -> bool:
        """Whether the server needs a certificate: beyond loopback, and where one is given."""
        return self.address[0] not in LOOPBACK or bool(self.tls.certificate)


def default_data_folder() -> Path:
    """The user's data folder for speckfarm; the client looks for local.json there."""
    return Path(platformdirs.user_data_dir("speckfarm"))


def load(path: Path) -> FarmConfig:
    """Read farm.toml; BadInput CONFIG_UNREADABLE, CONFIG_UNKNOWN_KEY, CONFIG_WRONG_TYPE."""
    try:
        plain = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput("CONFIG_UNREADABLE", f"{path}: {error}", path=path) from error
    try:
        config = parse(plain)
    except BadInput as error:  # with the file that it is in
        raise BadInput(error.reason, f"{path}: {error.message}", path=path) from None
    boards = tuple(_with_proof_below(path.absolute().parent, board) for board in config.boards)
    return replace(config, boards=boards)


def parse(plain: dict[str, Any]) -> FarmConfig:
    """Turn parsed TOML into a FarmConfig; the errors of `load`, and CONFIG_OUT_OF_RANGE."""
    nested: dict[str, Any] = dict(plain)
    if "tls" in nested:
        nested["tls"] = _section(TlsConfig, "tls", nested["tls"])
    if "usb" in nested:
        nested["usb"] = _section(UsbConfig, "usb", nested["usb"])
    if "limits" in nested:
        nested["limits"] = _section(LimitsConfig, "limits", nested["limits"])
    if "boards" in nested:
        boards = [_section(BoardConfig, "boards", b) for b in _list("boards", nested["boards"])]
        nested["boards"] = tuple(boards)
    config = _section(FarmConfig, "", nested)
    _check_boards(config.boards)
    for limit in fields(LimitsConfig):
        value = getattr(config.limits, limit.name)
        if value <= 0:
            text = f"limits.{limit.name} is {value}; it must be above 0"
            raise BadInput("CONFIG_OUT_OF_RANGE", text, found=value)
    return config


def _with_proof_below(folder: Path, board: BoardConfig) -> BoardConfig:
    """A server that systemd starts has another folder than the operator who wrote the path."""
    return replace(board, proof=str(folder / board.proof)) if board.proof else board


T = TypeVar("T", FarmConfig, TlsConfig, LimitsConfig, UsbConfig, BoardConfig)


def _section(kind: type[T], name: str, plain: Any) -> T:
    if not isinstance(plain, dict):
        raise _wrong_type(name, plain, "a table")
    known = {f.name: f for f in fields(kind)}
    for key, value in plain.items():
        path = f"{name}.{key}" if name else key
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
            raise BadInput("CONFIG_UNKNOWN_KEY", f"no key {path!r}{hint}", found=path)
        default = getattr(kind, key, None)
        wanted = (int, float) if isinstance(default, float) else type(default)
        if default is not None and not isinstance(value, wanted):
            raise _wrong_type(path, value, f"a {type(default).__name__}, e.g. {default!r}")
    if "id" in known and not isinstance(plain.get("id"), str):
        raise _wrong_type(f"{name}.id", plain.get("id"), "the board's name")
    return kind(**plain)


def _check_boards(boards: tuple[BoardConfig, ...]) -> None:
    for board in boards:
        _check_board(board)
    _check_twice(
        "id", [board.id for board in boards], "two boards are called {}; names must differ"
    )
    real = [board for board in boards if board.kind == "real"]
    for key in ("usb", "serial"):
        values = [getattr(board, key) for board in real if getattr(board, key)]
        _check_twice(key, values, "two real boards have the {key} {}; a devkit is one board")


def _check_board(board: BoardConfig) -> None:
    if not _BOARD_ID.fullmatch(board.id):
        text = (
            f"a board has the id {board.id!r}; it must be 1 to 64 letters (A to Z, a to z), digits "
            "and . _ -, and begin with a letter or a digit"
        )
        raise BadInput("CONFIG_BOARD_ID", text, found=board.id, allowed=_BOARD_ID.pattern)
    find_chip(board.chip)
    for key, (allowed, reason) in _CHOICES.items():
        if (found := getattr(board, key)) not in allowed:
            words = " or ".join(repr(each) for each in allowed if each != "scripted")
            text = f"board {board.id}: {key} is {found!r}; it must be {words}"
            raise BadInput(reason, text, found=found, allowed=words)
    if board.kind == "real" and board.chip not in CHIPS_OF_DEVKITS:
        words = ", ".join(CHIPS_OF_DEVKITS)
        text = f"board {board.id}: no devkit with {board.chip} can be driven; {words} can"
        raise BadInput("CONFIG_BOARD_CHIP", text, found=board.chip, allowed=words)
    for key in _KEYS_OF_DEVKITS:
        if board.kind != "real" and (found := getattr(board, key)):
            text = (
                f"board {board.id}: {key} is {found!r}, but the board is {board.kind} and no "
                f'devkit; remove {key}, or give it kind = "real"'
            )
            raise BadInput("CONFIG_KEY_UNUSED", text, found=found, key=key)


def _check_twice(key: str, values: list[str], text: str) -> None:
    for value in values:
        if values.count(value) > 1:
            words = text.format(repr(value), key=key)
            raise BadInput("CONFIG_BOARD_TWICE", words, found=value)


def _list(name: str, value: Any) -> list[Any]:
    if isinstance(value, list) and value:
        return value
    raise _wrong_type(name, value, "at least one [[boards]] table")


def _wrong_type(path: str, found: object, wanted: str) -> BadInput:
    message = f"{path} is {found!r}; it must be {wanted}"
    return BadInput("CONFIG_WRONG_TYPE", message, found=found, path=path)
