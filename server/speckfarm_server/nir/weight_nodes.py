"""Conv2d, Linear and Affine nodes: weights, bias and window, checked."""

from __future__ import annotations

import numpy as np

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import FloatArray
from speckfarm_server.nir.fields import Fields
from speckfarm_server.nir.parts import Weights

MAX_DENSE = 1 << 20  # numbers that weights are expanded to; a whole chip holds 0.3 M


def read_linear(fields: Fields) -> Weights | None:
    """Read Linear or Affine."""
    weights = _read_weights(fields, "(outputs, inputs)")
    has_bias = fields.node.kind == "Affine"
    bias = _read_bias(fields, weights) if has_bias else None
    if weights is None or (has_bias and bias is None):
        return None
    return Weights(weights=weights, bias=bias)


def read_conv(fields: Fields) -> Weights | None:
    """Read Conv2d; groups become zero weights if the result is small."""
    weights = _read_weights(fields, "(features out, features in, ky, kx)")
    bias = _read_bias(fields, weights) if fields.has("bias") else None
    stride, dilation = _read_steps(fields, "stride"), _read_steps(fields, "dilation")
    groups = _read_groups(fields, weights)
    # nir 1.0.4 `infer_types` writes an empty one behind neurons that are one number (Norse).
    is_declared = np.size(fields.node.fields.get("input_shape", ())) > 0
    size = fields.shape("input_shape") if is_declared else None
    if weights is None or stride is None or dilation is None:
        return None
    padding = _read_padding(fields, weights, stride, dilation)
    if padding is None or groups is None or fields.findings:
        return None
    is_expanded = groups > 1 and weights.size * groups <= MAX_DENSE
    if is_expanded:
        weights = _expanded(weights, groups)
        fields.findings.append(_groups_expanded(fields, groups))
    return Weights(
        weights=weights,
        bias=bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=1 if is_expanded else groups,
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


def _read_groups(fields: Fields, weights: FloatArray | None) -> int | None:
    groups = fields.whole("groups", 1)
    if groups is None or weights is None:
        return None
    if groups < 1 or weights.shape[0] % groups:
        text = (
            f"has groups = {groups}; a whole number from 1 is wanted that divides the "
            f"{weights.shape[0]} features out"
        )
        fields.refuse("VALUE_OUT_OF_RANGE", text, field="groups", found=groups)
        return None
    return groups


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
            "unevenly, and a core cannot; use stride 1 and an odd kernel (put a row and a column "
            "of zeros before an even one), or write the padding as numbers"
        )
        figures = {"stride": stride, "kernel": weights.shape[2:]}
        fields.refuse("VALUE_OUT_OF_RANGE", text, field="padding", found="same", **figures)
        return None
    return total[0] // 2, total[1] // 2


def _expanded(weights: FloatArray, groups: int) -> FloatArray:
    """Weights of all inputs for all outputs; zeros between groups."""
    outputs, inputs, *kernel = weights.shape
    dense = np.zeros((groups, outputs // groups, groups, inputs, *kernel), np.float32)
    for group, part in enumerate(np.split(weights, groups)):
        dense[group, :, group] = part
    return dense.reshape(outputs, groups * inputs, *kernel)


def _groups_expanded(fields: Fields, groups: int) -> Finding:
    node = fields.node
    return Finding(
        reason="GROUPS_EXPANDED",
        severity=Severity.INFO,
        message=f"Node {node.name!r} ({node.kind}) has {groups} groups, which run as one "
        "convolution with zero weights between them: the same sums, but the kernel memory of a "
        "convolution without groups",
        metadata={"node": node.name, "kind": node.kind, "groups": str(groups)},
    )
