"""Placement: complete whenever one exists, within every core's memory, the same every time."""

from itertools import permutations
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.chip import CHIPS, Chip, CoreLimits
from speckfarm_server.place import (
    UNREPRODUCIBLE_CORES,
    Need,
    candidate_cores,
    find_contention,
    place,
)

SPECK2F = CHIPS["speck2f"]
KI = 1024
# Kernel and neuron entries that only some cores hold.
STEPS = st.sampled_from([1, 16 * KI, 16 * KI + 1, 32 * KI, 32 * KI + 1, 64 * KI, 64 * KI + 1])
NEEDS = st.builds(Need, kernel_entries=STEPS, neuron_entries=STEPS)


def small_chip(*limits: tuple[int, int]) -> Chip:
    cores = tuple(
        CoreLimits(kernel_entries=kernel, neuron_entries=neuron, bias_entries=8, synops_per_s=1.0)
        for kernel, neuron in limits
    )
    return Chip(name="small", cores=cores)


SIZES = st.integers(1, 3)
CHIPS_AND_NEEDS = st.integers(2, 5).flatmap(
    lambda cores: st.tuples(
        st.lists(st.tuples(SIZES, SIZES), min_size=cores, max_size=cores),
        st.lists(st.tuples(SIZES, SIZES), max_size=cores),
        st.dictionaries(st.integers(0, cores - 1), st.integers(0, cores - 1), max_size=2),  # pins
    )
)


def _best_by_brute_force(
    needs: list[Need], chip: Chip, pins: dict[int, int]
) -> tuple[int, ...] | None:
    """Fewest uses of cores 0 and 1, then lowest cores; None if nothing fits."""
    fitting = [
        cores
        for cores in permutations(range(len(chip.cores)), len(needs))
        if all(need.fits(chip.cores[core]) for need, core in zip(needs, cores, strict=True))
        and all(cores[layer] == core for layer, core in pins.items() if layer < len(needs))
    ]
    return min(fitting, key=lambda c: (len(UNREPRODUCIBLE_CORES & set(c)), c), default=None)


@given(case=CHIPS_AND_NEEDS)
@settings(max_examples=400, deadline=None)
def test_placement_is_the_one_brute_force_prefers(case: tuple[list, list, dict]) -> None:
    limits, sizes, layer_of_core = case
    chip = small_chip(*limits)
    needs = [Need(kernel_entries=kernel, neuron_entries=neuron) for kernel, neuron in sizes]
    pins = {layer: core for core, layer in layer_of_core.items()}

    made = place(needs, chip, pins)

    best = _best_by_brute_force(needs, chip, pins)
    if best is None:
        assert made.unplaced
    else:
        assert made.cores == best
        assert not made.unplaced


@given(needs=st.lists(NEEDS, max_size=9), pins=st.dictionaries(st.integers(0, 8), st.just(4)))
@settings(deadline=None)
def test_no_core_is_used_twice_or_over_its_limits(needs: list[Need], pins: dict[int, int]) -> None:
    pins = dict(list(pins.items())[:1])

    made = place(needs, SPECK2F, pins)

    assert len(set(made.cores)) == len(needs)
    for layer, core in enumerate(made.cores):
        assert needs[layer].fits(SPECK2F.cores[core]) or layer in made.unplaced
        assert pins.get(layer, core) == core
    assert made == place(needs, SPECK2F, pins)


@given(needs=st.lists(NEEDS, min_size=1, max_size=9))
@settings(deadline=None)
def test_an_incomplete_placement_names_more_layers_than_cores(needs: list[Need]) -> None:
    made = place(needs, SPECK2F, {})

    candidates = candidate_cores(needs, SPECK2F, {})
    contention = find_contention(candidates, made)
    if any(candidates[layer] for layer in made.unplaced):
        assert len(contention.layers) > len(contention.cores)
        assert {c for layer in contention.layers for c in candidates[layer]} == set(
            contention.cores
        )
    else:
        assert contention.layers == contention.cores == ()


def test_small_layers_avoid_cores_0_and_1_and_take_the_lowest() -> None:
    made = place([Need(kernel_entries=1, neuron_entries=1)] * 4, SPECK2F, {})

    assert made.cores == (2, 3, 4, 5)


def test_cores_0_and_1_are_used_when_only_they_are_large_enough() -> None:
    large = Need(kernel_entries=1, neuron_entries=64 * KI)
    small = Need(kernel_entries=1, neuron_entries=1)

    made = place([small, large, large], SPECK2F, {})

    assert made.cores == (3, 0, 2)


def test_a_pin_is_kept_and_others_make_room() -> None:
    made = place([Need(kernel_entries=1, neuron_entries=1)] * 3, SPECK2F, {2: 2})

    assert made.cores == (3, 4, 2)


def test_a_pin_that_does_not_fit_is_kept_as_a_draft() -> None:
    made = place([Need(kernel_entries=64 * KI, neuron_entries=1)], SPECK2F, {0: 7})

    assert made.cores == (7,)
    assert made.unplaced == {0}


def test_a_layer_too_large_for_every_core_gets_the_least_wrong_draft() -> None:
    hopeless = Need(kernel_entries=64 * KI + 1, neuron_entries=32 * KI)

    made = place([hopeless, Need(kernel_entries=1, neuron_entries=1)], SPECK2F, {})

    assert made.unplaced == {0}
    assert made.cores == (0, 2)  # core 0 has the neurons


def test_bias_entries_count() -> None:
    assert place(
        [Need(kernel_entries=1, neuron_entries=1, bias_entries=1025)], SPECK2F, {}
    ).unplaced


def test_more_layers_than_cores_are_refused() -> None:
    with pytest.raises(ValueError, match="10 layers on 9 cores"):
        place([Need(kernel_entries=1, neuron_entries=1)] * 10, SPECK2F, {})


def test_placing_nine_layers_takes_little_time() -> None:
    needs = [Need(kernel_entries=16 * KI, neuron_entries=16 * KI)] * 9
    place(needs, SPECK2F, {})

    start = perf_counter()
    for _ in range(10):
        place(needs, SPECK2F, {})

    assert (perf_counter() - start) / 10 < 0.02  # about 0.5 ms on an idle machine
