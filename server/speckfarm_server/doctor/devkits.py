"""Devkits as samna sees them, looked at by a process of its own: the library may hang or crash."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from speckfarm_server.config import BoardConfig, FarmConfig, UsbConfig
from speckfarm_server.doctor.line import Line, note, ok, wrong

LOOK_LIMIT_S = 60.0


def find_devkits(usb: UsbConfig, boards: Sequence[BoardConfig]) -> Mapping[str, Any]:
    """What boards/samna/look.py tells; `fault` if it tells nothing."""
    request = {"sysfs": usb.sysfs, "nodes": usb.nodes, "boards": [vars(each) for each in boards]}
    command = [sys.executable, "-m", "speckfarm_server.boards.samna.look", json.dumps(request)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LOOK_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return {"fault": f"samna did not answer within {LOOK_LIMIT_S:g} s"}
    try:
        found: Mapping[str, Any] = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return {"fault": f"a look at samna ended with exit code {done.returncode}: {last[0]}"}
    return found


def judge_devkits(found: Mapping[str, Any]) -> Iterator[Line]:
    """Names that the library lacks, and which devkit each real board is."""
    if "missing" in found:
        yield from _names(found["missing"])
    if "fault" in found:
        advice = "Repair the installation of samna; doctor shows the same until it answers"
        yield wrong("devkits", found["fault"], advice)
        return
    seen = "; ".join(found["seen"]) or "none"
    if not found["boards"]:
        advice = "A [[boards]] table of kind real in farm.toml puts one into service"
        yield note("devkits", f"samna sees: {seen}", advice if found["seen"] else "")
    for board in found["boards"]:
        if "fault" in board:
            advice = "docs/how-to/first-board.md leads from unpacking to the first job"
            yield wrong("devkits", board["fault"], advice)
        else:
            yield ok("devkits", f"{board['id']} is {board['found']}")


def real_boards(config: FarmConfig) -> list[BoardConfig]:
    """Boards of farm.toml that are devkits."""
    return [board for board in config.boards if board.kind == "real"]


def _names(missing: Mapping[str, Sequence[str]]) -> Iterator[Line]:
    for chip, names in missing.items():
        if names:
            listed = ", ".join(names)
            text = f"samna lacks {len(names)} names that the farm drives {chip} with: {listed}"
            yield wrong("names", text, "Install a version of samna that has them")
    whole = [chip for chip, names in missing.items() if not names]
    if whole:
        yield ok("names", f"samna has every name that the farm drives {' and '.join(whole)} with")
