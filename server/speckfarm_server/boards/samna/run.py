"""One recording through a devkit: events in ahead of their time, spikes out until all is quiet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from speckfarm.events import TIME_SHIFT, PackedEvents
from speckfarm_server.boards.board import Chunk
from speckfarm_server.boards.samna.assumptions import (
    CAMERA,
    CLOCK_DRIFT,
    CLOCK_SLACK_US,
    LONGEST_DRAIN_US,
    PIECE_EVENTS,
    PIECE_US,
    POLL_S,
    PREPARED_EVENTS,
    QUIET_US,
    SAFETY_LEAD_US,
    SETTLE_US,
    WRITE_AHEAD_US,
)
from speckfarm_server.boards.samna.events import EventForms, Heard, Int64Array, Translation
from speckfarm_server.boards.samna.link import Link
from speckfarm_server.boards.samna.power import PowerMeter
from speckfarm_server.chip import LONGEST_REAL_US, find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.job_result import Ending
from speckfarm_server.vendor.readout import readout_of

US_PER_S = 1e6


class Run:
    """One use of a board's stop watch. Ends by itself, or by `abandon`."""

    def __init__(
        self, link: Link, forms: EventForms, configuration: Configuration, packed: PackedEvents
    ) -> None:
        self._link = link
        self._forms = forms
        self._configuration = configuration
        self._translation = Translation(configuration)
        self._packed = packed
        t_us = (packed >> np.uint64(TIME_SHIFT)).astype(np.int64)
        self._stamps: Int64Array = t_us - t_us[0] + SAFETY_LEAD_US
        self._shift_us = int(t_us[0]) - SAFETY_LEAD_US
        self._written = 0  # events
        self._prepared: list[tuple[int, list[object]]] = []  # end in the recording, objects
        self._started_s = (0.0, 0.0)  # host's clock before and after the watch was started
        self._is_running = False
        self.power = PowerMeter(link)
        self.ending = Ending.QUIET
        self.outputs = 0
        self._spikes = np.zeros(256, np.int64)  # by layer
        self.unasked = 0  # events that no monitor was set for
        self._echo_from_us = 0
        self._ticks = False  # whether the slow clock is on
        self._has_readout = readout_of(configuration, find_chip(configuration.chip)) is not None

    def chunks(self, *, sacrifice: bool) -> Iterator[Chunk]:
        """Put the recording in and yield what comes out, at least every 0.1 s or so.

        `sacrifice` sends the first event once more before the first. Raises BoardFault
        RECORDING_TOO_LONG, INPUT_LATE, STOP_WATCH_WRONG.
        """
        self._check_length()
        for _ in self._prepare():
            yield _NOTHING
        self._start(sacrifice=sacrifice)
        quiet_from_us = float(self._last_us)
        while True:
            self._switch_clock()
            self._write_due()
            chunk = self._listen()
            _, latest_us = self._watch_us()
            if len(chunk.t_us):
                quiet_from_us = max(quiet_from_us, latest_us)
            earliest_us, _ = self._watch_us()
            if earliest_us > quiet_from_us + QUIET_US:
                break
            if earliest_us > self._last_us + LONGEST_DRAIN_US:
                self.ending = Ending.DRAIN_LIMIT
                break
            yield chunk
            time.sleep(POLL_S)
        yield chunk
        self._stop()

    def spikes_of(self, layer: int) -> int:
        """Output spikes of a layer so far."""
        return int(self._spikes[layer])

    def abandon(self) -> None:
        """End before the end: what was written ahead must not reach the next recording."""
        if not self._is_running:
            return
        last_us = int(self._stamps[max(0, self._written - 1)])
        while self._watch_us()[0] <= last_us:
            time.sleep(POLL_S)
        self._stop()

    @property
    def _last_us(self) -> int:
        return int(self._stamps[-1])

    def _check_length(self) -> None:
        found_us = self._last_us - SAFETY_LEAD_US
        if found_us > LONGEST_REAL_US:
            text = (
                f"The recording lasts {found_us / US_PER_S:,.0f} s; a real board's 32-bit stamps "
                f"take {LONGEST_REAL_US / US_PER_S:,.0f} s, and what follows is not known. Cut it"
            )
            raise BoardFault(
                "RECORDING_TOO_LONG",
                text,
                ErrorClass.JOB,
                found_us=found_us,
                allowed_us=LONGEST_REAL_US,
            )

    def _prepare(self) -> Iterator[None]:
        """Make objects of events before time runs: the host may be slower than the recording."""
        end = 0
        while end < min(len(self._packed), PREPARED_EVENTS):
            first, end = end, self._end_of_piece(end)
            self._prepared.append((end, self._objects(first, end)))
            yield

    def _end_of_piece(self, first: int) -> int:
        """Few enough events, and of so short a time that none is written long before its own."""
        last_us = self._stamps[first] + PIECE_US
        return min(first + PIECE_EVENTS, int(np.searchsorted(self._stamps, last_us, "right")))

    def _objects(self, first: int, end: int) -> list[object]:
        return self._forms.inputs(
            self._packed[first:end], self._stamps[first:end], self._configuration
        )

    def _start(self, *, sacrifice: bool) -> None:
        self._is_running = True
        self.power.start()
        before_s = time.monotonic()
        self._link.start_watch()
        self._started_s = (before_s, time.monotonic())
        while self._watch_us()[0] < SETTLE_US:  # what is left of before has stamps of before
            self._link.receive()
            time.sleep(POLL_S)
        if sacrifice:
            stamps = np.array([SAFETY_LEAD_US // 2])
            first = self._forms.inputs(self._packed[:1], stamps, self._configuration)
            self._link.send(first)
            self._echo_from_us = SAFETY_LEAD_US * 3 // 4  # that event is not of the recording

    def _switch_clock(self) -> None:
        """Let the slow clock tick from the first event to the last, as far as the host can time it.

        If the readout layer is used, one period longer, which is when it tells its last class.
        """
        hz = self._configuration.slow_clock_hz
        if hz is None:
            return
        more_us = US_PER_S / hz if self._has_readout else 0.0
        is_due = SAFETY_LEAD_US <= self._watch_us()[0] < self._last_us + more_us
        if is_due != self._ticks:
            self._ticks = is_due
            self._link.set_slow_clock(hz if is_due else None)

    def _stop(self) -> None:
        self._is_running = False
        if self._ticks:
            self._link.set_slow_clock(None)
        self._link.stop_watch()
        self.power.stop()

    def _watch_us(self) -> tuple[float, float]:
        """What the stop watch shows, at least and at most, by the host's clock."""
        now_s = time.monotonic()
        before_s, after_s = self._started_s
        return (now_s - after_s) * US_PER_S, (now_s - before_s) * US_PER_S

    def _write_due(self) -> None:
        """Write the next piece if its time is near."""
        if self._written == len(self._stamps):
            return
        due_us = self._watch_us()[1] + WRITE_AHEAD_US
        first_us = int(self._stamps[self._written])
        if first_us > due_us:
            return
        if not self._prepared:
            end = self._end_of_piece(self._written)
            self._prepared.append((end, self._objects(self._written, end)))
        end, objects = self._prepared.pop(0)
        self._link.send(objects)
        self._written = end
        late_us = self._watch_us()[1] - first_us
        if late_us > 0:
            text = (
                f"The host wrote events up to {late_us / 1000:.1f} ms after their time, which a "
                "board forwards in a burst; the run does not count. The host is too busy, or the "
                "recording has more events per second than it can write"
            )
            raise BoardFault("INPUT_LATE", text, ErrorClass.INFRASTRUCTURE, late_us=round(late_us))

    def _listen(self) -> Chunk:
        heard = self._forms.sort_out(self._link.receive())
        latest_us = self._watch_us()[1]
        self.power.collect()
        self._check_stamps(heard, latest_us)
        is_extra = (heard.spikes[:, 1] == CAMERA) & (heard.spikes[:, 0] < self._echo_from_us)
        heard = replace(heard, spikes=heard.spikes[~is_extra])
        chunk, unasked = self._translation.chunk(heard, self._shift_us)
        self.unasked += unasked
        self.outputs += len(chunk.t_us)
        self._spikes += np.bincount(chunk.layer, minlength=256)
        return chunk

    def _check_stamps(self, heard: Heard, latest_us: float) -> None:
        """Stamps of a stop watch that stands, or that is ahead of the host's clock."""
        stamps = np.concatenate([heard.spikes[:, 0], heard.pins[:, 0]])
        if not len(stamps):
            return
        ahead_us = float(stamps.max()) - latest_us
        if stamps.max() > 0 and ahead_us <= CLOCK_SLACK_US + CLOCK_DRIFT * latest_us:
            return
        found = f"{ahead_us / 1000:.1f} ms ahead of the host's clock" if stamps.max() else "all 0"
        text = (
            f"The stamps of output spikes are {found}: the board's stop watch was not started as "
            "told, so input did not come at its time. The run does not count"
        )
        raise BoardFault(
            "STOP_WATCH_WRONG", text, ErrorClass.INFRASTRUCTURE, ahead_us=round(ahead_us)
        )


_NOTHING = Chunk(
    t_us=np.empty(0),
    cause=np.empty(0, np.int64),
    layer=np.empty(0, np.uint8),
    feature=np.empty(0, np.uint16),
    y=np.empty(0, np.uint8),
    x=np.empty(0, np.uint8),
)
