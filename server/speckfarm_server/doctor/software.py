"""Python, the packages of the extra [server], and the vendor's samna, which is never imported."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from itertools import zip_longest

from speckfarm_server.boards.samna.install import Samna, SamnaKind
from speckfarm_server.doctor.line import Line, needed_or_note, note, ok, wrong

Version = tuple[int, ...]

OLDEST_PYTHON = (3, 10)
NEWEST_PYTHON = (3, 13)  # newest one that the tests run on


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """A package of pyproject.toml; a test holds this table against it."""

    name: str
    at_least: str
    below: str = ""
    python_below: Version | None = None  # needed by older Pythons only


REQUIREMENTS = (
    Requirement(name="googleapis-common-protos", at_least="1.65"),
    Requirement(name="grpcio", at_least="1.80.1"),
    Requirement(name="grpcio-status", at_least="1.80.1"),
    Requirement(name="numpy", at_least="1.26"),
    Requirement(name="platformdirs", at_least="4.2"),
    Requirement(name="protobuf", at_least="6.31.1", below="8"),
    Requirement(name="rich", at_least="13.7"),
    Requirement(name="alembic", at_least="1.13"),
    Requirement(name="cryptography", at_least="42"),
    Requirement(name="grpcio-health-checking", at_least="1.80.1"),
    Requirement(name="grpcio-reflection", at_least="1.80.1"),
    Requirement(name="h5py", at_least="3.11"),
    Requirement(name="numba", at_least="0.60"),
    Requirement(name="sqlalchemy", at_least="2.0.30"),
    Requirement(name="tomli", at_least="2.0", python_below=(3, 11)),
    Requirement(name="uvloop", at_least="0.20"),
)


def find_packages(names: Sequence[str]) -> dict[str, str | None]:
    """Installed versions; None for what is not there."""
    return {name: _version(name) for name in names}


def judge_python(version: Version) -> Line:
    """Whether the server runs on this Python (major, minor, ...)."""
    shown = ".".join(map(str, version))
    if version[:2] < OLDEST_PYTHON:
        return wrong("python", shown, "Install Python 3.10 or newer")
    if version[:2] > NEWEST_PYTHON:
        return note("python", shown, "The tests run on 3.10 to 3.13; this one has not been tried")
    return ok("python", shown)


def judge_packages(found: Mapping[str, str | None], python: Version) -> list[Line]:
    """A line for every package that is missing or of a wrong version, or one if none is."""
    lines = list(_package_faults(found, python))
    if lines:
        return lines
    shown = ", ".join(f"{name} {found[name]}" for name in ("grpcio", "numba", "sqlalchemy"))
    return [ok("packages", f"all there: {shown} and others")]


def judge_samna(found: Samna, *, needed: bool) -> Line:
    """Whether boards could be driven."""
    if found.fault is None:
        return ok("samna", found.text)
    if found.kind is SamnaKind.ABSENT:
        return needed_or_note("samna", *found.fault, needed=needed)
    return wrong("samna", *found.fault)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _package_faults(found: Mapping[str, str | None], python: Version) -> Iterator[Line]:
    for each in REQUIREMENTS:
        if each.python_below is not None and python >= each.python_below:
            continue
        version = found[each.name]
        wanted = f"{each.name}>={each.at_least}" + (f",<{each.below}" if each.below else "")
        advice = "Run pip install 'speckfarm[server]' in this environment"
        if version is None:
            yield wrong("packages", f"{each.name} is not installed", advice)
        elif _is_before(version, each.at_least) or not _is_before(version, each.below or "9999"):
            yield wrong("packages", f"{each.name} is {version}; wanted: {wanted}", advice)


def _is_before(version: str, other: str) -> bool:
    """Compare releases; what follows the numbers (rc1, .post1) does not count."""
    pairs = zip_longest(_numbers(version), _numbers(other), fillvalue=0)
    return next((left < right for left, right in pairs if left != right), False)


def _numbers(version: str) -> Version:
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match[0].split("."))) if match else ()
