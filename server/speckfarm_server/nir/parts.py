"""What a NIR node is once its values are checked, its place in the graph unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.network import FloatArray, Pooling

DoubleArray: TypeAlias = NDArray[np.float64]
Shape: TypeAlias = tuple[int, int, int]  # c, h, w


@dataclass(frozen=True, kw_only=True)
class Door:
    """Input, Output, a nested graph's, or no delay: passes events on, may declare their shape."""

    shape: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Flattening:
    """A Flatten node."""

    start_dim: int
    end_dim: int
    shape: tuple[int, ...] | None  # declared


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaling:
    """A Scale node: what passes is multiplied by `factors`."""

    factors: DoubleArray  # one number, one per feature, or one per pixel


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """Conv2d, or Linear and Affine with a kernel yet to be shaped."""

    weights: FloatArray  # (f, c, ky, kx); linear: (f, n)
    bias: FloatArray | None  # (f,)
    stride: tuple[int, int] = (1, 1)  # y, x
    padding: tuple[int, int] = (0, 0)  # y, x
    dilation: tuple[int, int] = (1, 1)  # y, x
    groups: int = 1
    input_size: tuple[int, ...] | None = None  # declared (h, w) or (c, h, w)

    @property
    def is_linear(self) -> bool:
        """Whether it was Linear or Affine."""
        return self.weights.ndim == 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Neurons:
    """IF neurons. Arrays hold one number, one per feature, or one per neuron."""

    thresholds: DoubleArray
    r: DoubleArray
    threshold_bits: int = 32
    reset: str | None = None  # "subtract" or "zero", if the file says it
    lower_clip: float | None = None  # times the threshold, if the file says it
    shapes: tuple[tuple[int, ...], ...] = ()  # of the arrays that are more than one number


Part: TypeAlias = "Door | Flattening | Scaling | Weights | Neurons | Pooling"


def per_feature(values: DoubleArray, shape: Shape) -> DoubleArray | None:
    """Give the value of each feature, (c,); None if it differs within one or the shape is wrong."""
    features, height, width = shape
    if values.size == 1:
        return np.full(features, values.flat[0])
    if values.size == features:
        return values.reshape(features)
    if values.size != features * height * width:
        return None
    rows = values.reshape(features, height * width)
    return rows[:, 0] if (rows == rows[:, :1]).all() else None
