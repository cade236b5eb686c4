"""One layer of a torch or sinabs network to one node of NIR, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from speckfarm.errors import BadRequest
from speckfarm.trace import Step

if TYPE_CHECKING:
    import nir
    import sinabs.layers as sl
    from torch import Tensor, nn

# Where the file keeps what NIR has no field for: in `metadata` of every IF node.
RESET_KEY = "speckfarm_reset"  # text: "subtract" or "zero"
LOWER_CLIP_KEY = "speckfarm_lower_clip"  # float64, times the threshold; absent if there is none
SPIKE_FN_KEY = "speckfarm_spike_fn"  # text: sinabs' name for it, e.g. "MultiSpike"

_LEAK = "Speck's neurons have no leak and no synaptic time constant: train with IAFSqueeze"
_MAX_POOL = "use sinabs.layers.SumPool2d or nn.AvgPool2d"
_CONVERT = (
    "it does not spike. Convert the network first: sinabs.from_torch.from_model(network, "
    "batch_size=1, add_spiking_output=True)"
)
ADVICE = {
    "LIF": _LEAK,
    "LIFSqueeze": _LEAK,
    "ALIF": _LEAK,
    "ExpLeak": _LEAK,
    "ExpLeakSqueeze": _LEAK,
    "LIFRecurrent": "Speck has no recurrence: train with IAFSqueeze",
    "ALIFRecurrent": "Speck has no recurrence: train with IAFSqueeze",
    "IAFRecurrent": "Speck has no recurrence: train with IAFSqueeze",
    "ReLU": _CONVERT,
    "NeuromorphicReLU": _CONVERT,
    "MaxPool2d": _MAX_POOL,
    "SpikingMaxPooling2dLayer": _MAX_POOL,
}
_SUPPORTED = (
    "use Conv2d, Linear, BatchNorm, IAFSqueeze, SumPool2d, AvgPool2d, Flatten, Dropout, Merge"
)


def refuse(step: Step, text: str, **metadata: object) -> BadRequest:
    """LAYER_NOT_EXPORTABLE; `text` continues the words "Layer 'x' (Kind)"."""
    kind = type(step.module).__name__
    figures = {key: str(value) for key, value in metadata.items()}
    message = f"Layer {step.name!r} ({kind}) {text}"
    metadata_of = {"layer": step.name, "kind": kind, **figures}
    return BadRequest("LAYER_NOT_EXPORTABLE", message, metadata=metadata_of)


def passes_on(step: Step) -> bool:
    """Whether the layer is no node of its own: what arrives goes on as it is, or is added."""
    import sinabs.layers as sl
    from torch import nn

    dropouts = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
    passing = (nn.Identity, *dropouts, sl.FlattenTime, sl.UnflattenTime, sl.Merge)
    return isinstance(step.module, passing)


def node_of(step: Step) -> nir.NIRNode:
    """Convert a layer, neurons without their metadata. Raises BadRequest LAYER_NOT_EXPORTABLE."""
    import sinabs.layers as sl
    from torch import nn

    converters: list[tuple[type[nn.Module], Callable[[Step], nir.NIRNode]]] = [
        (nn.Conv2d, _conv),
        (nn.Linear, _linear),
        (sl.IAF, _neurons),
        (sl.SumPool2d, _sum_pool),
        (nn.AvgPool2d, _average_pool),
        (nn.Flatten, _flatten),
    ]
    for kind, convert in converters:
        if isinstance(step.module, kind):
            return convert(step)
    advice = next(
        (ADVICE[each.__name__] for each in type(step.module).__mro__ if each.__name__ in ADVICE),
        f"no core runs it: {_SUPPORTED}",
    )
    raise refuse(step, f"cannot be exported: {advice}")


def fold(node: nir.NIRNode, step: Step) -> None:
    """Put batch normalisation into the weights and bias of the node before it.

    With eps, as torch computes it: g = gamma / sqrt(var + eps), W g, (b - mean) g + beta.
    """
    norm = step.module
    if norm.running_var is None or norm.running_mean is None:
        raise refuse(
            step, "keeps no running mean and variance: set track_running_stats=True and train again"
        )
    variance = numbers(norm.running_var).astype(np.float64)
    gain = 1.0 / np.sqrt(variance + norm.eps)
    shift = np.zeros_like(gain)
    if norm.affine:
        gain *= numbers(norm.weight)
        shift += numbers(norm.bias)
    shape = (-1,) + (1,) * (node.weight.ndim - 1)
    bias = (node.bias - numbers(norm.running_mean).astype(np.float64)) * gain + shift
    node.weight = (node.weight * gain.reshape(shape)).astype(np.float32)
    node.bias = bias.astype(np.float32)


def reset_of(step: Step) -> str:
    """Return "subtract" or "zero", as the layer's `reset_fn` says."""
    from sinabs.activation import MembraneReset, MembraneSubtract

    reset = step.module.reset_fn
    thresholds = numbers(step.module.spike_threshold)
    if isinstance(reset, MembraneReset) and reset.reset_value == 0:
        return "zero"
    if isinstance(reset, MembraneSubtract) and (
        reset.subtract_value is None
        or np.all(thresholds == thresholds.dtype.type(reset.subtract_value))
    ):
        return "subtract"
    raise refuse(
        step,
        f"resets with {reset}; Speck subtracts the threshold or resets to 0: use "
        "MembraneSubtract() or MembraneReset(), or say what to record with reset=",
        found=reset,
        allowed="subtract, zero",
    )


