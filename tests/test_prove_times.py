"""Order, delays and queues of a board that is not like the twin are found back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from speckfarm.events import EVENT_DTYPE
from speckfarm_server.prove import delays, order
from speckfarm_server.prove.answer import Verdict
from speckfarm_server.prove.trial import FIRST_US, Outcome, predict
from speckfarm_server.twin.assumptions import ASSUMPTIONS
from tests.prove_outcomes import BY_NAME, judged, trials


@pytest.mark.parametrize("name", [name for name, _ in order._orders()])
def test_every_order_along_axes_is_recognised(name: str) -> None:
    key = dict(order._orders())[name]
    neurons = [(f, y, x) for f in range(3) for y in range(3) for x in range(3)]
    by_rank = sorted(neurons, key=key)
    spikes = np.zeros(order.REACHED, EVENT_DTYPE)
    for number, at in enumerate(range(7, order.REACHED * order.RATIO, order.RATIO)):
        event, rank = divmod(at, order.REACHED)
        f, y, x = by_rank[rank]
        spikes[number] = (FIRST_US + order.GAP_US * event, 0, f, y, x)

    answer = order.judge_order([Outcome(spikes=(spikes,))])

    assert answer.sets == {"neuron_order": name}
    assert (answer.verdict is Verdict.AS_ASSUMED) == (name == ASSUMPTIONS.neuron_order)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_order_that_is_drawn_anew_for_each_event_is_not_told(seed: int) -> None:
    assert judged("neuron order", replace(ASSUMPTIONS, order_seed=seed)).verdict is (
        Verdict.NOT_TOLD
    )


def test_cores_0_and_1_that_do_not_repeat_are_told_from_the_others() -> None:
    seeds = [replace(ASSUMPTIONS, order_seed=seed) for seed in range(order.REPEATS)]
    outcomes = []
    for core, trial in zip(order.CORES, trials("repeats"), strict=True):
        drawn = [predict(trial, each).spikes[0] for each in seeds]
        varied = Outcome(spikes=tuple(drawn))
        outcomes.append(varied if core in (0, 1) else predict(trial))

    answer = order.judge_repeats(outcomes)

    assert answer.verdict is Verdict.DIFFERENT
    assert "on cores 0, 1" in answer.found
    assert answer.figures["core 2"]["spikes_unlike_the_first"] == [0] * order.REPEATS


def test_a_core_that_should_repeat_and_does_not_points_at_lost_spikes() -> None:
    outcomes = [predict(trial) for trial in trials("repeats")]
    spikes = outcomes[2].spikes
    outcomes[2] = Outcome(spikes=(spikes[0][1:], *spikes[1:]))

    answer = order.judge_repeats(outcomes)

    assert answer.verdict is Verdict.DIFFERENT
    assert "cable" in answer.advice


@pytest.mark.parametrize(
    ("fixed_ns", "pipe_ns"), [(0, 0), (150, 250), (320, 0), (900, 120), (4000, 250)]
)
def test_the_delays_of_a_core_are_found_back(fixed_ns: int, pipe_ns: int) -> None:
    answer = judged("delays", replace(ASSUMPTIONS, fixed_ns=fixed_ns, pipe_ns=pipe_ns))

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.sets["fixed_ns"] == pytest.approx(fixed_ns, abs=4)
    assert answer.sets["pipe_ns"] == pytest.approx(pipe_ns, abs=15)
    assert answer.sets["rate_factors"] == [1.0] * 9


@pytest.mark.parametrize(("core", "factor"), [*enumerate([0.2, 0.9, 1.5] * 3)])
def test_the_rate_of_each_core_is_found_back_and_the_others_left(core: int, factor: float) -> None:
    factors = tuple(factor if number == core else 1.0 for number in range(9))

    answer = judged("delays", replace(ASSUMPTIONS, rate_factors=factors))

    assert answer.verdict is Verdict.DIFFERENT
    found = answer.sets["rate_factors"]
    assert isinstance(found, list)
    assert found[core] == pytest.approx(factor, rel=0.01)
    assert [each for number, each in enumerate(found) if number != core] == [1.0] * 8


def test_weights_of_0_that_cost_nothing_are_recognised() -> None:
    sent = trials("delays")
    outcomes = [predict(trial) for trial in sent]
    free = replace(ASSUMPTIONS, rate_factors=(1e6,) * 9)
    outcomes[delays.CORES] = predict(sent[delays.CORES], free)

    answer = delays.judge_delays(outcomes)

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.sets["zero_weights"] == "cost nothing"


def test_a_clock_that_is_ahead_moves_the_offset_and_no_constant() -> None:
    outcomes = [predict(trial) for trial in trials("delays")]
    for outcome in outcomes:
        for spikes in outcome.spikes:
            spikes["t"] += 9

    answer = delays.judge_delays(outcomes)

    assert answer.verdict is Verdict.AS_ASSUMED
    assert answer.figures["offset_us"] == pytest.approx(9, abs=0.1)


def test_a_chain_that_drops_a_spike_leaves_the_way_between_cores_untold() -> None:
    outcomes = [predict(trial) for trial in trials("delays")]
    outcomes[-1] = Outcome(spikes=(outcomes[-1].spikes[0][1:],))

    answer = delays.judge_delays(outcomes)

    assert "pipe_ns" not in answer.sets
    assert "not told" in answer.found


@pytest.mark.parametrize("depth", [2, 3, 8, 15, 17, 40, 60])
def test_the_depth_of_a_queue_is_found_back(depth: int) -> None:
    answer = judged("queue", replace(ASSUMPTIONS, fifo_depth=depth))

    assert answer.verdict is Verdict.DIFFERENT
    assert answer.sets == {"fifo_depth": depth}


@pytest.mark.parametrize("depth", [64, 1000])
def test_a_queue_that_takes_all_is_not_told(depth: int) -> None:
    answer = judged("queue", replace(ASSUMPTIONS, fifo_depth=depth))

    assert answer.verdict is Verdict.NOT_TOLD
    assert answer.sets == {}


@pytest.mark.parametrize(("factor", "growing"), [(0.5, 6), (3.0, 1)])
def test_lags_grow_from_another_rate_on_where_a_core_is_slower_or_faster(
    factor: float, growing: int
) -> None:
    answer = judged("overrun", replace(ASSUMPTIONS, rate_factors=(factor,) * 9))

    assert answer.verdict is Verdict.DIFFERENT
    assert f"not at {1e6 / growing:,.0f}" in answer.found


def test_a_core_that_drops_instead_of_stalling_is_told() -> None:
    [outcome] = [predict(trial) for trial in trials("overrun")]
    spikes = (*outcome.spikes[:-1], outcome.spikes[-1][::2])

    answer = BY_NAME["overrun"].judge([Outcome(spikes=spikes)])

    assert answer.verdict is Verdict.DIFFERENT
    assert "loses spikes" in answer.found
