"""Shapes through the graph: what arrives at each node, and whether the node expects it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch

from speckfarm_server.chip import output_size
from speckfarm_server.errors import Finding
from speckfarm_server.network import Pooling
from speckfarm_server.nir.fields import MAX_AXIS
from speckfarm_server.nir.file import NirNode
from speckfarm_server.nir.graph import Road, problem
from speckfarm_server.nir.parts import (
    Door,
    Flattening,
    Neurons,
    Part,
    Scaling,
    Weights,
    per_feature,
)

# Kinds that pass their input's shape on, so that what is behind them is judged though they cannot
# run.
SHAPE_KEEPING = ("IF", "LIF", "CubaLIF", "LI", "CubaLI", "I", "Threshold", "Scale", "Delay")


@dataclass(frozen=True, kw_only=True)
class Map:
    """What travels along an edge. A flat map keeps its (c, h, w): n = c * h * w in C order."""

    shape: tuple[int, int, int]  # c, h, w
    is_flat: bool = False

    @property
    def seen(self) -> tuple[int, ...]:
        """The shape as a NIR file writes it."""
        c, h, w = self.shape
        return (c * h * w,) if self.is_flat else self.shape


def infer_maps(
    road: Road, parts: Mapping[str, Part | None]
) -> tuple[dict[str, Map | None], dict[str, Map | None], list[Finding]]:
    """Find the maps that arrive at and leave each node by name; None where it is not known.

    Findings: SHAPE_MISMATCH, UNSUPPORTED_FLATTEN, VALUE_OUT_OF_RANGE.
    """
    arriving: dict[str, Map | None] = {}
    leaving: dict[str, Map | None] = {}
    findings: list[Finding] = []
    for node in road.nodes:
        part, step = parts[node.name], _Step(node)
        if node.kind == "Input":
            leaving[node.name] = _start(part)
            continue
        found = {name: leaving[name] for name in road.before[node.name]}
        came = arriving[node.name] = _added(found, step)
        if part is None:
            leaving[node.name] = came if node.kind in SHAPE_KEEPING else None
        else:
            leaving[node.name] = None if came is None else pass_through(part, came, step)
        findings += step.findings
    return arriving, leaving, findings


class _Step:
    """Collects the findings of one node."""

    def __init__(self, node: NirNode) -> None:
        self._node = node
        self.findings: list[Finding] = []

    def refuse(self, reason: str, text: str, **metadata: object) -> None:
        node = self._node
        message = f"Node {node.name!r} ({node.kind}) {text}"
        self.findings.append(problem(reason, message, node=node.name, kind=node.kind, **metadata))

    def expect(
        self, what: str, declared: tuple[int, ...] | None, arriving: tuple[int, ...]
    ) -> None:
        """Compare shapes; axes of length 1 do not count."""
        if declared is None or _squeezed(declared) == _squeezed(arriving):
            return
        text = f"declares {what} {declared}, but {arriving} arrives"
        self.refuse("SHAPE_MISMATCH", text, found=arriving, allowed=declared)

    def size(self, size: tuple[int, int], window: Weights | Pooling) -> tuple[int, int] | None:
        """Output (h, w) of a window sliding over (h, w), None with a finding if there is none."""
        kernel = _kernel(window)
        out = tuple(
            output_size(size[axis], kernel[axis], window.stride[axis], window.padding[axis])
            for axis in (0, 1)
        )
        if all(1 <= value <= MAX_AXIS for value in out):
            return out[0], out[1]
        text = (
            f"has no usable output: kernel {kernel}, stride {window.stride} and padding "
            f"{window.padding} on a map of {size} give {out}; allowed per axis: 1 to {MAX_AXIS}"
        )
        figures = {"kernel": kernel, "stride": window.stride, "padding": window.padding}
        self.refuse("VALUE_OUT_OF_RANGE", text, found=out, allowed=MAX_AXIS, **figures)
        return None


def _added(maps: Mapping[str, Map | None], step: _Step) -> Map | None:
    """What arrives where several nodes feed one: NIR adds them, so their shapes are equal."""
    known = {name: found for name, found in maps.items() if found is not None}
    if not known:
        return None
    first, *others = known
    for other in others:
        if _squeezed(known[other].seen) != _squeezed(known[first].seen) or (
            known[other].seen == known[other].shape != known[first].seen == known[first].shape
        ):
            text = (
                f"adds {known[first].seen} from {first!r} and {known[other].seen} from {other!r}; "
                "equal shapes are wanted"
            )
            step.refuse("SHAPE_MISMATCH", text, found=known[other].seen, allowed=known[first].seen)
        elif known[other].shape != known[first].shape:
            text = (
                f"adds flattened maps of {known[first].shape} from {first!r} and of "
                f"{known[other].shape} from {other!r} (c, h, w); a core adds pixel by pixel, so "
                "these must be equal too"
            )
            step.refuse(
                "SHAPE_MISMATCH", text, found=known[other].shape, allowed=known[first].shape
            )
    return known[first]


def _start(part: Part | None) -> Map | None:
    if not isinstance(part, Door) or part.shape is None:
        return None
    if len(part.shape) == 1:
        return Map(shape=(part.shape[0], 1, 1), is_flat=True)
    return Map(shape=(part.shape[0], part.shape[1], part.shape[2]))


@singledispatch
def pass_through(part: Part, arriving: Map, step: _Step) -> Map | None:
    """Follow a map through one node; None if the node has no output shape."""
    raise TypeError(type(part))


@pass_through.register
def _(part: Door, arriving: Map, step: _Step) -> Map | None:
    step.expect("shape", part.shape, arriving.seen)
    return arriving


@pass_through.register
def _(part: Flattening, arriving: Map, step: _Step) -> Map | None:
    axes = len(arriving.seen)
    start = part.start_dim + axes if part.start_dim < 0 else part.start_dim
    end = part.end_dim + axes if part.end_dim < 0 else part.end_dim
    outside = [*arriving.seen[: max(start, 0)], *arriving.seen[max(end + 1, 0) :]]
    if not 0 <= start <= end < axes or any(axis != 1 for axis in outside):
        text = (
            f"flattens axes {part.start_dim} to {part.end_dim} of {arriving.seen}; only all of "
            f"them, 0 to -1 (no batch axis), can be flattened"
        )
        found = f"{part.start_dim} to {part.end_dim}"
        step.refuse("UNSUPPORTED_FLATTEN", text, found=found, allowed="0 to -1")
    step.expect("input shape", part.shape, arriving.seen)
    return Map(shape=arriving.shape, is_flat=True)


@pass_through.register
def _(part: Neurons, arriving: Map, step: _Step) -> Map | None:
    _expect_arrays("neurons", part.shapes, arriving, step)
    if not step.findings and per_feature(part.thresholds, arriving.shape) is None:
        low, high = float(part.thresholds.min()), float(part.thresholds.max())
        text = (
            f"has thresholds from {low:g} to {high:g} within a feature; a core has one threshold, "
            "and only those of whole features can go into weights: make them equal"
        )
        step.refuse("NON_UNIFORM_THRESHOLD", text, smallest=low, largest=high)
    return arriving


@pass_through.register
def _(part: Scaling, arriving: Map, step: _Step) -> Map | None:
    shapes = (part.factors.shape,) if part.factors.size > 1 else ()
    _expect_arrays("factors", shapes, arriving, step)
    return arriving


def _expect_arrays(
    what: str, shapes: tuple[tuple[int, ...], ...], arriving: Map, step: _Step
) -> None:
    """One value per neuron, in the map's shape or in a row, or one per feature."""
    for shape in shapes:
        if not _covers(shape, arriving):
            text = (
                f"has {what} of shape {shape}, but {arriving.seen} arrives; wanted: one number, "
                "the map's shape, or (features, 1, 1)"
            )
            step.refuse("SHAPE_MISMATCH", text, found=shape, allowed=arriving.seen)
            return


