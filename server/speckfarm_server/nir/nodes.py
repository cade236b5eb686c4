"""One NIR node to a part of the network: its values checked, its place in the chain unknown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import FloatArray, Pooling
from speckfarm_server.nir.fields import Fields
from speckfarm_server.nir.file import NirNode
from speckfarm_server.nir.graph import ENTRY, EXIT, listed


@dataclass(frozen=True, kw_only=True)
class Door:
    """Input, Output, or a nested graph's: passes events on, may declare their shape."""

    shape: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class Flattening:
    """A Flatten node."""

    start_dim: int
    end_dim: int
    shape: tuple[int, ...] | None  # declared


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


@dataclass(frozen=True, kw_only=True)
class Neurons:
    """IF neurons."""

    threshold: float
    threshold_range: tuple[float, float]
    r_range: tuple[float, float]
    shapes: tuple[tuple[int, ...], ...]  # of the arrays that are more than one number


Part: TypeAlias = "Door | Flattening | Weights | Neurons | Pooling"


def read_part(node: NirNode) -> tuple[Part | None, list[Finding]]:
    """Check a node's own values; the part is None if they are of no use or the kind is unknown.

    Findings: MISSING_FIELD, NOT_FINITE, WRONG_SHAPE, VALUE_OUT_OF_RANGE, NON_UNIFORM_THRESHOLD,
    V_RESET, and the warning UNKNOWN_FIELD.
    """
    if node.kind not in _READERS:
        return None, []
    fields = Fields(node)
    part = _READERS[node.kind](fields)
    return part, [*fields.findings, *_unknown_fields(node)]


def _unknown_fields(node: NirNode) -> list[Finding]:
    return [
        Finding(
            reason="UNKNOWN_FIELD",
            severity=Severity.WARNING,
            message=f"Node {node.name!r} ({node.kind}) has fields that the farm does not know and "
            f"ignores: {listed(node.unknown_fields)}. Remove them if they change what it computes",
            metadata={
                "node": node.name,
                "kind": node.kind,
                "found": ", ".join(node.unknown_fields),
            },
        )
    ] * bool(node.unknown_fields)


def _read_input(fields: Fields) -> Door | None:
    shape = fields.shape("shape")
    if shape is not None and len(shape) not in (1, 3):
        text = f"has shape {shape}; (features, height, width) or (features,) is wanted, no batch"
        fields.refuse("WRONG_SHAPE", text, field="shape", found=shape)
        return None
    return None if shape is None else Door(shape=shape)


def _read_door(fields: Fields) -> Door | None:
    if not fields.has("shape"):
        return Door(shape=None)
    shape = fields.shape("shape")
    return None if shape is None else Door(shape=shape)


def _read_flatten(fields: Fields) -> Flattening | None:
    start, end = fields.whole("start_dim"), fields.whole("end_dim")
    has_shape = fields.has("input_type")
    shape = fields.shape("input_type") if has_shape else None
    if start is None or end is None or (has_shape and shape is None):
        return None
    return Flattening(start_dim=start, end_dim=end, shape=shape)


def _read_linear(fields: Fields) -> Weights | None:
    weights = _read_weights(fields, "(outputs, inputs)")
    has_bias = fields.node.kind == "Affine"
    bias = _read_bias(fields, weights) if has_bias else None
    if weights is None or (has_bias and bias is None):
        return None
    return Weights(weights=weights, bias=bias)


def _read_conv(fields: Fields) -> Weights | None:
    weights = _read_weights(fields, "(features out, features in, ky, kx)")
    bias = _read_bias(fields, weights) if fields.has("bias") else None
    stride, dilation = _read_steps(fields, "stride"), _read_steps(fields, "dilation")
    groups = fields.whole("groups", 1)
    if groups is not None and groups < 1:
        fields.refuse("VALUE_OUT_OF_RANGE", f"has groups = {groups}; Speck runs 1", found=groups)
        groups = None
    size = fields.shape("input_shape") if fields.has("input_shape") else None
    if weights is None or stride is None or dilation is None:
        return None
    padding = _read_padding(fields, weights, stride, dilation)
    if padding is None or groups is None or fields.findings:
        return None
    return Weights(
        weights=weights,
        bias=bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        input_size=size,
    )


