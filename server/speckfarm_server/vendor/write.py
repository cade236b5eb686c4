"""A configuration becomes the tree of the vendor's JSON, and bytes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.chip import DECIMATOR_CODES
from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    DvsConfiguration,
)
from speckfarm_server.errors import BadInput
from speckfarm_server.vendor.keys import (
    CAMEL_CASE,
    KILL_BITS,
    SPECK2B,
    Array,
    Dialect,
    Key,
    Many,
    Number,
    Section,
    Switch,
    dialect_of,
)

Tree: TypeAlias = dict[str, Any]  # leaves are int, bool and arrays in the vendor's order of axes
ROOT = "value0"
# Paths in Configuration.vendor. Known ones are of attributes: `readout.threshold`,
# `cnn_layers[3].leak_enable`. Others begin with ? and go on as the file spells them, from its root,
# and have an ending if the value is true or false, {} or [].
UNKNOWN = "?"
SWITCH, EMPTY_OBJECT, EMPTY_LIST = ":switch", ":{}", ":[]"
_STEP = re.compile(r"\w+|\[\d+\]")


def write_vendor_json(configuration: Configuration) -> bytes:
    """Write what the vendor's `from_json` reads, without white space.

    What belongs to a run and not to the chip's memory is not in it: polarity, slow clock, state,
    pooling after the exit layer. Raises BadInput NOT_IN_VENDOR_JSON for a decimator on a chip whose
    files have no key for it, and for recorded events that enter a core which others feed too.
    """
    _check_entries(configuration)
    tree = {ROOT: _spelled(attributes_of(configuration), dialect_of(configuration))}
    for path, value in configuration.vendor.items():
        if path.startswith(UNKNOWN) and path != CAMEL_CASE:
            _put(tree, path.removeprefix(UNKNOWN), value)
    return json.dumps(tree, separators=(",", ":"), default=_cereal).encode()


def attributes_of(configuration: Configuration) -> Tree:
    """Every attribute of the vendor's object, but for keys that the farm does not know."""
    values = values_of(configuration)
    for path, value in configuration.vendor.items():
        if not path.startswith(UNKNOWN):
            _put(values, path, value)
    return values


def entries_of(cores: Sequence[CoreConfiguration]) -> tuple[Destination, ...]:
    """Cores that nothing feeds: a file does not say where the host sends recorded events."""
    fed = {to.core for core in cores for to in core.destinations if to.enable}
    return tuple(Destination(core=core.core) for core in cores if core.core not in fed)


def _check_entries(configuration: Configuration) -> None:
    entries = set(entries_of(configuration.cores))
    if configuration.dvs is not None or set(configuration.inputs) == entries:
        return
    found = ", ".join(str(way.core) for way in configuration.inputs)
    text = (
        f"Recorded events enter cores {found}, and other cores feed one of them or a part of its "
        "features is shifted; a vendor's configuration does not say where a host sends events, so "
        "it would run as another network. Feed that layer from layers only, or use camera settings"
    )
    raise BadInput("NOT_IN_VENDOR_JSON", text, found=found)


def values_of(configuration: Configuration) -> Tree:
    """All attributes, except for what is in `configuration.vendor`; lists where many are alike."""
    dialect = dialect_of(configuration)
    values = _defaults(dialect.keys)
    for core in configuration.cores:
        values["cnn_layers"][core.core] |= _core(core, dialect)
    if configuration.dvs is not None:
        values["dvs_layer"] |= _dvs(configuration.dvs)
    return values


