"""In what boards differ by their kind: how they are started, and how far they are trusted."""

from __future__ import annotations

import json

from speckfarm_server.config import BoardConfig, UsbConfig
from speckfarm_server.job import BoardKind


def kind_of(config: BoardConfig) -> BoardKind:
    """Real or simulated; scripted boards count as simulated."""
    return BoardKind.REAL if config.kind == "real" else BoardKind.SIMULATED


def options_of(config: BoardConfig, usb: UsbConfig) -> str:
    """What its process is told of a board, as JSON; of a scripted one its script."""
    if config.kind == "scripted":
        return config.script
    return json.dumps({**vars(config), "sysfs": usb.sysfs, "nodes": usb.nodes})


def is_tested(config: BoardConfig, *, after_quarantine: bool) -> bool:
    """Whether it must give the known answer before it takes jobs.

    A scripted board has one only if its script says so, and then it is treated as a real one.
    """
    if config.kind == "scripted":
        return "known_answer" in json.loads(config.script)
    return config.kind == "real" or after_quarantine


def is_pinged(config: BoardConfig) -> bool:
    """Whether it is asked how it is while it is idle: a computed board cannot get lost."""
    if config.kind == "scripted":
        return "ping" in json.loads(config.script)
    return config.kind == "real"
