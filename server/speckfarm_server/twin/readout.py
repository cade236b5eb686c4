"""The readout layer: spikes of the exit core in, what its pins tell at ticks of the slow clock out.

Only the pins are modelled (`ReadoutPinValue`); the vendor's other report, `ReadoutValue`, silences
that of spikes. Sources and what is assumed: docs/explanation/twin.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.chip import READOUT_CLASSES, find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.delay import SECOND_NS
from speckfarm_server.vendor.readout import class_of, readout_of, readout_ways

PIN_DTYPE = np.dtype([("t_ns", "<i8"), ("index", "u1")])  # index: class, 1 to 15
LARGEST_COUNT = 65535  # counters have 16 bits
BLOCK_TICKS = 4096  # that are computed together; bounds temporaries
NO_PINS = np.empty(0, PIN_DTYPE)


def readout_for(configuration: Configuration) -> Readout | None:
    """The readout layer of a configuration; None if it is not used, or has no clock to tick."""
    is_used = readout_of(configuration, find_chip(configuration.chip)) is not None
    return Readout(configuration) if is_used and configuration.slow_clock_hz is not None else None


class Readout:
    """Counters, averages and comparison of one configured readout layer."""

    def __init__(self, configuration: Configuration) -> None:
        chip = find_chip(configuration.chip)
        told = readout_of(configuration, chip)
        if told is None or configuration.slow_clock_hz is None:
            raise ValueError("no readout: it needs an exit core that sends to it, and a slow clock")
        [(core, self._way)] = readout_ways(configuration, chip)
        if not core.monitor_enable:
            raise ValueError(f"layer {core.layer} feeds the readout, which hears what monitors see")
        self.layer = core.layer  # whose spikes it takes
        self._threshold, self._average = told.threshold, told.average
        self._period_ns = max(1, round(SECOND_NS / configuration.slow_clock_hz))
        channels = range(core.output_shape[0])
        self._class = np.array(  # of each feature, from 0; -1: not heard
            [(class_of(channel + self._way.feature_shift) or 0) - 1 for channel in channels]
        )
        self.start_recording(0)

    def start_recording(self, origin_ns: int) -> None:
        """Clear all counts; ticks come every period after `origin_ns`, the first event's time."""
        self._origin_ns, self._last_ns = origin_ns, origin_ns
        self._tick = 0  # periods that are closed
        self._counts = np.zeros(READOUT_CLASSES, np.int64)  # of the period that is open
        self._window = np.zeros((self._average - 1, READOUT_CLASSES), np.int64)  # of those before

    def push(self, spikes: NDArray[np.void], until_ns: int) -> NDArray[np.void]:
        """Take spikes of `layer` (t_ns, feature, y, x before pooling) in order of time.

        None before `until_ns` will follow, and none of these is after it; it is not after the last
        event or spike of the recording. Returns PIN_DTYPE, in order of time: what is told at ticks
        up to `until_ns`. However a recording is cut, all together is the same. A tick that falls on
        the time of a spike goes first.
        """
        if len(spikes):
            self._last_ns = max(self._last_ns, int(spikes["t_ns"][-1]))
        return self._count(spikes, max(self._tick, (until_ns - self._origin_ns) // self._period_ns))

    def finish(self, last_ns: int) -> NDArray[np.void]:
        """End the recording, whose last event came at `last_ns`: all that is counted is told.

        Ticks go on until the first after both the last event and the last spike.
        """
        last_ns = max(self._last_ns, last_ns)
        return self._count(_NO_SPIKES, (last_ns - self._origin_ns) // self._period_ns + 1)

    def _count(self, spikes: NDArray[np.void], closed: int) -> NDArray[np.void]:
        """Count spikes, and close periods until so many are closed."""
        y, x = spikes["y"] // self._way.pooling, spikes["x"] // self._way.pooling
        index = self._class[spikes["feature"]]
        heard = (index >= 0) & (y == 0) & (x == 0)  # what pooling leaves over is dropped
        period = (spikes["t_ns"][heard] - self._origin_ns) // self._period_ns
        index = index[heard]
        pins = [NO_PINS]
        while (first := self._first_of_interest(period, closed)) < closed:
            self._tick = first
            stop = min(closed, first + BLOCK_TICKS)
            now = int(np.searchsorted(period, stop))
            pins.append(self._close(stop, period[:now], index[:now]))
            period, index = period[now:], index[now:]
        self._tick = closed
        self._counts += np.bincount(index, minlength=READOUT_CLASSES)
        return np.concatenate(pins)

    def _first_of_interest(self, period: NDArray[np.int64], closed: int) -> int:
        """The next period to close, without those that are empty and whose averages are 0."""
        if self._window.any() or self._counts.any():
            return self._tick
        return int(period[0]) if len(period) else closed

    def _close(
        self, stop: int, period: NDArray[np.int64], index: NDArray[np.int64]
    ) -> NDArray[np.void]:
        """Close the periods before `stop`, with these spikes in them."""
        before, ticks = self._average - 1, stop - self._tick
        flat = (period - self._tick) * READOUT_CLASSES + index
        counts = np.bincount(flat, minlength=ticks * READOUT_CLASSES).reshape(ticks, -1)
        counts[0] += self._counts
        self._counts = np.zeros(READOUT_CLASSES, np.int64)
        counts = np.concatenate([self._window, np.minimum(counts, LARGEST_COUNT)])
        self._window = counts[ticks:]
        sums = np.concatenate([np.zeros((1, READOUT_CLASSES), np.int64), counts.cumsum(axis=0)])
        averages = (sums[before + 1 :] - sums[:ticks]) // self._average
        told = np.flatnonzero(averages.max(axis=1, initial=0) > self._threshold)
        pins = np.empty(len(told), PIN_DTYPE)
        pins["t_ns"] = self._origin_ns + (self._tick + 1 + told) * self._period_ns
        pins["index"] = averages[told].argmax(axis=1) + 1  # equal averages: the lowest class
        self._tick = stop
        return pins


_NO_SPIKES = np.empty(0, [("t_ns", "<i8"), ("feature", "<u2"), ("y", "u1"), ("x", "u1")])
