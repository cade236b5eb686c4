"""A parsed network makes the spikes of the graph it was parsed from, whatever was folded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speckfarm_server.check import check
from speckfarm_server.chip import find_chip
from speckfarm_server.network import Network
from speckfarm_server.parse import parse_network
from speckfarm_server.settings import Settings
from speckfarm_server.twin.twin import Twin
from tests.nir_files import (
    average_pool,
    conv,
    flatten,
    linear,
    neurons,
    nir_bytes,
    scale,
    sum_pool,
)
from tests.nir_simulation import graph_spikes, network_spikes
from tests.reference_twin import Event
from tests.twin_builders import run_recording

SHAPE = (2, 6, 6)
Graph = tuple[dict[str, Any], list[tuple[str, str]]]


def values(random: np.random.Generator, *shape: int) -> Any:
    """Multiples of 1/8, so that sums, and factors that are powers of 2, are exact."""
    return (random.integers(-8, 17, shape) / 8).astype(np.float32)


def powers(random: np.random.Generator, *shape: int) -> Any:
    return np.exp2(random.integers(-2, 3, shape))


@st.composite
def folding(draw: st.DrawFn) -> Graph:
    """Two branches into one neuron node, and one more layer; everything that can be folded."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    flag = st.booleans()
    nodes: dict[str, Any] = {"input": {"type": "Input", "shape": np.array(SHAPE)}}
    edges: list[tuple[str, str]] = []
    ends = []
    for branch in "ab":
        names = [f"{branch}{name}" for name in ("scale", "conv", "out", "if", "pool", "in")]
        per_feature = draw(st.sampled_from([(), (2, 1, 1), (2, 6, 6)]))
        one_each = powers(random, 2, 1, 1) * np.ones(per_feature)
        groups, kernel = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 3]))
        weight = values(random, 2, 2 // groups, kernel, kernel)
        pool = draw(st.sampled_from([sum_pool, average_pool]))
        nodes |= dict(zip(names, [
            scale(one_each), conv(weight, groups=groups, padding=kernel // 2,
                                  bias=values(random, 2) if draw(flag) else None),
            scale(powers(random, 2, 1, 1)),
            neurons(powers(random, 2, 1, 1) * np.ones((2, 6, 6)), r=powers(random, 2, 1, 1)),
            pool(2), scale(powers(random)),
        ], strict=True))  # fmt: skip
        kept = [name for name in names if name[1:] in ("conv", "if", "pool") or draw(flag)]
        edges += list(zip(["input", *kept[:-1]], kept, strict=True))
        nodes = {name: node for name, node in nodes.items() if name[0] != branch or name in kept}
        ends.append(kept[-1])
    return draw(_joined(nodes, edges, ends, random))


@st.composite
def _joined(
    draw: st.DrawFn,
    nodes: dict[str, Any],
    edges: list[tuple[str, str]],
    ends: list[str],
    random: np.random.Generator,
) -> Graph:
    if draw(st.booleans()):  # added before the weights
        nodes["u"] = conv(values(random, 3, 2, 3, 3), padding=1)
        edges += [(end, "u") for end in ends] + [("u", "N")]
    elif draw(st.booleans()):  # after them
        for end, name, kernel in zip(ends, "uv", draw(st.permutations([1, 3])), strict=True):
            nodes[name] = conv(values(random, 3, 2, kernel, kernel), padding=kernel // 2)
            edges += [(end, name), (name, "N")]
    else:
        for end, name in zip(ends, "uv", strict=True):
            nodes |= {f"{name}flat": flatten(), name: linear(values(random, 3, 18))}
            edges += [(end, f"{name}flat"), (f"{name}flat", name), (name, "N")]
    nodes |= {"N": neurons(2.0), "output": {"type": "Output"}}
    return nodes, [*edges, ("N", "output")]


def network_of(graph: Graph) -> Network:
    parsed = parse_network(nir_bytes(*graph))
    assert parsed.network is not None, [f.message for f in parsed.findings]
    return parsed.network


@settings(max_examples=120, deadline=None)
@given(graph=folding(), seed=st.integers(0, 2**32))
def test_folding_does_not_change_what_a_graph_computes(graph: Graph, seed: int) -> None:
    frames = np.random.default_rng(seed).integers(0, 2, (12, *SHAPE))

    network = network_of(graph)

    wanted = np.array(graph_spikes(*graph, list(frames)))
    found = np.array(network_spikes(network, list(frames)))
    assert np.array_equal(found.reshape(wanted.shape), wanted)


RELAYS = {
    "input": {"type": "Input", "shape": np.array(SHAPE)},
    "a": conv(np.array([[[[0.75]], [[-1.0]]]])),
    "A": neurons(),
    "b": conv(np.array([[[[-1.0]], [[0.75]]]])),
    "B": neurons(),
}
TO_RELAYS = [("input", "a"), ("a", "A"), ("input", "b"), ("b", "B")]


def last(kernel: int, *, seed: int, unit: int = 2) -> Any:
    """Multiples of `unit`/128 with -1 among them: 8 bits hold them exactly."""
    drawn = np.random.default_rng(seed).integers(-20, 100, (2, 1, kernel, kernel)) // unit * unit
    drawn[0, 0, 0, 0] = -128
    return conv(drawn / 128, padding=kernel // 2)


@pytest.mark.parametrize(
    ("behind", "edges"),
    [
        ({"u": last(3, seed=1)}, ["A>u", "B>u", "u>N"]),
        ({"u": last(3, seed=2), "v": last(1, seed=3)}, ["A>u", "u>N", "B>v", "v>N"]),
        ({"P": sum_pool(2), "u": last(3, seed=4)}, ["A>P", "B>P", "P>u", "u>N"]),
        ({"P": sum_pool(2), "Q": sum_pool(2), "u": last(3, seed=5), "v": last(3, seed=6)},
         ["A>P", "P>u", "u>N", "B>Q", "Q>v", "v>N"]),
        ({"P": average_pool(2), "Q": sum_pool(2), "u": last(3, seed=7, unit=8),
          "v": last(3, seed=8)}, ["A>P", "P>u", "u>N", "B>Q", "Q>v", "v>N"]),
        ({"S": scale(0.5), "u": last(3, seed=9)}, ["A>S", "S>u", "B>u", "u>N"]),
    ],
)  # fmt: skip
def test_the_twin_makes_the_spikes_of_a_branching_graph(
    behind: dict[str, Any], edges: list[str]
) -> None:
    """The relays never fire at the same event, so that chip and steps see the same order."""
    nodes = {**RELAYS, **behind, "N": neurons(0.9921875), "output": {"type": "Output"}}
    pairs = [*TO_RELAYS, *((e[0], e[2:]) for e in edges), ("N", "output")]
    random = np.random.default_rng(0)
    events = np.stack([random.integers(0, size, 300) for size in SHAPE], axis=1)
    frames = np.zeros((300, *SHAPE))
    frames[np.arange(300), events[:, 0], events[:, 1], events[:, 2]] = 1

    network = network_of((nodes, pairs))
    report = check(network, find_chip("speck2f"), Settings(lower_clip=-200.0))
    assert report.configuration is not None
    spikes = run_recording(
        Twin(report.configuration), [Event(1000 * n, *e) for n, e in enumerate(events.tolist())]
    )

    wanted = np.array(graph_spikes(nodes, pairs, list(frames))).sum(0)
    found = np.zeros(wanted.shape)
    for _, _, _, feature, y, x in spikes:
        found[feature, y, x] += 1
    assert wanted.sum() > 10
    assert found.tolist() == wanted.tolist()