def leaves_of(value: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """Path and value of every number and switch."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves_of(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from leaves_of(each, f"{path}[{index}]")
    elif isinstance(value, int):
        yield path, value


def _defaults(keys: Section) -> Tree:
    return {name: _default(key) for name, key in keys.items() if not _is_left_out(key)}


def _default(key: Key) -> Any:
    if isinstance(key, Many):
        return [_defaults(key.keys) for _ in range(key.count)]
    if isinstance(key, Array):
        return np.zeros((1,) * key.axes, np.bool_ if key.is_switch else np.int16)
    return key.default if isinstance(key, (Number, Switch)) else _defaults(key)


def _is_left_out(key: Key) -> bool:
    return isinstance(key, Array) and key.is_optional


def _core(core: CoreConfiguration, dialect: Dialect) -> Tree:
    features, height, width = core.output_shape
    kernel = (core.kernel_size, core.kernel_size)
    shapes = ((features, core.input_shape[0], *kernel), (features,), (features, height, width))
    kills = (core.weights_kill, core.biases_kill, core.neurons_kill)
    arrays: Tree = {
        "weights": _transposed(core.weights),
        "biases": core.biases,
        "neurons_initial_value": _transposed(_filled(core.initial_state, shapes[2], np.int16)),
    }
    for name, bits, shape in zip(KILL_BITS, kills, shapes, strict=True):
        if bits is not None or dialect is SPECK2B:
            arrays[name] = _transposed(_filled(bits, shape, np.bool_))
    return {
        "destinations": _slots([_destination(to) for to in core.destinations], _NOWHERE),
        "return_to_zero": core.return_to_zero,
        "leak_enable": core.leak_enable,
        "threshold_high": core.threshold_high,
        "threshold_low": core.threshold_low,
        "monitor_enable": core.monitor_enable,
        "dimensions": {
            "padding": _pair(core.padding),
            "stride": _pair(core.stride),
            "kernel_size": core.kernel_size,
            "input_shape": _shape(core.input_shape),
            "output_shape": _shape(core.output_shape),
        },
        **arrays,
        **_decimator(core, dialect),
    }


def _decimator(core: CoreConfiguration, dialect: Dialect) -> Tree:
    if dialect is not SPECK2B:
        code = 0 if core.decimator is None else DECIMATOR_CODES[core.decimator]
        return {
            "output_decimator_enable": core.decimator is not None,
            "output_decimator_interval": code,
        }
    if core.decimator is None:
        return {}
    chip = dialect.chips[0]
    raise BadInput(
        "NOT_IN_VENDOR_JSON",
        f"Layer {core.layer} has decimator {core.decimator}, and the vendor's JSON of {chip} has "
        "no key for decimators. Leave the setting out, or ask for another chip",
        layer=core.layer,
        decimator=core.decimator,
        chip=chip,
    )


def _dvs(dvs: DvsConfiguration) -> Tree:
    ways = [{"layer": to.core, "enable": to.enable} for to in dvs.destinations]
    return {
        "monitor_enable": dvs.monitor_enable,
        "destinations": _slots(ways, {"layer": 0, "enable": False}),
        "mirror_diagonal": dvs.mirror_diagonal,
        "merge": dvs.merge,
        "on_channel": dvs.on_channel,
        "off_channel": dvs.off_channel,
        "origin": _pair(dvs.origin),
        "pooling": _pair(dvs.pooling),
        "cut": _pair(dvs.cut),
        "mirror": _pair(dvs.mirror),
        "pass_sensor_events": dvs.pass_sensor_events,
    }


def _destination(to: Destination) -> Tree:
    return {
        "layer": to.core,
        "enable": to.enable,
        "feature_shift": to.feature_shift,
        "pooling": to.pooling,
    }


_NOWHERE = _destination(Destination(core=0, enable=False))


def _slots(ways: list[Tree], empty: Tree) -> list[Tree]:
    return ways + [dict(empty) for _ in range(2 - len(ways))]


def _pair(values: tuple[int, int]) -> Tree:
    y, x = values
    return {"x": x, "y": y}


def _shape(shape: tuple[int, int, int]) -> Tree:
    features, height, width = shape
    return {"feature_count": features, "size": {"x": width, "y": height}}


def _filled(
    array: NDArray[Any] | None, shape: tuple[int, ...], kind: type[np.generic]
) -> NDArray[Any]:
    return np.zeros(shape, kind) if array is None else array


def _transposed(array: NDArray[Any]) -> NDArray[Any]:
    """The farm's y, x become the vendor's x, y."""
    return array if array.ndim < 2 else array.swapaxes(-1, -2)


def _spelled(value: Any, dialect: Dialect) -> Any:
    if isinstance(value, dict):
        return {dialect.spelled(name): _spelled(each, dialect) for name, each in value.items()}
    if isinstance(value, list):
        return {f"value{number}": _spelled(each, dialect) for number, each in enumerate(value)}
    return value


def _cereal(array: NDArray[Any]) -> Tree:
    """An array as the vendor's library stores it."""
    return {
        "dimensions": {f"value{axis}": size for axis, size in enumerate(array.shape)},
        "offsets": {f"value{axis}": step for axis, step in enumerate(row_major(array.shape))},
        "values": array.ravel().tolist(),
    }


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Values from one index of each axis to the next."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a value goes: a key of an object or an index of a list."""

    holder: Any
    step: str | int

    def get(self, empty: Any) -> Any:
        """What is there; `empty` is put there if nothing is."""
        if isinstance(self.step, str):
            return self.holder.setdefault(self.step, empty)
        self.holder.extend([None] * (self.step + 1 - len(self.holder)))
        if self.holder[self.step] is None:
            self.holder[self.step] = empty
        return self.holder[self.step]

    def set(self, value: Any) -> None:
        """Put a value there; a switch of the table stays one."""
        is_switch = isinstance(self.get(value), bool)
        self.holder[self.step] = bool(value) if is_switch else value


def _put(tree: Tree, path: str, value: int) -> None:
    suffix = next((each for each in (SWITCH, EMPTY_OBJECT, EMPTY_LIST) if path.endswith(each)), "")
    found = {SWITCH: bool(value), EMPTY_OBJECT: {}, EMPTY_LIST: []}.get(suffix, value)
    steps = [
        int(step[1:-1]) if step.startswith("[") else step
        for step in _STEP.findall(path.removesuffix(suffix))
    ]
    holder: Any = tree
    for step, following in pairwise(steps):
        holder = _Place(holder=holder, step=step).get([] if isinstance(following, int) else {})
    _Place(holder=holder, step=steps[-1]).set(found)