def lower_clip_of(step: Step) -> float | None:
    """Return the lower bound of the neuron's state in thresholds; None if there is none."""
    if step.module.min_v_mem is None:
        return None
    thresholds = numbers(step.module.spike_threshold).astype(np.float64)
    clips = np.unique(numbers(step.module.min_v_mem).astype(np.float64) / thresholds)
    if len(clips) != 1:
        text = f"has lower clips from {clips[0]:g} to {clips[-1]:g} thresholds; a core has one"
        raise refuse(step, text, low=clips[0], high=clips[-1])
    clip = float(clips[0])
    if not (math.isfinite(clip) and clip < 0):
        text = (
            f"clips its state at {clip:g} thresholds; Speck's lower threshold must be below 0: "
            "train with min_v_mem = -spike_threshold, or say what to record with lower_clip="
        )
        raise refuse(step, text, found=clip, allowed="< 0")
    return clip


def numbers(tensor: Tensor) -> NDArray[np.float32 | np.float64]:
    """A tensor as numpy has it; types that HDF5 readers do not know become float32."""
    import torch

    plain = tensor.detach().cpu()
    is_known = plain.dtype in (torch.float32, torch.float64)
    found: NDArray[np.float32 | np.float64] = (plain if is_known else plain.float()).numpy()
    return found.copy()


def _conv(step: Step) -> nir.NIRNode:
    import nir
    from torch import nn

    layer = step.module
    _check_forward(step, nn.Conv2d)
    if layer.padding_mode != "zeros":
        text = f"pads with {layer.padding_mode!r}; Speck pads with zeros: padding_mode='zeros'"
        raise refuse(step, text, found=layer.padding_mode, allowed="zeros")
    return nir.Conv2d(
        input_shape=step.input_shape[1:],
        weight=numbers(layer.weight).astype(np.float32),
        stride=layer.stride,
        padding=_padding(step),
        dilation=layer.dilation,
        groups=layer.groups,
        bias=_bias(layer),
    )


def _padding(step: Step) -> tuple[int, int]:
    """Padding as numbers: nir 1.0.4 cannot compute the output shape of "same"."""
    layer = step.module
    if not isinstance(layer.padding, str):
        return layer.padding[0], layer.padding[1]
    total = [0, 0]
    if layer.padding == "same":
        sizes = zip(layer.dilation, layer.kernel_size, strict=True)
        total = [dilation * (size - 1) for dilation, size in sizes]
    if any(pad % 2 for pad in total):
        text = f"pads 'same' with kernel {layer.kernel_size}, which is uneven; use an odd kernel"
        raise refuse(step, text, found=layer.kernel_size)
    return total[0] // 2, total[1] // 2


def _linear(step: Step) -> nir.NIRNode:
    import nir
    from torch import nn

    _check_forward(step, nn.Linear)
    layer = step.module  # Affine even without a bias: sinabs.nir.from_nir does not know Linear
    return nir.Affine(weight=numbers(layer.weight).astype(np.float32), bias=_bias(layer))


def _bias(layer: nn.Conv2d | nn.Linear) -> NDArray[np.float32]:
    found = np.zeros(len(layer.weight)) if layer.bias is None else numbers(layer.bias)
    return found.astype(np.float32)


def _check_forward(step: Step, kind: type[nn.Module]) -> None:
    if type(step.module).forward is not kind.forward:
        text = f"computes something else than {kind.__name__} does: use {kind.__name__} itself"
        raise refuse(step, text)


def _neurons(step: Step) -> nir.NIRNode:
    import nir

    layer: sl.IAF = step.module
    if layer.tau_syn is not None:
        raise refuse(step, f"has tau_syn = {layer.tau_syn}: {_LEAK}", found=layer.tau_syn)
    thresholds = numbers(layer.spike_threshold)
    try:
        whole = np.broadcast_to(thresholds, step.output_shape)
    except ValueError:
        text = f"has thresholds of shape {thresholds.shape} for neurons {step.output_shape}"
        raise refuse(step, text + "; a core has one threshold", found=thresholds.shape) from None
    return nir.IF(r=np.ones(step.output_shape, np.float32), v_threshold=whole.copy())


def _sum_pool(step: Step) -> nir.NIRNode:
    import nir

    return nir.SumPool2d(**_window(step), padding=np.zeros(2, np.int64))


def _average_pool(step: Step) -> nir.NIRNode:
    import nir

    layer = step.module
    if layer.divisor_override is not None:
        text = f"divides by {layer.divisor_override}; only the window's size can be exported"
        raise refuse(step, text, found=layer.divisor_override)
    return nir.AvgPool2d(**_window(step), padding=_pair(layer.padding))


def _window(step: Step) -> dict[str, NDArray[np.int64]]:
    layer = step.module
    if layer.ceil_mode:
        raise refuse(step, "rounds its output size up; a core rounds down: ceil_mode=False")
    kernel = _pair(layer.kernel_size)
    return {
        "kernel_size": kernel,
        "stride": kernel.copy() if layer.stride is None else _pair(layer.stride),
    }


def _pair(value: int | tuple[int, ...]) -> NDArray[np.int64]:
    return np.broadcast_to(np.asarray(value, np.int64), 2).copy()


def _flatten(step: Step) -> nir.NIRNode:
    import nir

    axes = step.leading_axes + len(step.input_shape)
    start, end = step.module.start_dim % axes, step.module.end_dim % axes
    if start != step.leading_axes or end != axes - 1:
        text = (
            f"flattens axes {start} to {end} of {axes}; only a whole sample can be flattened: "
            f"start_dim={step.leading_axes}, end_dim=-1"
        )
        raise refuse(step, text, found=f"{start} to {end}", allowed=f"{step.leading_axes} to -1")
    return nir.Flatten(input_type={"input": np.array(step.input_shape)}, start_dim=0, end_dim=-1)
