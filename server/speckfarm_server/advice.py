"""What runs, but probably not as its author expects: warnings and remarks on a configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from speckfarm_server.build import lower_clip_of
from speckfarm_server.chip import READOUT_CLASSES, READOUT_STRIDE, Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, Int8Array
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Layer, Network
from speckfarm_server.place import UNREPRODUCIBLE_CORES
from speckfarm_server.quantise import QuantisedLayer
from speckfarm_server.rules.core import Problem
from speckfarm_server.rules.network import current_factor
from speckfarm_server.rules.tables import finding
from speckfarm_server.settings import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One layer from all sides."""

    layer: Layer
    integers: QuantisedLayer
    core: CoreConfiguration
    settings: Settings
    is_exit: bool  # it is the last layer

    @property
    def largest_weight(self) -> int:
        """Largest positive weight in chip units."""
        return max(0, int(self.integers.weights.max(initial=0)))


Advice: TypeAlias = Callable[[View], Iterator[Problem]]


def advise(
    network: Network,
    integers: Sequence[QuantisedLayer | None],
    configuration: Configuration,
    settings: Settings,
) -> list[Finding]:
    """All remarks about the layers in `configuration`; none where a layer has no integers."""
    found = []
    for core in configuration.cores:
        integer = integers[core.layer]
        if integer is None:
            continue
        layer = network.layers[core.layer]
        is_exit = core.layer == len(network.layers) - 1
        view = View(layer=layer, integers=integer, core=core, settings=settings, is_exit=is_exit)
        for reason, (severity, rule) in ADVICE.items():
            for message, metadata in rule(view):
                found.append(finding(reason, severity, core.layer, message, metadata))
    return found


def synops_per_event(core: CoreConfiguration) -> float:
    """Synaptic operations one input event causes: f * k * k / (sx * sy), no border correction.

    Source: the vendor's tips for training (published formula). An event reaches no more neurons
    along an axis than there are, which matters for a linear layer. A stride below 1 counts as 1.
    """
    features, *sizes = core.output_shape
    reached = [
        min(core.kernel_size / max(1, step), max(1, size))
        for step, size in zip(core.stride, sizes, strict=True)
    ]
    return features * reached[0] * reached[1]


def synops_of_network(configuration: Configuration, chip: Chip) -> Finding:
    """One remark: what an event costs at each layer, and the rate a core is believed to take."""
    costs = [synops_per_event(core) for core in configuration.cores]
    rates = [
        chip.cores[core.core].synops_per_s / max(cost, 1.0) / 1e3
        for core, cost in zip(configuration.cores, costs, strict=True)
    ]
    named = [core.layer for core in configuration.cores]
    listed = ", ".join(
        f"layer {layer}: {cost:g} (up to about {rate:,.0f} kev/s)"
        for layer, cost, rate in zip(named, costs, rates, strict=True)
    )
    metadata = {f"layer_{n}_synops_per_event": f"{c:g}" for n, c in zip(named, costs, strict=True)}
    metadata |= {f"layer_{n}_max_kev_per_s": f"{r:.0f}" for n, r in zip(named, rates, strict=True)}
    text = (
        f"SynOps per input event: {listed}; {sum(costs):g} in all if every layer passes one spike "
        "on. The rates are what a core is believed to sustain; above them the whole chip stalls."
    )
    metadata["total_synops_per_event"] = f"{sum(costs):g}"
    return finding("SYNOPS_PER_EVENT", Severity.INFO, None, text, metadata)


def silent_features(configuration: Configuration) -> Iterator[Finding]:
    """All but `keep` makes every event one of feature 0."""
    features, polarity = configuration.input_shape[0], configuration.polarity
    if features > 1 and polarity != "keep":
        text = (
            f"polarity = {polarity} makes every event one of input feature 0, but the network has "
            f"{features} input features: the others stay silent. Use polarity = keep."
        )
        metadata = {"polarity": polarity, "input_features": features}
        yield finding("INPUT_FEATURES_SILENT", Severity.WARNING, None, text, metadata)


