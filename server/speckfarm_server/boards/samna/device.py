"""Devkits on the USB of this host: what samna sees, which port it is, and who may have it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from speckfarm_server.boards.samna.names import CHIP_NAMES, Name, resolve
from speckfarm_server.errors import BoardFault, ErrorClass


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which devkit a board of farm.toml is; empty words fit any."""

    board: str
    chip: str
    usb: str = ""
    device: str = ""  # the vendor's type
    serial: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundDevice:
    """A devkit that samna sees, opened or not."""

    info: Any  # the vendor's DeviceInfo, to open it with
    type: str
    serial: str
    address: int  # on its bus; changes when it is plugged in again
    logic_version: int
    usb_path: str  # of its port; empty if the operating system does not show it
    node: Path

    @property
    def text(self) -> str:
        """Type, port and serial number."""
        where = self.usb_path or f"{self.node} (not in sysfs)"
        return f"{self.type} at USB {where}" + (f", serial {self.serial}" if self.serial else "")


def find_devices(
    library: object, names: Mapping[str, Name], *, sysfs: Path, nodes: Path
) -> list[FoundDevice]:
    """All devkits that samna sees, in its order."""
    infos = resolve(library, names["all_devices"])()
    return [_found(info, sysfs, nodes) for info in infos]


def choose(found: Sequence[FoundDevice], wanted: Wanted) -> FoundDevice:
    """The one devkit that a board is.

    Raises BoardFault DEVICE_NOT_FOUND (INFRASTRUCTURE: it may come), DEVICE_TYPE_UNKNOWN,
    DEVICE_WRONG_CHIP, DEVICE_AMBIGUOUS (CONFIGURATION).
    """
    seen = "; ".join(device.text for device in found) or "none"
    fitting = [
        device
        for device in found
        if wanted.usb in ("", device.usb_path)
        and wanted.device in ("", device.type)
        and wanted.serial in ("", device.serial)
    ]
    if not wanted.device and not wanted.usb and not wanted.serial:  # then any of its chip
        fitting = [each for each in fitting if each.type in CHIP_NAMES[wanted.chip].device_types]
    if not fitting:
        text = (
            f"No devkit fits board {wanted.board} ({_described(wanted)}); samna sees: {seen}. Plug "
            "it in, or correct usb, device and serial in farm.toml; `speckfarm-server doctor` "
            "tells more"
        )
        raise BoardFault("DEVICE_NOT_FOUND", text, ErrorClass.INFRASTRUCTURE, found=seen)
    if len(fitting) > 1:
        fit = "; ".join(device.text for device in fitting)
        text = f"{len(fitting)} devkits fit board {wanted.board}: {fit}. Give it `usb` in farm.toml"
        raise BoardFault(
            "DEVICE_AMBIGUOUS", text, ErrorClass.CONFIGURATION, found=fit, count=len(fitting)
        )
    _check_type(fitting[0], wanted)
    return fitting[0]


def claim(device: FoundDevice) -> IO[bytes]:
    """Lock the devkit's node for this process, as long as the file stays open.

    samna lets one process open a board; the lock tells two farms apart before it is asked, and is
    free as soon as its process is gone. Raises BoardFault DEVICE_NOT_ALLOWED, DEVICE_IN_USE.
    """
    if not os.access(device.node, os.R_OK | os.W_OK):
        text = (
            f"This user may not open {device.node} ({device.text}). Install the rules in "
            "deploy/70-speckfarm.rules or the vendor's, and plug the board in anew; into a "
            "container it must be passed"
        )
        raise BoardFault("DEVICE_NOT_ALLOWED", text, ErrorClass.INFRASTRUCTURE, node=device.node)
    file = device.node.open("rb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        text = (
            f"Another process holds {device.text}. One server has a board at a time: stop the "
            "other, or give the board to one of them in farm.toml"
        )
        raise BoardFault(
            "DEVICE_IN_USE", text, ErrorClass.INFRASTRUCTURE, node=device.node
        ) from None
    return file


def _check_type(device: FoundDevice, wanted: Wanted) -> None:
    chips = [name for name, chip in CHIP_NAMES.items() if device.type in chip.device_types]
    known = {name: each.device_types for name, each in CHIP_NAMES.items() if each.device_types}
    allowed = ", ".join(f"{kind} ({chip})" for chip, kinds in known.items() for kind in kinds)
    if not chips:
        text = (
            f"Board {wanted.board}: {device.text} is of a type that the farm does not know. It "
            f"knows {allowed}"
        )
        raise BoardFault(
            "DEVICE_TYPE_UNKNOWN",
            text,
            ErrorClass.CONFIGURATION,
            found=device.type,
            allowed=allowed,
        )
    if wanted.chip not in chips:
        text = (
            f"Board {wanted.board} is a {wanted.chip} in farm.toml, but {device.text} has a "
            f"{chips[0]}. Correct `chip`, or which devkit it is"
        )
        raise BoardFault(
            "DEVICE_WRONG_CHIP", text, ErrorClass.CONFIGURATION, found=chips[0], wanted=wanted.chip
        )


def _found(info: Any, sysfs: Path, nodes: Path) -> FoundDevice:
    bus, address = int(info.usb_bus_number), int(info.usb_device_address)
    return FoundDevice(
        info=info,
        type=str(info.device_type_name),
        serial=str(info.serial_number),
        address=address,
        logic_version=int(info.logic_version),
        usb_path=_usb_path(bus, address, sysfs),
        node=nodes / f"{bus:03d}" / f"{address:03d}",
    )


def _usb_path(bus: int, address: int, sysfs: Path) -> str:
    """The folder of sysfs that has a bus and device number: the port, as topology."""
    for folder in sorted(sysfs.glob("*")):
        if _number(folder / "busnum") == bus and _number(folder / "devnum") == address:
            return folder.name
    return ""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # a hub's interface, or unplugged meanwhile
        return None


def _described(wanted: Wanted) -> str:
    words = {"usb": wanted.usb, "device": wanted.device, "serial": wanted.serial}
    given = ", ".join(f"{name} {word!r}" for name, word in words.items() if word)
    return f"{wanted.chip}, {given}" if given else f"any {wanted.chip} devkit"
