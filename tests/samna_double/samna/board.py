"""An opened board: its parts by the names of the documentation, and the calls they take."""

from __future__ import annotations

import os
from operator import index
from typing import Any

from samna.chips import chip_module
from samna.machine_room import MachineRoom
from samna.nodes import BoardSink, BoardSource
from samna.power import PowerMonitor
from samna.world import Port


class Board:
    """The handle. Every call fails once it is closed, or the board unplugged."""

    def __init__(self, port: Port, device_type: str) -> None:
        import samna

        chip = device_type[:7].lower()
        events = getattr(samna, chip, None) or chip_module(chip)
        self.port, self._is_closed = port, False
        self.room = MachineRoom(port, chip, events)
        self._parts = (Model(self), StopWatch(self), IoModule(self), PowerMonitor(self))

    def get_model(self) -> Model:
        """The chip."""
        self.call("get_model", is_noted=False)
        return self._parts[0]

    def get_stop_watch(self) -> StopWatch:
        """The clock of all stamps."""
        self.call("get_stop_watch", is_noted=False)
        return self._parts[1]

    def get_io_module(self) -> IoModule:
        """Clocks of the chip."""
        self.call("get_io_module", is_noted=False)
        return self._parts[2]

    def get_power_monitor(self) -> PowerMonitor:
        """What the rails take."""
        self.call("get_power_monitor", is_noted=False)
        return self._parts[3]

    def reset_board_soft(self, is_hard: bool = True) -> None:
        """Load a default configuration: no core does anything."""
        if self.call("reset_board_soft"):
            self.room.reset()

    def call(self, what: str, *, is_noted: bool = True) -> bool:
        """Begin a call; False if the board takes it in silence and does nothing."""
        if self._is_closed:
            raise RuntimeError("the device is closed; its handle is invalid")
        if self.port.device() is None:
            raise RuntimeError("LIBUSB_ERROR_NO_DEVICE")
        if is_noted:
            self.port.note(what)
        if self.port.look("chatter"):
            os.write(1, f"[samna] {what}\n".encode())
        if self.port.take("broken_handle"):
            raise RuntimeError("LIBUSB_ERROR_PIPE")
        return not self.port.look("dead_handle")

    def is_there(self) -> bool:
        """Whether it still gives anything."""
        return not self._is_closed and self.port.device() is not None

    def close(self) -> None:
        """The handle is invalid from here on."""
        self.port.note("close")
        self._is_closed = True


class Model:
    """The chip of a board."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._sink = BoardSink(self._take)
        self._source = BoardSource(pull=self._pull, drain=board.room.pump)
        board.room.give = self._source.give

    def apply_configuration(self, configuration: Any) -> None:
        """Write a configuration; it takes effect some time after this has returned."""
        is_heard = self._board.call("apply")
        self._board.port.suffer("configure")
        if self._board.port.take("fail_configure"):
            raise RuntimeError("time-out error")
        if is_heard and not self._board.port.take("configure_lost"):
            self._board.room.apply(configuration)

    def get_sink_node(self) -> BoardSink:
        """Where events go in."""
        self._board.call("get_sink_node", is_noted=False)
        return self._sink

    def get_source_node(self) -> BoardSource:
        """Where events come out."""
        self._board.call("get_source_node", is_noted=False)
        return self._source

    def _take(self, events: list[Any]) -> None:
        is_heard = self._board.call(f"write {len(events)}")
        self._board.port.suffer("write")
        if is_heard:
            self._board.room.take(events)

    def _pull(self) -> None:
        if not self._board.is_there():
            return
        is_heard = self._board.call("get_events", is_noted=False)
        self._board.port.suffer("read")
        if is_heard:
            self._board.room.pump()


class StopWatch:
    """Counts microseconds while it runs."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def start(self) -> None:
        """Go on from where it stands."""
        if self._board.call("stop_watch.start"):
            self._board.room.start_watch()

    def stop(self) -> None:
        """Stand still."""
        if self._board.call("stop_watch.stop"):
            self._board.room.stop_watch()

    def reset(self) -> None:
        """To 0; it runs on if it ran."""
        if self._board.call("stop_watch.reset"):
            self._board.room.reset_watch()


class IoModule:
    """The slow clock."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._is_on, self._hz = False, 0

    def set_slow_clk(self, is_on: bool) -> None:
        """Give the chip the clock of the board, or none."""
        if self._board.call(f"set_slow_clk {bool(is_on)}"):
            self._is_on = bool(is_on)
            self._tell()

    def set_slow_clk_rate(self, hz: int) -> None:
        """Its rate, a whole number: C does not take another."""
        if self._board.call(f"set_slow_clk_rate {index(hz)}"):
            self._hz = index(hz)
            self._tell()

    def _tell(self) -> None:
        self._board.room.set_slow_clock(self._hz if self._is_on and self._hz > 0 else None)
