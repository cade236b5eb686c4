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


def judge_delays(outcomes: Sequence[Outcome]) -> Answer:
    """Trials: each core, core 4 with weights of 0, chains."""
    services = [_service(outcome) for outcome in outcomes[:CORES]]
    known = {number: each for number, each in enumerate(services) if each is not None}
    if len(known) < CORES:
        silent = ", ".join(str(number) for number in range(CORES) if number not in known)
        return not_told(f"cores {silent} gave too few spikes to tell their rate")
    fixed_ns = float(np.median([each.fixed_ns for each in known.values()]))
    lags_us = [_mean_lag_us(each.spikes[0], known[2].op_ns) for each in outcomes[-len(LENGTHS) :]]
    figures = {
        "fixed_ns_of_core": [round(each.fixed_ns, 1) for each in known.values()],
        "synops_per_s_of_core": [round(1e9 / each.op_ns) for each in known.values()],
        "services_ns_of_core": [_services_ns(outcome) for outcome in outcomes[:CORES]],
        "services_ns_of_core_4_with_zero_weights": _services_ns(outcomes[CORES]),
        "lag_us_of_chain": dict(zip(map(str, LENGTHS), lags_us, strict=True)),
    }
    return _answer(known, fixed_ns, lags_us, figures, zeros=_service(outcomes[CORES]))


def _answer(
    known: Mapping[int, Service],
    fixed_ns: float,
    lags_us: Sequence[float | None],
    figures: dict[str, object],
    *,
    zeros: Service | None,
) -> Answer:
    table = find_chip("speck2f").cores
    factors = [1e9 / known[n].op_ns / table[n].synops_per_s for n in range(CORES)]
    sets: dict[str, object] = {
        "fixed_ns": _settle(fixed_ns, ASSUMPTIONS.fixed_ns, NEAR_FIXED_NS),
        "rate_factors": [1.0 if abs(f - 1) <= NEAR_RATE else round(f, 4) for f in factors],
    }
    words = [f"{fixed_ns:.0f} ns before the first neuron"]
    rates = [1e9 / known[n].op_ns / 1e6 for n in range(CORES)]
    words.append(f"million SynOps/s by core: {', '.join(f'{rate:.1f}' for rate in rates)}")
    pipe_ns = _pipe_ns(known, lags_us)
    if pipe_ns is not None and lags_us[0] is not None:
        sets["pipe_ns"] = _settle(pipe_ns, ASSUMPTIONS.pipe_ns, NEAR_PIPE_NS)
        first_ns = known[2].fixed_ns + known[2].op_ns + pipe_ns
        figures["pipe_ns"] = round(pipe_ns, 1)
        figures["offset_us"] = round(lags_us[0] - first_ns / 1e3, 3)
        words.append(f"{pipe_ns:.0f} ns from core to core, board {figures['offset_us']} us more")
    else:
        words.append("chains did not answer each event once, so core to core is not told")
    if zeros is not None:
        costs = zeros.op_ns > 0.5 * known[4].op_ns
        sets["zero_weights"] = ZEROS_COST if costs else "cost nothing"
        words.append(f"weights of 0 {sets['zero_weights']}")
    assumed = {
        "fixed_ns": ASSUMPTIONS.fixed_ns,
        "pipe_ns": ASSUMPTIONS.pipe_ns,
        "rate_factors": list(ASSUMPTIONS.rate_factors),
        "zero_weights": ZEROS_COST,
    }
    alike = all(value == assumed[name] for name, value in sets.items())
    return Answer(
        verdict=verdict_of(as_assumed=alike), found="; ".join(words), figures=figures, sets=sets
    )


ZEROS_COST = ASSUMPTIONS.zero_weights


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
    return ((last_us - first_us) * 1e3 - served_ns) / len(more)


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