def _read_weights(fields: Fields, wanted: str) -> FloatArray | None:
    weights = fields.float32("weight")
    if weights is None or weights.ndim == 1 + wanted.count(","):
        return weights
    text = f"has weights of shape {weights.shape}; wanted: {wanted}"
    fields.refuse("WRONG_SHAPE", text, field="weight", found=weights.shape, allowed=wanted)
    return None


def _read_bias(fields: Fields, weights: FloatArray | None) -> FloatArray | None:
    bias = fields.float32("bias")
    if bias is None or weights is None:
        return bias
    if bias.shape != weights.shape[:1]:
        text = f"has a bias of shape {bias.shape}; one per output, {weights.shape[:1]}, is wanted"
        fields.refuse(
            "WRONG_SHAPE", text, field="bias", found=bias.shape, allowed=weights.shape[:1]
        )
        return None
    return bias


def _read_steps(fields: Fields, name: str) -> tuple[int, int] | None:
    """Stride or dilation: without at least 1 there is no output shape."""
    steps = fields.pair(name, (1, 1))
    if steps is not None and min(steps) < 1:
        text = f"has {name} {steps}; at least 1 is needed to have an output"
        fields.refuse("VALUE_OUT_OF_RANGE", text, field=name, found=steps, allowed=">= 1")
        return None
    return steps


def _read_padding(
    fields: Fields, weights: FloatArray, stride: tuple[int, int], dilation: tuple[int, int]
) -> tuple[int, int] | None:
    value = fields.node.fields.get("padding", "valid")
    if not isinstance(value, str):
        return fields.pair("padding")
    if value == "valid":
        return (0, 0)
    if value != "same":
        text = f"has padding {value[:40]!r}; allowed: numbers, 'same', 'valid'"
        fields.refuse("VALUE_OUT_OF_RANGE", text, field="padding", found=value[:40])
        return None
    total = [dilation[axis] * (weights.shape[2 + axis] - 1) for axis in (0, 1)]
    if stride != (1, 1) or any(pad % 2 for pad in total):
        text = (
            f"has padding 'same' with stride {stride} and kernel {weights.shape[2:]}, which pads "
            "unevenly; use an odd kernel with stride 1, or write the padding as numbers"
        )
        fields.refuse("VALUE_OUT_OF_RANGE", text, field="padding", found="same")
        return None
    return total[0] // 2, total[1] // 2


def _read_neurons(fields: Fields) -> Neurons | None:
    thresholds, r = fields.numbers("v_threshold"), fields.numbers("r")
    resets = fields.numbers("v_reset") if fields.has("v_reset") else np.zeros(1)
    if resets is not None and np.any(resets):
        found = float(resets[resets != 0].flat[0])
        text = f"resets to {found:g}; Speck resets to 0 or subtracts the threshold: use v_reset 0"
        fields.refuse("V_RESET", text, found=found, allowed=0)
    if thresholds is None or r is None or resets is None:
        return None
    low, high = float(thresholds.min()), float(thresholds.max())
    if low != high:
        text = f"has thresholds from {low:g} to {high:g}; a core has one threshold: make them equal"
        fields.refuse("NON_UNIFORM_THRESHOLD", text, low=low, high=high)
    return Neurons(
        threshold=float(thresholds.flat[0]),
        threshold_range=(low, high),
        r_range=(float(r.min()), float(r.max())),
        shapes=tuple(array.shape for array in (thresholds, r, resets) if array.size > 1),
    )


def _read_pooling(fields: Fields) -> Pooling | None:
    kernel, stride = fields.pair("kernel_size"), fields.pair("stride")
    padding = fields.pair("padding", (0, 0))
    for name, value in (("kernel_size", kernel), ("stride", stride)):
        if value is not None and min(value) < 1:
            text = f"has {name} {value}; at least 1 is needed to have an output"
            fields.refuse("VALUE_OUT_OF_RANGE", text, field=name, found=value, allowed=">= 1")
    if kernel is None or stride is None or padding is None or fields.findings:
        return None
    kind = "average" if fields.node.kind == "AvgPool2d" else "sum"
    return Pooling(
        name=fields.node.name, kind=kind, kernel_size=kernel, stride=stride, padding=padding
    )


_READERS = {
    "Input": _read_input,
    "Output": _read_door,
    ENTRY: _read_door,
    EXIT: _read_door,
    "Conv2d": _read_conv,
    "Linear": _read_linear,
    "Affine": _read_linear,
    "IF": _read_neurons,
    "SumPool2d": _read_pooling,
    "AvgPool2d": _read_pooling,
    "Flatten": _read_flatten,
}
