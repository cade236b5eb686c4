"""USB: which devices are there, whether this OS user may open them, and which udev rules say so.

The vendor has not published the USB ids of its boards, so no device is recognised as a board here.
Nothing in this file has met one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from speckfarm_server.doctor.line import Line, needed_or_note, ok, wrong

SYSFS = Path("/sys/bus/usb/devices")
NODES = Path("/dev/bus/usb")
# Where udev reads rules, first one wins; man 7 udev.
RULE_FOLDERS = tuple(map(Path, ("/etc/udev/rules.d", "/run/udev/rules.d", "/usr/lib/udev/rules.d")))
_WORDS = ("speckfarm", "synsense")
_INSTALL_RULES = "Install deploy/70-speckfarm.rules with the ids of the board, then plug it in anew"
_HUB = "09"  # bDeviceClass; USB-IF defined class codes


@dataclass(frozen=True, kw_only=True)
class UsbDevice:
    """A device on the bus that is no hub."""

    port: str  # its USB path, e.g. "2-1.3": as `usb` of a board in farm.toml
    node: Path  # /dev/bus/usb/BUS/DEVICE
    ids: str  # "vendor:product" in hex, as lsusb shows them
    name: str  # what the device calls itself; may be empty
    is_accessible: bool  # this OS user may read and write its node


@dataclass(frozen=True, kw_only=True)
class RuleFile:
    """A file of udev rules for the boards."""

    path: Path
    rules: int  # lines in effect, neither blank nor comments


def find_devices(sysfs: Path = SYSFS, nodes: Path = NODES) -> list[UsbDevice]:
    """All devices but hubs, by bus and number."""
    if not sysfs.is_dir():
        return []
    folders = [each for each in sorted(sysfs.iterdir()) if (each / "busnum").is_file()]
    return [_device(each, nodes) for each in folders if _read(each, "bDeviceClass") != _HUB]


def find_rules(folders: Sequence[Path] = RULE_FOLDERS) -> list[RuleFile]:
    """Rule files that name speckfarm or the vendor, in their name or text."""
    paths = [path for folder in folders for path in sorted(folder.glob("*.rules"))]
    texts = [(path, path.read_text(errors="replace")) for path in paths]
    return [
        RuleFile(path=path, rules=_count(text))
        for path, text in texts
        if any(word in f"{path.name}\n{text}".lower() for word in _WORDS)
    ]


def judge_devices(
    found: Sequence[UsbDevice], *, has_bus: bool, needed: bool, ports: Collection[str] = ()
) -> Line:
    """Whether this OS user may open any device, and all at the `ports` that boards name.

    `has_bus`: /dev/bus/usb is there. A port without a device is told by `devkits`.
    """
    if not has_bus:
        advice = "In a container, pass it in; on a virtual machine, attach the board to it"
        return needed_or_note("usb", f"there is no {NODES}", advice, needed=needed)
    if not found:
        advice = "Plug the board into a USB 3 port of this host, without a hub"
        return needed_or_note("usb", "no device but hubs", advice, needed=needed)
    accessible = [device for device in found if device.is_accessible]
    if not accessible:
        shown = f"none of {len(found)} devices may be opened by this user: {_shown(found)}"
        return needed_or_note("usb", shown, _INSTALL_RULES, needed=needed)
    closed = [each for each in found if each.port in ports and not each.is_accessible]
    if closed:
        shown = f"devices of boards may not be opened by this user: {_shown(closed)}"
        return wrong("usb", shown, _INSTALL_RULES)
    return ok("usb", f"may be opened by this user: {_shown(accessible)}")


def judge_rules(found: Sequence[RuleFile], *, needed: bool) -> Line:
    """Whether udev has a rule for the boards that is in effect.

    `needed`: there are real boards, and devices that this user may not open. Where all can be
    opened, something else than a rule that is found here sees to it.
    """
    active = [file for file in found if file.rules]
    if active:
        return ok("udev", ", ".join(f"{file.path} ({file.rules} rules)" for file in active))
    advice = "Install deploy/70-speckfarm.rules with the ids of the board, or the vendor's rules"
    if found:
        shown = f"{found[0].path} has no rule in effect, only comments"
        return needed_or_note("udev", shown, advice, needed=needed)
    return needed_or_note("udev", "no rules for boards", advice, needed=needed)


def _device(folder: Path, nodes: Path) -> UsbDevice:
    bus, number = int(_read(folder, "busnum")), int(_read(folder, "devnum"))
    node = nodes / f"{bus:03d}" / f"{number:03d}"
    return UsbDevice(
        port=folder.name,
        node=node,
        ids=f"{_read(folder, 'idVendor')}:{_read(folder, 'idProduct')}",
        name=" ".join(filter(None, (_read(folder, "manufacturer"), _read(folder, "product")))),
        is_accessible=os.access(node, os.R_OK | os.W_OK),
    )


def _read(folder: Path, name: str) -> str:
    path = folder / name
    return path.read_text(errors="replace").strip() if path.is_file() else ""


def _count(text: str) -> int:
    lines = (line.strip() for line in text.splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))


def _shown(devices: Sequence[UsbDevice]) -> str:
    return ", ".join(f"{each.ids} {each.name}".strip() + f" ({each.node})" for each in devices)
