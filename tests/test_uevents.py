"""Kernel messages on USB devices: real ones are read, others are passed over."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.boards import uevents
from speckfarm_server.boards.uevents import UsbEvent, UsbWatch, parse

# As the kernel sends them (lib/kobject_uevent.c, drivers/usb/core/driver.c, usb.c).
PORT = "/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1.3"


def message(action: str, path: str = PORT, **changes: str) -> bytes:
    """One message: a header, then the environment, each line ended by a zero byte."""
    values = {
        "ACTION": action, "DEVPATH": path, "SUBSYSTEM": "usb", "MAJOR": "189", "MINOR": "136",
        "DEVNAME": "bus/usb/002/009", "DEVTYPE": "usb_device", "PRODUCT": "4b4/f1/0",
        "TYPE": "239/2/1", "BUSNUM": "002", "DEVNUM": "009", "SEQNUM": "4711", **changes,
    }  # fmt: skip
    lines = [f"{action}@{path}", *(f"{name}={value}" for name, value in values.items())]
    return b"".join(line.encode() + b"\0" for line in lines)


@pytest.mark.parametrize("action", ["add", "remove", "bind"])
def test_a_device_is_named_by_the_path_of_its_port(action: str) -> None:
    assert parse(message(action)) == UsbEvent(action=action, usb_path="2-1.3")


@pytest.mark.parametrize(
    "other",
    [
        message("add", f"{PORT}/2-1.3:1.0", DEVTYPE="usb_interface"),
        message("add", "/devices/virtual/block/loop0", SUBSYSTEM="block", DEVTYPE="disk"),
        message("add", SUBSYSTEM="usbmon"),
        message("add", ACTION=""),
        message("add", DEVPATH=""),
        b"libudev\0\xfe\xed\xca\xfe\0\0\0\x28\0\0\0\x28ACTION=add\0",
        b"",
        b"\0",
        b"add@/x",
        b"add@/x\0=\0\xff\xfe\0ACTION\0",
    ],
)
def test_what_is_not_about_a_whole_device_is_passed_over(other: bytes) -> None:
    assert parse(other) is None


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    found = parse(data)

    assert found is None or found.usb_path


def test_the_watch_calls_back_once_for_each_device_and_stops_when_closed() -> None:
    async def listen() -> list[UsbEvent]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        seen: asyncio.Queue[UsbEvent] = asyncio.Queue()
        watch = UsbWatch(ours, seen.put_nowait)
        with theirs:
            for sent in (
                message("remove", f"{PORT}/2-1.3:1.0", DEVTYPE="usb_interface"),
                message("remove"),
                message("add"),
            ):
                theirs.send(sent)
            found = [await seen.get(), await seen.get()]
            watch.close()
            assert ours.fileno() == -1
        return found

    assert asyncio.run(listen()) == [
        UsbEvent(action="remove", usb_path="2-1.3"),
        UsbEvent(action="add", usb_path="2-1.3"),
    ]


def test_without_such_sockets_there_is_no_watch_and_the_log_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK", raising=False)

    found = uevents.open_socket()

    assert found is None
    assert [record.message[:30] for record in caplog.records] == [
        "USB devices that come and go ar"[:30]
    ]


def test_the_kernel_lets_any_user_listen_or_the_farm_goes_on_without() -> None:
    found = uevents.open_socket()

    if found is not None:  # a container may forbid it
        with found:
            assert found.getsockname()[1] == uevents.KERNEL_GROUP
