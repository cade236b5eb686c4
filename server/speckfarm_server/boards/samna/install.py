"""What is installed under the name samna, found out without running any of it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path


class SamnaKind(str, Enum):
    """What is installed under the name samna."""

    ABSENT = "absent"
    STUB = "stub"  # PyPI's from 0.9 on: its import replaces itself by `pip install` from elsewhere
    REAL = "real"
    OTHER_PYTHON = "other python"  # the real one, built for another Python
    UNKNOWN = "unknown"  # neither compiled code nor the stub's


@dataclass(frozen=True, kw_only=True)
class Samna:
    """What was found of samna without running any of it."""

    kind: SamnaKind
    version: str = ""
    folder: Path | None = None

    @property
    def text(self) -> str:
        """Version and place."""
        return f"samna {self.version or '(version unknown)'} in {self.folder}"

    @property
    def fault(self) -> tuple[str, str] | None:
        """What is wrong with it and what to do; None if it can be imported."""
        if self.kind is SamnaKind.ABSENT:
            return "not installed", "Real boards need the vendor's wheel; simulated boards do not"
        if self.kind is SamnaKind.STUB:
            text = f"{self.text} is PyPI's stub, which downloads another samna when it is imported"
            return text, "Run pip uninstall samna; install the vendor's own wheel"
        if self.kind is SamnaKind.OTHER_PYTHON:
            text = f"{self.text} is compiled for another Python"
            return text, "Install the wheel for this Python"
        if self.kind is SamnaKind.UNKNOWN:
            text = f"{self.text} has no compiled code"
            return text, "It is not the vendor's library: pip uninstall samna"
        return None


def find_samna(path: Sequence[str]) -> Samna:
    """Look for samna in the folders of `path` (`sys.path`); reads files, imports nothing."""
    spec = PathFinder.find_spec("samna", list(path))
    if spec is None or not spec.origin:
        return Samna(kind=SamnaKind.ABSENT)
    origin = Path(spec.origin)
    found = list(metadata.distributions(name="samna", path=list(path)))
    return Samna(
        kind=_kind(origin), version=found[0].version if found else "", folder=origin.parent
    )


def _kind(origin: Path) -> SamnaKind:
    libraries = [origin] if origin.suffix == ".so" else sorted(origin.parent.rglob("*.so"))
    if libraries:
        tags = [re.search(r"\.cpython-(\d+)", each.name) for each in libraries]
        built_for = {tag[1] for tag in tags if tag is not None}
        this = "{}{}".format(*sys.version_info)
        return SamnaKind.OTHER_PYTHON if built_for - {this} else SamnaKind.REAL
    text = origin.read_text(errors="replace")
    if "PYPI_SAMNA" in text or ("subprocess" in text and "pip" in text):
        return SamnaKind.STUB
    return SamnaKind.UNKNOWN
