"""The devkit that a result came from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speckfarm.v1 import boards_pb2


@dataclass(frozen=True, kw_only=True)
class Device:
    """A devkit as its host sees it."""

    type: str  # the vendor's name, e.g. Speck2fDevKit
    usb_path: str  # of its port; stays when the board is plugged in again
    usb_address: int  # on its bus; another one after it was plugged in again
    serial: str  # empty on most devkits
    logic_version: int  # of its firmware
    samna: str  # version of the vendor's library; empty if it does not say
    first_event: str  # keep or sacrifice: what is done about the event that a reset may swallow

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def read_device(message: boards_pb2.Device) -> Device:
    """From the wire."""
    return Device(
        type=message.type,
        usb_path=message.usb_path,
        usb_address=message.usb_address,
        serial=message.serial,
        logic_version=message.logic_version,
        samna=message.samna,
        first_event=message.first_event,
    )
