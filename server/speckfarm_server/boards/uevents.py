"""USB devices that come and go, as the kernel tells it over a netlink socket.

pyudev would tell the same, but it needs libudev and a thread of its own; this is one socket on the
event loop. The kernel's own messages (group 1) are read, not udev's, so no udev has to run. They
come before udev has set the rights of a device's node: who opens it at once must try again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

NETLINK_KOBJECT_UEVENT = 15  # linux/netlink.h
KERNEL_GROUP = 1  # messages of the kernel; udev's are group 2
BUFFER_BYTES = 1024 * 1024  # a hub that is pulled sends some hundred messages at once
MESSAGE_BYTES = 8192  # above UEVENT_BUFFER_SIZE (2048) of linux/kobject.h


@dataclass(frozen=True, kw_only=True)
class UsbEvent:
    """A USB device came or went."""

    action: str  # "add", "remove", "bind", ...
    usb_path: str  # of its port, e.g. "2-1.3"


def parse(message: bytes) -> UsbEvent | None:
    """Read one message; None if it is not about a whole USB device, or no message at all."""
    _, *lines = message.split(b"\0")  # the first repeats action and path
    values = dict(line.decode(errors="replace").partition("=")[::2] for line in lines)
    if values.get("SUBSYSTEM") != "usb" or values.get("DEVTYPE") != "usb_device":
        return None  # e.g. one interface of a device
    action, usb_path = values.get("ACTION", ""), values.get("DEVPATH", "").rpartition("/")[2]
    return UsbEvent(action=action, usb_path=usb_path) if action and usb_path else None


def open_socket() -> socket.socket | None:
    """Listen to the kernel; None, with a line in the log, where that is not possible."""
    try:
        family = socket.AF_NETLINK
        listening = socket.socket(family, socket.SOCK_DGRAM, NETLINK_KOBJECT_UEVENT)
    except (AttributeError, OSError) as error:  # another system, or not allowed in a container
        _log_deaf(error)
        return None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        listening.bind((0, KERNEL_GROUP))
    except OSError as error:
        listening.close()
        _log_deaf(error)
        return None
    return listening


class UsbWatch:
    """Calls back for every USB device that comes or goes, from start to close."""

    def __init__(self, listening: socket.socket, changed: Callable[[UsbEvent], None]) -> None:
        listening.setblocking(False)
        self._socket = listening
        self._changed = changed
        asyncio.get_running_loop().add_reader(listening, self._read)

    def close(self) -> None:
        """Stop listening."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        try:
            message = self._socket.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:  # ENOBUFS: messages were lost; pings find what they told
            logger.warning("messages on USB devices were lost: %s", error)
            return
        event = parse(message)
        if event is not None:
            self._changed(event)


def _log_deaf(error: Exception) -> None:
    logger.warning("USB devices that come and go are not told (%s); boards are pinged", error)
