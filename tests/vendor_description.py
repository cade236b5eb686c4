"""Neutral descriptions of chip configurations, as the vendor's library was asked, made ours.

A description is JSON; lists are in the order features, y, x:

    {"chip": "speck2b",
     "dvs": {"cut": [y, x], "origin": [y, x], "pooling": [y, x], "mirror": [y, x], "merge": b,
             "on_channel": b, "off_channel": b, "mirror_diagonal": b, "pass_sensor_events": b,
             "monitor_enable": b, "destinations": [{"core": i, "enable": b}]},
     "readout": {field: value}, "dvs_filter": {field: value},
     "cores": {"0": {"input": [c, h, w], "output": [f, h, w], "kernel": k, "stride": [y, x],
                     "padding": [y, x], ARRAYS, "threshold_high": i, "threshold_low": i,
                     "return_to_zero": b, "leak_enable": b, "monitor_enable": b,
                     "destinations": [{"core": i, "pooling": p, "feature_shift": f, "enable": b}]}}}

ARRAYS are weights, biases, neurons_initial_value, and as an addition weights_kill_bit,
biases_kill_bit, neurons_value_kill_bit. Each is nested lists, or {"fill": v} or {"seed": s,
"lo": a, "hi": b}, both with a "shape" if it is not what the sizes ask for; null is filled with 0.
What the setters of the vendor's fields refuse is BadInput VALUE_OUT_OF_RANGE.
"""

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.chip import CHIPS, output_size
from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    DvsConfiguration,
)
from speckfarm_server.errors import BadInput

UINT8, UINT16, INT16 = (0, 255), (0, 65535), (-32768, 32767)
VALUES = {"i1": (-128, 127), "i2": INT16, "?": (0, 1)}
LARGEST_ARRAY = 400_000  # entries; no legal array is as large, and none larger is made
VENDOR_FIELDS = {
    "readout.input_address_interpretation": UINT8,
    "readout.p2s_input_selection": UINT8,
    "readout.threshold": UINT16,
    "dvs_filter.threashold": UINT16,
    "dvs_filter.filter_size.x": UINT8,
    "dvs_filter.filter_size.y": UINT8,
}
VENDOR_FLAGS = {
    "readout.bypass_enable",
    "readout.low_pass_filter32_not16",
    "readout.low_pass_filter_disable",
    "dvs_filter.filter_bypass",
}


def configuration_of(description: Any) -> Configuration:
    """The configuration that a description means; recorded events enter nowhere."""
    plain = _object(description, "description")
    chip = plain.get("chip", "speck2b")
    if chip not in CHIPS:
        _refuse("chip", chip, f"one of {', '.join(CHIPS)}")
    dvs = plain.get("dvs")
    return Configuration(
        chip=chip,
        input_shape=(1, 1, 1),
        cores=tuple(
            _core(_number(key, len(CHIPS[chip].cores)), layer, _object(core, f"cores.{key}"))
            for layer, (key, core) in enumerate(_object(plain.get("cores", {}), "cores").items())
        ),
        dvs=None if dvs is None else _dvs(_object(dvs, "dvs")),
        vendor=_vendor(plain),
    )