def silent(view: View) -> Iterator[Problem]:
    """No input can make the layer fire."""
    if view.largest_weight > 0:
        return
    found = (
        "All weights quantise to 0" if not view.integers.weights.any() else "No weight is positive"
    )
    text = f"{found}, so no input makes this layer fire: {_cause_of_silence(view)}."
    scale, threshold = view.integers.scale, view.integers.threshold_high
    yield text, {"scale": f"{scale:g}", "threshold": threshold, "bound_by": view.integers.bound_by}


def threshold_zero(view: View) -> Iterator[Problem]:
    """A threshold of 0 fires whenever the state is not negative."""
    if view.integers.threshold_high == 0:
        text = (
            f"The threshold {view.layer.threshold:g} quantises to 0 beside much larger weights or "
            "biases, so neurons fire at almost every event. Use a larger threshold."
        )
        yield text, {"threshold": 0, "scale": f"{view.integers.scale:g}"}


def weight_reaches_threshold(view: View) -> Iterator[Problem]:
    """One event alone makes a neuron fire."""
    weight, threshold = view.largest_weight, view.integers.threshold_high
    if 0 < threshold <= weight < 2 * threshold:
        text = (
            f"Largest weight {weight} reaches the threshold {threshold} (chip units): one event is "
            "enough for a spike. Keep weights below the threshold, e.g. by regularising them."
        )
        yield text, {"weight": weight, "threshold": threshold}


def weight_twice_threshold(view: View) -> Iterator[Problem]:
    """A neuron fires once per event at most, so the rest is never drained."""
    weight, threshold = view.largest_weight, view.integers.threshold_high
    if 0 < 2 * threshold <= weight:
        rest = "the rest is lost" if view.core.return_to_zero else "the rest makes it fire again"
        text = (
            f"Largest weight {weight} is at least twice the threshold {threshold} (chip units): a "
            f"neuron fires at most once per event, {rest} at the next ones. Counts will differ "
            "from a simulation that allows several spikes. Raise the threshold or shrink weights."
        )
        yield text, {"weight": weight, "threshold": threshold}


def threshold_low_zero(view: View) -> Iterator[Problem]:
    """threshold_low = 0 is a known bug of the chip."""
    if view.integers.threshold_low == 0:
        clip = lower_clip_of(view.layer, view.settings)
        text = (
            f"The lower clip {clip:g} times the threshold quantises to 0, which the vendor names a "
            "chip bug; -1 is the highest safe value. Use a lower lower_clip, e.g. -1."
        )
        yield text, {"lower_clip": f"{clip:g}", "threshold_low": 0, "largest_threshold_low": -1}


def bias_is_leak(view: View) -> Iterator[Problem]:
    """Biases act per tick of the slow clock."""
    used = int((view.integers.biases != 0).sum())
    if not used:
        return
    clock = view.settings.slow_clock_hz
    if clock is None:
        what = "the slow clock is off, so they do nothing. Set slow_clock_hz, or train without bias"
    else:
        tick_us = 1e6 / clock
        what = (
            f"each is added once per tick of {clock:g} Hz, which equals the trained network only "
            f"for time steps of {tick_us:g} µs"
        )
    neurons = math.prod(view.core.output_shape)
    figures = {"biases": used, "slow_clock_hz": "off" if clock is None else f"{clock:g}"}
    text = (
        f"{used:,} biases are not 0. On the chip they are a leak: {what}. Every tick updates all "
        f"{neurons:,} neurons of the layer, spikes or not, which costs time and power."
    )
    yield text, {**figures, "neurons_per_tick": neurons}


def reset_differs(view: View) -> Iterator[Problem]:
    """The network was trained with the other reset mode."""
    trained = view.layer.trained_reset
    used = "zero" if view.core.return_to_zero else "subtract"
    if trained is not None and trained != used:
        text = (
            f"The file says that this layer was trained with reset {trained}, but the settings ask "
            f"for {used}: spike counts will differ. Leave `reset` out, or train with {used}."
        )
        yield text, {"reset": used, "trained_reset": trained}


def lower_clip_differs(view: View) -> Iterator[Problem]:
    """The network was trained with another lower clip."""
    trained, used = view.layer.trained_lower_clip, lower_clip_of(view.layer, view.settings)
    if trained is not None and trained != used:
        text = (
            f"The file says that this layer was trained with a lower clip of {trained:g} "
            f"thresholds, but the settings ask for {used:g}: spike counts will differ. Leave "
            "`lower_clip` out, or train with that one."
        )
        yield text, {"lower_clip": f"{used:g}", "trained_lower_clip": f"{trained:g}"}


