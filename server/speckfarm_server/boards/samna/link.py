"""An opened devkit: its configuration, its two event graphs, its clocks, its way to be closed.

Follows the order of calls of public programs that drive devkits (S `dynapcnn_network.py`, OF, BMI);
nothing here has met hardware.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from speckfarm_server.boards.samna.configuration import write
from speckfarm_server.boards.samna.device import FoundDevice
from speckfarm_server.boards.samna.names import CHIP_NAMES, Name, member, names_of, resolve, spelled
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BoardFault, ErrorClass

_TIME_OUT = ("time-out", "timeout", "timed out")  # "time-out error": S nmnist_quick_start


class Link:
    """Owns the vendor's handle, nodes and graphs, which end when nothing refers to them.

    Every method may raise BoardFault BOARD_TIMED_OUT or BOARD_CALL_FAILED (INFRASTRUCTURE).
    """

    def __init__(self, library: ModuleType, device: FoundDevice, chip: str) -> None:
        self._library = library
        self._names: Mapping[str, Name] = names_of(chip)
        self._chip = CHIP_NAMES[chip]
        self._handle = _open(resolve(library, self._names["open_device"]), device)
        self._call(self._handle, "reset_board", True)
        self._model = self._call(self._handle, "model")
        self._watch = self._call(self._handle, "stop_watch")
        self._io = self._call(self._handle, "io_module")
        self._source = resolve(library, self._names["source"])()
        self._sink = resolve(library, self._names["sink"])()
        self._graphs = [
            self._join([self._source, self._call(self._model, "model.sink")]),
            self._join([self._call(self._model, "model.source"), self._sink]),
        ]
        self._power: Any = None
        self._power_sink: Any = None
        self._join_power()
        for graph in self._graphs:
            self._call(graph, "graph.start")

    def apply(self, configuration: Configuration) -> None:
        """Write a configuration; returns when samna does, which may be before the board has it.

        Raises what `write` raises, and VENDOR_REFUSED with samna's own words (JOB).
        """
        target = resolve(self._library, self._names["Configuration"])()
        write(configuration, target, self._chip)
        is_valid, words = self._guard("validate", self._named("validate"), target)
        if not is_valid:
            text = (
                f"The installed samna refuses the configuration: {words}. The farm's check follows "
                "samna 0.7.1; please report the model"
            )
            raise BoardFault("VENDOR_REFUSED", text, ErrorClass.JOB, found=words)
        self._call(self._model, "apply", target)

    def send(self, events: Sequence[Any]) -> None:
        """Put events into the board's queue."""
        self._call(self._source, "source.write", list(events))

    def receive(self) -> list[Any]:
        """All that came out since the last call, of any type."""
        return list(self._call(self._sink, "sink.get_events"))

    def start_watch(self) -> None:
        """Start the stop watch at 0."""
        self._call(self._watch, "watch.reset")
        self._switch_watch("watch.start", is_on=True)

    def stop_watch(self) -> None:
        """Stop it: stamps mean nothing until it is started again."""
        self._switch_watch("watch.stop", is_on=False)

    def set_slow_clock(self, hz: float | None) -> None:
        """Let the board's FPGA give the slow clock, or none."""
        if hz is not None:
            self._call(self._io, "slow_clock_hz", whole_hz(hz))
        self._call(self._io, "slow_clock", hz is not None)

    @property
    def measures_power(self) -> bool:
        """Whether this version of samna has a power monitor."""
        return self._power_sink is not None

    def start_power(self, hz: float) -> None:
        """Let the board measure its rails so often, if it can."""
        if self.measures_power:
            self._call(self._power, "power.start", round(hz))

    def stop_power(self) -> None:
        """Stop measuring."""
        if self.measures_power:
            self._call(self._power, "power.stop")

    def receive_power(self) -> list[tuple[int, float, int]]:
        """Channel, watts and stamp of each measurement since the last call."""
        if not self.measures_power:
            return []
        keys = ("power.channel", "power.value", "power.stamp")
        return [
            tuple(member(each, self._names[key]) for key in keys)
            for each in self._call(self._power_sink, "power.sink.get_events")
        ]

    def close(self) -> None:
        """Stop the graphs and give the board back."""
        try:
            for graph in self._graphs:
                self._call(graph, "graph.stop")
        finally:
            self._guard("close_device", self._named("close_device"), self._handle)

    def _join(self, nodes: Sequence[Any]) -> Any:
        graph = resolve(self._library, self._names["graph"])()
        self._call(graph, "graph.sequential", list(nodes))
        return graph

    def _join_power(self) -> None:
        if not hasattr(self._handle, self._names["power_monitor"].path):
            return
        try:
            sink = resolve(self._library, self._names["power.sink"])()
        except BoardFault:  # an optional name: no power then
            return
        self._power = self._call(self._handle, "power_monitor")
        self._graphs.append(self._join([self._call(self._power, "power.source"), sink]))
        self._power_sink = sink

    def _switch_watch(self, key: str, *, is_on: bool) -> None:
        name = self._names[key]
        # An older version has one method for both, which is told which.
        arguments = [is_on] if spelled(self._watch, name) != name.path else []
        self._call(self._watch, key, *arguments)

    def _named(self, key: str) -> Callable[..., Any]:
        function: Callable[..., Any] = resolve(self._library, self._names[key])
        return function

    def _call(self, thing: object, key: str, *arguments: object) -> Any:
        return self._guard(key, member(thing, self._names[key]), *arguments)

    @staticmethod
    def _guard(what: str, function: Callable[..., Any], *arguments: object) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # whatever compiled code raises
            raise _fault(what, error) from error


def whole_hz(hz: float) -> int:
    """The rate that the board's FPGA is told: sinabs and all public programs give it whole Hz."""
    return max(1, round(hz))


def _open(open_device: Callable[[Any], Any], device: FoundDevice) -> Any:
    try:
        return open_device(device.info)
    except Exception as error:
        text = (
            f"samna cannot open {device.text}: {error}. It may be open in another process, this "
            "user may lack the right to it, or its cable is not for USB 3"
        )
        raise BoardFault(
            "DEVICE_NOT_OPENED", text, ErrorClass.INFRASTRUCTURE, device=device.text
        ) from error


def _fault(what: str, error: Exception) -> BoardFault:
    words = f"{type(error).__name__}: {error}"
    if isinstance(error, (TypeError, ValueError)):  # not the board: it was called wrongly
        text = f"samna refuses a call of the farm ({what}: {words}). Please report it"
        return BoardFault("VENDOR_CALL_REFUSED", text, ErrorClass.INTERNAL, call=what, found=words)
    if any(word in str(error).lower() for word in _TIME_OUT):
        text = (
            f"The board did not answer in time ({what}: {words}). If it stays so, press its reset"
        )
        return BoardFault(
            "BOARD_TIMED_OUT", f"{text} button", ErrorClass.INFRASTRUCTURE, call=what, found=words
        )
    text = f"samna failed ({what}: {words}). The board may be unplugged or its handle dead"
    return BoardFault("BOARD_CALL_FAILED", text, ErrorClass.INFRASTRUCTURE, call=what, found=words)
