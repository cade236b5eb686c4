"""The latency echo: input that the board stamps too, so that a lag has both ends on one clock.

Camera events pass the camera layer, whose monitor echoes them, and a chain of cores, whose last one
is monitored. What lies between an event and its echo is the host, the board's way in and its clock;
what lies between echo and output is the chip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from speckfarm.events import ECHO
from speckfarm_server.chip import SENSOR_SHAPE, find_chip
from speckfarm_server.configuration import Configuration, Destination, DvsConfiguration
from speckfarm_server.prove.answer import Answer, Verdict, not_told, verdict_of
from speckfarm_server.prove.build import chain, core
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.trial import (
    FIRST_US,
    PRIMER_US,
    Events,
    Outcome,
    Trial,
    events,
    of_layer,
)
from speckfarm_server.twin.assumptions import ASSUMPTIONS

FIRST_CORE = 2  # 0 and 1 are said not to repeat; cores 2 to 8 are alike
LENGTHS = (1, 7)  # cores in a chain
MORE_CORES = LENGTHS[1] - LENGTHS[0]
SIZE = 8  # of the camera's map, and of the first core's kernel: one place of neurons
PLACES, ROUNDS = 63, 4  # an event each, four times over
PRIMER_PLACE = SIZE * SIZE - 1
# Each place has a neuron, spread evenly, so that outputs leave at all parts of a us and rounding
# averages out: within 20 ns of a core, whatever an update takes from 0.4 to 2 times the table's.
NEURONS = 256  # all that core 2 has kernels for
NEURON_OF = np.arange(PLACES) * (NEURONS - 1) // (PLACES - 1)
SENT = PLACES * ROUNDS
GAP_US = 100  # longer than any lag: echoes and outputs come in the order of their events
REPEATS = 2  # recordings
ASKED_US = FIRST_US + GAP_US * np.arange(SENT)
RANK = np.tile(NEURON_OF, ROUNDS)  # of the neuron that fires at each event

STAMP_US = 1.0  # the step of stamps
SMALL_US = STAMP_US  # a stamp that jitters by less cannot be told from one that is rounded
NEAR_US = 5.0  # stamps that are off by less are not set back, so the echo's may be
# Echoes may all be rounded alike, so what stands beside the cores' time is known no better.
NEAR_WAY_US = STAMP_US
NEAR_CORE_NS = 20.0
SIGMAS = 3.0

FloatArray = NDArray[np.float64]


def _configuration(chip: str, length: int) -> Configuration:
    """Each place makes its neuron of the first core fire, and takes from all others."""
    weights = np.full((NEURONS, 1, SIZE * SIZE), -1, np.int8)
    weights[NEURON_OF, 0, np.arange(PLACES)] = 3
    last = FIRST_CORE + length - 1
    cores = [
        core(
            number,
            weights.reshape(-1, 1, SIZE, SIZE)
            if number == FIRST_CORE
            else np.full((1, NEURONS if number == FIRST_CORE + 1 else 1), 2),
            size=(SIZE, SIZE) if number == FIRST_CORE else (1, 1),
            return_to_zero=True,
            monitor_enable=number == last,
            to=(number + 1,) if number < last else (),
        )
        for number in range(FIRST_CORE, last + 1)
    ]
    camera = DvsConfiguration(
        merge=True,
        cut=(SIZE - 1, SIZE - 1),
        monitor_enable=True,
        destinations=(Destination(core=FIRST_CORE),),
    )
    return replace(chain(chip, *cores), input_shape=SENSOR_SHAPE, inputs=(), dvs=camera)


def _trial(chip: str, length: int) -> Trial:
    at = [PRIMER_PLACE, *list(range(PLACES)) * ROUNDS]
    recording = events(
        [PRIMER_US, *ASKED_US],
        y=[place // SIZE for place in at],
        x=[place % SIZE for place in at],
    )
    return Trial(
        name=f"chain of {length} behind the camera layer",
        configuration=_configuration(chip, length),
        recordings=(recording,) * REPEATS,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Clock:
    """What echoes say of the board's clock and its way in."""

    ahead_us: FloatArray  # (recordings, SENT) echo - requested time
    shifted_us: int  # by which stamps had been set back

    @property
    def offset_us(self) -> float:
        """As the board stamped them."""
        return float(self.ahead_us.mean()) + self.shifted_us

    @property
    def jitter_us(self) -> float:
        """Within a recording, at most."""
        return float(np.ptp(self.ahead_us, axis=1).max())

    @property
    def moved_us(self) -> float:
        """From recording to recording."""
        return float(np.ptp(self.ahead_us.mean(axis=1)))

    @property
    def is_as_assumed(self) -> bool:
        """Whether an echo comes at its event's time, but for what the board's clock is off."""
        is_near = abs(self.offset_us - self.shifted_us) <= NEAR_US
        return is_near and max(self.jitter_us, self.moved_us) <= SMALL_US

    @property
    def figures(self) -> dict[str, object]:
        """For the report."""
        return {
            "echo_offset_us": round(self.offset_us, 3),
            "echo_jitter_us": self.jitter_us,
            "echo_moved_between_recordings_us": round(self.moved_us, 3),
        }

    @property
    def words(self) -> str:
        """The same."""
        return f"echo {self.offset_us:.2f} us behind its event, jitter {self.jitter_us:g} us"


