"""The event pre-processing layer of the double: what its monitor shows, and what goes on."""

from __future__ import annotations

from typing import Any

import numpy as np

from samna.live_twin import CAMERA, NS, Entry, Output
from speckfarm.events import EVENT_DTYPE, pack, unpack
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import DvsConfiguration
from speckfarm_server.twin.preprocess import preprocess

LIVE_EVERY_US = 250  # four events in each ms
SIZE = 128  # pixels on a side
ECHO, RAW_ECHO = 13, -13  # the layer of echoes; raw ones become DvsEvents
Place = tuple[int, int, int]  # feature, y, x


class Camera:
    """The layer as one configuration object has it; None: as after a reset."""

    def __init__(self, layer: Any, chip: str) -> None:
        self._chip = find_chip(chip)
        self._is_monitored = layer is not None and bool(layer.monitor_enable)
        self._is_raw = layer is not None and bool(getattr(layer, "raw_monitor_enable", False))
        self._leads_on = layer is not None and any(each.enable for each in layer.destinations)
        self._passes = self._leads_on and bool(layer.pass_sensor_events)
        self._dvs = _dvs(layer) if self._is_monitored or self._leads_on else None

    def seen(self, entries: list[Entry]) -> tuple[list[Entry], list[Output]]:
        """What enters cores, and what monitors show; events of the camera are made over."""
        places = [each[2:] for each in entries if each[1] == CAMERA]
        if not places:
            return entries, []
        passed = iter(self._through(places))
        inside: list[Entry] = []
        echoes: list[Output] = []
        for t_us, core, *raw in entries:
            place = next(passed) if core == CAMERA else (raw[0], raw[1], raw[2])
            if core == CAMERA and self._is_raw:
                echoes.append((t_us * NS, RAW_ECHO, raw[0], raw[1], raw[2]))
            if core == CAMERA and self._is_monitored and place is not None:
                echoes.append((t_us * NS, ECHO, *place))
            if place is not None and (core != CAMERA or self._leads_on):
                inside.append((t_us, core, *place))
        return inside, echoes

    def sees(self, after_us: int, until_us: int) -> list[Entry]:
        """What the sensor sees, if its events may go on: a dot on the diagonal, on and off.

        Event n comes at n times 250 us, with polarity n % 2, in row and column n // 2 % 128.
        """
        if not self._passes:
            return []
        numbers = range(after_us // LIVE_EVERY_US + 1, until_us // LIVE_EVERY_US + 1)
        places = ((n * LIVE_EVERY_US, n % 2, n // 2 % SIZE) for n in numbers)
        return [(t_us, CAMERA, polarity, at, at) for t_us, polarity, at in places]

    def _through(self, places: list[Place]) -> list[Place | None]:
        """Each behind the layer; None: it does not pass."""
        behind: list[Place | None] = [None] * len(places)
        if self._dvs is not None:
            events = np.zeros(len(places), EVENT_DTYPE)
            for name, column in zip(("feature", "y", "x"), np.array(places).T, strict=True):
                events[name] = column
            left, index = preprocess(pack(events), self._dvs, self._chip)
            for at, (_, _, feature, y, x) in zip(index, unpack(left).tolist(), strict=True):
                behind[at] = (feature, y, x)
        return behind


def _dvs(layer: Any) -> DvsConfiguration:
    def pair(found: Any) -> tuple[Any, Any]:
        return found.y, found.x

    return DvsConfiguration(
        merge=bool(layer.merge),
        on_channel=bool(layer.on_channel),
        off_channel=bool(layer.off_channel),
        pooling=pair(layer.pooling),
        origin=pair(layer.origin),
        cut=pair(layer.cut),
        mirror=pair(layer.mirror),
        mirror_diagonal=bool(layer.mirror_diagonal),
    )
