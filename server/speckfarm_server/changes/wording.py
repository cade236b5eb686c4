"""Changes as values with a sentence each; whether one keeps the function is a hope until tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from speckfarm_server.changes.reshape import fit_axis, merged_with, reach
from speckfarm_server.errors import Change
from speckfarm_server.network import Layer, Network

_Pair = tuple[int, int]  # y, x


def features(network: Network, number: int, value: int) -> Change:
    """Fewer output features, in layers whose outputs are added too."""
    members = sorted(merged_with(network, number))
    old = int(network.layers[number].output_shape[0])
    named = ", ".join(map(str, members))
    who = f"Layer {number}" if len(members) == 1 else f"Layers {named}, whose outputs are added"
    return _change(number, "features", str(value), f"{who}: {value} instead of {old} features.")


def stride(layer: Layer, number: int, value: _Pair) -> Change:
    """Another stride; nothing changes where there is one output pixel."""
    axes = zip(value, layer.stride, layer.output_shape[1:], strict=True)
    is_idle = all(new == old or size == 1 for new, old, size in axes)
    text = f"Layer {number}: stride {_by(value)} instead of {_by(layer.stride)} (y, x)."
    return _change(number, "stride", _pair(value), text, keeps_function=is_idle)


def padding(layer: Layer, number: int, value: _Pair) -> Change:
    """Another padding."""
    text = f"Layer {number}: padding {_by(value)} instead of {_by(layer.padding)} (y, x)."
    return _change(number, "padding", _pair(value), text)


def kernel_size(layer: Layer, number: int, side: int) -> Change:
    """A square kernel; where it grows, by zeros."""
    old = layer.weights.shape[2:]
    fits = fit_axis(layer, 0, side), fit_axis(layer, 1, side)
    places = _by((fits[0].padding, fits[1].padding))
    grows = side >= max(reach(layer))
    what = "with zeros in it" if grows else "cut out of the middle"
    dilated = "" if layer.dilation == (1, 1) else f" with dilation {_by(layer.dilation)}"
    kind = f"a convolution with a kernel of {_by((side, side))}"
    steps = f", stride {_by((fits[0].stride, fits[1].stride))}" if layer.is_linear else ""
    text = (
        f"Layer {number}: {kind if layer.is_linear else f'kernel {_by((side, side))}'} {what}, "
        f"padding {places}{steps}, instead of {_by((old[0], old[1]))}{dilated}."
    )
    return _change(number, "kernel_size", _pair((side, side)), text, keeps_function=grows)


def dilation(number: int, old: _Pair) -> Change:
    """The same weights side by side."""
    text = f"Layer {number}: dilation 1 x 1 instead of {_by(old)}, padding less by as much."
    return _change(number, "dilation", "1x1", text)


def groups(number: int, old: int) -> Change:
    """One group with zeros."""
    text = f"Layer {number}: one group instead of {old}, with zero weights between the groups."
    return _change(number, "groups", "1", text, keeps_function=True)


def bias(number: int) -> Change:
    """No bias."""
    return _change(number, "bias", "off", f"Layer {number}: no bias.", keeps_function=True)


def pooling_after(number: int, size: int, old: int) -> Change:
    """One square pooling after a layer."""
    instead = "" if old == size else f" instead of {old}"
    text = f"Layer {number}: pool by {_by((size, size))}{instead} after it, stride {size} too."
    if size == 1:
        text = f"Layer {number}: no pooling after it."
    return _change(number, "pooling_after", str(size), text)


def pooling_before(number: int, size: int, old: int) -> Change:
    """One square pooling before a layer."""
    instead = "" if old == 1 else f" instead of {old}"
    text = f"Layer {number}: pool by {_by((size, size))}{instead} before it."
    return _change(number, "pooling_before", str(size), text)


def input_pooling(value: _Pair, old: _Pair, crop: Sequence[int] | None) -> Change:
    """The camera layer pools; `crop` is new."""
    cropped = f" with crop={'+'.join(map(str, crop))}" if crop else ""
    text = (
        f"Setting input_pooling={'+'.join(map(str, value))} instead of "
        f"{'+'.join(map(str, old))}{cropped}, and a network whose input is as much smaller."
    )
    return _change(None, "input_pooling", _pair(value), text)


def input_size(value: _Pair, old: _Pair) -> Change:
    """A smaller input."""
    text = (
        f"Crop or pool the recordings to {_by(value)} instead of {_by(old)} (h, w), and give the "
        "network that input."
    )
    return _change(None, "input_size", _pair(value), text)


def core(number: int, value: int, old: int) -> Change:
    """A pin to another core."""
    text = f"Setting cores.{number}={value} instead of {old}."
    return _change(number, "core", str(value), text, keeps_function=True)


def any_core(number: int, old: int) -> Change:
    """No pin."""
    text = f"Leave out the setting cores.{number}={old}: the farm chooses a core."
    return _change(number, "core", "off", text, keeps_function=True)


def no_pins(cores: Mapping[int, int]) -> Change:
    """No pins at all."""
    named = ", ".join(f"cores.{layer}={value}" for layer, value in sorted(cores.items()))
    text = f"Leave out all pins ({named}): the farm chooses the cores."
    return _change(None, "cores", "off", text, keeps_function=True)


def setting(name: str) -> Change:
    """A setting that means nothing."""
    key, _, layer = name.partition(".")
    shown = f"monitor of layer {layer}" if key == "monitor" else name
    text = f"Leave out the setting {shown}: there is no such layer."
    return _change(None, "setting", name, text, keeps_function=True)


def copies(number: int, value: int) -> Change:
    """The same layer several times."""
    text = f"Layer {number}: {value} copies with the same weights, each for some of its targets."
    return _change(number, "layer_copies", str(value), text, keeps_function=True)


def split(number: int, parts: int, old: int) -> Change:
    """Several layers with some of the features each."""
    most = -(-old // parts)
    text = (
        f"Layer {number}: {parts} layers with at most {most} of its {old} features each, side by "
        "side."
    )
    return _change(number, "layer_split", str(parts), text)


def layers_dropped(numbers: Sequence[int]) -> Change:
    """Fewer layers."""
    named = ", ".join(map(str, numbers))
    many = "s" if len(numbers) > 1 else ""
    text = f"Leave out layer{many} {named}."
    return _change(None, "layers_dropped", ",".join(map(str, numbers)), text)


def _change(
    layer: int | None, what: str, value: str, text: str, *, keeps_function: bool = False
) -> Change:
    return Change(layer=layer, what=what, value=value, keeps_function=keeps_function, text=text)


def _pair(value: _Pair) -> str:
    return f"{value[0]}x{value[1]}"


def _by(value: _Pair) -> str:
    return f"{value[0]} x {value[1]}"
