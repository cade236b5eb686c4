"""One NIR node to a part of the network, or the reason why a Speck cannot run it."""

from __future__ import annotations

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Pooling
from speckfarm_server.nir.fields import Fields
from speckfarm_server.nir.file import NirNode
from speckfarm_server.nir.graph import ENTRY, EXIT, listed
from speckfarm_server.nir.neuron_nodes import read_if, read_lif, refuse_leak
from speckfarm_server.nir.parts import Door, Flattening, Part, Scaling
from speckfarm_server.nir.weight_nodes import read_conv, read_linear

ADVICE = {
    "I": "a bare integrator never spikes: use IF",
    "Conv1d": "write it as Conv2d with a square kernel",
    "Threshold": "Speck fires only in IF neurons: use IF",
    "MaxPool2d": "use SumPool2d or AvgPool2d",
    "BatchNorm2d": "fold it into the weights before exporting",
}
_DEPLOYABLE = "Conv2d, Linear, Affine, IF, SumPool2d, AvgPool2d, Flatten, Scale"


def read_part(node: NirNode) -> tuple[Part | None, list[Finding]]:
    """Check a node's own values; the part is None if they are of no use or it cannot run.

    Findings: UNSUPPORTED_NODE, MISSING_FIELD, NOT_FINITE, WRONG_SHAPE, VALUE_OUT_OF_RANGE, V_RESET,
    the warning UNKNOWN_FIELD, the remarks LIF_WITHOUT_LEAK and GROUPS_EXPANDED.
    """
    fields = Fields(node)
    if node.kind in _READERS:
        part = _READERS[node.kind](fields)
        return part, [*fields.findings, *_unknown_fields(node)]
    if node.kind in _LEAKY:
        refuse_leak(fields)
    else:
        advice = ADVICE.get(node.kind, f"use {_DEPLOYABLE}")
        fields.refuse("UNSUPPORTED_NODE", f"is of a type that Speck cannot run; {advice}")
    return None, fields.findings


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


def _read_scale(fields: Fields) -> Scaling | None:
    factors = fields.float32("scale")
    return None if factors is None else Scaling(factors=factors.astype("float64"))


def _read_delay(fields: Fields) -> Door | None:
    """Delays of 0 do nothing."""
    delays = fields.numbers("delay")
    if delays is None:
        return None
    if delays.any():
        longest = float(abs(delays).max())
        text = (
            f"delays events by up to {longest:g} s; Speck has no programmable delays: remove it "
            "and train without"
        )
        fields.refuse("UNSUPPORTED_NODE", text, found=longest, allowed=0)
        return None
    return Door(shape=delays.shape if delays.size > 1 else None)


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


_LEAKY = ("CubaLIF", "LI", "CubaLI")
_READERS = {
    "Input": _read_input,
    "Output": _read_door,
    ENTRY: _read_door,
    EXIT: _read_door,
    "Conv2d": read_conv,
    "Linear": read_linear,
    "Affine": read_linear,
    "IF": read_if,
    "LIF": read_lif,
    "SumPool2d": _read_pooling,
    "AvgPool2d": _read_pooling,
    "Flatten": _read_flatten,
    "Scale": _read_scale,
    "Delay": _read_delay,
}
