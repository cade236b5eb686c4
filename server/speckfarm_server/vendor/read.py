"""A file with the vendor's configuration JSON becomes a Configuration; nothing of it is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush
from typing import Any

from speckfarm_server.chip import DECIMATOR_CODES, SENSOR_SHAPE
from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    DvsConfiguration,
)
from speckfarm_server.errors import BadInput, Finding, Severity
from speckfarm_server.vendor.keys import CAMEL_CASE, SPECK2B, SPECK2EF, SPECK2EF_CAMEL, Dialect
from speckfarm_server.vendor.tree import Reading, Values, kind_of, read_tree
from speckfarm_server.vendor.write import (
    ROOT,
    SWITCH,
    UNKNOWN,
    entries_of,
    leaves_of,
    values_of,
)

MAX_FILE_BYTES = 16 << 20
NAMED_PATHS = 20  # unknown keys that a finding names; the others are counted


@dataclass(frozen=True, kw_only=True, eq=False)
class VendorFile:
    """What a file says; `configuration.chip` stands for all chips with these keys."""

    configuration: Configuration
    findings: tuple[Finding, ...] = ()  # UNKNOWN_KEY


def looks_like_json(data: bytes) -> bool:
    """Whether a file can be the vendor's JSON and nothing else that the farm reads."""
    return data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"


def read_vendor_json(data: bytes) -> VendorFile:
    """Read what the vendor's `to_json` or `write_vendor_json` wrote.

    Raises BadInput: MODEL_UNREADABLE, MODEL_TOO_LARGE, MISSING_FIELD, VALUE_OUT_OF_RANGE (the
    vendor's own reader lets such numbers wrap), WRONG_SHAPE; all but the first two name the path.
    """
    if len(data) > MAX_FILE_BYTES:
        raise _too_large(f"it has {len(data):,} bytes", len(data))
    try:
        root = _load(data)
        dialect = _dialect(root)
        return _file(read_tree(root, {ROOT: dialect.keys}, dialect), dialect)
    except RecursionError:
        raise _unreadable("objects in it are nested too deeply", "nesting") from None
    except MemoryError:
        raise _too_large("its values do not fit into the parser's memory", len(data)) from None


def _load(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise _unreadable(f"byte {error.start} is not UTF-8", "bytes") from None
    except ValueError as error:  # also numbers of more digits than Python reads
        raise _unreadable(str(error)[:200], "text") from None
    if isinstance(found, dict):
        return found
    raise _unreadable(f"it is {kind_of(found)}, not an object", kind_of(found))


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise _unreadable(f"an object has the key {ascii(twice)[:100]} twice", "key")
    return found


def _dialect(root: Mapping[str, Any]) -> Dialect:
    """By spelling, and by the decimator, which came with speck2e."""
    whole = root.get(ROOT)
    if isinstance(whole, dict) and "cnn_layers" in whole:
        return SPECK2EF
    if isinstance(whole, dict) and "cnnLayers" in whole:
        cores = whole["cnnLayers"]
        first = cores.get("value0") if isinstance(cores, dict) else None
        newer = isinstance(first, dict) and "outputDecimatorEnable" in first
        return SPECK2EF_CAMEL if newer else SPECK2B
    text = f"it has no {ROOT} with cnnLayers or cnn_layers in it"
    raise _unreadable(text, "JSON text")


def _file(reading: Reading, dialect: Dialect) -> VendorFile:
    values = reading.values[ROOT]
    configuration = _configuration(values, dialect)
    written = dict(leaves_of(values_of(configuration)))
    differing = {
        path: int(value) for path, value in leaves_of(values) if written.get(path) != value
    }
    vendor = {**differing, **reading.unknown}
    if dialect is SPECK2EF_CAMEL:
        vendor[CAMEL_CASE] = 1
    return VendorFile(
        configuration=replace(configuration, vendor=vendor),
        findings=_unknown_keys([
            path.removeprefix(UNKNOWN).removesuffix(SWITCH) for path in reading.unknown
        ]),
    )


def _configuration(values: Values, dialect: Dialect) -> Configuration:
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


def is_configured(core: Values) -> bool:
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


def _core(number: int, core: Values, dialect: Dialect) -> CoreConfiguration:
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


def _decimator(core: Values) -> int | None:
    if not core.get("output_decimator_enable"):
        return None
    ratios = {code: ratio for ratio, code in DECIMATOR_CODES.items()}
    return ratios[core["output_decimator_interval"]]


def _unless_zero(array: Any, shape: tuple[int, ...]) -> Any:
    """None if it is what a writer without the array writes."""
    return array if array.any() or array.shape != shape else None


def _dvs(layer: Values) -> DvsConfiguration | None:
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


def _ways(slots: Sequence[Values]) -> tuple[Destination, ...]:
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


def _pair(values: Values) -> tuple[Any, Any]:
    return values["y"], values["x"]


def _shape(values: Values) -> tuple[int, int, int]:
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


def _unknown_keys(paths: Sequence[str]) -> tuple[Finding, ...]:
    if not paths:
        return ()
    named = ", ".join(paths[:NAMED_PATHS]) + (" ..." if len(paths) > NAMED_PATHS else "")
    text = (
        f"{len(paths)} values have keys that the farm does not know: {named}. They are kept and "
        "written back, but not checked, and a simulated board does not know them either."
    )
    metadata = {"count": str(len(paths)), "paths": named}
    return (
        Finding(reason="UNKNOWN_KEY", severity=Severity.WARNING, message=text, metadata=metadata),
    )


def _unreadable(text: str, found: str) -> BadInput:
    message = f"This is no configuration as the vendor's to_json() writes it: {text}"
    return BadInput("MODEL_UNREADABLE", message, found=found)


def _too_large(text: str, size: int) -> BadInput:
    message = (
        f"The configuration is too large: {text}; {MAX_FILE_BYTES:,} bytes are read. Write the "
        "JSON again without white space, which is most of it"
    )
    return BadInput("MODEL_TOO_LARGE", message, found_bytes=size, allowed_bytes=MAX_FILE_BYTES)