def _core(number: int, layer: int, plain: Mapping[str, Any]) -> CoreConfiguration:
    where = f"cores.{number}"
    source = _shape(plain.get("input"), f"{where}.input")
    stride = _pair(plain.get("stride", [1, 1]), f"{where}.stride")
    padding = _pair(plain.get("padding", [0, 0]), f"{where}.padding")
    kernel = _integer(plain.get("kernel", 1), UINT8, f"{where}.kernel")
    output = plain.get("output")
    if output is None:
        sizes = zip(source[1:], stride, padding, strict=True)
        height, width = (
            max(0, output_size(n, kernel, s, p)) if s else 0 for n, s, p in sizes
        )  # fmt: skip
        output = [plain.get("features", 1), height, width]
    made = _shape(output, f"{where}.output")
    weights, neurons = (made[0], source[0], kernel, kernel), made

    def array(name: str, kind: str, shape: tuple[int, ...]) -> Any:
        return _array(plain.get(name), kind, shape, f"{where}.{name}")

    def killed(name: str, shape: tuple[int, ...]) -> Any:
        return array(name, "?", shape) if name in plain else None

    return CoreConfiguration(
        core=number,
        layer=layer,
        input_shape=source,
        output_shape=made,
        kernel_size=kernel,
        stride=stride,
        padding=padding,
        weights=array("weights", "i1", weights),
        biases=array("biases", "i2", made[:1]),
        initial_state=array("neurons_initial_value", "i2", neurons),
        weights_kill=killed("weights_kill_bit", weights),
        biases_kill=killed("biases_kill_bit", made[:1]),
        neurons_kill=killed("neurons_value_kill_bit", neurons),
        destinations=_destinations(plain, where),
        threshold_high=_integer(plain.get("threshold_high", 0), INT16, f"{where}.threshold_high"),
        threshold_low=_integer(plain.get("threshold_low", 0), INT16, f"{where}.threshold_low"),
        **_flags(plain, ("return_to_zero", "leak_enable", "monitor_enable"), where),
    )


def _dvs(plain: Mapping[str, Any]) -> DvsConfiguration:
    pairs: dict[str, Any] = {
        name: _pair(plain[name], f"dvs.{name}")
        for name in ("cut", "origin", "pooling")
        if name in plain
    }
    mirror = plain.get("mirror", [False, False])
    if not isinstance(mirror, list) or len(mirror) != 2:
        _refuse("dvs.mirror", mirror, "[y, x]")
    names = ("merge", "on_channel", "off_channel", "mirror_diagonal", "pass_sensor_events",
             "monitor_enable")  # fmt: skip
    flags = _flags(plain, names, "dvs")
    y, x = (_flag(value, "dvs.mirror") for value in mirror)
    ways = _destinations(plain, "dvs", of_core=False)
    return DvsConfiguration(**pairs, **flags, mirror=(y, x), destinations=ways)


def _destinations(
    plain: Mapping[str, Any], where: str, *, of_core: bool = True
) -> tuple[Destination, ...]:
    ways = []
    for number, given in enumerate(plain.get("destinations") or []):
        way = _object(given, at := f"{where}.destinations.{number}")
        fields = {"pooling": UINT8, "feature_shift": UINT16} if of_core else {}
        numbers = {
            name: _integer(way[name], limits, f"{at}.{name}")
            for name, limits in fields.items()
            if name in way
        }
        core = _integer(way.get("core"), UINT8, f"{at}.core")
        ways.append(Destination(core=core, **numbers, enable=_flag(way.get("enable", True), at)))
    return tuple(ways)


def _vendor(plain: Mapping[str, Any]) -> dict[str, int]:
    values: dict[str, Any] = {}
    for group in ("readout", "dvs_filter"):
        for name, value in _object(plain.get(group) or {}, group).items():
            if name == "filter_size":
                y, x = _pair(value, f"{group}.{name}")
                values |= {f"{group}.{name}.y": y, f"{group}.{name}.x": x}
            else:
                values[f"{group}.{name}"] = value
    return {key: _vendor_value(key, value) for key, value in values.items()}


def _vendor_value(key: str, value: Any) -> int:
    if key in VENDOR_FLAGS:
        return int(_flag(value, key))
    if key not in VENDOR_FIELDS:
        _refuse("key", key, ", ".join((*VENDOR_FIELDS, *sorted(VENDOR_FLAGS))))
    return _integer(value, VENDOR_FIELDS[key], key)