@dataclass(frozen=True, kw_only=True, eq=False)
class Lags:
    """What two chains say together."""

    lags_us: FloatArray  # (chains, recordings, SENT) output - echo, whole us

    @cached_property
    def mean_us(self) -> FloatArray:
        """Of each chain, rounding of outputs taken out."""
        mean_us: FloatArray = self.lags_us.mean(axis=(1, 2)) + STAMP_US / 2
        return mean_us

    @cached_property
    def op_us(self) -> float:
        """By how much lags grow from neuron to neuron of the first core."""
        return float(np.polyfit(RANK, self.lags_us.mean(axis=(0, 1)), deg=1)[0])

    @property
    def first_us(self) -> float:
        """The short chain's, as if its first neuron had fired, whichever end that is."""
        return float(self.mean_us[0]) - abs(self.op_us) * float(RANK.mean())

    @property
    def core_ns(self) -> float:
        """One core more: `fixed_ns`, an update, `pipe_ns`; neither clock nor camera is in it."""
        return float(np.diff(self.mean_us)[0]) * 1e3 / MORE_CORES

    @property
    def core_error_ns(self) -> float:
        """One standard error; recordings may jitter alike, so one counts."""
        spread_us = float(np.hypot(*self._beside_us.std(axis=(1, 2))))
        return spread_us * 1e3 / math.sqrt(SENT) / MORE_CORES

    @property
    def way_us(self) -> float:
        """What is left of the short chain: from camera to core, without the echo's own way."""
        return self.first_us - LENGTHS[0] * self.core_ns / 1e3

    @property
    def jitter_us(self) -> float:
        """Of the lags of one neuron, at most; two stamps have a part in it."""
        of_neuron_us = self.lags_us.reshape(len(LENGTHS), REPEATS * ROUNDS, PLACES)
        return float(np.ptp(of_neuron_us, axis=1).max())

    @property
    def _beside_us(self) -> FloatArray:
        beside_us: FloatArray = self.lags_us - self.op_us * RANK
        return beside_us

    @property
    def is_as_assumed(self) -> bool:
        """Whether the twin's constants give these lags."""
        near_ns = max(NEAR_CORE_NS, SIGMAS * self.core_error_ns)
        is_near = abs(self.core_ns - assumed_core_ns()) <= near_ns
        return is_near and abs(self.way_us) <= NEAR_WAY_US and self.jitter_us <= 2 * SMALL_US

    @property
    def figures(self) -> dict[str, object]:
        """For the report."""
        means_us = self.mean_us.round(3).tolist()
        return {
            "lag_us_of_chain": dict(zip(map(str, LENGTHS), means_us, strict=True)),
            "lag_us_of_one_core": round(self.first_us, 3),
            "lag_jitter_us": self.jitter_us,
            "core_ns": round(self.core_ns, 1),
            "core_error_ns": round(self.core_error_ns, 1),
            "camera_to_core_beside_echo_us": round(self.way_us, 3),
        }

    @property
    def words(self) -> str:
        """The same."""
        return (
            f"output of one core {self.first_us:.2f} us behind its echo, jitter "
            f"{self.jitter_us:g} us; {self.core_ns:.0f} ns for each core more, assumed "
            f"{assumed_core_ns():.0f}; {abs(self.way_us):.1f} us are no core's"
        )


