"""The command in a folder of its own, pointed at a farm, as a user's shell has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from speckfarm.cli import main

Run = Callable[..., int]


def command_line(address: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Run:
    """`run(word, ...)` runs the command in `folder`, where a model and a recording lie."""
    monkeypatch.setenv("SPECKFARM_SERVER", address)
    monkeypatch.setenv("SPECKFARM_TOKEN", "secret")
    monkeypatch.chdir(folder)
    (folder / "m.nir").write_bytes(b"model")
    (folder / "r.npz").write_bytes(b"recording")
    return lambda *words: main(words)
