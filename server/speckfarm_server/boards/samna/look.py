"""A look at samna and its devkits from a process of its own, which opens none of them.

`python -m speckfarm_server.boards.samna.look REQUEST`, REQUEST being a JSON object {sysfs, nodes,
boards: [keys of a real board in farm.toml]}. Prints one JSON object: `fault` (why samna is of no
use), or `version`, `missing` (names that it lacks, by chip of the boards), `seen` (devkits) and
`boards` ({id, found or fault}). The library may print, hang or crash: the caller sets the limit.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from speckfarm_server.boards.samna.device import FoundDevice, Wanted, choose, find_devices
from speckfarm_server.boards.samna.library import import_library
from speckfarm_server.boards.samna.names import CHIP_NAMES, names_missing, names_of
from speckfarm_server.errors import BoardFault


def look(request: Mapping[str, Any]) -> dict[str, object]:
    """What `main` prints."""
    try:
        library = import_library()
    except BoardFault as fault:
        return {"fault": fault.message}
    known = [name for name, chip in CHIP_NAMES.items() if chip.device_types]
    chips = sorted({board["chip"] for board in request["boards"]}) or known
    found: dict[str, object] = {
        "version": str(getattr(library, "__version__", "")),
        "missing": {chip: _missing(library, chip) for chip in chips},
    }
    try:
        devices = _devices(library, request)
    except Exception as error:  # whatever compiled code raises; the rest is known all the same
        return {**found, "fault": f"samna cannot list devkits: {error}"}
    boards = [_judge(devices, board) for board in request["boards"]]
    return {**found, "seen": [device.text for device in devices], "boards": boards}


def main(arguments: list[str]) -> None:
    """Entry of the process."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what samna prints must not stand in the answer
    with answer:
        json.dump(look(json.loads(arguments[0])), answer)


def _missing(library: ModuleType, chip: str) -> list[str]:
    return [name.text for name in names_missing(library, [chip]) if not name.is_optional]


def _devices(library: ModuleType, request: Mapping[str, Any]) -> list[FoundDevice]:
    sysfs, nodes = Path(request["sysfs"]), Path(request["nodes"])
    return find_devices(library, names_of("speck2f"), sysfs=sysfs, nodes=nodes)


def _judge(devices: list[FoundDevice], board: Mapping[str, str]) -> dict[str, str]:
    keys = ("chip", "usb", "device", "serial")
    wanted = Wanted(board=board["id"], **{key: board[key] for key in keys})
    try:
        return {"id": board["id"], "found": choose(devices, wanted).text}
    except BoardFault as fault:
        return {"id": board["id"], "fault": fault.message}


if __name__ == "__main__":
    main(sys.argv[1:])
