"""How fast each core serves, and what a spike takes through a chain of cores.

Stamps are whole us and a core takes a third of one, so times are read off many spikes: a core that
always has something to do spaces its outputs by its service time, and the first core of a chain
fires later by one neuron's update from event to event, so that rounding averages out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.prove.answer import Answer, not_told, verdict_of
from speckfarm_server.prove.build import chain, core, relay, with_primer
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.trial import (
    FIRST_US,
    PRIMER_US,
    Events,
    Outcome,
    Trial,
    events,
    of_layer,
    places,
)
from speckfarm_server.twin.assumptions import ASSUMPTIONS

CORES = 9
# An event makes 64 neurons of one place fire, which all go to the core that is measured. Its
# kernel of 8 x 8 reaches 1, 16 or 64 places of 3 features, by where that place is.
FAN, FEATURES = 64, 3
SPIKES_EACH = 32  # arrivals per output of the measured core
PLACE_OF_OPS = {3: 0, 48: 3, 192: 8}
EVENTS_OF_OPS = {3: 128, 48: 64, 192: 32}
EVENT_GAP_US = 5  # 64 spikes in 5 us: more than any core is believed to serve
SKIPPED = 2  # outputs before the queue is full

LENGTHS = (1, 4, 7)  # cores in a chain, from core 2 on
SHIFTS = 60  # features of the first core, which fire one after the other
CHAIN_GAP_US = 100
FEWEST = 8  # spikes from which a time is told
# How far from what is assumed a figure may be and still count as it: rounding of stamps.
NEAR_FIXED_NS, NEAR_PIPE_NS, NEAR_RATE = 6.0, 15.0, 0.02


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a core takes for an arrival: fixed_ns + updates * op_ns."""

    fixed_ns: float
    op_ns: float


def measured_core(chip: str, number: int, *, others: int = -1) -> Configuration:
    """A core that counts arrivals in one of the neurons that they reach; `others` get a weight."""
    fan = core(
        2 if number != 2 else 3,
        np.full((FAN, 1), 2),
        size=(16, 16),
        return_to_zero=True,
        monitor_enable=False,
        to=(number,),
    )
    weights = np.full((FEATURES, FAN, 8, 8), others)
    weights[0, :, 0, 0] = 1
    counting = core(number, weights, size=(16, 16), threshold_high=SPIKES_EACH)
    return chain(chip, with_primer(fan), counting)


def _service_trial(chip: str, number: int, *, others: int = -1) -> Trial:
    recordings = []
    for ops, at in PLACE_OF_OPS.items():
        count = EVENTS_OF_OPS[ops]
        times_us = [PRIMER_US, *(FIRST_US + EVENT_GAP_US * np.arange(count))]
        recordings.append(events(times_us, [1, *[0] * count], y=at, x=at))
    return Trial(
        name=f"core {number}, other weights {others}",
        configuration=measured_core(chip, number, others=others),
        recordings=tuple(recordings),
    )


def _chain_trial(chip: str, length: int) -> Trial:
    last = 1 + length
    shifting = relay(2, SHIFTS, monitor_enable=length == 1, to=(3,) if length > 1 else ())
    links = [
        core(
            number,
            np.full((1, SHIFTS if number == 3 else 1), 2),
            return_to_zero=True,
            monitor_enable=number == last,
            to=(number + 1,) if number < last else (),
        )
        for number in range(3, last + 1)
    ]
    times_us = [PRIMER_US, *(FIRST_US + CHAIN_GAP_US * np.arange(SHIFTS))]
    recording = events(times_us, [SHIFTS, *range(SHIFTS)])
    return Trial(
        name=f"chain of {length}",
        configuration=chain(chip, with_primer(shifting), *links),
        recordings=(recording,),
    )


