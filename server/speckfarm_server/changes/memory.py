"""Candidates that make a layer fit a core, or the layers fit the chip: features, cores, copies."""

from __future__ import annotations

from collections.abc import Iterator

from speckfarm_server.changes import wording
from speckfarm_server.changes.case import Case
from speckfarm_server.changes.reshape import reach
from speckfarm_server.changes.shapes import strides
from speckfarm_server.chip import kernel_entries, neuron_entries
from speckfarm_server.errors import Change
from speckfarm_server.network import INPUT, Layer
from speckfarm_server.place import UNREPRODUCIBLE_CORES


def other_core(case: Case) -> Iterator[Change]:
    """A pin to a core too small: a core that holds the layer, or any."""
    pinned = case.settings.cores.get(case.layer)
    fitting = case.finding.metadata.get("fitting_cores", "")
    if pinned is not None:
        taken = set(case.settings.cores.values())
        free = (
            [core for core in map(int, fitting.split(", ")) if core not in taken] if fitting else []
        )
        for core in sorted(free, key=lambda core: core in UNREPRODUCIBLE_CORES):
            yield wording.core(case.layer, core, pinned)
        yield wording.any_core(case.layer, pinned)


def no_pin(case: Case) -> Iterator[Change]:
    """Fewer pins, or none."""
    named = case.finding.metadata.get("cores", "").split(", ")
    for layer, core in sorted(case.settings.cores.items()):
        if str(core) in named or case.layer < 0:
            yield wording.any_core(layer, core)
    if case.settings.cores:
        yield wording.no_pins(case.settings.cores)


def fewer_features(case: Case) -> Iterator[Change]:
    """As many as some core has memory for; the exit layer's are what the network tells apart."""
    if case.layer < len(case.network.layers) - 1:
        yield from _features_that_fit(case, case.layer)


def fewer_outputs(case: Case) -> Iterator[Change]:
    """Fewer features of the exit layer, a last resort."""
    if case.layer == len(case.network.layers) - 1:
        yield from _features_that_fit(case, case.layer)


def fewer_features_of_one(case: Case) -> Iterator[Change]:
    """Of layers that contend for cores the one that loses least."""
    last = len(case.network.layers) - 1
    layers = [layer for layer in _contending(case) if layer < last]
    found = [change for layer in layers for change in _features_that_fit(case, layer)]
    yield from sorted(found, key=lambda change: -_share_kept(case, change))


def larger_stride_of_one(case: Case) -> Iterator[Change]:
    """Of layers that contend for cores one with a smaller map."""
    for layer in _contending(case):
        yield from strides(case, layer, (2, 4))


def smaller_kernel_of_one(case: Case) -> Iterator[Change]:
    """Of layers that contend for cores one with a smaller kernel."""
    for layer in _contending(case):
        yield from _kernels_that_fit(case, layer)


def fewer_input_features(case: Case) -> Iterator[Change]:
    """Sources with fewer features, so that input features or kernel memory suffice."""
    allowed = case.chip.features[1]
    per_channel = _kernel_per_channel(case.at)
    if per_channel:
        most = max(core.kernel_entries for core in case.chip.cores) // per_channel
        allowed = min(allowed, most)
    excess = int(case.at.input_shape[0]) - allowed
    for number in dict.fromkeys(source.layer for source in case.at.sources):
        if number != INPUT and excess > 0:
            old = int(case.network.layers[number].output_shape[0])
            if old - excess >= 1:
                yield wording.features(case.network, number, old - excess)


def split_layer(case: Case) -> Iterator[Change]:
    """Its features on two cores, or four."""
    for parts in (2, 4):
        yield wording.split(case.layer, parts, int(case.at.output_shape[0]))


def smaller_kernel(case: Case) -> Iterator[Change]:
    """The largest kernels that some core has memory for."""
    yield from _kernels_that_fit(case, case.layer)


def no_bias(case: Case) -> Iterator[Change]:
    """No bias at all."""
    yield wording.bias(case.layer)


def copies(case: Case) -> Iterator[Change]:
    """As many copies as have destinations enough."""
    links = len(case.network.targets(case.layer))
    needed = -(-links // case.chip.destinations)
    yield wording.copies(case.layer, needed)


def fewer_layers(case: Case) -> Iterator[Change]:
    """Inner layers whose map and features come out as they went in cost the others least."""
    layers = case.network.layers
    excess = len(layers) - len(case.chip.cores)
    inner = [
        number
        for number, layer in enumerate(layers[:-1])
        if all(source.layer != INPUT for source in layer.sources) and not layer.is_linear
    ]
    inner.sort(
        key=lambda number: (layers[number].input_shape != layers[number].output_shape, -number)
    )
    if 0 < excess <= len(inner):
        yield wording.layers_dropped(sorted(inner[:excess]))


def drop_setting(case: Case) -> Iterator[Change]:
    """Without the setting that means nothing."""
    metadata = case.finding.metadata
    setting, layer = metadata.get("setting", ""), metadata.get("named_layer", "")
    yield wording.setting(f"{setting.partition('.')[0]}.{layer}")


def _contending(case: Case) -> list[int]:
    if case.layer >= 0:
        return [case.layer]
    return [int(layer) for layer in case.finding.metadata.get("layers", "").split(", ") if layer]


def _share_kept(case: Case, change: Change) -> float:
    layer = case.network.layers[change.layer or 0]
    return int(change.value) / int(layer.output_shape[0])


def _features_that_fit(case: Case, number: int) -> Iterator[Change]:
    layer = case.network.layers[number]
    features, channels = int(layer.output_shape[0]), int(layer.input_shape[0])
    _, height, width = map(int, layer.output_shape)
    if min(features, channels, height, width) < 1:
        return
    per_neuron_feature = neuron_entries(1, height, width)
    per_kernel_feature = kernel_entries(channels, 1, max(reach(layer)))
    most = set()
    for core in case.chip.cores:
        in_kernel = core.kernel_entries // per_kernel_feature
        in_kernel = 1 << in_kernel.bit_length() - 1 if in_kernel else 0
        fitting = min(core.neuron_entries // per_neuron_feature, in_kernel, case.chip.features[1])
        most.add(min(fitting, core.bias_entries if layer.bias is not None else fitting))
    for value in sorted(most, reverse=True):
        if 1 <= value < features:
            yield wording.features(case.network, number, value)


def _kernels_that_fit(case: Case, number: int) -> Iterator[Change]:
    layer = case.network.layers[number]
    if layer.is_linear:
        return
    most = max(core.kernel_entries for core in case.chip.cores)
    features, channels = int(layer.output_shape[0]), int(layer.input_shape[0])
    largest = min(max(reach(layer)), case.chip.kernel_size[1] + 1)
    fitting = (
        s for s in range(largest - 1, 0, -1) if kernel_entries(channels, features, s) <= most
    )
    # Odd kernels stay odd: the map keeps its size.
    for side in sorted(fitting, key=lambda side: ((max(reach(layer)) - side) % 2, -side))[:3]:
        yield wording.kernel_size(layer, number, side)


def _kernel_per_channel(layer: Layer) -> int:
    features, _, _ = map(int, layer.output_shape)
    return kernel_entries(1, features, max(reach(layer))) if features >= 1 else 0
