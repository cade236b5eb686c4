"""Graphs that branch and merge: what becomes one network, and what is refused by name."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.check import check
from speckfarm_server.chip import find_chip
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import INPUT, Network, Source
from speckfarm_server.parse import parse_network
from speckfarm_server.parsed import Parsed
from speckfarm_server.settings import Settings
from tests.nir_files import (
    average_pool,
    chain,
    conv,
    flatten,
    leaky,
    linear,
    neurons,
    nir_bytes,
    scale,
    sum_pool,
)
from tests.nir_graphs import Drawn, Route, branching


def graph(*edges: str, **nodes: Any) -> Parsed:
    """`edges` are written "a > b > c"; Input is "input", Output "output"."""
    named = {"input": {"type": "Input", "shape": np.array([1, 4, 4])}, **nodes}
    named["output"] = {"type": "Output"}
    pairs = []
    for line in edges:
        names = line.split(" > ")
        pairs += list(itertools.pairwise(names))
    return parse_network(nir_bytes(named, pairs))


def network_of(parsed: Parsed) -> Network:
    wrong = [f.message for f in parsed.findings if f.severity is not Severity.INFO]
    assert wrong == []
    assert parsed.network is not None
    return parsed.network


def error(parsed: Parsed) -> Finding:
    assert parsed.network is None
    errors = [f for f in parsed.findings if f.severity is Severity.ERROR]
    assert len(errors) == 1, [f.message for f in errors]
    return errors[0]


def feeding(network: Network) -> list[list[tuple[int, int]]]:
    """For each layer its sources: layer and feature shift."""
    return [[(s.layer, s.feature_shift) for s in layer.sources] for layer in network.layers]


ONE = {"a": conv((1, 1, 1, 1)), "A": neurons()}
TWO = {**ONE, "b": conv((1, 1, 1, 1)), "B": neurons()}
THREE = {**TWO, "c": conv((1, 1, 1, 1)), "C": neurons()}


@settings(max_examples=150, deadline=None)
@given(drawn=branching(), seed=st.integers(0, 99))
def test_any_graph_becomes_the_network_it_was_written_from(drawn: Drawn, seed: int) -> None:
    network = network_of(parse_network(drawn.bytes(seed=seed)))

    names = [layer.name for layer in network.layers]
    assert sorted(names) == sorted(drawn.layers)
    assert names[-1] == list(drawn.layers)[-1]
    for number, layer in enumerate(network.layers):
        wanted = drawn.layers[layer.name]
        assert np.array_equal(layer.weights, wanted.weights)
        assert layer.input_shape == wanted.input_shape
        assert layer.output_shape == wanted.output_shape
        assert {route(source, names) for source in layer.sources} == wanted.routes
        assert all(source.layer < number and not source.feature_shift for source in layer.sources)


def route(source: Source, names: list[str]) -> Route:
    start = "input" if source.layer == INPUT else names[source.layer]
    return start, tuple((pool.kind, pool.kernel_size[0]) for pool in source.poolings)


@settings(max_examples=25, deadline=None)
@given(drawn=branching(), seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_the_order_of_edges_does_not_count(drawn: Drawn, seeds: tuple[int, int]) -> None:
    one, other = (network_of(parse_network(drawn.bytes(seed=seed))) for seed in seeds)

    assert [layer.name for layer in one.layers] == [layer.name for layer in other.layers]
    assert feeding(one) == feeding(other)


def test_layers_that_do_not_depend_on_each_other_are_numbered_by_name() -> None:
    names = ("x10", "x9", "a")
    nodes: dict[str, Any] = {name: conv((1, 1, 1, 1)) for name in (*names, "aa")}
    nodes |= {f"{name} if": neurons() for name in nodes}
    ways = [f"input > {name} > {name} if > aa" for name in names]

    network = network_of(graph(*ways, "aa > aa if > output", **nodes))

    assert [layer.name for layer in network.layers] == ["a", "x9", "x10", "aa"]


def test_a_skip_from_the_input_adds_it_to_a_later_layer() -> None:
    network = network_of(graph("input > a > A > b > B > output", "input > b", **TWO))

    assert feeding(network) == [[(INPUT, 0)], [(INPUT, 0), (0, 0)]]


def test_branches_may_pool_differently_before_they_are_added() -> None:
    nodes = {**THREE, "b": conv((1, 1, 1, 1), stride=2), "P": sum_pool(2)}

    network = network_of(graph("input > a > A > b > B > c > C > output", "A > P > c", **nodes))

    first, second = network.layers[2].sources
    assert [pool.name for pool in first.poolings] == ["P"]
    assert second.poolings == ()


def test_a_sum_may_be_pooled_or_flattened_as_a_whole() -> None:
    nodes = {**TWO, "P": average_pool(2), "F": flatten(), "l": linear((3, 4)), "L": neurons()}

    network = network_of(
        graph("input > a > A > P > F > l > L > output", "input > b > B > P", **nodes)
    )

    assert feeding(network)[2] == [(0, 0), (1, 0)]
    assert [source.weight_scale for source in network.layers[2].sources] == [0.25, 0.25]


def test_one_pooling_node_may_feed_two_layers() -> None:
    nodes = {**THREE, "d": conv((1, 1, 1, 1)), "D": neurons(), "P": sum_pool(2)}

    network = network_of(
        graph("input > a > A > P > b > B > d > D > output", "P > c > C > d", **nodes)
    )

    assert [source.poolings[0].name for _, source in network.targets(0)] == ["P", "P"]


def test_a_residual_block_in_a_nested_graph_is_written_out_flat() -> None:
    inner, edges = chain(conv((1, 1, 1, 1)), neurons(), input_shape=(1, 4, 4))
    nodes = {**TWO, "block": {"nodes": inner, "edges": edges}}

    network = network_of(graph("input > a > A > block > b > B > output", "A > b", **nodes))

    assert [layer.name for layer in network.layers] == ["a", "block.0", "b"]
    assert feeding(network)[2] == [(0, 0), (1, 0)]


def test_two_convolutions_into_one_neuron_node_see_their_inputs_side_by_side() -> None:
    first, second = np.full((3, 1, 1, 1), 2.0), np.full((3, 2, 1, 1), 5.0)
    nodes = {
        "a": conv((1, 1, 1, 1)), "A": neurons(), "b": conv((2, 1, 1, 1)), "B": neurons(),
        "u": conv(first, bias=np.array([1.0, 2, 3])), "v": conv(second, bias=np.array([4.0, 5, 6])),
        "N": neurons(),
    }  # fmt: skip

    parsed = graph("input > a > A > u > N > output", "input > b > B > v > N", **nodes)

    network = network_of(parsed)
    layer = network.layers[2]
    assert [f.reason for f in parsed.findings] == ["SOURCES_STACKED"]
    assert feeding(network)[2] == [(0, 0), (1, 1)]
    assert (layer.name, layer.input_shape) == ("u + v", (3, 4, 4))
    assert layer.weights[:, :, 0, 0].tolist() == [[2, 5, 5]] * 3
    assert layer.bias is not None
    assert layer.bias.tolist() == [5, 7, 9]


def test_two_convolutions_of_one_source_are_one_with_the_sum_of_their_weights() -> None:
    large = np.arange(9.0).reshape(1, 1, 3, 3)
    nodes = {"u": conv(large, padding=1), "v": conv(np.full((1, 1, 1, 1), 10.0)), "N": neurons()}

    network = network_of(graph("input > u > N > output", "input > v > N", **nodes))

    assert feeding(network) == [[(INPUT, 0)]]
    assert network.layers[0].weights[0, 0].tolist() == [[0, 1, 2], [3, 14, 5], [6, 7, 8]]
    assert network.layers[0].padding == (1, 1)


def test_linear_nodes_that_are_added_are_stacked_too() -> None:
    nodes = {**TWO, "F": flatten(), "G": flatten(), "u": linear((2, 16)), "v": linear((2, 16)),
             "N": neurons()}  # fmt: skip

    network = network_of(
        graph("input > a > A > F > u > N > output", "input > b > B > G > v > N", **nodes)
    )

    assert feeding(network)[2] == [(0, 0), (1, 1)]
    assert network.layers[2].weights.shape == (2, 2, 4, 4)


def test_a_scale_on_one_branch_gives_it_weights_of_its_own() -> None:
    nodes = {**THREE, "S": scale(3.0), "c": conv(np.full((1, 1, 1, 1), 2.0))}

    network = network_of(graph("input > a > A > S > c > C > output", "input > b > B > c", **nodes))

    assert feeding(network)[2] == [(0, 0), (1, 1)]
    assert network.layers[2].weights.ravel().tolist() == [6, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"v": conv((1, 1, 1, 1), stride=1), "u": conv((1, 1, 1, 1), stride=1), "P": sum_pool(1)},
         "different poolings"),
        ({"v": conv((1, 1, 3, 3), stride=2), "u": conv((1, 1, 4, 4))}, "strides"),
        ({"v": conv((1, 1, 3, 3), dilation=1), "u": conv((1, 1, 2, 2), dilation=2)}, "dilations"),
    ],
)  # fmt: skip
def test_convolutions_that_are_not_one_are_refused_by_name(
    changes: dict[str, Any], words: str
) -> None:
    nodes = {**ONE, "N": neurons(), **changes}
    way = "A > P > v > N" if "P" in changes else "A > v > N"

    found = error(graph("input > a > A > u > N > output", way, **nodes))

    assert (found.reason, found.metadata["node"]) == ("GRAPH_MERGE", "N")
    assert words in found.message
    assert "put IF behind each" in found.message


def test_shapes_that_are_added_must_be_equal() -> None:
    nodes = {**THREE, "b": conv((2, 1, 1, 1))}

    found = error(graph("input > a > A > c > C > output", "input > b > B > c", **nodes))

    assert (found.reason, found.metadata["node"], found.layer) == ("SHAPE_MISMATCH", "c", 2)


def test_flat_maps_that_are_added_must_be_equal_before_they_are_flattened() -> None:
    nodes = {**TWO, "b": conv((4, 1, 1, 1)), "P": sum_pool(2), "F": flatten(), "G": flatten(),
             "l": linear((2, 16)), "L": neurons()}  # fmt: skip

    found = error(graph("input > a > A > F > l > L > output", "input > b > B > P > G > l", **nodes))

    assert (found.reason, found.metadata["found"]) == ("SHAPE_MISMATCH", "(4, 2, 2)")


def test_two_layers_at_the_output_are_refused_with_the_way_out() -> None:
    found = error(graph("input > a > A > output", "A > b > B > output", **TWO))

    assert (found.reason, found.metadata["found"]) == ("GRAPH_MERGE", "2")
    assert "one more layer" in found.message


def test_one_layer_that_arrives_twice_is_refused() -> None:
    nodes = {**TWO, "F": flatten(), "G": flatten(), "b": linear((1, 16))}

    found = error(graph("input > a > A > F > b > B > output", "A > G > b", **nodes))

    assert (found.reason, found.metadata["sources"]) == ("GRAPH_MERGE", "A")
    assert "double the weights" in found.message


def test_one_weight_node_for_two_neuron_nodes_is_refused() -> None:
    nodes = {name: node for name, node in THREE.items() if name != "b"}

    found = error(graph("input > a > A > c > C > output", "a > B > c", **nodes))

    assert (found.reason, found.metadata["node"]) == ("GRAPH_FORK", "a")


def test_weight_nodes_in_a_row_that_feed_the_same_neurons_are_refused() -> None:
    nodes = {**ONE, "b": conv((1, 1, 1, 1)), "c": conv((1, 1, 1, 1))}

    parsed = graph("input > a > b > c > A > output", "a > A", **nodes)

    assert parsed.network is None
    assert [(f.reason, f.metadata["node"]) for f in parsed.findings] == [
        ("WRONG_ORDER", "a"),
        ("WRONG_ORDER", "b"),
    ]


def test_pooling_before_the_first_layer_names_the_camera_setting() -> None:
    nodes = {**TWO, "P": sum_pool(2)}

    found = error(graph("input > P > a > A > b > B > output", **nodes))

    assert found.reason == "WRONG_ORDER"
    assert "input_pooling=2" in found.message


def test_a_pooled_skip_from_the_input_names_the_camera_setting() -> None:
    nodes = {**TWO, "a": conv((1, 1, 1, 1), stride=2), "P": sum_pool(2)}

    found = error(graph("input > a > A > b > B > output", "input > P > b", **nodes))

    assert found.reason == "WRONG_ORDER"
    assert "input_pooling=2" in found.message


def test_a_cycle_through_a_merge_is_refused() -> None:
    found = error(graph("input > a > A > b > B > output", "B > a", **TWO))

    assert (found.reason, found.metadata["nodes"]) == ("GRAPH_CYCLE", "A, B, a, b")


ANY_NODE = st.sampled_from([
    conv((1, 1, 1, 1)), conv((2, 2, 1, 1), groups=2), conv((1, 2, 3, 3), padding=1),
    conv((1, 1, 2, 2), stride=2), linear((2, 16)), linear((2, 2)), flatten(), neurons(),
    neurons(np.array([1.0, 2.0])), neurons(np.arange(1.0, 17.0).reshape(1, 4, 4)), leaky(),
    leaky(0.1), sum_pool(2), average_pool(2), scale(2.0), scale(np.array([1.0, 2.0])),
    {"type": "Delay", "delay": np.zeros(())}, {"type": "LI"}, {"type": "Transformer"},
])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    nodes=st.lists(ANY_NODE, min_size=1, max_size=9),
    edges=st.lists(st.tuples(st.integers(0, 10), st.integers(0, 10)), max_size=14),
    is_chained=st.booleans(),
)
def test_any_wiring_gives_a_network_or_a_reason(
    nodes: list[Any], edges: list[tuple[int, int]], is_chained: bool
) -> None:
    named, chained = chain(*nodes, input_shape=(1, 4, 4))
    names = list(named)
    forward = [(min(pair), max(pair)) for pair in edges if max(pair) < len(names)]
    drawn = [(names[a], names[b]) for a, b in forward if a != b]

    parsed = parse_network(nir_bytes(named, [*(chained if is_chained else []), *drawn]))

    errors = [f for f in parsed.findings if f.severity is Severity.ERROR]
    assert (parsed.network is None) == bool(errors)
    if parsed.network is not None:
        check(parsed.network, find_chip("speck2f"), Settings())


def diamonds(rungs: int, *, through: Any) -> tuple[dict[str, Any], list[str]]:
    """Each rung leads to the next by two ways: 2^rungs ways in all."""
    nodes: dict[str, Any] = {"n0": conv((1, 1, 1, 1)), "N0": neurons()}
    edges = ["input > n0 > N0"]
    for rung in range(rungs):
        last = f"N{rung}" if rung == 0 else f"m{rung}"
        nodes |= {f"u{rung}": through(), f"v{rung}": through(), f"m{rung + 1}": through()}
        edges += [f"{last} > u{rung} > m{rung + 1}", f"{last} > v{rung} > m{rung + 1}"]
    nodes |= {"l": conv((1, 1, 1, 1)), "L": neurons()}
    return nodes, [*edges, f"m{rungs} > l > L > output"]


@pytest.mark.parametrize("through", [flatten, lambda: sum_pool(1), lambda: scale(1.0)])
def test_deep_diamonds_take_no_longer_than_their_nodes(through: Any) -> None:
    nodes, edges = diamonds(80, through=through)

    started = time.process_time()
    parsed = graph(*edges, **nodes)
    took_s = time.process_time() - started

    assert parsed.network is None
    assert "GRAPH_MERGE" in {f.reason for f in parsed.findings}
    assert took_s < 5


@pytest.mark.parametrize(("start", "refused"), [("A", True), ("input", False)])
def test_a_layer_may_feed_two_others_and_the_input_any_number(start: str, refused: bool) -> None:
    nodes = {**THREE, "d": conv((1, 1, 1, 1)), "D": neurons(), "e": conv((1, 1, 1, 1)),
             "E": neurons()}  # fmt: skip
    ways = [f"{start} > {name} > {name.upper()} > e" for name in "bcd"]
    first = ["input > a > A"] if start == "A" else ["input > a > A > e"]

    network = network_of(graph(*first, *ways, "e > E > output", **nodes))
    found = check(network, find_chip("speck2f"), Settings()).findings

    reasons = {f.reason for f in found if f.severity is Severity.ERROR}
    assert reasons == ({"TOO_MANY_DESTINATIONS"} if refused else set())


def test_every_layer_of_a_deep_lattice_is_found() -> None:
    """Each layer feeds the next two: Fibonacci many ways to the last."""
    nodes: dict[str, Any] = {}
    for number in range(60):
        nodes |= {f"c{number}": conv((1, 1, 1, 1)), f"N{number}": neurons()}
    edges = ["input > c0", "N59 > output", *(f"c{n} > N{n}" for n in range(60))]
    edges += [f"N{n} > c{m}" for n in range(60) for m in (n + 1, n + 2) if m < 60]

    network = network_of(graph(*edges, **nodes))

    assert [layer.name for layer in network.layers] == [f"c{number}" for number in range(60)]
    assert feeding(network)[59] == [(57, 0), (58, 0)]
