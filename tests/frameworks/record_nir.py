"""Write tests/data/nir/nir_*.nir.gz with plain nir 1.0.4: graphs that people write by hand.

Run it from the root: python -m tests.frameworks.record_nir
"""

from __future__ import annotations

import itertools
from typing import Any

import nir
import numpy as np

from tests.frameworks import patterns


def ends(shape: tuple[int, ...]) -> dict[str, nir.NIRNode]:
    return {
        "input": nir.Input(input_type={"input": np.array(patterns.INPUT_SHAPE)}),
        "output": nir.Output(output_type={"output": np.array(shape)}),
    }


def conv(weight: object, size: int = 6, *, groups: int = 1, padding: object = (0, 0)) -> nir.Conv2d:
    values = np.asarray(weight, np.float32)
    return nir.Conv2d(
        np.array([size, size]), values, (1, 1), padding, (1, 1), groups, np.zeros(len(values))
    )


def neurons(shape: tuple[int, ...], threshold: Any = 1.0) -> nir.IF:
    return nir.IF(r=np.ones(shape), v_threshold=np.broadcast_to(threshold, shape).copy())


def depthwise() -> nir.NIRGraph:
    """A 3x3 filter per feature with padding 'same', then a 1x1 convolution; one Scale, no delay."""
    nodes = {
        **ends((3, 6, 6)),
        "scale": nir.Scale(scale=np.array([[[1.0]], [[0.5]]])),
        "filter": conv(patterns.weights(2, 1, 3, 3, seed=6), groups=2, padding="same"),
        "filtered": neurons((2, 6, 6)),
        "delay": nir.Delay(delay=np.zeros((2, 6, 6))),
        "mix": conv(patterns.weights(3, 2, 1, 1, seed=7)),
        "mixed": neurons((3, 6, 6), np.array([0.5, 1.0, 2.0])[:, None, None]),
    }
    names = ["input", "scale", "filter", "filtered", "delay", "mix", "mixed", "output"]
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)))


def two_paths() -> nir.NIRGraph:
    """What other tools call concatenation: two convolutions, each of its own layer, one IF."""
    nodes = {
        **ends((2, 6, 6)),
        "a": conv(patterns.relay(polarity=0)),
        "A": neurons((1, 6, 6)),
        "b": conv(patterns.relay(polarity=1)),
        "B": neurons((1, 6, 6)),
        "from_a": conv(patterns.weights(2, 1, 3, 3, seed=8), padding=(1, 1)),
        "from_b": conv(patterns.weights(2, 1, 1, 1, seed=9)),
        "joint": neurons((2, 6, 6)),
    }
    edges = [("input", "a"), ("a", "A"), ("A", "from_a"), ("from_a", "joint"), ("input", "b"),
             ("b", "B"), ("B", "from_b"), ("from_b", "joint"), ("joint", "output")]  # fmt: skip
    return nir.NIRGraph(nodes, edges)


def described() -> nir.NIRGraph:
    """A nested block whose neurons say how they were trained, as `speckfarm export` notes it."""
    block = {
        "input": nir.Input(input_type={"input": np.array([2, 6, 6])}),
        "conv": conv(patterns.weights(2, 2, 1, 1, seed=10)),
        "if": neurons((2, 6, 6)),
        "output": nir.Output(output_type={"output": np.array([2, 6, 6])}),
    }
    block["if"].metadata = {"speckfarm_reset": "zero", "speckfarm_lower_clip": np.float64(-0.5)}
    chain = [("input", "conv"), ("conv", "if"), ("if", "output")]
    nodes = {**ends((2, 6, 6)), "block": nir.NIRGraph(block, chain)}
    return nir.NIRGraph(nodes, [("input", "block"), ("block", "output")])


def foreign() -> nir.NIRGraph:
    """Kinds that no Speck has, in a row."""
    one = np.ones((2, 6, 6))
    nodes = {
        **ends((2, 6, 6)),
        "cuba": nir.CubaLIF(tau_syn=0.005 * one, tau_mem=0.02 * one, r=one, v_leak=0 * one,
                            v_threshold=one),
        "threshold": nir.Threshold(threshold=one),
        "integrator": nir.I(r=one),
        "late": nir.Delay(delay=0.003 * one),
        "leaky": nir.LI(tau=0.02 * one, r=one, v_leak=0 * one),
    }  # fmt: skip
    names = ["input", "cuba", "threshold", "integrator", "late", "leaky", "output"]
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)))


def main() -> None:
    recorder = patterns.Recorder("nir")
    for make in (depthwise, two_paths, described, foreign):
        recorder.write(make.__name__, make())


if __name__ == "__main__":
    main()