def _trials(chip: str) -> list[Trial]:
    services = [_service_trial(chip, number) for number in range(CORES)]
    return [
        *services,
        _service_trial(chip, 4, others=0),
        *(_chain_trial(chip, length) for length in LENGTHS),
    ]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the trials say; None where they do not."""

    known: Mapping[int, Service]  # of each core
    zeros: Service | None  # of core 4 with weights of 0
    pipe_ns: float | None
    offset_us: float | None  # of the board's stamps

    @property
    def fixed_ns(self) -> float:
        """Of all cores: the twin has one for all."""
        return float(np.median([each.fixed_ns for each in self.known.values()]))

    @property
    def sets(self) -> dict[str, object]:
        """Assumptions; what is near the twin's is the twin's."""
        table = find_chip("speck2f").cores  # speck2e has the same
        rates = [1e9 / self.known[n].op_ns for n in range(CORES)]
        factors = [rate / table[n].synops_per_s for n, rate in enumerate(rates)]
        found: dict[str, object] = {
            "fixed_ns": _settle(self.fixed_ns, ASSUMPTIONS.fixed_ns, NEAR_FIXED_NS),
            "rate_factors": [1.0 if abs(f - 1) <= NEAR_RATE else round(f, 4) for f in factors],
        }
        if self.pipe_ns is not None:
            found["pipe_ns"] = _settle(self.pipe_ns, ASSUMPTIONS.pipe_ns, NEAR_PIPE_NS)
        if self.zeros is not None:
            costs = self.zeros.op_ns > 0.5 * self.known[4].op_ns
            found["zero_weights"] = ASSUMPTIONS.zero_weights if costs else "cost nothing"
        return found

    @property
    def words(self) -> str:
        """For the report."""
        rates = ", ".join(f"{1e3 / each.op_ns:.1f}" for each in self.known.values())
        words = [f"{self.fixed_ns:.0f} ns before the first neuron"]
        words.append(f"million SynOps/s by core: {rates}")
        if self.pipe_ns is None:
            words.append("chains did not answer each event once, so core to core is not told")
        else:
            words.append(f"{self.pipe_ns:.0f} ns from core to core, board {self.offset_us} us more")
        if "zero_weights" in self.sets:
            words.append(f"weights of 0 {self.sets['zero_weights']}")
        return "; ".join(words)


def judge_delays(outcomes: Sequence[Outcome]) -> Answer:
    """Trials: each core, core 4 with weights of 0, chains."""
    services = [_service(outcome) for outcome in outcomes[:CORES]]
    known = {number: each for number, each in enumerate(services) if each is not None}
    if len(known) < CORES:
        silent = ", ".join(str(number) for number in range(CORES) if number not in known)
        return not_told(f"cores {silent} gave too few spikes to tell their rate")
    chains = outcomes[-len(LENGTHS) :]
    lags_us = [_mean_lag_us(each.spikes[0], known[2].op_ns) for each in chains]
    pipe_ns = _pipe_ns(known, lags_us)
    measured = Measured(
        known=known,
        zeros=_service(outcomes[CORES]),
        pipe_ns=pipe_ns,
        offset_us=_offset_us(known[2], lags_us[0], pipe_ns, chains[0].shifted_us),
    )
    figures = {
        "fixed_ns_of_core": [round(each.fixed_ns, 1) for each in known.values()],
        "synops_per_s_of_core": [round(1e9 / each.op_ns) for each in known.values()],
        "services_ns_of_core": [_services_ns(outcome) for outcome in outcomes[:CORES]],
        "services_ns_of_core_4_with_zero_weights": _services_ns(outcomes[CORES]),
        "lag_us_of_chain": dict(zip(map(str, LENGTHS), lags_us, strict=True)),
        "pipe_ns": pipe_ns,
        "offset_us": measured.offset_us,
    }
    found = measured.sets
    as_assumed = all(value == _assumed(name) for name, value in found.items())
    return Answer(
        verdict=verdict_of(as_assumed=as_assumed),
        found=measured.words,
        figures=figures,
        sets=found,
    )


def _assumed(name: str) -> object:
    """As JSON has it."""
    value = getattr(ASSUMPTIONS, name)
    return list(value) if isinstance(value, tuple) else value


def _service(outcome: Outcome) -> Service | None:
    """From services of three sizes; None if one of them is not told."""
    found = _services_ns(outcome)
    if None in found:
        return None
    op_ns, fixed_ns = np.polyfit(list(PLACE_OF_OPS), np.array(found, float), 1)
    return Service(fixed_ns=float(fixed_ns), op_ns=max(float(op_ns), 1e-3))


def _services_ns(outcome: Outcome) -> list[float | None]:
    return [_service_ns(spikes) for spikes in outcome.spikes]


def _service_ns(spikes: Events) -> float | None:
    """Time from arrival to arrival of a core that always has something to do."""
    t_us = of_layer(spikes, 1)["t"][SKIPPED:]
    if len(t_us) < FEWEST:
        return None
    return round(float(t_us[-1] - t_us[0]) / (len(t_us) - 1) / SPIKES_EACH * 1e3, 2)


def _mean_lag_us(spikes: Events, op_ns: float) -> float | None:
    """Of a chain, as if its first core fired with its first neuron; None unless each answered."""
    exits = spikes[spikes["layer"] == spikes["layer"].max(initial=0)]
    numbers = places(exits, gap_us=CHAIN_GAP_US)
    if sorted(numbers.tolist()) != list(range(SHIFTS)):
        return None
    lags_us = exits["t"] + 0.5 - (FIRST_US + CHAIN_GAP_US * numbers)
    return round(float(np.mean(lags_us - numbers * op_ns / 1e3)), 4)


def _pipe_ns(known: Mapping[int, Service], lags_us: Sequence[float | None]) -> float | None:
    """What a core more in a chain takes, without its service of one neuron."""
    first_us, last_us = lags_us[0], lags_us[-1]
    if first_us is None or last_us is None:
        return None
    more = range(3, 2 + LENGTHS[-1])
    served_ns = sum(known[number].fixed_ns + known[number].op_ns for number in more)
    return round(((last_us - first_us) * 1e3 - served_ns) / len(more), 1)


def _offset_us(
    first: Service, lag_us: float | None, pipe_ns: float | None, shifted_us: int
) -> float | None:
    """What a spike's stamp has beyond the time that it took through the first core."""
    if lag_us is None or pipe_ns is None:
        return None
    took_us = (first.fixed_ns + first.op_ns + pipe_ns) / 1e3
    return round(lag_us - took_us + shifted_us, 3)


def _settle(found: float, assumed: int, near: float) -> int:
    return assumed if abs(found - assumed) <= near else max(0, round(found))


EXPERIMENTS = (
    Experiment(
        name="delays",
        question="What does each core take for a spike, and how long is the way to the next?",
        settles="open questions 1 and 8: `rate_factors`, `fixed_ns`, `pipe_ns`, `zero_weights`",
        trials=_trials,
        judge=judge_delays,
    ),
)
