"""Advice: what a finding says to change makes it go away."""

from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from speckfarm_server.changes.change import apply_change, origins_of
from speckfarm_server.changes.propose import MOST_CHANGES
from speckfarm_server.check import check
from speckfarm_server.chip import CHIPS
from speckfarm_server.errors import Change, Finding, Severity
from speckfarm_server.network import Layer, Network, Source
from speckfarm_server.settings import Settings
from tests.broken_networks import EXAMPLES, with_layer
from tests.networks import Plan, conv, digits_network, linear, network, pooling
from tests.reports import found, only, report

HUGE = 1 << 62
SPECK2F = CHIPS["speck2f"]


def _errors_after(made: Network, settings: Settings, change: Change) -> list[Finding]:
    """The errors that a full check finds in the changed network, at the layers as they were."""
    changed, others = apply_change(made, settings, change)
    origins = origins_of(made, change)
    return [
        error if error.layer is None else replace(error, layer=origins[error.layer])
        for error in check(changed, SPECK2F, others).findings
        if error.severity is Severity.ERROR
    ]


def _is_cured(finding: Finding, errors: list[Finding]) -> bool:
    setting = finding.metadata.get("setting")
    return not any(
        (error.layer, error.reason, error.metadata.get("setting"))
        == (finding.layer, finding.reason, setting)
        for error in errors
    )


@pytest.mark.parametrize("reason", EXAMPLES)
def test_every_reason_about_memory_or_structure_has_changes_that_work(reason: str) -> None:
    made, others = EXAMPLES[reason]()

    errors = [each for each in report(made, **others).findings if each.reason == reason]

    assert errors
    for error in errors:
        assert 1 <= len(error.changes) <= MOST_CHANGES
        assert len({(each.layer, each.what, each.value) for each in error.changes}) == len(
            error.changes
        )
        for change in error.changes:
            assert _is_cured(error, _errors_after(made, Settings(**others), change)), change


def test_some_change_makes_each_of_these_networks_deployable() -> None:
    several_errors = {
        "BIAS_MEMORY_EXCEEDED", "PADDING_OUT_OF_RANGE", "INPUT_FEATURES_OUT_OF_RANGE",
        "LINEAR_INPUT_TOO_LARGE", "LAYER_NOT_FOUND",
    }  # fmt: skip

    for reason in EXAMPLES.keys() - several_errors:
        made, others = EXAMPLES[reason]()
        for error in report(made, **others).findings:
            if error.reason == reason:
                after = [_errors_after(made, Settings(**others), each) for each in error.changes]
                assert [] in after, reason


def _changes(made: Network, reason: str, **others: Any) -> list[tuple[int | None, str, str, bool]]:
    return [
        (each.layer, each.what, each.value, each.keeps_function)
        for each in only(report(made, **others), reason).changes
    ]


def test_a_first_layer_on_a_whole_sensor_may_step_or_let_the_camera_pool() -> None:
    made, _ = EXAMPLES["OUTPUT_SIZE_OUT_OF_RANGE"]()

    assert _changes(made, "OUTPUT_SIZE_OUT_OF_RANGE") == [
        (0, "stride", "2x2", False),
        (None, "input_pooling", "2x2", False),
    ]


def test_the_largest_number_of_features_that_fits_is_advised() -> None:
    made, _ = EXAMPLES["NEURON_MEMORY_EXCEEDED"]()

    assert _changes(made, "NEURON_MEMORY_EXCEEDED") == [
        (0, "features", "16", False),
        (0, "stride", "2x2", False),
        (0, "layer_split", "2", False),
    ]
    assert not report(with_layer(made, 0)).deployable
    assert only(report(made), "NEURON_MEMORY_EXCEEDED").changes[0].text == (
        "Layer 0: 16 instead of 17 features."
    )


def test_a_pin_to_a_core_too_small_moves_to_one_that_is_reproducible() -> None:
    made = network((16, 34, 34), conv(16, 3, padding=1), conv(2, 3))

    first = _changes(made, "NEURON_MEMORY_EXCEEDED", cores={0: 8})[0]

    assert first == (0, "core", "2", True)


def test_a_pin_in_the_way_is_left_out() -> None:
    made = network((256, 1, 1), conv(256, 1), conv(256, 1), conv(2, 1))

    assert _changes(made, "NO_PLACEMENT", cores={0: 5, 2: 6})[0] == (2, "core", "off", True)


