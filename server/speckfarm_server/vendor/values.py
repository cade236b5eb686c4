"""Values of the vendor's attributes, of a file or of its library, become a Configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from heapq import heapify, heappop, heappush
from typing import Any

from speckfarm_server.chip import DECIMATOR_CODES, SENSOR_SHAPE
from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    DvsConfiguration,
)
from speckfarm_server.vendor.keys import CAMEL_CASE, SPECK2B, SPECK2EF_CAMEL, Dialect
from speckfarm_server.vendor.write import Tree, entries_of, leaves_of, values_of


def configuration_of(values: Tree, dialect: Dialect) -> Configuration:
    """What the attributes say; arrays are in the farm's order of axes.

    Its chip stands for all chips with these keys. Numbers and switches that no field of a
    Configuration says are in `vendor`, and so is the spelling of a newer file in camel case.
    """
    configuration = _configuration(values, dialect)
    written = dict(leaves_of(values_of(configuration)))
    differing = {
        path: int(value) for path, value in leaves_of(values) if written.get(path) != value
    }
    return replace(configuration, vendor={**differing, **configuration.vendor})


def _configuration(values: Tree, dialect: Dialect) -> Configuration:
    cores = in_order([
        _core(number, core, dialect)
        for number, core in enumerate(values["cnn_layers"])
        if is_configured(core)
    ])
    dvs = _dvs(values["dvs_layer"])
    inputs = entries_of(cores)
    numbers = {way.core for way in inputs}
    first = next((core for core in cores if core.core in numbers), cores[0] if cores else None)
    shape = (1, 1, 1) if first is None else first.input_shape
    made = Configuration(
        chip=dialect.chips[0],
        input_shape=shape if dvs is None else SENSOR_SHAPE,
        cores=cores,
        inputs=inputs if dvs is None else (),
        dvs=dvs,
    )
    return replace(made, vendor={CAMEL_CASE: 1}) if dialect is SPECK2EF_CAMEL else made


def is_configured(core: Tree) -> bool:
    """Whether a core could do anything that is seen outside of it.

    It is monitored, has an enabled destination, is not 1 x 1 x 1 with a 1 x 1 kernel, or one of its
    arrays is not a single zero. What else is set in an idle core goes to `Configuration.vendor`.
    """
    sizes = core["dimensions"]
    idle = {**dict.fromkeys(("input_shape", "output_shape"), _POINT), **_PLAIN_KERNEL}
    arrays = [value for value in core.values() if hasattr(value, "dtype")]
    return (
        core["monitor_enable"]
        or any(slot["enable"] for slot in core["destinations"])
        or sizes != idle
        or any(array.size > 1 or array.any() for array in arrays)
    )


_POINT = {"feature_count": 1, "size": {"x": 1, "y": 1}}
_PLAIN_KERNEL = {"padding": {"x": 0, "y": 0}, "stride": {"x": 1, "y": 1}, "kernel_size": 1}


def _core(number: int, core: Tree, dialect: Dialect) -> CoreConfiguration:
    sizes = core["dimensions"]
    shape, kernel = _shape(sizes["output_shape"]), sizes["kernel_size"]
    channels = sizes["input_shape"]["feature_count"]
    keeps_kills = dialect is not SPECK2B  # there, files without them are as good
    return CoreConfiguration(
        core=number,
        layer=number,
        input_shape=_shape(sizes["input_shape"]),
        output_shape=shape,
        kernel_size=kernel,
        stride=_pair(sizes["stride"]),
        padding=_pair(sizes["padding"]),
        weights=core["weights"],
        biases=core["biases"],
        threshold_high=core["threshold_high"],
        threshold_low=core["threshold_low"],
        return_to_zero=core["return_to_zero"],
        leak_enable=core["leak_enable"],
        monitor_enable=core["monitor_enable"],
        decimator=_decimator(core),
        destinations=_ways(core["destinations"]),
        initial_state=_unless_zero(core["neurons_initial_value"], shape),
        weights_kill=core["weights_kill_bit"]
        if keeps_kills
        else _unless_zero(core["weights_kill_bit"], (shape[0], channels, kernel, kernel)),
        biases_kill=core["biases_kill_bit"]
        if keeps_kills
        else _unless_zero(core["biases_kill_bit"], shape[:1]),
        neurons_kill=core["neurons_value_kill_bit"]
        if keeps_kills
        else _unless_zero(core["neurons_value_kill_bit"], shape),
    )


def _decimator(core: Tree) -> int | None:
    if not core.get("output_decimator_enable"):
        return None
    ratios = {code: ratio for ratio, code in DECIMATOR_CODES.items()}
    return ratios[core["output_decimator_interval"]]


def _unless_zero(array: Any, shape: tuple[int, ...]) -> Any:
    """None if it is what a writer without the array writes."""
    return array if array.any() or array.shape != shape else None


def _dvs(layer: Tree) -> DvsConfiguration | None:
    """None unless it feeds a core: then it does nothing that a run would see."""
    if not any(slot["enable"] for slot in layer["destinations"]):
        return None
    ways = [
        Destination(core=slot["layer"], enable=slot["enable"]) for slot in layer["destinations"]
    ]
    return DvsConfiguration(
        merge=layer["merge"],
        on_channel=layer["on_channel"],
        off_channel=layer["off_channel"],
        pooling=_pair(layer["pooling"]),
        origin=_pair(layer["origin"]),
        cut=_pair(layer["cut"]),
        mirror=_pair(layer["mirror"]),
        mirror_diagonal=layer["mirror_diagonal"],
        pass_sensor_events=layer["pass_sensor_events"],
        monitor_enable=layer["monitor_enable"],
        destinations=_without_empty_end(ways),
    )


def _ways(slots: Sequence[Tree]) -> tuple[Destination, ...]:
    return _without_empty_end([
        Destination(
            core=slot["layer"],
            pooling=slot["pooling"],
            feature_shift=slot["feature_shift"],
            enable=slot["enable"],
        )
        for slot in slots
    ])


def _without_empty_end(ways: list[Destination]) -> tuple[Destination, ...]:
    while ways and ways[-1] == Destination(core=0, enable=False):
        ways.pop()
    return tuple(ways)


def _pair(values: Tree) -> tuple[Any, Any]:
    return values["y"], values["x"]


def _shape(values: Tree) -> tuple[int, int, int]:
    return values["feature_count"], values["size"]["y"], values["size"]["x"]


def in_order(cores: Sequence[CoreConfiguration]) -> tuple[CoreConfiguration, ...]:
    """Numbered as layers: after all that feed them, lower core first; rings at the end."""
    by_number = {core.core: core for core in cores}
    links = {(core.core, to.core) for core in cores for to in core.destinations if to.enable}
    waiting = {number: sum(target == number for _, target in links) for number in by_number}
    ready = [number for number, sources in waiting.items() if not sources]
    heapify(ready)
    order: list[int] = []
    while ready:
        order.append(heappop(ready))
        for _, target in sorted(link for link in links if link[0] == order[-1]):
            if target in waiting:
                waiting[target] -= 1
                if not waiting[target]:
                    heappush(ready, target)
    order += sorted(set(by_number) - set(order))
    return tuple(replace(by_number[number], layer=layer) for layer, number in enumerate(order))