def assumed_core_ns() -> float:
    """What the twin takes from core to core for a spike that reaches one neuron."""
    table = find_chip("speck2f").cores  # speck2e has the same
    op_ns = 1e9 / table[FIRST_CORE].synops_per_s
    return ASSUMPTIONS.fixed_ns + ASSUMPTIONS.pipe_ns + op_ns


def judge_echo(outcomes: Sequence[Outcome]) -> Answer:
    """Trials: a chain of each length."""
    echoes = [_echoes(each) for outcome in outcomes for each in outcome.spikes]
    exits = [
        _in_time(of_layer(each, length - 1))
        for length, outcome in zip(LENGTHS, outcomes, strict=True)
        for each in outcome.spikes
    ]
    figures: dict[str, object] = {
        "sent": SENT,
        "echoes": [len(each) for each in echoes],
        "outputs": [len(each) for each in exits],
    }
    if not any(map(len, echoes)):
        outputs = sum(map(len, exits))
        return not_told(f"no echo of the input came, but {outputs} outputs", figures)
    if not all(map(_is_whole, echoes)):
        text = f"echoes are not the {SENT} events of a recording, once each in their order"
        return Answer(verdict=Verdict.DIFFERENT, found=text, figures=figures)
    stamps_us = np.array([each["t"] for each in echoes], np.float64)
    clock = Clock(ahead_us=stamps_us - ASKED_US, shifted_us=outcomes[0].shifted_us)
    if any(len(each) != SENT for each in exits):
        return _clock_alone(clock, figures)
    outputs_us = np.array([each["t"] for each in exits], np.float64)
    lags = Lags(lags_us=(outputs_us - stamps_us).reshape(len(LENGTHS), REPEATS, SENT))
    return Answer(
        verdict=verdict_of(as_assumed=clock.is_as_assumed and lags.is_as_assumed),
        found=f"{clock.words}; {lags.words}",
        figures={**figures, **clock.figures, **lags.figures},
    )


def _echoes(spikes: Events) -> Events:
    """In order of time, but for the primer's."""
    found = of_layer(spikes, ECHO)
    return _in_time(found[_place(found) != PRIMER_PLACE])


def _in_time(spikes: Events) -> Events:
    ordered: Events = spikes[np.argsort(spikes["t"], kind="stable")]
    return ordered


def _place(spikes: Events) -> NDArray[np.int64]:
    place: NDArray[np.int64] = spikes["y"].astype(np.int64) * SIZE + spikes["x"]
    return place


def _is_whole(echo: Events) -> bool:
    return np.array_equal(_place(echo), np.tile(np.arange(PLACES), ROUNDS))


def _clock_alone(clock: Clock, figures: Mapping[str, object]) -> Answer:
    """Outputs that were lost cannot be given to their echoes."""
    text = f"{clock.words}; outputs did not come once each, so their lag is not told"
    verdict = Verdict.NOT_TOLD if clock.is_as_assumed else Verdict.DIFFERENT
    return Answer(verdict=verdict, found=text, figures={**figures, **clock.figures})


EXPERIMENTS = (
    Experiment(
        name="latency echo",
        question="How far is an output behind its input, both by the board's clock?",
        settles="open question 8: offset and jitter of stamps; a check on `fixed_ns` + `pipe_ns`",
        trials=lambda chip: [_trial(chip, length) for length in LENGTHS],
        judge=judge_echo,
    ),
)
