"""Kinds and spellings of nodes: what each becomes, or why it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Layer, Network
from speckfarm_server.nir.file import FIELDS
from speckfarm_server.nir.graph import in_order
from speckfarm_server.parse import parse_network
from speckfarm_server.parsed import Parsed
from tests.nir_files import (
    chain_bytes,
    conv,
    flatten,
    leaky,
    linear,
    neurons,
    scale,
    sum_pool,
)


def parse_chain(*nodes: Mapping[str, Any], input_shape: Sequence[int]) -> Parsed:
    return parse_network(chain_bytes(*nodes, input_shape=input_shape))


def remarks(parsed: Parsed) -> list[str]:
    assert {finding.severity for finding in parsed.findings} <= {Severity.INFO}
    return [finding.reason for finding in parsed.findings]


def network_of(parsed: Parsed) -> Network:
    assert parsed.network is not None, [f.message for f in parsed.findings]
    return parsed.network


def layer_of(parsed: Parsed) -> Layer:
    (layer,) = network_of(parsed).layers
    return layer


def error(parsed: Parsed) -> Finding:
    assert parsed.network is None
    (found,) = (f for f in parsed.findings if f.severity is Severity.ERROR)
    return found


def after_linear(node: Mapping[str, Any]) -> Parsed:
    return parse_chain(linear((2, 3)), node, input_shape=(3,))


def test_a_lif_that_never_leaks_is_an_if() -> None:
    parsed = after_linear(leaky(v_threshold=np.array(0.5, np.float32)))

    assert remarks(parsed) == ["LIF_WITHOUT_LEAK"]
    layer = layer_of(parsed)
    assert (layer.threshold, layer.r_range, layer.neuron_name) == (0.5, (1, 1), "1")


@pytest.mark.parametrize(
    ("tau", "words"),
    [(0.01, "tau = 0.01 s"), (1e30, "tau = 1e+30 s"), (np.array([0.01, np.inf]), "0.01 to inf s"),
     (-np.inf, "tau = -inf s")],
)  # fmt: skip
def test_a_lif_that_leaks_however_little_is_refused_with_its_time_constant(
    tau: Any, words: str
) -> None:
    found = error(after_linear(leaky(tau)))

    assert found.reason == "UNSUPPORTED_NODE"
    assert words in found.message
    assert "train with IF neurons" in found.message


def test_a_lif_without_leak_but_finite_r_gets_no_input_and_is_refused() -> None:
    found = error(after_linear(leaky(np.inf, r=5.0)))

    assert found.reason == "UNSUPPORTED_NODE"
    assert "r / tau = 0" in found.message


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF", "LI", "CubaLI"])
def test_a_leaky_kind_without_its_fields_is_refused_as_leaky(kind: str) -> None:
    parsed = after_linear({"type": kind})

    assert "leaks; Speck's neurons have no leak" in error_of_kind(parsed, kind).message


def error_of_kind(parsed: Parsed, kind: str) -> Finding:
    (found,) = (f for f in parsed.findings if f.metadata.get("kind") == kind)
    return found


def test_thresholds_of_whole_features_go_into_the_weights() -> None:
    weight = np.array([[[[1.0]], [[3.0]]], [[[5.0]], [[-7.0]]]])
    thresholds = np.broadcast_to(np.array([0.5, 2.0])[:, None, None], (2, 3, 3))

    parsed = parse_chain(
        conv(weight, bias=np.array([1.0, 1.0])), neurons(thresholds), input_shape=(2, 3, 3)
    )

    assert remarks(parsed) == ["THRESHOLDS_FOLDED"]
    layer = layer_of(parsed)
    assert (layer.threshold, layer.threshold_range) == (2, (2, 2))
    assert layer.weights[:, :, 0, 0].tolist() == [[4, 12], [5, -7]]
    assert layer.bias is not None
    assert layer.bias.tolist() == [4, 1]


def test_r_of_whole_features_goes_into_the_weights() -> None:
    parsed = after_linear(neurons(np.ones(2), r=np.array([1000.0, 4000.0])))

    assert remarks(parsed) == ["THRESHOLDS_FOLDED"]
    assert layer_of(parsed).r_range == (4000, 4000)
    assert layer_of(parsed).weights[:, 0, 0, 0].tolist() == [0.25, 1]


@pytest.mark.parametrize(
    "thresholds", [np.array([1.0, -1.0]), np.array([0.0, 1.0]), np.array([1e-39, 1e39])]
)
def test_thresholds_that_cannot_be_folded_are_left_to_the_check(thresholds: Any) -> None:
    parsed = after_linear(neurons(thresholds))

    assert remarks(parsed) == []
    assert layer_of(parsed).threshold_range == (thresholds.min(), thresholds.max())


def test_thresholds_that_differ_within_a_feature_are_named_if_nothing_else_is_parsed() -> None:
    thresholds = np.array([[[1.0, 2.0]]])

    parsed = parse_chain(
        conv((1, 1, 1, 1)), neurons(thresholds), linear((2, 5)), neurons(), input_shape=(1, 1, 2)
    )

    assert parsed.network is None
    assert [f.reason for f in parsed.findings] == ["NON_UNIFORM_THRESHOLD", "SHAPE_MISMATCH"]


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 4, 1), (4,)])
def test_values_along_x_or_y_are_not_taken_for_those_of_features(shape: tuple[int, ...]) -> None:
    values = np.arange(1.0, 5.0).reshape(shape)

    parsed = parse_chain(conv((4, 4, 1, 1)), neurons(values), input_shape=(4, 4, 4))

    assert parsed.network is None
    assert "SHAPE_MISMATCH" in [f.reason for f in parsed.findings]


def test_four_thresholds_behind_flatten_are_not_those_of_features() -> None:
    values = np.arange(1.0, 5.0)

    parsed = parse_chain(conv((4, 4, 1, 1)), flatten(), neurons(values), input_shape=(4, 2, 2))

    assert "SHAPE_MISMATCH" in [f.reason for f in parsed.findings]


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 32), (np.float64, 64), (np.int64, 32)])
def test_the_width_of_the_files_threshold_is_kept(dtype: Any, bits: int) -> None:
    parsed = after_linear(neurons(np.ones(2, dtype)))

    assert layer_of(parsed).threshold_bits == bits


def test_metadata_says_how_the_network_was_trained() -> None:
    metadata = {"speckfarm_reset": "zero", "speckfarm_lower_clip": -0.5, "author": "somebody"}

    parsed = after_linear(neurons(metadata=metadata))

    assert remarks(parsed) == []
    assert (layer_of(parsed).trained_reset, layer_of(parsed).trained_lower_clip) == ("zero", -0.5)


def test_metadata_counts_more_than_v_reset() -> None:
    parsed = after_linear(neurons(v_reset=0.0, metadata={"speckfarm_reset": "subtract"}))

    assert remarks(parsed) == []
    assert layer_of(parsed).trained_reset == "subtract"


def test_a_file_that_does_not_say_it_leaves_reset_and_clip_open() -> None:
    layer = layer_of(after_linear(neurons(metadata={"author": "somebody"})))

    assert (layer.trained_reset, layer.trained_lower_clip) == (None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("speckfarm_reset", "soft"), ("speckfarm_reset", 1.0), ("speckfarm_lower_clip", 0.0),
     ("speckfarm_lower_clip", 0.5), ("speckfarm_lower_clip", np.nan),
     ("speckfarm_lower_clip", -np.inf), ("speckfarm_lower_clip", np.array([-1.0, -1.0])),
     ("speckfarm_lower_clip", "low")],
)  # fmt: skip
def test_metadata_that_makes_no_sense_is_named(name: str, value: Any) -> None:
    found = error(after_linear(neurons(metadata={name: value})))

    assert (found.reason, found.metadata["node"], found.metadata["field"]) == (
        "VALUE_OUT_OF_RANGE",
        "1",
        name,
    )


@pytest.mark.parametrize("where", [0, 1])
def test_a_scale_goes_into_the_weights_before_or_behind_it(where: int) -> None:
    weight = np.array([[[[1.0]], [[2.0]]], [[[3.0]], [[4.0]]]])
    nodes = [conv(weight, bias=np.array([1.0, 1.0])), neurons()]
    nodes.insert(where, scale(np.array([2.0, -0.5]).reshape(2, 1, 1)))

    parsed = parse_chain(*nodes, input_shape=(2, 3, 3))

    assert remarks(parsed) == ["SCALE_FOLDED"]
    layer = layer_of(parsed)
    wanted = ([[2, -1], [6, -2]], [1, 1]) if where == 0 else ([[2, 4], [-1.5, -2]], [2, -0.5])
    assert layer.bias is not None
    assert (layer.weights[:, :, 0, 0].tolist(), layer.bias.tolist()) == wanted


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([scale(np.arange(9.0).reshape(1, 3, 3)), conv((1, 1, 1, 1)), neurons()], "of a feature"),
        ([conv((1, 1, 1, 1)), neurons(), scale(2.0)], "spikes have no size"),
    ],
)
def test_a_scale_that_no_weights_can_take_is_refused(nodes: list[Any], words: str) -> None:
    found = error(parse_chain(*nodes, input_shape=(1, 3, 3)))

    assert found.reason == "UNSUPPORTED_NODE"
    assert words in found.message


def test_a_scale_of_another_shape_is_named() -> None:
    found = error(
        parse_chain(scale(np.ones((1, 4, 4))), conv((1, 2, 1, 1)), neurons(), input_shape=(2, 3, 3))
    )

    assert (found.reason, found.metadata["node"]) == ("SHAPE_MISMATCH", "0")


def test_no_delay_is_passed_and_any_delay_is_refused() -> None:
    nodes = [conv((1, 1, 1, 1)), neurons()]
    none = {"type": "Delay", "delay": np.zeros((1, 3, 3))}
    late = {"type": "Delay", "delay": np.array([0.0, 0.002, 0.0])}

    assert remarks(parse_chain(*nodes, none, input_shape=(1, 3, 3))) == []
    found = error(parse_chain(*nodes, late, input_shape=(1, 3, 3)))
    assert (found.reason, found.metadata["found"]) == ("UNSUPPORTED_NODE", "0.002")


def test_groups_become_zero_weights() -> None:
    weight = np.arange(1.0, 5.0).reshape(4, 1, 1, 1)

    parsed = parse_chain(conv(weight, groups=2), neurons(), input_shape=(2, 3, 3))

    assert remarks(parsed) == ["GROUPS_EXPANDED"]
    layer = layer_of(parsed)
    assert layer.groups == 1
    assert layer.weights[:, :, 0, 0].tolist() == [[1, 0], [2, 0], [0, 3], [0, 4]]


def test_groups_that_would_make_too_many_weights_are_left_to_the_check() -> None:
    parsed = parse_chain(conv((4096, 1, 1, 1), groups=4096), neurons(), input_shape=(4096, 1, 1))

    assert remarks(parsed) == []
    assert layer_of(parsed).groups == 4096


def test_groups_that_do_not_divide_the_features_are_named() -> None:
    found = error(parse_chain(conv((3, 1, 1, 1), groups=2), neurons(), input_shape=(2, 3, 3)))

    assert (found.reason, found.metadata["field"]) == ("VALUE_OUT_OF_RANGE", "groups")


def test_an_empty_input_shape_is_none() -> None:
    """nir 1.0.4 `infer_types` writes it behind neurons that are one number."""
    parsed = parse_chain(
        conv((1, 1, 1, 1), input_shape=np.zeros(0, np.int64)), neurons(), input_shape=(1, 3, 3)
    )

    assert remarks(parsed) == []


@pytest.mark.parametrize(("start", "end"), [(0, -1), (-3, -1), (1, -1), (1, 2)])
def test_flattening_is_whole_if_axes_left_out_have_length_one(start: int, end: int) -> None:
    parsed = parse_chain(
        conv((1, 1, 1, 1)), neurons(), flatten(start_dim=start, end_dim=end), linear((2, 9)),
        neurons(), input_shape=(1, 3, 3),
    )  # fmt: skip

    assert remarks(parsed) == []
    assert network_of(parsed).layers[1].input_shape == (1, 3, 3)


def test_an_even_same_padding_is_refused_with_the_way_out() -> None:
    found = error(parse_chain(conv((1, 1, 2, 2), padding="same"), neurons(), input_shape=(1, 4, 4)))

    assert found.reason == "VALUE_OUT_OF_RANGE"
    assert "a row and a column of zeros" in found.message


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_any_kind_with_nothing_in_it_gives_a_reason(kind: str) -> None:
    parsed = parse_chain(
        linear((2, 3)), neurons(), {"type": kind}, linear((2, 2)), neurons(), input_shape=(3,)
    )

    errors = [f for f in parsed.findings if f.severity is Severity.ERROR]
    assert parsed.network is None
    assert errors != []


def test_pooling_between_two_layers_belongs_to_the_link() -> None:
    network = network_of(
        parse_chain(conv((1, 1, 1, 1)), neurons(), sum_pool(2), conv((1, 1, 1, 1)), neurons(),
                    sum_pool(4), input_shape=(1, 16, 16))
    )  # fmt: skip

    assert [s.pooling for layer in network.layers for s in layer.sources] == [1, 2]
    assert [pool.kernel_size for pool in network.exit_poolings] == [(4, 4)]


@given(st.dictionaries(st.text("ab019", max_size=4), st.just(()), max_size=8))
def test_names_are_ordered_with_their_numbers_as_numbers(names: dict[str, tuple[str, ...]]) -> None:
    ordered = in_order(names)

    assert sorted(ordered) == sorted(names)
    digits = [name for name in ordered if name.isdigit()]
    assert [int(name) for name in digits] == sorted(int(name) for name in digits)
