"""Random configurations that the vendor's validator takes, and random values for all other keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from speckfarm_server.chip import CHIPS, DECIMATOR_CODES, SENSOR_SHAPE, output_size
from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    DvsConfiguration,
)
from speckfarm_server.vendor.keys import SPECK2B, SPECK2EF, Dialect, Many, Number, Switch
from speckfarm_server.vendor.values import in_order

MOST_LAYERS = 5
Shape = tuple[int, int, int]


def random_configuration(seed: int, chip: str = "speck2b") -> Configuration:
    """A graph of one to five cores that keeps every rule; equal seeds, equal configurations."""
    random = np.random.default_rng(seed)
    numbers = [
        int(number) for number in random.permutation(9)[: random.integers(1, MOST_LAYERS + 1)]
    ]
    dvs = _dvs(random, chip, numbers[0]) if random.random() < 0.4 else None
    size = tuple(int(each) for each in random.integers(1, 25, 2))
    first = (int(random.integers(1, 4)), *size) if dvs is None else _after_dvs(dvs, chip)
    cores: dict[int, CoreConfiguration] = {}
    for position, number in enumerate(numbers):
        arriving = first if position == 0 else _connect(cores, numbers[:position], number, random)
        cores[number] = _core(random, number, arriving, chip)
    ordered = in_order(list(cores.values()))
    last = ordered[-1].core
    finished = [_finished(core, core.core == last, random) for core in ordered]
    dialect = SPECK2B if chip == "speck2b" else SPECK2EF
    return Configuration(
        chip=chip,
        input_shape=first if dvs is None else SENSOR_SHAPE,
        cores=tuple(finished),
        inputs=(Destination(core=numbers[0]),) if dvs is None else (),
        dvs=dvs,
        vendor=dict(_others(random, dialect, used=set(numbers), has_dvs=dvs is not None)),
    )


def _dvs(random: np.random.Generator, chip: str, core: int) -> DvsConfiguration:
    pooling = tuple(int(each) for each in random.choice([1, 2, 4], 2))
    unit = pooling if CHIPS[chip].dvs_crops_first else (1, 1)
    origin, cut = [], []
    for step, pooled in zip(unit, pooling, strict=True):
        begin = int(random.integers(0, 112 if step > 1 else 128 // pooled - 15) // step)
        origin.append(begin)
        cut.append(begin + int(random.integers(1, 16)) * step - 1)
    flags = [bool(each) for each in random.integers(0, 2, 8)]
    ways = (Destination(core=core),)
    if random.random() < 0.3:  # the slot before it is off
        ways = (Destination(core=0, enable=False), *ways)
    return DvsConfiguration(
        merge=flags[0], on_channel=flags[1], off_channel=flags[2], pooling=(pooling[0], pooling[1]),
        origin=(origin[0], origin[1]), cut=(cut[0], cut[1]), mirror=(flags[3], flags[4]),
        mirror_diagonal=False, pass_sensor_events=flags[5], monitor_enable=flags[6],
        destinations=ways,
    )  # fmt: skip


def _after_dvs(dvs: DvsConfiguration, chip: str) -> Shape:
    unit = dvs.pooling if CHIPS[chip].dvs_crops_first else (1, 1)
    height, width = (
        (last + 1 - begin) // step
        for begin, last, step in zip(dvs.origin, dvs.cut, unit, strict=True)
    )
    return dvs.features, height, width


def _core(
    random: np.random.Generator, number: int, arriving: Shape, chip: str
) -> CoreConfiguration:
    features = int(random.integers(1, 7))
    while True:
        kernel = int(random.integers(1, 6))
        stride = tuple(int(each) for each in random.choice([1, 1, 2, 4, 8], 2))
        padding = tuple(int(each) for each in random.integers(0, 8, 2))
        height, width = (
            output_size(size, kernel, stride[axis], padding[axis])
            for axis, size in enumerate(arriving[1:])
        )
        if min(height, width) >= 1 and max(height, width) <= 64:
            break
    weights, neurons = (features, arriving[0], kernel, kernel), (features, height, width)
    return CoreConfiguration(
        core=number, layer=0, input_shape=arriving, output_shape=neurons, kernel_size=kernel,
        stride=(stride[0], stride[1]), padding=(padding[0], padding[1]),
        weights=random.integers(-128, 128, weights).astype(np.int8),
        biases=random.integers(-32768, 32768, features).astype(np.int16),
        threshold_high=int(random.integers(0, 32768)),
        threshold_low=int(random.integers(-32768, 1)),
        return_to_zero=bool(random.integers(2)), leak_enable=bool(random.integers(2)),
        monitor_enable=bool(random.integers(2)),
        decimator=None if chip == "speck2b" else random.choice([None, *DECIMATOR_CODES]),
        initial_state=_perhaps(random, neurons, np.int16),
        weights_kill=_perhaps(random, weights, np.bool_),
        biases_kill=_perhaps(random, (features,), np.bool_),
        neurons_kill=_perhaps(random, neurons, np.bool_),
    )  # fmt: skip


def _perhaps(random: np.random.Generator, shape: tuple[int, ...], kind: Any) -> Any:
    """None, or an array that is not all zeros."""
    if random.random() < 0.5:
        return None
    high = 2 if kind is np.bool_ else 32768
    array = random.integers(0 if kind is np.bool_ else -32768, high, shape).astype(kind)
    array.flat[0] = True
    return array


def _connect(
    cores: dict[int, CoreConfiguration],
    before: list[int],
    number: int,
    random: np.random.Generator,
) -> Shape:
    """Lead the last core to `number`, and sometimes the one before it, side by side."""
    last = cores[before[-1]]
    pooling = int(random.choice([size for size in (1, 2, 4) if size <= min(last.output_shape[1:])]))
    size = (last.output_shape[1] // pooling, last.output_shape[2] // pooling)
    cores[last.core] = _with_way(last, Destination(core=number, pooling=pooling))
    features = last.output_shape[0]
    for other in (cores[each] for each in before[-2:-1]):
        fitting = [
            each
            for each in (1, 2, 4)
            if tuple(pixels // each for pixels in other.output_shape[1:]) == size
        ]
        if fitting and random.random() < 0.7:
            way = Destination(core=number, pooling=fitting[0], feature_shift=features)
            cores[other.core] = _with_way(other, way)
            features += other.output_shape[0]
    return features, *size


def _with_way(core: CoreConfiguration, way: Destination) -> CoreConfiguration:
    return replace(core, destinations=(*core.destinations, way))


def _finished(
    core: CoreConfiguration, is_last: bool, random: np.random.Generator
) -> CoreConfiguration:
    """The last one is monitored; one slot is sometimes off and still says something."""
    ways = core.destinations
    if len(ways) < 2 and random.random() < 0.3:
        off = Destination(core=3, pooling=2, feature_shift=5, enable=False)
        ways = (off, *ways) if random.random() < 0.5 else (*ways, off)
    return replace(core, destinations=ways, monitor_enable=core.monitor_enable or is_last)


def _others(
    random: np.random.Generator, dialect: Dialect, *, used: set[int], has_dvs: bool
) -> Iterator[tuple[str, int]]:
    """Keys without a name of ours: those of idle cores, readout, filter, factory, debug."""
    ranges = {
        "factory_config.dvs.current_control_p7": (0, 15),
        **CHIPS[dialect.chips[0]].vendor_ranges,
    }
    for path, key in _scalars(dialect.keys, ""):
        section, _, name = path.partition(".")
        if section.startswith("cnn_layers"):
            idle = int(section.removeprefix("cnn_layers").strip("[]")) not in used
            is_free = idle and name in ("threshold_high", "leak_enable", "destinations[1].pooling")
        else:
            sensor = name in ("monitor_sensor_enable", "raw_monitor_enable")
            is_free = section != "dvs_layer" or sensor or (not has_dvs and name == "merge")
        if is_free and random.random() < 0.1:
            low, high = ranges.get(re.sub(r"\[\d+\]", "", path), _range(key))
            value = int(
                random.choice([1, 2, 4])
                if name.endswith("pooling")
                else (random.integers(max(0, low), high + 1))
            )
            if value != int(key.default):
                yield path, value


def _range(key: Number | Switch) -> tuple[int, int]:
    return (key.low, key.high) if isinstance(key, Number) else (0, 1)


def _scalars(keys: Mapping[str, Any], path: str) -> Iterator[tuple[str, Number | Switch]]:
    for name, key in keys.items():
        here = f"{path}.{name}" if path else name
        if isinstance(key, Many):
            for number in range(key.count):
                yield from _scalars(key.keys, f"{here}[{number}]")
        elif isinstance(key, (Number, Switch)):
            yield here, key
        elif isinstance(key, Mapping):
            yield from _scalars(key, here)