def test_the_exit_layer_keeps_its_features_while_anything_else_helps() -> None:
    made = network((8, 16, 16), conv(64, 3, padding=1), linear(10))

    whats = [each[:2] for each in _changes(made, "KERNEL_MEMORY_EXCEEDED")]

    assert whats.index((1, "features")) == len(whats) - 1


def test_layers_whose_outputs_are_added_shrink_together() -> None:
    first, second, third = network((2, 64, 64), *[conv(17, 1)] * 3).layers
    second = replace(second, sources=(Source(layer=0),))
    last = network((17, 64, 64), conv(2, 3, stride=2)).layers[0]
    last = replace(last, sources=(Source(layer=1), Source(layer=2)))
    third = replace(third, sources=(Source(layer=0),))
    made = Network(input_shape=(2, 64, 64), layers=(first, second, third, last))

    (finding,) = [
        each for each in report(made).findings
        if (each.layer, each.reason) == (1, "NEURON_MEMORY_EXCEEDED")
    ]  # fmt: skip
    (change,) = [each for each in finding.changes if each.what == "features"]
    changed, _ = apply_change(made, Settings(), change)

    assert change.text == "Layers 1, 2, whose outputs are added: 16 instead of 17 features."
    assert [layer.output_shape[0] for layer in changed.layers] == [17, 16, 16, 2]
    assert changed.layers[3].weights.shape == (2, 16, 3, 3)


def test_a_deployable_network_has_no_changes() -> None:
    assert all(finding.changes == () for finding in report(digits_network()).findings)


def test_warnings_have_no_changes() -> None:
    made = report(network((2, 40, 40), conv(4, 3, stride=3, bias=0.3), conv(2, 3)))

    assert found(made, Severity.WARNING)
    assert all(
        finding.changes == () for finding in made.findings if finding.severity is not Severity.ERROR
    )


_SIZES = st.integers(1, 40) | st.sampled_from([64, 66, 128, 130])
_CONVOLUTIONS = st.builds(
    conv,
    st.sampled_from([1, 2, 3, 8, 16, 17, 33, 65, 130, 1025]),
    st.sampled_from([1, 2, 3, 3, 5, 16, 17]),
    stride=st.sampled_from([1, 1, 1, 2, 3, (1, 2), (4, 5)]),
    padding=st.sampled_from([0, 0, 1, 2, 7, 8, (0, 3)]),
    pool=st.sampled_from([1, 1, 1, 2, 3, 4, 8]),
    average=st.booleans(),
    bias=st.sampled_from([None, None, 0.1]),
)
_LAST = st.builds(linear, st.sampled_from([1, 10, 100])) | _CONVOLUTIONS
_PINS = st.dictionaries(st.integers(0, 3), st.integers(0, 8), max_size=3).filter(
    lambda pins: len(set(pins.values())) == len(pins)
)


@st.composite
def _networks(draw: st.DrawFn) -> Network:
    """Chains that break any number of rules, small enough to be checked often."""
    plans: list[Plan] = [*draw(st.lists(_CONVOLUTIONS, max_size=3)), draw(_LAST)]
    shape = (draw(st.integers(1, 4)), draw(_SIZES), draw(_SIZES))
    kept: list[Plan] = []
    for plan in plans:
        tried = network(shape, *kept, plan)
        if sum(layer.weights.size for layer in tried.layers) > 1 << 18:
            break
        if min(tried.layers[-1].output_shape) < 1 or min(_rest(tried)) < 1:
            break
        kept.append(plan)
    made = network(shape, *(kept or [conv(1, 1)]))
    return with_layer(made, 0, **draw(st.sampled_from(_oddities(made.layers[0]))))


def _rest(made: Network) -> tuple[int, int]:
    """The map after the last pooling."""
    pool = int(np.prod([each.kernel_size[0] for each in made.exit_poolings]))
    _, height, width = made.layers[-1].output_shape
    return height // pool, width // pool


