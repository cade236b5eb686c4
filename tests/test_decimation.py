"""The search for the least decimation, against chips that are a formula."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm.decimation import DIVISORS, Decimator, Overrun, find_least, most_runs


@dataclass
class SyntheticChip:
    """Rates that flow through layers; a higher decimator never makes any of them larger."""

    sources: dict[int, tuple[int, ...]]
    direct: list[float]  # spikes per second that enter each layer from outside
    gain: list[float]  # spikes out for each spike in
    cost: list[float]  # synaptic operations for each spike in
    limit: list[float]
    tells: str = "excess"  # excess, wrong or nothing
    runs: list[Decimator] = field(default_factory=list)

    def loads(self, decimator: Decimator) -> list[float]:
        """Demanded over sustainable synaptic operations of each layer."""
        out: list[float] = []
        found = []
        for layer, feeding in self.sources.items():
            rate = self.direct[layer] + sum(out[each] for each in feeding)
            out.append(rate * self.gain[layer] / decimator.get(layer, 1))
            found.append(rate * self.cost[layer] / self.limit[layer])
        return found

    def measure(self, decimator: Decimator) -> Overrun | None:
        """The layer with the largest excess is suspected."""
        self.runs.append(dict(decimator))
        return self.judged(decimator)

    def judged(self, decimator: Decimator) -> Overrun | None:
        loads = self.loads(decimator)
        if max(loads) <= 1:
            return None
        layer = loads.index(max(loads))
        told = {"excess": max(loads), "wrong": 0.1 + 3.0 * ((layer * 7) % 5), "nothing": None}
        return Overrun(layer=layer, excess=told[self.tells])


@st.composite
def chips(draw: st.DrawFn) -> SyntheticChip:
    """Up to nine layers in a graph; many are overrun."""
    count = draw(st.integers(1, 9))
    sources: dict[int, tuple[int, ...]] = {0: ()}
    for layer in range(1, count):
        feeding = draw(st.sets(st.integers(0, layer - 1), max_size=2))
        sources[layer] = tuple(sorted(feeding | {layer - 1} if draw(st.booleans()) else feeding))
    numbers = st.floats(0.1, 100.0)
    return SyntheticChip(
        sources=sources,
        direct=[
            draw(st.just(0.0) if feeding and draw(st.booleans()) else st.floats(0.1, 10))
            for feeding in sources.values()
        ],
        gain=[draw(st.floats(0.01, 10)) for _ in sources],
        cost=[draw(numbers) for _ in sources],
        limit=[draw(st.floats(10.0, 1e5)) for _ in sources],
        tells=draw(st.sampled_from(["excess", "wrong", "nothing"])),
    )


def feeding(chip: SyntheticChip) -> set[int]:
    return {layer for each in chip.sources.values() for layer in each}


@given(chip=chips())
def test_the_search_never_runs_more_often_than_it_says(chip: SyntheticChip) -> None:
    find_least(chip.measure, chip.sources)

    assert len(chip.runs) <= most_runs(chip.sources)
    assert chip.runs[0] == {}
    assert len({tuple(sorted(run.items())) for run in chip.runs}) == len(chip.runs)


@given(chip=chips())
def test_an_overrun_is_removed_if_any_decimation_removes_it(chip: SyntheticChip) -> None:
    outcome = find_least(chip.measure, chip.sources)

    is_possible = chip.judged(dict.fromkeys(feeding(chip), 512)) is None
    assert (outcome.verdict in ("healthy", "removed")) == is_possible
    if is_possible:
        assert chip.judged(outcome.decimator) is None
        assert outcome.decimator in chip.runs
    else:
        assert outcome.decimator == {}
        assert outcome.overrun is not None


@given(chip=chips())
def test_no_decimator_of_the_answer_can_be_lowered_by_one_step(chip: SyntheticChip) -> None:
    outcome = find_least(chip.measure, chip.sources)

    for layer, divisor in outcome.decimator.items():
        lower = DIVISORS[DIVISORS.index(divisor) - 1]
        assert chip.judged({**outcome.decimator, layer: lower}) is not None
    assert outcome.is_least == (outcome.verdict in ("healthy", "removed"))


@given(chip=chips(), max_runs=st.integers(1, 12))
def test_a_search_that_is_stopped_says_so_and_recommends_nothing_untried(
    chip: SyntheticChip, max_runs: int
) -> None:
    outcome = find_least(chip.measure, chip.sources, max_runs=max_runs)

    assert len(chip.runs) <= max_runs
    if outcome.verdict in ("healthy", "removed"):
        assert chip.judged(outcome.decimator) is None
        assert outcome.decimator in chip.runs
    else:
        assert outcome.overrun is not None
        assert outcome.decimator == {}


def chain(excess: float, *, at: int, layers: int = 4, tells: str = "excess") -> SyntheticChip:
    """A chain in which one layer is asked for `excess` times what it can do."""
    return SyntheticChip(
        sources={n: (n - 1,) if n else () for n in range(layers)},
        direct=[1.0, *[0.0] * (layers - 1)],
        gain=[1.0] * layers,
        cost=[excess if n == at else 0.001 for n in range(layers)],
        limit=[1.0] * layers,
        tells=tells,
    )


def test_a_healthy_network_takes_one_run() -> None:
    chip = chain(0.9, at=2)

    outcome = find_least(chip.measure, chip.sources)

    assert (outcome.verdict, outcome.decimator, outcome.is_least) == ("healthy", {}, True)
    assert chip.runs == [{}]


def test_a_good_estimate_takes_three_runs() -> None:
    chip = chain(3.5, at=2)

    outcome = find_least(chip.measure, chip.sources)

    assert outcome.decimator == {1: 4}
    assert chip.runs == [{}, {1: 4}, {1: 2}]


@pytest.mark.parametrize("divisor", DIVISORS[1:])
@pytest.mark.parametrize("tells", ["excess", "wrong", "nothing"])
def test_every_decimator_can_be_the_answer(divisor: int, tells: str) -> None:
    chip = chain(float(divisor), at=3, tells=tells)

    assert find_least(chip.measure, chip.sources).decimator == {2: divisor}


def test_the_first_layer_has_no_decimator_before_it() -> None:
    chip = chain(2.0, at=0)

    outcome = find_least(chip.measure, chip.sources)

    assert (outcome.verdict, len(chip.runs)) == ("first_layer", 1)
    assert outcome.overrun == Overrun(layer=0, excess=2.0)


def test_where_the_nearest_decimators_do_not_suffice_those_before_them_are_raised() -> None:
    chip = chain(2000.0, at=2)

    outcome = find_least(chip.measure, chip.sources)

    assert outcome.verdict == "removed"
    assert outcome.decimator in ({0: 4, 1: 512}, {0: 512, 1: 4}, {0: 8, 1: 256}, {0: 256, 1: 8})


def test_an_overrun_beyond_every_decimator_is_said_to_stay() -> None:
    chip = chain(1e6, at=2)
    chip.direct[2] = 1.0  # recorded events enter it as well

    assert find_least(chip.measure, chip.sources).verdict == "not_removed"


def test_an_unknown_layer_ends_the_search() -> None:
    outcome = find_least(lambda _: Overrun(layer=None, excess=3.0), {0: (), 1: (0,)})

    assert outcome.verdict == "unknown"


def test_a_decimator_that_a_later_one_makes_needless_is_taken_back() -> None:
    # Layer 3 is suspected first; once it is served, layer 1 is, and its decimator thins both.
    chip = SyntheticChip(
        sources={0: (), 1: (0,), 2: (1,), 3: (2,)},
        direct=[1.0, 0, 0, 0],
        gain=[1.0] * 4,
        cost=[0.1, 7.0, 0.1, 8.0],
        limit=[1.0] * 4,
    )

    outcome = find_least(chip.measure, chip.sources)

    assert outcome.decimator == {0: 8}


def test_the_bound_of_nine_layers_is_known() -> None:
    assert most_runs({n: (n - 1,) if n else () for n in range(9)}) == 65


@pytest.mark.parametrize(("first", "second"), [*product([2.0, 5.0, 40.0], repeat=2)])
def test_merging_layers_are_decimated_as_little_as_each_other_allows(
    first: float, second: float
) -> None:
    chip = SyntheticChip(
        sources={0: (), 1: (), 2: (0, 1)},
        direct=[first, second, 0.0],
        gain=[1.0] * 3,
        cost=[0.001, 0.001, 1.0],
        limit=[1.0] * 3,
    )

    outcome = find_least(chip.measure, chip.sources)

    assert outcome.verdict == "removed"
    assert chip.judged(outcome.decimator) is None
