"""Events of the farm as samna's objects, and what comes out of samna as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import ECHO, PackedEvents, unpack
from speckfarm_server.boards.board import Chunk
from speckfarm_server.boards.samna.assumptions import CAMERA
from speckfarm_server.boards.samna.names import Name, names_of, resolve
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BoardFault

Int64Array = NDArray[np.int64]
_UNKNOWN = 255  # in the table from cores to layers


@dataclass(frozen=True, kw_only=True)
class NeuronAnswer:
    """What a neuron said of its state."""

    core: int
    address: int
    state: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """What came out of a board, apart by type."""

    spikes: Int64Array  # (n, 5): stamp in us, layer as samna numbers it, feature, y, x
    pins: Int64Array  # (m, 2): stamp in us, class that the readout layer told
    neurons: tuple[NeuronAnswer, ...]
    others: int  # events that nobody asked for


class EventForms:
    """samna's classes of events for one chip."""

    def __init__(self, library: ModuleType, chip: str) -> None:
        names = names_of(chip)
        self._spike = resolve(library, names["Spike"])
        self._dvs = resolve(library, names["DvsEvent"])
        self._read = resolve(library, names["ReadNeuronValue"])
        self._write = resolve(library, names["WriteNeuronValue"])
        self._neuron = resolve(library, names["NeuronValue"])
        self._pin = _optional(library, names, "ReadoutPinValue")

    def inputs(
        self, packed: PackedEvents, stamps: Int64Array, configuration: Configuration
    ) -> list[Any]:
        """A recording's events (n,) with their stamps (n,) in us, for where they enter."""
        events = unpack(packed)
        columns = [events[name].tolist() for name in ("feature", "y", "x")]
        rows = list(zip(*columns, stamps.tolist(), strict=True))
        if configuration.dvs is not None and configuration.dvs.destinations:
            return [
                _made(self._dvs, p=bool(feature), y=y, x=x, timestamp=stamp)
                for feature, y, x, stamp in rows
            ]
        return [
            _made(
                self._spike,
                layer=way.core,
                feature=feature + way.feature_shift,
                y=y,
                x=x,
                timestamp=stamp,
            )
            for feature, y, x, stamp in rows
            for way in configuration.inputs
        ]

    def read_neuron(self, core: int, address: int) -> Any:
        """Ask a neuron for its state."""
        return _made(self._read, layer=core, address=address)

    def write_neuron(self, core: int, address: int, state: int) -> Any:
        """Give a neuron its state."""
        return _made(self._write, layer=core, address=address, neuron_state=state)

    def write_neurons(self, core: int, addresses: Int64Array, states: Int64Array) -> list[Any]:
        """Give neurons (n,) their states (n,)."""
        pairs = zip(addresses.tolist(), states.tolist(), strict=True)
        return [self.write_neuron(core, address, state) for address, state in pairs]

    def sort_out(self, events: Sequence[Any]) -> Heard:
        """Tell what came out apart. By type first: not all types have a layer or a stamp."""
        spikes, pins, neurons = [], [], []
        for each in events:
            if isinstance(each, self._spike):
                spikes.append((each.timestamp, each.layer, each.feature, each.y, each.x))
            elif isinstance(each, self._neuron):
                answer = NeuronAnswer(
                    core=int(each.layer), address=int(each.address), state=int(each.neuron_state)
                )
                neurons.append(answer)
            elif self._pin is not None and isinstance(each, self._pin):
                pins.append((each.timestamp, each.index))
        return Heard(
            spikes=np.array(spikes, np.int64).reshape(-1, 5),
            pins=np.array(pins, np.int64).reshape(-1, 2),
            neurons=tuple(neurons),
            others=len(events) - len(spikes) - len(pins) - len(neurons),
        )


class Translation:
    """From what a board tells to network layers and a recording's time."""

    def __init__(self, configuration: Configuration) -> None:
        self._layers = np.full(256, _UNKNOWN, np.uint8)  # by core
        for core in configuration.cores:
            if core.monitor_enable:
                self._layers[core.core] = core.layer
        if configuration.echoes_input:
            self._layers[CAMERA] = ECHO
        self._readout = find_chip(configuration.chip).readout

    def chunk(self, heard: Heard, shift_us: int) -> tuple[Chunk, int]:
        """Outputs with `shift_us` added to their stamps, and how many nobody had asked for."""
        layers = self._layers[heard.spikes[:, 1] & 0xFF]
        is_known = layers != _UNKNOWN
        spikes, layers = heard.spikes[is_known], layers[is_known]
        pins = heard.pins if self._readout is not None else heard.pins[:0]
        zeros = np.zeros(len(pins), np.int64)
        readout = zeros + (self._readout or 0)
        chunk = Chunk(
            t_us=(np.concatenate([spikes[:, 0], pins[:, 0]]) + shift_us).astype(np.float64),
            cause=np.full(len(spikes) + len(pins), -1, np.int64),
            layer=np.concatenate([layers, readout]).astype(np.uint8),
            feature=np.concatenate([spikes[:, 2], pins[:, 1]]).astype(np.uint16),
            y=np.concatenate([spikes[:, 3], zeros]).astype(np.uint8),
            x=np.concatenate([spikes[:, 4], zeros]).astype(np.uint8),
        )
        return chunk, int(np.count_nonzero(~is_known)) + heard.others


def _made(kind: Any, **fields: object) -> Any:
    """An event object; samna's are made empty and filled."""
    made = kind()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _optional(library: ModuleType, names: Mapping[str, Name], key: str) -> Any:
    try:
        return resolve(library, names[key])
    except BoardFault:  # an optional name: nothing of this type is told then
        return None
