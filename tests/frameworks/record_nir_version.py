"""Write tests/data/nir/nir_<version>.nir.gz with whichever nir is installed: one network.

Run from the root, with several versions: python -m tests.frameworks.record_nir_version

Tried with 0.2.0, 1.0.1 and 1.0.6, whose files differ: no SumPool2d and no `input_shape` in 0.2.0,
v_reset from 1.0.6 on. nir.write of 1.0.1 fails on an `input_shape` of None.
"""

from __future__ import annotations

import inspect
import itertools
from importlib.metadata import version

import nir
import numpy as np

from tests.frameworks import patterns


def neurons(*shape: int) -> nir.IF:
    ones = np.ones(shape, np.float32)
    has_reset = "v_reset" in inspect.signature(nir.IF).parameters
    return nir.IF(ones, ones, *[np.zeros(shape, np.float32)] * has_reset)


def conv() -> nir.Conv2d:
    fields = {
        "weight": patterns.weights(2, 2, 3, 3, seed=11),
        "stride": 1, "padding": 1, "dilation": 1, "groups": 1, "bias": np.zeros(2, np.float32),
    }  # fmt: skip
    if "input_shape" not in inspect.signature(nir.Conv2d).parameters:
        return nir.Conv2d(**fields)
    made = nir.Conv2d(input_shape=None, **fields)
    made.input_shape = np.array([6, 6])
    return made


def network() -> nir.NIRGraph:
    nodes = {
        "input": nir.Input({"input": np.array(patterns.INPUT_SHAPE)}),
        "conv": conv(),
        "if": neurons(2, 6, 6),
    }
    size = 6
    if hasattr(nir, "SumPool2d"):
        nodes["pool"] = nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))
        size = 3
    nodes |= {
        "flatten": nir.Flatten({"input": np.array([2, size, size])}, 0, -1),
        "linear": nir.Affine(
            patterns.weights(3, 2 * size * size, seed=12), np.zeros(3, np.float32)
        ),
        "read out": neurons(3),
        "output": nir.Output({"output": np.array([3])}),
    }
    names = list(nodes)
    return nir.NIRGraph(nodes, list(itertools.pairwise(names)))


if __name__ == "__main__":
    patterns.Recorder("nir").write(version("nir"), network())
