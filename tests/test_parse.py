"""Graphs to networks: what is legal, and what is kept for the check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from speckfarm_server.errors import Finding
from speckfarm_server.network import Network
from speckfarm_server.parse import parse_network
from speckfarm_server.parsed import Parsed
from tests.nir_files import (
    affine,
    average_pool,
    chain,
    chain_bytes,
    conv,
    flatten,
    linear,
    neurons,
    nir_bytes,
    small_chain,
    sum_pool,
)


def parse_chain(*nodes: Mapping[str, Any], input_shape: Sequence[int], **more: Any) -> Parsed:
    return parse_network(chain_bytes(*nodes, input_shape=input_shape, **more))


def network_of(parsed: Parsed) -> Network:
    assert parsed.findings == ()
    assert parsed.network is not None
    return parsed.network


def reasons(parsed: Parsed) -> list[str]:
    return [finding.reason for finding in parsed.findings]


def only(parsed: Parsed) -> Finding:
    assert len(parsed.findings) == 1, reasons(parsed)
    return parsed.findings[0]


def test_a_small_chain_becomes_layers_with_their_shapes() -> None:
    network = network_of(parse_network(small_chain(features=2, size=8)))

    first, second = network.layers
    assert network.input_shape == (2, 8, 8)
    assert (first.name, first.neuron_name) == ("0", "1")
    assert (first.input_shape, first.output_shape) == ((2, 8, 8), (4, 8, 8))
    assert (first.stride, first.padding, first.dilation, first.groups) == (
        (1, 1),
        (1, 1),
        (1, 1),
        1,
    )
    (source,) = second.sources
    assert source.layer == 0
    assert [(pool.kind, pool.kernel_size) for pool in source.poolings] == [("sum", (2, 2))]
    assert (second.name, second.is_linear) == ("4", True)
    assert (second.input_shape, second.output_shape) == ((4, 4, 4), (10, 1, 1))


def test_linear_after_flatten_is_reshaped_in_c_order() -> None:
    weight = np.arange(5 * 2 * 3 * 3, dtype=np.float32).reshape(5, 18)

    parsed = parse_chain(
        conv((2, 1, 1, 1)), neurons(), flatten(), linear(weight), neurons(), input_shape=(1, 3, 3)
    )

    layer = network_of(parsed).layers[1]
    assert layer.weights.shape == (5, 2, 3, 3)
    assert layer.weights[3, 1, 2, 0] == weight[3, 1 * 9 + 2 * 3 + 0]
    assert layer.bias is None


def test_height_is_the_third_axis_of_the_weights() -> None:
    parsed = parse_chain(conv((1, 1, 5, 3)), neurons(), input_shape=(1, 10, 20))

    assert network_of(parsed).layers[0].output_shape == (1, 6, 18)


def test_an_input_vector_is_a_map_of_one_pixel() -> None:
    network = network_of(parse_chain(affine((3, 7)), neurons(), input_shape=(7,)))

    assert network.input_shape == (7, 1, 1)
    assert network.layers[0].weights.shape == (3, 7, 1, 1)
    assert network.layers[0].bias is not None
    assert network.layers[0].bias.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("padding", "expected"),
    [(2, (2, 2)), (np.array([2]), (2, 2)), (np.array([1, 2]), (1, 2)), ("valid", (0, 0)),
     ("same", (2, 1)), (2.0, (2, 2))],
)  # fmt: skip
def test_padding_may_be_a_number_a_pair_or_a_word(padding: Any, expected: tuple[int, int]) -> None:
    parsed = parse_chain(conv((1, 1, 5, 3), padding=padding), neurons(), input_shape=(1, 9, 9))

    assert network_of(parsed).layers[0].padding == expected


def test_stride_and_dilation_may_be_one_number() -> None:
    node = conv((1, 1, 3, 3), stride=2, dilation=3)

    layer = network_of(parse_chain(node, neurons(), input_shape=(1, 20, 20))).layers[0]

    assert (layer.stride, layer.dilation, layer.output_shape) == ((2, 2), (3, 3), (1, 7, 7))


@pytest.mark.parametrize(
    "threshold", [0.5, np.array([0.5]), np.full(2, 0.5), np.full((2, 4, 4), 0.5)]
)
def test_thresholds_may_be_one_number_or_one_per_neuron(threshold: Any) -> None:
    parsed = parse_chain(conv((2, 1, 1, 1)), neurons(threshold), input_shape=(1, 4, 4))

    layer = network_of(parsed).layers[0]
    assert (layer.threshold, layer.threshold_range) == (0.5, (0.5, 0.5))


def test_thresholds_and_r_that_differ_within_a_feature_are_kept_for_the_check() -> None:
    threshold, r = np.array([[[2.0, 1.0]]]), np.array([[[3.0, 4.0]]])

    parsed = parse_chain(conv((1, 1, 1, 1)), neurons(threshold, r=r), input_shape=(1, 1, 2))

    layer = network_of(parsed).layers[0]
    assert (layer.threshold, layer.threshold_range, layer.r_range) == (2, (1, 2), (3, 4))


def test_what_no_chip_has_is_kept_for_the_check() -> None:
    node = conv((4, 1, 3, 5), dilation=2, padding=np.array([9, 9]), stride=3)
    pool = average_pool((3, 2), stride=np.array([1, 4]), padding=np.array([1, 1]))

    network = network_of(parse_chain(node, neurons(), pool, input_shape=(1, 30, 30)))

    layer, (pooling,) = network.layers[0], network.exit_poolings
    assert (layer.dilation, layer.padding, layer.stride) == ((2, 2), (9, 9), (3, 3))
    assert (pooling.padding, pooling.stride) == ((1, 1), (1, 4))


def test_double_weights_become_single_with_the_same_values() -> None:
    weight = np.array([[0.1, -0.25]], np.float64)

    layer = network_of(parse_chain(linear(weight), neurons(), input_shape=(2,))).layers[0]

    assert layer.weights.dtype == np.float32
    assert layer.weights.ravel().tolist() == weight.astype(np.float32).ravel().tolist()


def test_poolings_in_a_row_stay_in_a_row() -> None:
    parsed = parse_chain(
        conv((1, 1, 1, 1)), neurons(), sum_pool(2), average_pool(2), input_shape=(1, 8, 8)
    )

    kinds = [pool.kind for pool in network_of(parsed).exit_poolings]
    assert kinds == ["sum", "average"]


def test_duplicate_edges_collapse() -> None:
    nodes, edges = chain(linear((2, 3)), neurons(), input_shape=(3,))

    parsed = parse_network(nir_bytes(nodes, edges * 3))

    assert len(network_of(parsed).layers) == 1


def test_a_nested_graph_is_written_out_flat() -> None:
    inner, inner_edges = chain(linear((2, 3)), neurons(), input_shape=(3,), output_shape=(2,))
    nodes, edges = chain(
        {"nodes": inner, "edges": inner_edges}, linear((4, 2)), neurons(), input_shape=(3,)
    )

    network = network_of(parse_network(nir_bytes(nodes, edges)))

    assert [layer.name for layer in network.layers] == ["0.0", "1"]


def test_a_nested_graph_without_input_is_named() -> None:
    inner, inner_edges = chain(linear((2, 3)), neurons(), input_shape=(3,))
    del inner["input"]
    nodes, edges = chain({"nodes": inner, "edges": inner_edges[1:]}, input_shape=(3,))

    parsed = parse_network(nir_bytes(nodes, edges))

    assert "NO_INPUT" in reasons(parsed)
    assert parsed.network is None
