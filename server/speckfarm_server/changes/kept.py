"""Whether a change keeps what a network computes, spike by spike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from speckfarm_server.build import integers_of, reset_of
from speckfarm_server.changes.change import apply_change
from speckfarm_server.errors import Change
from speckfarm_server.network import Layer, Network
from speckfarm_server.quantise import QuantisedLayer
from speckfarm_server.settings import Settings


def keeps_spikes(network: Network, settings: Settings, change: Change) -> bool:
    """Whether a layer with more zeros among its weights, or without biases, spikes as before.

    Four things could differ. A zero added to a neuron lets it fire if a spike left it at the
    threshold or above, so no weight may exceed the threshold, unless a spike resets to 0. Integers
    may come out differently, if the largest number is gone. A map may have another size. And a
    core that takes longer changes the order in which a merge hears its sources, or a tick comes.
    """
    number = change.layer
    if number is None:
        return False
    changed, _ = apply_change(network, settings, change)
    old, new = network.layers[number], changed.layers[number]
    before, after = _integers(old, settings), _integers(new, settings)
    if before is None or after is None or not _has_same_maps(network, changed):
        return False
    as_float = replace(old, weights=before.weights.astype(np.float32))
    layers = (*network.layers[:number], as_float, *network.layers[number + 1 :])
    moved, _ = apply_change(replace(network, layers=layers), settings, change)
    has_ticks = settings.slow_clock_hz is not None
    has_order = has_ticks or any(len(layer.sources) > 1 for layer in network.layers)
    return (
        np.array_equal(moved.layers[number].weights, after.weights)
        and before.threshold_high == after.threshold_high
        and before.threshold_low == after.threshold_low
        and (not has_ticks or np.array_equal(before.biases, after.biases))
        and (
            new.weights.shape == old.weights.shape
            or (not has_order and _rests(before, old, number, settings))
        )
    )


def _rests(integers: QuantisedLayer, layer: Layer, number: int, settings: Settings) -> bool:
    """Whether a neuron is below its threshold after every spike."""
    largest = max(int(integers.weights.max()), int(integers.biases.max()))
    is_zeroed = reset_of(layer, number, settings) == "zero"
    return integers.threshold_high > 0 and (is_zeroed or largest <= integers.threshold_high)


def _integers(layer: Layer, settings: Settings) -> QuantisedLayer | None:
    return integers_of(Network(input_shape=layer.input_shape, layers=(layer,)), settings)[0]


def _has_same_maps(network: Network, changed: Network) -> bool:
    pairs = zip(network.layers, changed.layers, strict=True)
    return all(old.output_shape == new.output_shape for old, new in pairs)
