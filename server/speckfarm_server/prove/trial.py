"""What is sent to a board and what comes back; what the twin would send back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import EVENT_DTYPE, FEATURE_SHIFT, TIME_SHIFT, X_SHIFT, Y_SHIFT, PackedEvents
from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.assumptions import ASSUMPTIONS, Assumptions
from speckfarm_server.twin.twin import Twin
from speckfarm_server.vendor.read import read_vendor_json
from speckfarm_server.vendor.write import write_vendor_json

Events: TypeAlias = NDArray[np.void]
RECORDING_DTYPE = np.dtype([("t", "<i8"), ("x", "u1"), ("y", "u1"), ("p", "<u2")])
# A board's stamps may be early by its clock's offset; events that belong together are told apart
# by gaps much longer than this.
EARLY_US = 20
# Recordings begin with an event that nothing depends on: a chip may lose the first one (BMI).
PRIMER_US = 1000
FIRST_US = 3000


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One job: a configuration and recordings; neurons are reset before each."""

    name: str
    configuration: Configuration
    recordings: tuple[Events, ...]  # fields t (us), x, y, p

    @cached_property
    def model(self) -> bytes:
        """The configuration as the file that is uploaded."""
        return write_vendor_json(self.configuration)

    @property
    def as_read(self) -> Configuration:
        """The configuration as a farm reads it from the file."""
        return read_vendor_json(self.model).configuration


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a trial gave."""

    spikes: tuple[Events, ...]  # of each recording; fields t (whole us), layer, feature, y, x
    was_configured: bool = True  # for this job; False: the board held the configuration
    power_w: Mapping[str, float] = field(default_factory=dict)  # by rail
    first_event: str = "keep"  # how the board was driven
    shifted_us: int = 0  # by which stamps were set back: the board's offset


def events(
    t_us: Sequence[int] | NDArray[np.int64],
    feature: int | Sequence[int] | NDArray[np.int64] = 0,
    *,
    y: int | Sequence[int] = 0,
    x: int | Sequence[int] = 0,
) -> Events:
    """A recording from columns; numbers stand for columns of equal values."""
    made = np.zeros(len(t_us), RECORDING_DTYPE)
    made["t"], made["p"], made["y"], made["x"] = t_us, feature, y, x
    return made


def train(features: Sequence[int], *, gap_us: int, primer: int) -> Events:
    """Events of these features, one each `gap_us`, behind a primer of feature `primer`."""
    times_us = FIRST_US + gap_us * np.arange(len(features))
    return events([PRIMER_US, *times_us], [primer, *features])


def places(spikes: Events, *, gap_us: int) -> NDArray[np.int64]:
    """Which event of a train each spike followed: 0 for the first behind the primer."""
    since_us = spikes["t"] - FIRST_US + min(EARLY_US, gap_us // 4)
    numbers: NDArray[np.int64] = since_us // gap_us
    return numbers


def set_back(outcome: Outcome, offset_us: int) -> Outcome:
    """The outcome as if the board's stamps had no offset."""
    spikes = tuple(each.copy() for each in outcome.spikes)
    for each in spikes:
        each["t"] -= offset_us
    return replace(outcome, spikes=spikes, shifted_us=offset_us)


def of_layer(spikes: Events, layer: int) -> Events:
    """Those of one layer."""
    kept: Events = spikes[spikes["layer"] == layer]
    return kept


def predict(trial: Trial, assumptions: Assumptions = ASSUMPTIONS) -> Outcome:
    """What the twin gives, in whole us as on the wire."""
    twin = Twin(trial.as_read, assumptions=assumptions)
    spikes = []
    for number, recording in enumerate(trial.recordings):
        if number:
            twin.reset_state()
        twin.start_recording()
        spikes.append(_on_the_wire(twin.run(packed(recording))))
    return Outcome(spikes=tuple(spikes))


def packed(recording: Events) -> PackedEvents:
    """As the twin takes them."""
    words: PackedEvents = (
        recording["t"].astype(np.uint64) << np.uint64(TIME_SHIFT)
        | recording["p"].astype(np.uint64) << np.uint64(FEATURE_SHIFT)
        | recording["y"].astype(np.uint64) << np.uint64(Y_SHIFT)
        | recording["x"].astype(np.uint64) << np.uint64(X_SHIFT)
    )
    return words


def _on_the_wire(output: NDArray[np.void]) -> Events:
    spikes = np.zeros(len(output), EVENT_DTYPE)
    spikes["t"] = output["t_ns"] // 1000
    for name in ("layer", "feature", "y", "x"):
        spikes[name] = output[name]
    return spikes
