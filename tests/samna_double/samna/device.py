"""Discovery: what is plugged in, and who holds it."""

from __future__ import annotations

import os
from typing import Any

from samna import world
from samna.board import Board
from samna.world import Port

_opened: dict[int, tuple[Board, int]] = {}  # by plug: the handle, and the lock's descriptor


class DeviceInfo:
    """What is known of a board before it is opened."""

    __slots__ = (
        "device_type_name", "logic_version", "serial_number", "usb_bus_number",
        "usb_device_address",
    )  # fmt: skip
    device_type_name: str
    logic_version: int
    serial_number: str
    usb_bus_number: int
    usb_device_address: int

    def __repr__(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.__slots__)


def get_all_devices() -> list[DeviceInfo]:
    """All boards, opened or not, in no order that lasts."""
    found = sorted(world.devices().values(), key=lambda each: (each["bus"], each["address"]))
    return [_info(each) for each in found]


def open_device(which: DeviceInfo) -> Board:
    """Open a board; the handle that there is if this process has it open."""
    if not isinstance(which, DeviceInfo):
        raise TypeError(f"incompatible function arguments: {type(which).__name__}")
    port, device = _port(which)
    port.note("open")
    port.suffer("open")
    if port.take("no_permission"):
        raise RuntimeError("Unable to open device: LIBUSB_ERROR_ACCESS")
    if device["plug"] in _opened:
        return _opened[device["plug"]][0]
    lock = None if port.take("open_elsewhere") else port.lock()
    if lock is None:
        raise RuntimeError("Unable to open device: LIBUSB_ERROR_BUSY")
    board = Board(port, device["type"])
    _opened[device["plug"]] = (board, lock)
    return board


def close_device(handle: Board) -> None:
    """Let go of a board; its handle is invalid from here on."""
    for plug, (board, lock) in list(_opened.items()):
        if board is handle:
            board.close()
            os.close(lock)
            del _opened[plug]
            return
    raise RuntimeError("the device is not open")


def _info(device: dict[str, Any]) -> DeviceInfo:
    info = DeviceInfo()
    info.serial_number, info.logic_version = device["serial"], device["logic_version"]
    info.usb_bus_number, info.usb_device_address = device["bus"], device["address"]
    info.device_type_name = device["type"]
    return info


def _port(which: DeviceInfo) -> tuple[Port, dict[str, Any]]:
    for usb_path, device in world.devices().items():
        if (device["bus"], device["address"]) == (which.usb_bus_number, which.usb_device_address):
            return Port(usb_path, device["plug"]), device
    raise RuntimeError("Unable to open device: LIBUSB_ERROR_NO_DEVICE")
