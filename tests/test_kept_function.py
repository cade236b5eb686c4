"""Changes that keep the function keep every spike; the others are not said to."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from speckfarm_server.build import build_configuration, integers_of, reset_of
from speckfarm_server.changes.change import apply_change, origins_of
from speckfarm_server.changes.kept import keeps_spikes
from speckfarm_server.check import check
from speckfarm_server.chip import CHIPS
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Change
from speckfarm_server.network import Layer, Network, Source
from speckfarm_server.settings import Settings
from speckfarm_server.twin.assumptions import Assumptions
from speckfarm_server.twin.twin import Twin
from tests.broken_networks import star
from tests.networks import conv, linear, network
from tests.reference_twin import Event
from tests.twin_builders import run_recording

SPECK2F = CHIPS["speck2f"]


class Fired(NamedTuple):
    """A spike without its time: zeros take synaptic operations, so times may move."""

    cause: int
    feature: int
    y: int
    x: int


def change(what: str, value: str, layer: int | None = 0) -> Change:
    return Change(layer=layer, what=what, value=value, keeps_function=False, text="")


def change_of(made: Network, what: str, **settings: Any) -> Change:
    """The first change of this kind that the check advises."""
    findings = check(made, SPECK2F, Settings(**settings)).findings
    advised, *_ = [each for found in findings for each in found.changes if each.what == what]
    return advised


def run_as_written(made: Network, others: Settings, events: list[Event]) -> list[list[Fired]]:
    """A chain of layers as their file means them, dilated, grouped and all: plain Python.

    An event is added to the neurons that its weights reach, in the order y, x, feature, and a
    neuron fires at once. Integers are the ones that would be written to a chip.
    """
    spikes = [Fired(index, e.feature, e.y, e.x) for index, e in enumerate(events)]
    fired = []
    for number, layer in enumerate(made.layers):
        spikes = _layer_as_written(layer, number, made, others, spikes)
        fired.append(spikes)
    return fired


def _layer_as_written(
    layer: Layer, number: int, made: Network, others: Settings, arrivals: list[Fired]
) -> list[Fired]:
    integers = integers_of(made, others)[number]
    assert integers is not None
    is_zeroed = reset_of(layer, number, others) == "zero"
    state = np.zeros(layer.output_shape, int)
    pooling = layer.sources[0].pooling
    fired = []
    for arrival in arrivals:
        y_in, x_in = arrival.y // pooling, arrival.x // pooling
        if y_in >= layer.input_shape[1] or x_in >= layer.input_shape[2]:
            continue
        for y, x, feature, weight in _reached(layer, integers.weights, arrival.feature, y_in, x_in):
            at = (feature, y, x)
            state[at] = max(state[at] + weight, integers.threshold_low)
            if state[at] >= integers.threshold_high:
                state[at] = 0 if is_zeroed else state[at] - integers.threshold_high
                fired.append(Fired(arrival.cause, feature, y, x))
    return fired


def _reached(
    layer: Layer, weights: np.ndarray, channel: int, y_in: int, x_in: int
) -> list[tuple[int, int, int, int]]:
    """Output pixel, feature and weight, for every weight that the event meets."""
    features, height, width = layer.output_shape
    channels, sides = layer.weights.shape[1], layer.weights.shape[2:]
    reached = []
    for y in range(height):
        for x in range(width):
            row = y_in + layer.padding[0] - y * layer.stride[0]
            column = x_in + layer.padding[1] - x * layer.stride[1]
            if row % layer.dilation[0] or column % layer.dilation[1]:
                continue
            ky, kx = row // layer.dilation[0], column // layer.dilation[1]
            if not (0 <= ky < sides[0] and 0 <= kx < sides[1]):
                continue
            for feature in range(features):
                if feature // (features // layer.groups) == channel // channels:
                    weight = int(weights[feature, channel % channels, ky, kx])
                    reached.append((y, x, feature, weight))
    return reached


def run_on_twin(configuration: Configuration, events: list[Event]) -> list[list[Fired]]:
    """All spikes of each layer, in their order."""
    cores = tuple(replace(core, monitor_enable=True) for core in configuration.cores)
    rows = run_recording(Twin(replace(configuration, cores=cores)), events)
    return [
        [Fired(cause, *rest) for _, cause, layer, *rest in rows if layer == number]
        for number in range(len(cores))
    ]


def configured(made: Network, others: Settings) -> Configuration:
    checked = check(made, SPECK2F, others)
    assert checked.configuration is not None, checked.findings
    return checked.configuration


def random_events(shape: tuple[int, int, int], count: int, seed: int = 0) -> list[Event]:
    rng = np.random.default_rng(seed)
    places = np.stack([rng.integers(0, size, count) for size in shape], axis=1)
    return [Event(10 * number, *map(int, place)) for number, place in enumerate(places)]


def dilated(**changes: Any) -> Network:
    made = network((2, 9, 9), conv(3, 5, padding=2, pool=2), conv(2, 3, weights=0.4))
    weights = np.random.default_rng(1).normal(0.1, 0.2, (3, 2, 3, 3)).astype(np.float32)
    first = replace(made.layers[0], weights=weights, dilation=(2, 2), **changes)
    return replace(made, layers=(first, *made.layers[1:]))


def grouped() -> Network:
    made = network((2, 8, 8), conv(4, 3, weights=0.3), conv(6, 3), conv(2, 3, weights=0.4))
    second = replace(made.layers[1], weights=made.layers[1].weights[:, :2] + 0.1, groups=2)
    return replace(made, layers=(made.layers[0], second, made.layers[2]))


def flat_kernel() -> Network:
    made = network((2, 8, 8), conv(4, 5, padding=2), conv(2, 3, weights=0.4))
    weights = np.abs(made.layers[0].weights[:, :, 1:4])
    first = replace(made.layers[0], weights=weights, padding=(1, 2))
    return replace(made, layers=(first, made.layers[1]))


def flat_linear() -> Network:
    return network((2, 5, 8), linear(6, weights=0.3), linear(3, weights=0.4))


def one_pixel() -> Network:
    return network((2, 5, 5), conv(6, 4, stride=3, weights=0.3), linear(3, weights=0.4))


KEPT = {
    "dilation": (dilated, "kernel_size"),
    "groups": (grouped, "groups"),
    "a flat kernel": (flat_kernel, "kernel_size"),
    "a flat linear layer": (flat_linear, "kernel_size"),
    "the stride of one pixel": (one_pixel, "stride"),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_change_that_keeps_the_function_gives_identical_spikes(name: str) -> None:
    build, what = KEPT[name]
    made = build()
    events = random_events(made.input_shape, 600)
    wanted = run_as_written(made, Settings(), events)

    advised = change_of(made, what)
    changed, others = apply_change(made, Settings(), advised)

    assert advised.keeps_function
    assert run_on_twin(configured(changed, others), events) == wanted
    assert all(len(spikes) > 10 for spikes in wanted)


def test_another_core_gives_identical_spikes() -> None:
    made = network((2, 34, 34), conv(16, 3, padding=1, pool=4, weights=0.3), linear(4, weights=0.4))
    events = random_events(made.input_shape, 600)
    wanted = run_as_written(made, Settings(), events)

    advised = change_of(made, "core", cores={0: 8})
    changed, others = apply_change(made, Settings(cores={0: 8}), advised)

    assert (advised.keeps_function, changed, others.cores) == (True, made, {0: 2})
    assert run_on_twin(configured(changed, others), events) == wanted
    assert len(wanted[1]) > 10


def test_copies_of_a_layer_give_identical_spikes_at_identical_times_if_no_queue_is_full() -> None:
    deep = Assumptions(fifo_depth=1 << 18)
    made = star(3)
    events = random_events(made.input_shape, 600)
    integers = integers_of(made, Settings())
    illegal = build_configuration(
        made, integers, (2, 3, 4, 5, 6), chip=SPECK2F, settings=Settings(monitor=(0, 1, 2, 3))
    )
    wanted = run_recording(Twin(illegal, assumptions=deep), events)

    advised = change_of(made, "layer_copies")
    changed, others = apply_change(made, Settings(monitor=(0, 1, 2, 3)), advised)
    rows = run_recording(Twin(configured(changed, others), assumptions=deep), events)

    origins = origins_of(made, advised)
    assert advised.keeps_function
    assert sorted((t, n, origins[layer], *at) for t, n, layer, *at in rows) == sorted(wanted)
    assert len([row for row in wanted if row[2] == 4]) > 10


def test_without_a_clock_no_bias_gives_identical_spikes() -> None:
    made = network((2, 4, 4), conv(6, 3, bias=0.05, weights=0.3), linear(3))
    without = apply_change(made, Settings(), change("bias", "off"))[0]
    events = random_events(made.input_shape, 300)

    assert keeps_spikes(made, Settings(), change("bias", "off"))
    assert run_on_twin(configured(without, Settings()), events) == run_on_twin(
        configured(made, Settings()), events
    )


def test_with_a_clock_a_bias_is_needed() -> None:
    made = network((2, 4, 4), conv(6, 3, bias=0.05, weights=0.3), linear(3))

    assert not keeps_spikes(made, Settings(slow_clock_hz=1000.0), change("bias", "off"))


def test_a_bias_that_sets_the_scale_is_needed() -> None:
    made = network((2, 4, 4), conv(6, 3, bias=0.9, weights=0.3), linear(3))

    assert not keeps_spikes(made, Settings(), change("bias", "off"))


def test_zeros_let_a_neuron_fire_again_if_a_spike_leaves_it_at_the_threshold() -> None:
    made = dilated(threshold=0.1, threshold_range=(0.1, 0.1))
    events = random_events(made.input_shape, 300)

    advised = change_of(made, "kernel_size")
    changed, _ = apply_change(made, Settings(), advised)

    assert not advised.keeps_function
    assert run_on_twin(configured(changed, Settings()), events) != run_as_written(
        made, Settings(), events
    )


def test_zeros_do_nothing_to_a_neuron_that_a_spike_resets_to_0() -> None:
    made, zero = dilated(threshold=0.1, threshold_range=(0.1, 0.1)), Settings(reset="zero")
    events = random_events(made.input_shape, 300)

    advised = change_of(made, "kernel_size", reset="zero")
    changed, _ = apply_change(made, zero, advised)

    assert advised.keeps_function
    assert run_on_twin(configured(changed, zero), events) == run_as_written(made, zero, events)


def test_equal_negative_weights_round_differently_beside_zeros() -> None:
    """sinabs scales them by 127 alone and by 128 beside a 0."""
    made = dilated()
    weights = np.full_like(made.layers[0].weights, -0.3)
    made = replace(made, layers=(replace(made.layers[0], weights=weights), made.layers[1]))

    assert not change_of(made, "kernel_size").keeps_function


def test_an_even_kernel_gets_square_without_its_function_only() -> None:
    made = network((2, 8, 8), conv(4, 4), conv(2, 3))
    first = replace(made.layers[0], weights=made.layers[0].weights[:, :, 1:], padding=(0, 0))
    first = replace(first, output_shape=(4, 6, 5))
    second = replace(made.layers[1], input_shape=(4, 6, 5), output_shape=(2, 4, 3))
    made = replace(made, layers=(first, second))

    findings = check(made, SPECK2F, Settings()).findings
    kernels = [each for found in findings for each in found.changes if each.what == "kernel_size"]

    assert kernels
    assert not any(each.keeps_function for each in kernels)


@st.composite
def odd_layers(draw: st.DrawFn) -> Network:
    """A layer that a core has no field for, then a plain one."""
    groups = draw(st.sampled_from([1, 1, 2]))
    shape = (2 * groups, draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    features = groups * draw(st.integers(1, 2))
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.normal(draw(st.sampled_from([0.1, -0.05])), 0.3, (features, 2, *kernel))
    dilation = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride = draw(st.sampled_from([1, 1, 2])), draw(st.sampled_from([1, 1, 4]))
    padding = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    sides = [
        (size - (k - 1) * d - 1 + 2 * p) // s + 1
        for size, k, d, p, s in zip(shape[1:], kernel, dilation, padding, stride, strict=True)
    ]
    assume(min(sides) >= 1)
    threshold = draw(st.sampled_from([0.2, 1.0]))
    first = Layer(
        name="odd", neuron_name="if0", weights=weights.astype(np.float32), bias=None,
        stride=stride, padding=padding, dilation=dilation, groups=groups, threshold=threshold,
        threshold_range=(threshold, threshold), input_shape=shape,
        output_shape=(features, sides[0], sides[1]),
    )  # fmt: skip
    last = replace(
        network(first.output_shape, conv(2, 1, weights=0.6)).layers[0], sources=(Source(layer=0),)
    )
    return Network(input_shape=shape, layers=(first, last))


@given(made=odd_layers(), reset=st.sampled_from(["subtract", "zero"]), seed=st.integers(0, 99))
@bounds(deadline=None, max_examples=60)
def test_any_change_said_to_keep_the_function_gives_identical_spikes(
    made: Network, reset: str, seed: int
) -> None:
    others = Settings(reset=reset)
    events = random_events(made.input_shape, 40, seed)
    wanted = run_as_written(made, others, events)

    for found in check(made, SPECK2F, others).findings:
        for advised in found.changes:
            changed, after = apply_change(made, others, advised)
            checked = check(changed, SPECK2F, after)
            if advised.keeps_function and checked.configuration is not None:
                assert run_on_twin(checked.configuration, events) == wanted