def _covers(shape: tuple[int, ...], arriving: Map) -> bool:
    """Whether an array has a value for each neuron or each feature, and no other reading."""
    features, height, width = arriving.shape
    if arriving.is_flat:
        whole = (features * height * width,)
        return _squeezed(shape) in (_squeezed(whole), _squeezed(arriving.shape))
    if len(shape) >= 3:
        is_one = all(length == 1 for length in shape[:-3])
        return is_one and shape[-3:] in (arriving.shape, (features, 1, 1))
    plain = shape[1:] if len(shape) == 2 and shape[0] == 1 else shape
    # (features,) is meant per feature; as wide a map could be meant to have it along x.
    return plain == _squeezed(arriving.shape) or (plain == (features,) and width != features)


@pass_through.register
def _(part: Pooling, arriving: Map, step: _Step) -> Map | None:
    features, height, width = arriving.shape
    if arriving.is_flat:
        text = f"pools over (height, width), but a flat map {arriving.seen} arrives"
        step.refuse("SHAPE_MISMATCH", text, found=arriving.seen, allowed="(c, h, w)")
        return None
    size = step.size((height, width), part)
    return None if size is None else Map(shape=(features, *size))


@pass_through.register
def _(part: Weights, arriving: Map, step: _Step) -> Map | None:
    return (_pass_linear if part.is_linear else _pass_conv)(part, arriving, step)


def _pass_linear(part: Weights, arriving: Map, step: _Step) -> Map | None:
    outputs, inputs = part.weights.shape
    features, height, width = arriving.shape
    if not arriving.is_flat and height * width != 1:
        text = f"takes a flat map, but {arriving.seen} arrives; put a Flatten node before it"
        step.refuse("SHAPE_MISMATCH", text, found=arriving.seen, allowed=(inputs,))
    elif inputs != features * height * width:
        text = f"has weights for {inputs} inputs, but {features * height * width} arrive"
        step.refuse("SHAPE_MISMATCH", text, found=features * height * width, allowed=inputs)
    return Map(shape=(outputs, 1, 1), is_flat=True)


def _pass_conv(part: Weights, arriving: Map, step: _Step) -> Map | None:
    features, height, width = arriving.shape
    if arriving.is_flat:
        text = f"convolves (features, height, width), but a flat map {arriving.seen} arrives"
        step.refuse("SHAPE_MISMATCH", text, found=arriving.seen, allowed="(c, h, w)")
        return None
    inputs = part.weights.shape[1] * part.groups
    if inputs != features:
        text = f"has weights for {inputs} input features, but {features} arrive"
        step.refuse("SHAPE_MISMATCH", text, found=features, allowed=inputs)
    if part.input_size is not None and part.input_size[-2:] != (height, width):
        text = f"declares input_shape {part.input_size}, but {(height, width)} arrives"
        step.refuse("SHAPE_MISMATCH", text, found=(height, width), allowed=part.input_size)
    size = step.size((height, width), part)
    return None if size is None else Map(shape=(part.weights.shape[0], *size))


def _kernel(window: Weights | Pooling) -> tuple[int, int]:
    """The window's extent (y, x), with dilation."""
    if isinstance(window, Pooling):
        return window.kernel_size
    ky, kx = window.weights.shape[2:]
    return (ky - 1) * window.dilation[0] + 1, (kx - 1) * window.dilation[1] + 1


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in shape if axis != 1)