def readout_channels(view: View) -> Iterator[Problem]:
    """The readout layer has 15 classes, and hears every fourth channel only (erratum of 2e/2f)."""
    classes = view.core.output_shape[0]
    is_used = view.settings.readout_threshold is not None  # then rules/readout.py speaks
    if not view.is_exit or is_used or _is_spread(view.integers.weights):
        return
    if classes > READOUT_CLASSES:
        text = (
            f"{classes} output features: the chip's own readout layer tells at most "
            f"{READOUT_CLASSES} classes apart. The farm counts spikes on the host, so jobs are not "
            "affected; a board that decides alone would be."
        )
        yield text, {"classes": classes, "largest": READOUT_CLASSES}
    else:
        channels = (classes - 1) * READOUT_STRIDE + 1
        text = (
            f"For the chip's own readout layer this layer would need {channels} output features, "
            f"class n on feature {READOUT_STRIDE}(n - 1): an erratum of speck2e and speck2f. The "
            "farm counts spikes on the host, so jobs are not affected."
        )
        yield text, {"classes": classes, "readout_features": channels}


def r_scales_weights(view: View) -> Iterator[Problem]:
    """r * dt differs from 1 and multiplies the weights."""
    factor = current_factor(view.layer, view.settings)
    if factor != 1:
        r, dt_us = view.layer.r_range[0], view.settings.input_dt_us
        text = (
            f"r = {r:g} times input_dt_us = {dt_us:g} µs multiplies weights and biases by "
            f"{factor:g}. If that is not meant, input_dt_us should be {1e6 / r:g}."
        )
        yield text, {"factor": f"{factor:g}", "r_per_s": f"{r:g}", "input_dt_us": f"{dt_us:g}"}


def not_reproducible(view: View) -> Iterator[Problem]:
    """Cores 0 and 1 compute in parallel."""
    core = view.core.core
    if core in UNREPRODUCIBLE_CORES:
        text = (
            f"Runs on core {core}: on silicon cores 0 and 1 process in parallel, so results there "
            "are not reproducible bit for bit. Compare rates, or shrink the layer for another core."
        )
        yield text, {"core": core}


ADVICE: Mapping[str, tuple[Severity, Advice]] = {
    "LAYER_SILENT": (Severity.WARNING, silent),
    "THRESHOLD_ZERO": (Severity.WARNING, threshold_zero),
    "WEIGHT_REACHES_THRESHOLD": (Severity.WARNING, weight_reaches_threshold),
    "WEIGHT_TWICE_THRESHOLD": (Severity.WARNING, weight_twice_threshold),
    "THRESHOLD_LOW_ZERO": (Severity.WARNING, threshold_low_zero),
    "BIAS_IS_LEAK": (Severity.WARNING, bias_is_leak),
    "RESET_DIFFERS": (Severity.WARNING, reset_differs),
    "LOWER_CLIP_DIFFERS": (Severity.WARNING, lower_clip_differs),
    "R_SCALES_WEIGHTS": (Severity.WARNING, r_scales_weights),
    "READOUT_CHANNELS": (Severity.INFO, readout_channels),
    "CORE_NOT_REPRODUCIBLE": (Severity.INFO, not_reproducible),
}


def _is_spread(weights: Int8Array) -> bool:
    """Whether only every fourth output feature has weights, up to the last class."""
    used = np.flatnonzero(weights.reshape(len(weights), -1).any(axis=1))
    return (
        len(weights) > 1
        and len(used) > 0
        and not (used % READOUT_STRIDE).any()
        and (used[-1] // READOUT_STRIDE < READOUT_CLASSES)
    )


def _cause_of_silence(view: View) -> str:
    if not view.layer.weights.any():
        return "they are all 0 in the file. Train or export it again"
    if view.integers.weights.any():
        return "train it again or check the signs"
    if view.integers.bound_by == "bias":
        return "one bias is so large that it binds the common scale. Remove the biases"
    clip = lower_clip_of(view.layer, view.settings)
    if clip < -1:
        return f"lower_clip = {clip:g} takes the whole 16-bit range. Use a lower_clip closer to -1"
    return "they are too small beside the threshold. Use a smaller threshold"