def _oddities(layer: Layer) -> list[dict[str, Any]]:
    """What a chip has no field for, with the same output map, where the layer allows it."""
    odd: list[dict[str, Any]] = [{}]
    features, channels, height, _ = layer.weights.shape
    if layer.is_linear:
        return odd
    if height % 2 and height > 1:
        odd.append({"weights": layer.weights[:, :, ::2, ::2], "dilation": (2, 2)})
        odd.append({"weights": layer.weights[:, :, ::2], "dilation": (2, 1)})
    if height > 2 and layer.padding[0] > 0:
        padding = (layer.padding[0] - 1, layer.padding[1])
        odd.append({"weights": layer.weights[:, :, 1:-1], "padding": padding})
    if features % 2 == 0 and channels % 2 == 0:
        odd.append({"weights": layer.weights[:, : channels // 2], "groups": 2})
    return odd


@given(made=_networks(), pins=_PINS, pooling=st.sampled_from([(1, 1), (1, 1), (2, 2)]))
@bounds(deadline=None, max_examples=80)
def test_a_network_changed_as_advised_passes_that_rule(
    made: Network, pins: dict[int, int], pooling: tuple[int, int]
) -> None:
    others = Settings(cores=pins, input_pooling=pooling)

    for finding in check(made, SPECK2F, others).findings:
        for change in finding.changes:
            errors = _errors_after(made, others, change)
            assert _is_cured(finding, errors), (finding, change)


@st.composite
def _branched(draw: st.DrawFn) -> Network:
    """A layer, branches side by side or added, and a layer that takes them all."""
    size, is_added = draw(st.sampled_from([8, 20, 64, 66])), draw(st.booleans())
    features = draw(st.sampled_from([4, 17]))
    first = network((2, size, size), conv(features, 1, weights=0.1)).layers[0]
    stride, padding = draw(st.sampled_from([1, 2, 3])), draw(st.sampled_from([1, 8]))
    kinds = st.sampled_from([5, 17, 130, 520])
    width, layers, sources = draw(kinds), [first], list[Source]()
    for number in range(1, 1 + draw(st.integers(1, 4))):
        width = width if is_added else draw(kinds)
        plan = conv(width, 3, stride=stride, padding=padding, weights=0.1)
        branch = network(first.output_shape, plan).layers[0]
        layers.append(replace(branch, name=f"branch{number}", sources=(Source(layer=0),)))
        shift = 0 if is_added else sum(layer.output_shape[0] for layer in layers[1:number])
        sources.append(Source(layer=number, feature_shift=shift))
    channels = width if is_added else sum(layer.output_shape[0] for layer in layers[1:])
    shape = (channels, *layers[-1].output_shape[1:])
    last = network(shape, draw(st.sampled_from([conv(3, 3), linear(3)]))).layers[0]
    layers.append(replace(last, name="last", sources=tuple(sources)))
    return Network(input_shape=(2, size, size), layers=tuple(layers))


@given(made=_branched())
@bounds(deadline=None, max_examples=20)
def test_a_network_with_branches_changed_as_advised_passes_that_rule(made: Network) -> None:
    for finding in check(made, SPECK2F, Settings()).findings:
        for change in finding.changes:
            errors = _errors_after(made, Settings(), change)
            assert _is_cured(finding, errors), (finding, change)


def test_a_network_far_too_large_is_left_without_advice() -> None:
    layers = network((1, 8, 8), *[conv(2, 3, padding=1)] * 33)
    weights = network((64, 64, 64), conv(2, 3, padding=1), linear(4200))

    assert weights.layers[1].weights.size > 1 << 25
    for made in (layers, weights):
        assert found(report(made))
        assert all(finding.changes == () for finding in report(made).findings)


@given(made=_networks(), pins=_PINS)
@bounds(deadline=None, max_examples=50)
def test_advice_is_the_same_for_the_same_network(made: Network, pins: dict[int, int]) -> None:
    others = Settings(cores=pins)

    assert check(made, SPECK2F, others).findings == check(made, SPECK2F, others).findings


@pytest.mark.parametrize("value", [HUGE, -HUGE, 0, -1])
@pytest.mark.parametrize(
    "field",
    ["stride", "padding", "dilation", "groups", "input_shape", "output_shape", "sources"],
)
def test_absurd_sizes_cost_neither_time_nor_memory(field: str, value: int) -> None:
    made = network((1, 40, 40), conv(2, 3), conv(1100, 3, stride=3), linear(3))
    values: dict[str, Any] = {
        "groups": value,
        "input_shape": (value, value, value),
        "output_shape": (value, value, value),
        "sources": (Source(layer=0, poolings=(pooling(value),), feature_shift=max(0, value)),),
    }

    for number in (1, 2):
        changed = with_layer(made, number, **{field: values.get(field, (value, value))})
        start = perf_counter()
        checked = report(changed)

        assert not checked.deployable
        assert perf_counter() - start < 5


def test_a_check_with_many_errors_takes_milliseconds() -> None:
    plans = [conv(40, 3, stride=3, padding=8, pool=3) for _ in range(9)]
    made = network((2, 128, 128), *plans)
    report(made)

    start = perf_counter()
    checked = report(made)

    assert len(found(checked)) > 20
    assert perf_counter() - start < 1  # about 60 ms on an idle machine
