"""Every reason why a graph is no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Network
from speckfarm_server.parse import parse_network
from speckfarm_server.parsed import Parsed
from tests.nir_files import (
    average_pool,
    chain,
    chain_bytes,
    conv,
    flatten,
    linear,
    neurons,
    nir_bytes,
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


@pytest.mark.parametrize(
    ("kind", "words"),
    [("LIF", "no leak"), ("CubaLIF", "no leak"), ("LI", "no leak"), ("CubaLI", "no leak"),
     ("Conv1d", "Conv2d"), ("Threshold", "IF"),
     ("I", "IF"), ("Transformer", "Conv2d, Linear")],
)  # fmt: skip
def test_an_unknown_kind_is_named_with_the_way_out(kind: str, words: str) -> None:
    nodes, edges = chain(linear((2, 3)), {"type": kind}, input_shape=(3,))

    parsed = parse_network(nir_bytes(nodes, edges))

    finding = next(f for f in parsed.findings if f.reason == "UNSUPPORTED_NODE")
    assert finding.metadata == {"node": "1", "kind": kind}
    assert words in finding.message
    assert parsed.network is None


def test_an_unsupported_neuron_hides_nothing_behind_it() -> None:
    parsed = parse_chain(
        linear((2, 3)), {"type": "LIF"}, linear((2, 5)), neurons(), input_shape=(3,)
    )

    assert sorted(reasons(parsed)) == ["SHAPE_MISMATCH", "UNSUPPORTED_NODE"]


def edited(change: str) -> Parsed:
    """A legal graph (input, 0, 1, 2, 3, output) with one thing wrong in its wiring."""
    nodes, edges = chain(linear((2, 3)), neurons(), linear((2, 2)), neurons(), input_shape=(3,))
    more_nodes, more_edges, less = EDITS[change]
    nodes = {name: node for name, node in {**nodes, **more_nodes}.items() if name != less}
    edges = [edge for edge in [*edges, *more_edges] if less not in (*edge, "edges")]
    return parse_network(nir_bytes(nodes, edges))


INPUT, OUTPUT = {"type": "Input", "shape": np.array([3])}, {"type": "Output"}
EDITS: dict[str, tuple[dict[str, Any], list[tuple[str, str]], str]] = {
    "cycle": ({}, [("3", "2")], ""),
    "self": ({}, [("1", "1")], ""),
    "fork": ({}, [("1", "output")], ""),
    "merge": ({"other": linear((3, 3))}, [("input", "other"), ("other", "2")], ""),
    "second input": ({"more": INPUT}, [("more", "2")], ""),
    "second output": ({"more": OUTPUT}, [("1", "more")], ""),
    "no input": ({}, [], "input"),
    "no output": ({}, [], "output"),
    "dangling": ({"lonely": neurons()}, [], ""),
    "missing": ({}, [("3", "ghost")], ""),
    "no edges": ({}, [], "edges"),
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("cycle", {"GRAPH_CYCLE"}),
        ("self", {"GRAPH_CYCLE"}),
        ("fork", {"GRAPH_MERGE"}),
        ("merge", {"WRONG_ORDER", "SHAPE_MISMATCH"}),
        ("second input", {"SECOND_INPUT"}),
        ("second output", {"SECOND_OUTPUT"}),
        ("no input", {"NO_INPUT"}),
        ("no output", {"NO_OUTPUT"}),
        ("dangling", {"DANGLING_NODE"}),
        ("missing", {"EDGE_TO_MISSING_NODE"}),
        ("no edges", {"DANGLING_NODE"}),
    ],
)
def test_wrong_wiring_is_named(change: str, expected: set[str]) -> None:
    parsed = edited(change)

    assert set(reasons(parsed)) == expected
    assert parsed.network is None


def test_every_dangling_node_is_named() -> None:
    named = {finding.metadata["node"] for finding in edited("no edges").findings}

    assert named == {"input", "0", "1", "2", "3", "output"}


def test_an_empty_graph_lacks_input_and_output() -> None:
    parsed = parse_network(nir_bytes({}, []))

    assert reasons(parsed) == ["NO_INPUT", "NO_OUTPUT"]


def test_input_to_output_without_a_layer_is_refused() -> None:
    assert only(parse_chain(flatten(), input_shape=(1, 2, 2))).reason == "NO_LAYERS"


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        ([linear((2, 3))], ["0"]),
        ([linear((2, 3)), linear((2, 2)), neurons()], ["0"]),
        ([neurons()], ["0"]),
        ([linear((2, 3)), neurons(), neurons()], ["2"]),
    ],
)
def test_wrong_order_names_the_node(nodes: list[dict[str, Any]], named: list[str]) -> None:
    parsed = parse_chain(*nodes, input_shape=(3,))

    assert [(f.reason, f.metadata["node"]) for f in parsed.findings] == [
        ("WRONG_ORDER", name) for name in named
    ]
    assert parsed.network is None


@pytest.mark.parametrize(
    "nodes",
    [
        [sum_pool(), conv((1, 1, 1, 1)), neurons()],
        [conv((1, 1, 1, 1)), sum_pool(), neurons()],
    ],
)
def test_pooling_stands_only_after_neurons(nodes: list[dict[str, Any]]) -> None:
    parsed = parse_chain(*nodes, input_shape=(1, 4, 4))

    assert set(reasons(parsed)) == {"WRONG_ORDER"}


@pytest.mark.parametrize(
    "nodes",
    [
        [conv((1, 3, 1, 1)), neurons()],
        [conv((1, 1, 1, 1), input_shape=np.array([4, 5])), neurons()],
        [conv((1, 1, 1, 1)), neurons(np.ones((1, 4, 5)))],
        [conv((1, 1, 1, 1)), neurons(), linear((2, 16)), neurons()],
        [conv((1, 1, 1, 1)), neurons(), flatten(), linear((2, 17)), neurons()],
        [conv((1, 1, 1, 1)), neurons(), flatten(input_type=np.array([2, 4, 4])),
         linear((2, 16)), neurons()],
        [flatten(), conv((1, 1, 1, 1)), neurons()],
        [conv((1, 1, 1, 1)), neurons(), flatten(), sum_pool()],
    ],
)  # fmt: skip
def test_a_shape_that_does_not_arrive_is_named(nodes: list[dict[str, Any]]) -> None:
    parsed = parse_chain(*nodes, input_shape=(1, 4, 4))

    assert only(parsed).reason == "SHAPE_MISMATCH"
    assert parsed.network is None


def test_a_wrong_output_shape_is_named() -> None:
    parsed = parse_chain(linear((2, 3)), neurons(), input_shape=(3,), output_shape=(3,))

    assert only(parsed).reason == "SHAPE_MISMATCH"


@pytest.mark.parametrize("start_end", [(1, -1), (0, 1), (-1, 0), (5, 9)])
def test_only_a_whole_map_is_flattened(start_end: tuple[int, int]) -> None:
    node = flatten(start_dim=start_end[0], end_dim=start_end[1])

    parsed = parse_chain(
        conv((2, 1, 1, 1)), neurons(), node, linear((2, 32)), neurons(), input_shape=(1, 4, 4)
    )

    assert only(parsed).reason == "UNSUPPORTED_FLATTEN"


@pytest.mark.parametrize(
    ("node", "reason"),
    [
        (conv(np.ones((2, 1, 3))), "WRONG_SHAPE"),
        (conv((2, 1, 1, 1), bias=np.zeros(3)), "WRONG_SHAPE"),
        (conv((2, 1, 1, 1), bias=np.zeros((2, 1))), "WRONG_SHAPE"),
        (conv(np.zeros((0, 1, 1, 1)), bias=None), "WRONG_SHAPE"),
        (conv((2, 1, 1, 1), stride=np.array([1, 1, 1])), "WRONG_SHAPE"),
        (conv((2, 1, 1, 1), stride=np.ones((2, 2))), "WRONG_SHAPE"),
        (conv((2, 1, 1, 1), groups=np.array([1, 1])), "WRONG_SHAPE"),
        (conv((2, 1, 1, 1), groups="one"), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 1, 1), input_shape=np.array([0, 4])), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 1, 1), stride=0), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 1, 1), stride=-1), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 1, 1), stride=0.5), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 1, 1), dilation=0), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 1, 1), groups=0), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 1, 1), padding=2**62), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 1, 1), padding=-3), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 1, 1), padding="full"), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 2, 2), padding="same"), "VALUE_OUT_OF_RANGE"),
        (conv((2, 1, 5, 5)), "VALUE_OUT_OF_RANGE"),
        ({**conv((2, 1, 1, 1)), "weight": "heavy"}, "VALUE_OUT_OF_RANGE"),
        (conv(np.full((2, 1, 1, 1), np.nan)), "NOT_FINITE"),
        (conv(np.full((2, 1, 1, 1), 1e300)), "NOT_FINITE"),
        (conv((2, 1, 1, 1), bias=np.array([0, np.inf])), "NOT_FINITE"),
        ({**conv((2, 1, 1, 1)), "weight": None}, "MISSING_FIELD"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(node: dict[str, Any], reason: str) -> None:
    parsed = parse_chain(node, neurons(), input_shape=(1, 4, 4))

    finding = only(parsed)
    assert (finding.reason, finding.metadata["node"], finding.layer) == (reason, "0", 0)
    assert finding.severity is Severity.ERROR
    assert parsed.network is None


@pytest.mark.parametrize(
    "node", [sum_pool(0, stride=1), sum_pool(2, stride=0), average_pool(9), sum_pool(2**62)]
)
def test_a_pooling_without_an_output_is_named(node: dict[str, Any]) -> None:
    parsed = parse_chain(conv((1, 1, 1, 1)), neurons(), node, input_shape=(1, 4, 4))

    assert (only(parsed).reason, only(parsed).metadata["node"]) == ("VALUE_OUT_OF_RANGE", "2")


@pytest.mark.parametrize(
    "shape", [(1, 2), (1, 1, 4, 4), (0, 4, 4), (1, -4, 4), (1, 2**40, 4), (2.5, 4, 4)]
)
def test_an_input_shape_that_makes_no_sense_is_named(shape: tuple[int, ...]) -> None:
    parsed = parse_chain(conv((1, 1, 1, 1)), neurons(), input_shape=shape)

    assert only(parsed).reason in ("WRONG_SHAPE", "VALUE_OUT_OF_RANGE")


def test_a_reset_voltage_is_refused_but_the_network_is_there_for_the_check() -> None:
    parsed = parse_chain(linear((2, 3)), neurons(v_reset=np.full(2, 0.25)), input_shape=(3,))

    assert only(parsed).reason == "V_RESET"
    assert parsed.network is not None


def test_a_reset_voltage_of_zero_says_how_the_network_was_trained() -> None:
    parsed = parse_chain(linear((2, 3)), neurons(v_reset=np.zeros(2)), input_shape=(3,))

    assert (only(parsed).reason, only(parsed).severity) == ("RESET_FROM_V_RESET", Severity.INFO)
    assert parsed.network is not None
    assert parsed.network.layers[0].trained_reset == "zero"


def test_an_unknown_field_is_a_warning() -> None:
    parsed = parse_chain(linear((2, 3)), neurons(v_rest=1.0), input_shape=(3,))

    assert (only(parsed).reason, only(parsed).severity) == ("UNKNOWN_FIELD", Severity.WARNING)
    assert "v_rest" in only(parsed).message
    assert parsed.network is not None


def test_all_findings_come_at_once_with_their_layers() -> None:
    parsed = parse_chain(
        conv(np.full((1, 1, 1, 1), np.nan)),
        neurons(np.array([1.0, 2.0]), v_reset=1.0),
        {"type": "LIF"},
        flatten(),
        linear(np.ones(3)),
        input_shape=(1, 4, 4),
    )

    found = {(f.reason, f.metadata["node"], f.layer) for f in parsed.findings}
    assert found == {
        ("UNSUPPORTED_NODE", "2", 0),
        ("NOT_FINITE", "0", 0),
        ("V_RESET", "1", 0),
        ("WRONG_ORDER", "2", 0),
        ("WRONG_ORDER", "4", 1),
        ("WRONG_SHAPE", "4", 1),
    }


def test_a_huge_list_of_findings_is_cut_with_the_number_left_out() -> None:
    nodes, edges = chain(linear((2, 3)), neurons(), input_shape=(3,))
    edges += [("0", f"ghost{number}") for number in range(900)]

    parsed = parse_network(nir_bytes(nodes, edges))

    assert len(parsed.findings) == 201
    assert parsed.findings[-1].reason == "MORE_FINDINGS"


ANY_NUMBER = st.integers(-(2**63), 2**63 - 1)
SMALL = st.integers(-2, 12) | ANY_NUMBER


@settings(max_examples=60, deadline=None)
@given(stride=SMALL, padding=SMALL, dilation=SMALL, groups=SMALL, pool=SMALL, size=SMALL)
def test_any_whole_numbers_give_a_network_or_a_reason(
    stride: int, padding: int, dilation: int, groups: int, pool: int, size: int
) -> None:
    node = conv((2, 1, 3, 2), stride=stride, padding=padding, dilation=dilation, groups=groups)

    parsed = parse_chain(node, neurons(), sum_pool(pool), input_shape=(1, size, 9))

    assert (parsed.network is None) == bool(parsed.findings)