def _array(spec: Any, kind: str, wanted: tuple[int, ...], where: str) -> NDArray[Any]:
    if isinstance(spec, list):
        return _listed(spec, kind, len(wanted), where)
    spec = _object({"fill": 0} if spec is None else spec, where)
    given = spec.get("shape", list(wanted))
    if not isinstance(given, list) or any(type(size) is not int or size < 0 for size in given):
        _refuse(f"{where}.shape", given, "a list of sizes")
    shape = tuple(given)
    if not 0 < math.prod(shape) <= LARGEST_ARRAY:
        # The vendor was not asked about such arrays: the sizes are wrong by themselves.
        return np.broadcast_to(np.zeros((), kind), wanted)
    if len(shape) != len(wanted):
        _refuse(f"{where}.shape", given, f"{len(wanted)} axes")
    if "fill" in spec:
        value = _entry(spec["fill"], kind, where)
        return np.broadcast_to(np.array(value, kind), shape)
    return _seeded(spec, kind, shape, where)


def _seeded(spec: Mapping[str, Any], kind: str, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """Bytes b of the generator give lo + b * span // 256, or numbers if the span is larger."""
    low, high = (_integer(spec.get(n, d), None, where) for n, d in (("lo", -128), ("hi", 127)))
    span, count, source = high - low + 1, math.prod(shape), random.Random(spec.get("seed"))
    if "seed" not in spec or span <= 0:
        _refuse(where, spec, "fill, or seed with lo <= hi")
    if span <= 256:
        drawn = np.frombuffer(source.randbytes(count), np.uint8).astype(np.int64)
        values = low + drawn * span // 256
    else:
        values = np.array([source.randint(low, high) for _ in range(count)])
    for value in (values.min(), values.max()):
        _entry(int(value), kind, where)
    return values.astype(kind).reshape(shape)


def _listed(spec: list[Any], kind: str, axes: int, where: str) -> NDArray[Any]:
    try:
        found = np.array(spec, object)
    except ValueError:
        _refuse(where, "a ragged list", "lists of one length")
    if found.ndim != axes or not found.size:
        _refuse(where, f"{found.ndim} axes, {found.size} values", f"{axes} axes, 1 value or more")
    flat = [_entry(value, kind, where) for value in found.ravel().tolist()]
    return np.array(flat, kind).reshape(found.shape)


def _entry(value: Any, kind: str, where: str) -> int:
    return int(_flag(value, where)) if kind == "?" else _integer(value, VALUES[kind], where)


def _flags(plain: Mapping[str, Any], names: Sequence[str], where: str) -> dict[str, Any]:
    """Those that a description leaves out keep the default of a chip after a reset."""
    default = {"on_channel": True, "off_channel": True}
    return {
        name: _flag(plain.get(name, default.get(name, False)), f"{where}.{name}") for name in names
    }


def _number(key: str, cores: int) -> int:
    if not (key.isdecimal() and int(key) < cores):
        _refuse("cores", key, f"0 to {cores - 1}")
    return int(key)


def _shape(value: Any, where: str) -> tuple[int, int, int]:
    if not isinstance(value, list) or len(value) != 3:
        _refuse(where, value, "[features, height, width]")
    features, height, width = value
    return (
        _integer(features, UINT16, where),
        _integer(height, UINT8, where),
        _integer(width, UINT8, where),
    )


def _pair(value: Any, where: str) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        _refuse(where, value, "[y, x]")
    return _integer(value[0], UINT8, where), _integer(value[1], UINT8, where)


def _integer(value: Any, limits: tuple[int, int] | None, where: str) -> int:
    """True is 1 to the vendor's fields, and floats are refused."""
    if not isinstance(value, int):
        _refuse(where, value, "an integer")
    if limits and not limits[0] <= value <= limits[1]:
        _refuse(where, value, f"{limits[0]} to {limits[1]}")
    return int(value)


def _flag(value: Any, where: str) -> bool:
    """Any number is a truth value to the vendor's fields, and null is false."""
    if not (value is None or isinstance(value, (int, float))):
        _refuse(where, value, "true or false")
    return bool(value)


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, value, "an object")
    return value


def _refuse(where: str, found: object, allowed: str) -> NoReturn:
    text = f"{where} is {found!r}; allowed: {allowed}. Correct the description."
    raise BadInput("VALUE_OUT_OF_RANGE", text, field=where, found=found, allowed=allowed)
