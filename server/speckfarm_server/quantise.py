"""Weights, biases and thresholds of a layer become integers, exactly as sinabs makes them.

Equal bit for bit to sinabs 3.1.3, `backend/dynapcnn/discretize.py`, which computes in torch
float32. Two of its habits matter for the last bit: a scalar divided by a tensor is the tensor's
reciprocal times the scalar, and rounding is to the nearest, ties to even.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.configuration import Int8Array, Int16Array
from speckfarm_server.network import FloatArray

WEIGHT_BITS = 8
BIAS_BITS = 8  # the chip would hold 16; sinabs uses 8
STATE_BITS = 16  # thresholds

_Float: TypeAlias = np.floating[Any]  # float32 or float64
_Floats: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantisedLayer:
    """A layer in chip units: float value times `scale`, rounded."""

    weights: Int8Array  # (f, c, ky, kx)
    biases: Int16Array  # (f,), zeros if the layer has none
    threshold_high: int
    threshold_low: int
    scale: float
    bound_by: str  # what limited the scale: "weights", "bias" or "thresholds"


def quantise_layer(
    weights: FloatArray,
    bias: FloatArray | None,
    threshold: float,
    threshold_low: float,
    *,
    threshold_bits: int = 32,
) -> QuantisedLayer:
    """Scale everything by the largest common factor that fits its word, and round.

    scale = min(s(weights, 8 bits), s(bias, 8), s((threshold_low, threshold), 16)). All-zero arrays
    do not bind. The values must be finite, `threshold` above 0 (the check sees to both).
    `threshold_bits` is 64 where sinabs holds thresholds in float64, which only a float64 tensor or
    NIR node makes it do; the last bit can depend on it.
    """
    biases = np.zeros(weights.shape[0], np.float32) if bias is None else bias
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        limits = np.array([threshold_low, threshold])
        thresholds = limits if threshold_bits == 64 else limits.astype(np.float32)
        scales = {
            "weights": _largest_scale(weights, WEIGHT_BITS),
            "bias": _largest_scale(biases, BIAS_BITS),
            "thresholds": _largest_scale(thresholds, STATE_BITS),
        }
        bound_by = min(scales, key=scales.__getitem__)
        scale = scales[bound_by]
        low, high = _round(thresholds, scale, STATE_BITS)
        return QuantisedLayer(
            weights=_round(weights, scale, WEIGHT_BITS).astype(np.int8),
            biases=_round(biases, scale, BIAS_BITS).astype(np.int16),
            threshold_high=int(high),
            threshold_low=int(low),
            scale=float(scale),
            bound_by=bound_by,
        )


def _largest_scale(values: _Floats, bits: int) -> _Float:
    """The factor that takes `values` to the end of a signed word; inf if all are zero."""
    number = values.dtype.type
    smallest_int, largest_int = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    smallest, largest = values.min(), values.max()
    # The negative side of a word is one longer, so it binds only if it is that much larger.
    if abs(smallest) <= abs(largest) * number(-smallest_int / largest_int):
        return abs(number(1) / largest * number(largest_int))
    return abs(number(1) / smallest * number(smallest_int))


def _round(values: _Floats, scale: _Float, bits: int) -> _Floats:
    """Ties to even. Only an infinite scale, where sinabs itself overflows, needs more."""
    rounded: _Floats = np.rint(values * values.dtype.type(scale))
    if np.isfinite(scale):
        return rounded
    return np.clip(np.nan_to_num(rounded, nan=0.0), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
