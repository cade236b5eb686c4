"""The world of the samna double: boards that are plugged in, and what they do wrong.

A process sees it with `World.env` in its environment: tests/samna_double/samna is then its samna.
Behaviours, each a value, {"times": n} or {"value": v, "times": n} (counted over all processes):

    configure_ms      from apply_configuration to its effect; 20
    fail_configure    apply_configuration raises "time-out error"
    configure_lost    apply_configuration returns and never takes effect
    hang, crash       in a step for ever, or by SIGSEGV: "open", "configure", "write", "read"
    dead_handle       all calls are taken in silence, nothing comes out
    broken_handle     all calls raise RuntimeError
    no_permission, open_elsewhere    open_device raises RuntimeError
    untimed           a ReadoutValue, with neither layer nor timestamp, before each output
    dvs_noise         a DvsEvent every ms
    never_quiet       a spike of the exit core every ms for ever after the first input
    clock_ahead_us    what the stop watch shows after a start or reset: all input is late
    lost_first_event  the first input after a configuration or a written neuron is lost
    assumptions       {field: value}, constants of the twin, from the next configuration on
    core01_shuffle    cores 0 and 1 work in another order in each recording
    offset_us, jitter_us    of stamps of output; jitter is 0 to that much, alike in each recording
    zero_stamps       stamps of all output are 0, as with old firmware, while the watch runs
    watch_dead        a start of the stop watch has no effect: input with a stamp is held for ever
    camera_live       the sensor sees something, and its events enter where `pass_sensor_events` and
                      a destination of the DVS layer let them: four per ms, `Camera.sees`
    power_w           watts of the five rails
    zero_power_stamps stamps of power measurements are 0
    chatter           lines on stdout, past Python, at each call
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from speckfarm_server.config import BoardConfig

TESTS = Path(__file__).parent
PLAIN = ("assumptions",)  # behaviours whose value is an object


def options(world: World, **board: object) -> dict[str, object]:
    """What a board's process is told of a real board in a world."""
    config = BoardConfig(id="kit-0", kind="real", **board)  # type: ignore[arg-type]
    return {**vars(config), "sysfs": str(world.sysfs), "nodes": str(world.nodes)}


class World:
    """A folder with the file that doubles read, a sysfs and device nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "world.json"
        self.sysfs, self.nodes = folder / "sysfs", folder / "nodes"
        for each in (self.sysfs, self.nodes):
            each.mkdir(parents=True, exist_ok=True)
        self._devices: dict[str, dict[str, Any]] = {}
        self._serial = 0  # of plugs and behaviours
        self._write()

    @property
    def env(self) -> dict[str, str]:
        """What a process needs to see this world."""
        root = TESTS.parent
        path = [TESTS / "samna_double", root, root / "server", root / "client"]
        inherited = os.environ.get("PYTHONPATH", "")
        return {
            "SAMNA_DOUBLE_WORLD": str(self.file),
            "PYTHONPATH": os.pathsep.join([*map(str, path), *filter(None, [inherited])]),
        }

    @contextmanager
    def entered(self) -> Iterator[World]:
        """Let this process see the world: what it imports as samna meanwhile is the double."""
        with pytest.MonkeyPatch.context() as patched:
            for name, value in self.env.items():
                patched.setenv(name, value)
            patched.syspath_prepend(str(TESTS / "samna_double"))
            yield self
        for name in [each for each in sys.modules if each.partition(".")[0] == "samna"]:
            del sys.modules[name]

    def farm_toml(self, ports: Mapping[str, str]) -> str:
        """The part of farm.toml for real boards, by id, in USB paths of this world."""
        boards = "".join(
            f'[[boards]]\nid = "{name}"\nkind = "real"\nusb = "{port}"\n'
            for name, port in ports.items()
        )
        return f'[usb]\nsysfs = "{self.sysfs}"\nnodes = "{self.nodes}"\n{boards}'

    def plug(
        self,
        usb_path: str = "2-1.3",
        *,
        bus: int = 2,
        address: int = 9,
        type: str = "Speck2fDevKit",
        serial: str = "",
        logic_version: int = 0,
        **behaviour: Any,
    ) -> None:
        """Plug a board in."""
        device = {
            "bus": bus, "address": address, "type": type, "serial": serial,
            "logic_version": logic_version, "plug": self._next(), "behaviour": {},
        }  # fmt: skip
        self._devices[usb_path] = device
        self._show(usb_path, device)
        self.behave(usb_path, **behaviour)

    def unplug(self, usb_path: str = "2-1.3") -> None:
        """Pull a board out."""
        device = self._devices.pop(usb_path)
        self._write()
        (self.nodes / f"{device['bus']:03}" / f"{device['address']:03}").unlink()
        for each in (self.sysfs / usb_path).iterdir():
            each.unlink()
        (self.sysfs / usb_path).rmdir()

    def replug(self, usb_path: str = "2-1.3", **changes: Any) -> None:
        """Pull a board out and plug it in again, or another one: it gets a new address.

        What it does wrong it does no more, but for behaviours given here.
        """
        before = self._devices[usb_path]
        self.unplug(usb_path)
        same = {name: before[name] for name in ("bus", "type", "serial", "logic_version")}
        self.plug(usb_path, **{**same, "address": before["address"] + 1, **changes})

    def behave(self, usb_path: str = "2-1.3", **behaviour: Any) -> None:
        """Change what a board does; None or False ends it, all else begins anew."""
        known = self._devices[usb_path]["behaviour"]
        for name, value in behaviour.items():
            known.pop(name, None)
            if value is None or value is False:
                continue
            is_counted = isinstance(value, dict) and name not in PLAIN
            known[name] = {
                "value": value.get("value", True) if is_counted else value,
                "times": value["times"] if is_counted else None,
                "set": self._next(),
            }
        self._write()

    def log(self, usb_path: str = "2-1.3") -> list[str]:
        """What was done to the board in this place, call by call."""
        path = self.folder / f"{usb_path}.log"
        return path.read_text().splitlines() if path.exists() else []

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _show(self, usb_path: str, device: dict[str, Any]) -> None:
        """As the kernel shows a device. The vendor's numbers are not published: these are none."""
        shown = {
            "busnum": device["bus"], "devnum": device["address"], "idVendor": "ffff",
            "idProduct": "ffff", "manufacturer": "SynSense", "product": device["type"],
            "bDeviceClass": "00",
        }  # fmt: skip
        if device["serial"]:
            shown["serial"] = device["serial"]
        (self.sysfs / usb_path).mkdir()
        for name, value in shown.items():
            (self.sysfs / usb_path / name).write_text(f"{value}\n")
        node = self.nodes / f"{device['bus']:03}" / f"{device['address']:03}"
        node.parent.mkdir(exist_ok=True)
        node.touch()

    def _write(self) -> None:
        """Replaced at once: no reader sees half of it."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"devices": self._devices}))
        new.replace(self.file)
