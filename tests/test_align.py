"""Alignment finds which outputs are which, with losses, extra outputs and any lag."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.align import LOST, PIECE, Outputs, align


def spoiled(
    count: int, addresses: int, *, lost: float, extra: float, growth: float = 0.5, seed: int = 0
) -> tuple[Outputs, Outputs, Any]:
    """Measured and predicted outputs, and the true place of each measured one; -1: extra."""
    rng = np.random.default_rng(seed)
    t_us = np.sort(rng.uniform(0, 100.0 * count, count))
    address = rng.integers(0, addresses, count)
    kept = rng.random(count) >= lost
    more = rng.binomial(count, extra)
    at_us = t_us * (1 + growth) + np.cumsum(rng.uniform(0, 5, count))
    measured_us = np.concatenate([at_us[kept], rng.uniform(0, at_us[-1], more)])
    measured = np.concatenate([address[kept], rng.integers(0, addresses, more)])
    places = np.concatenate([np.flatnonzero(kept), np.full(more, -1)])
    order = np.argsort(measured_us, kind="stable")
    return (
        Outputs(t_us=np.floor(measured_us[order]), address=measured[order]),
        Outputs(t_us=t_us, address=address),
        places[order],
    )


@pytest.mark.parametrize("addresses", [3, 10, 500])
@pytest.mark.parametrize(("lost", "extra"), [(0.0, 0.0), (0.1, 0.0), (0.05, 0.05)])
def test_outputs_are_found_though_some_are_lost_or_extra(
    addresses: int, lost: float, extra: float
) -> None:
    measured, predicted, places = spoiled(2000, addresses, lost=lost, extra=extra)

    found = align(measured, predicted)

    off = np.abs(found.places(len(places)) - places)[places >= 0]
    assert np.quantile(off, 0.9) <= (3 if addresses == 3 else 1)


def test_one_address_is_aligned_by_its_intervals() -> None:
    measured, predicted, places = spoiled(1500, 1, lost=0.1, extra=0.0, growth=0.0)

    found = align(measured, predicted)

    off = np.abs(found.places(len(places)) - places)
    assert np.quantile(off, 0.9) <= 2
    assert np.abs(np.linspace(0, 1499, len(places)) - places).max() > 5  # shares of counts fail


def test_of_many_outputs_some_addresses_stand_for_all() -> None:
    measured, predicted, places = spoiled(5 * PIECE, 400, lost=0.05, extra=0.05)

    found = align(measured, predicted)

    assert len(found.measured) < PIECE
    off = np.abs(found.places(len(places)) - places)[places >= 0]
    assert np.quantile(off, 0.9) <= 5


def test_few_addresses_with_many_outputs_are_aligned_piece_by_piece() -> None:
    measured, predicted, places = spoiled(3 * PIECE, 2, lost=0.05, extra=0.0, growth=0.0)

    found = align(measured, predicted)

    assert len(found.measured) > PIECE
    off = np.abs(found.places(len(places)) - places)
    assert np.quantile(off, 0.9) <= 10


def test_outputs_in_another_order_fall_back_to_counts_and_say_how_unsure() -> None:
    measured, predicted, _ = spoiled(1000, 300, lost=0.0, extra=0.0)
    others = Outputs(t_us=measured.t_us, address=np.random.default_rng(1).permutation(1000) + 500)

    found = align(others, predicted)

    assert np.allclose(found.places(1000), np.arange(1000))
    assert found.doubt.max() > 0.1 * LOST * 1000


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
)
def test_any_two_sequences_give_ascending_places_in_range(
    measured: list[int], predicted: list[int]
) -> None:
    found = align(
        Outputs(t_us=np.arange(len(measured)) * 50.0, address=np.array(measured)),
        Outputs(t_us=np.arange(len(predicted)) * 50.0, address=np.array(predicted)),
    )

    places = found.places(len(measured))
    assert (np.diff(places) >= 0).all()
    assert places.min() >= 0
    assert places.max() <= len(predicted) - 1
