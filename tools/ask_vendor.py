"""Asks the vendor's validator (samna 0.7.1.0, chip speck2b, Python 3.10) about descriptions.

    python3.10 tools/ask_vendor.py < descriptions.jsonl > verdicts.jsonl

A description is a line of JSON as in tests/vendor_description.py. Its verdict is a line
{"valid", "stage", "rules", "messages"}; `stage` is `validate`, or where it ended before: `input`
(not JSON), `set` (a field refused a value), `raise` or `crash`. Works in forked children, since the
library crashes on some inputs; a crash costs its line.

The validator looks at the sizes of arrays only, so a filled array is handed over as its sizes, and
its values are tried one by one on the field. Kept away from the library, because it crashes:
arrays without entries, and enabled destinations that pool by 0 or name a core above 8; such slots
are turned off, and the validator still refuses the number.
"""

import json
import math
import os
import signal
import sys

from vendor_messages import rules_of

CORES = 9
LARGEST_ARRAY = 400_000  # entries; larger ones are not made: the sizes alone are refused
CHUNK = 500  # descriptions for one child
CHIP = "speck2b"


class Refused(Exception):
    """A value was refused before validation; `rule` says by a field, or by the description."""

    def __init__(self, rule, message):
        super().__init__(message)
        self.rule = rule


def import_quietly():
    """Import samna, which prints two lines, without a word on stdout."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        import samna

        return getattr(samna, CHIP)
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


# Array of a description -> key in the library's JSON, axes.
ARRAYS = {
    "weights": ("weights", 4),
    "weights_kill_bit": ("weightsKillBit", 4),
    "biases": ("biases", 1),
    "biases_kill_bit": ("biasesKillBit", 1),
    "neurons_initial_value": ("neuronsInitialValue", 3),
    "neurons_value_kill_bit": ("neuronsValueKillBit", 3),
}


class Vendor:
    """The library, and the JSON of one of its layers with marks for the arrays' sizes."""

    def __init__(self):
        self.chip = import_quietly()
        layer = self.chip.configuration.CnnLayerConfig()
        plain = json.loads(layer.to_json())
        for key, _ in ARRAYS.values():
            plain["value0"][key] = f"@{key}@"
        self.template = json.dumps(plain, separators=(",", ":"))

    def verdict(self, line):
        """Build what a line describes and validate it."""
        try:
            description = json.loads(line)
        except ValueError as error:
            return _verdict("input", ["description"], [f"not JSON: {error}"])
        try:
            made, left_out = self._build(description)
        except Refused as error:
            return _verdict("set", [error.rule], [str(error)])
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            return _verdict("set", ["description"], [f"{type(error).__name__}: {error}"])
        try:
            valid, text = self.chip.validate_configuration(made)
        except Exception as error:  # whatever C++ throws
            return _verdict("raise", ["raised"], [f"{type(error).__name__}: {error}"[:200]])
        rules = sorted(rules_of(text, left_out))
        return {**_verdict("validate", rules, text.splitlines()), "valid": bool(valid)}

    def _build(self, description):
        """The configuration, and (core, rule) of arrays that were left out."""
        if description.get("chip", CHIP) != CHIP:
            raise Refused("description", f"only {CHIP} can be asked about")
        made, left_out = self.chip.configuration.SpeckConfiguration(), set()
        layers = made.cnn_layers
        for key, core in description.get("cores", {}).items():
            if not (key.isdecimal() and int(key) < CORES):
                raise Refused("description", f"there is no core {key}")
            left_out |= {(int(key), rule) for rule in self._core(layers[int(key)], core)}
        if description.get("dvs") is not None:
            _camera(made.dvs_layer, description["dvs"])
        for group in ("readout", "dvs_filter"):
            for name, value in (description.get(group) or {}).items():
                if name == "filter_size":
                    _pair(made.dvs_filter.filter_size, value)
                else:
                    _put(getattr(made, group), name, value)
        return made, left_out

    def _core(self, layer, core):
        features, channels, kernel = _dimensions(layer.dimensions, core)
        height, width = core["output"][1:]
        weights, neurons = [features, channels, kernel, kernel], [features, height, width]
        wanted = {4: weights, 1: [features], 3: neurons}
        text, listed, left_out = self.template, {}, []
        for name, (key, axes) in ARRAYS.items():
            spec, sizes = core.get(name), [1] * axes
            if isinstance(spec, list):
                listed[name] = spec
            elif (found := _sizes(layer, name, spec or {"fill": 0}, wanted[axes])) is not None:
                sizes = found
            else:
                left_out.append(f"shape_{name}")
            text = text.replace(f'"@{key}@"', _json_sizes(sizes))
        layer.from_json(text)
        _dimensions(layer.dimensions, core)
        for name, values in listed.items():
            _list(layer, name, values)
        _numbers(layer, core)
        _slots(layer.destinations, core, _slot)
        return left_out


def _dimensions(of, core):
    """Set the sizes; returns output features, input features and kernel."""
    channels, height, width = _listed(core["input"], 3)
    features, out_height, out_width = _listed(core["output"], 3)
    _put(of, "kernel_size", core.get("kernel", 1))
    _pair(of.stride, core.get("stride", [1, 1]))
    _pair(of.padding, core.get("padding", [0, 0]))
    _put(of.input_shape, "feature_count", channels)
    _pair(of.input_shape.size, [height, width])
    _put(of.output_shape, "feature_count", features)
    _pair(of.output_shape.size, [out_height, out_width])
    return features, channels, core.get("kernel", 1)


def _sizes(layer, name, spec, wanted):
    """Sizes in the library's order, None if the array is left out; its values are tried."""
    sizes = spec.get("shape", [int(size) for size in wanted])  # true is 1 to the fields
    if any(type(size) is not int or size < 0 for size in sizes):
        raise Refused("description", f"{name}: sizes {sizes}")
    if not 0 < math.prod(sizes) <= LARGEST_ARRAY:
        return None
    if len(sizes) != len(wanted):
        raise Refused("value_refused", f"{name}: {len(sizes)} axes")
    values = [spec["fill"]] if "fill" in spec else [spec.get("lo", -128), spec.get("hi", 127)]
    for value in values:
        for _ in sizes:
            value = [value]
        _put(layer, name, value)
    return _turned(sizes)


def _list(layer, name, values):
    depth, found = 0, values
    while isinstance(found, list):
        if not found:
            raise Refused("value_refused", f"{name}: a list without entries")
        depth, found = depth + 1, found[0]
    _put(layer, name, _exchanged(values, depth) if depth > 2 else values)


def _exchanged(values, depth):
    """The last two axes exchanged, for the library counts x before y; ragged lists stay."""
    if depth > 2:
        return [_exchanged(v, depth - 1) if isinstance(v, list) else v for v in values]
    rows = [row for row in values if isinstance(row, list)]
    if len(rows) < len(values) or len({len(row) for row in rows}) > 1:
        return values
    return [list(column) for column in zip(*rows, strict=True)]


def _numbers(layer, core):
    thresholds = ("threshold_high", "threshold_low")
    for name in (*thresholds, "return_to_zero", "leak_enable", "monitor_enable"):
        if name in core:
            _put(layer, name, core[name])


def _camera(layer, dvs):
    for name in ("cut", "origin", "pooling", "mirror"):
        if name in dvs:
            _pair(getattr(layer, name), dvs[name])
    for name in ("merge", "on_channel", "off_channel", "mirror_diagonal", "pass_sensor_events",
                 "monitor_enable"):  # fmt: skip
        if name in dvs:
            _put(layer, name, dvs[name])
    connectable = layer.pooling.x > 0 and layer.pooling.y > 0
    _slots(layer.destinations, dvs, lambda slot, _: connectable)


def _slots(slots, of, fill):
    given = of.get("destinations") or []
    if len(given) > len(slots):
        raise Refused("description", f"{len(given)} destinations, there are {len(slots)} slots")
    for slot, way in zip(slots, given, strict=False):
        _put(slot, "layer", way["core"])
        safe = fill(slot, way) and slot.layer < CORES
        _put(slot, "enable", way.get("enable", True))
        slot.enable = slot.enable and safe


def _slot(slot, way):
    """Whether the library survives the slot if it is enabled."""
    for name in ("pooling", "feature_shift"):
        if name in way:
            _put(slot, name, way[name])
    return slot.pooling > 0


def _put(on, name, value):
    try:
        setattr(on, name, value)
    except Exception as error:  # TypeError, ValueError, or what the binding throws
        raise Refused("value_refused", f"{name}: {str(error).splitlines()[0][:160]}") from None


def _pair(on, values):
    y, x = _listed(values, 2)
    _put(on, "y", y)
    _put(on, "x", x)


def _listed(values, count):
    if not isinstance(values, list) or len(values) != count:
        raise Refused("description", f"{values} is not a list of {count}")
    return values


def _turned(sizes):
    return [*sizes[:-2], sizes[-1], sizes[-2]] if len(sizes) > 1 else sizes


def _json_sizes(sizes):
    sizes = {f"value{axis}": size for axis, size in enumerate(sizes)}
    return json.dumps({"dimensions": sizes, "offsets": dict.fromkeys(sizes, 1), "values": []})


def _verdict(stage, rules, messages):
    return {"valid": False, "stage": stage, "rules": rules, "messages": messages}


def answer(vendor, lines):
    """One verdict for each line, from children that may crash."""
    done = []
    while len(done) < len(lines):
        found, status = _in_child(vendor, lines[len(done) :])
        done += found
        if len(done) < len(lines):
            why = f"exit code {os.WEXITSTATUS(status)}"
            if os.WIFSIGNALED(status):
                why = signal.Signals(os.WTERMSIG(status)).name
            done.append(json.dumps(_verdict("crash", ["crash"], [f"library crashed: {why}"])))
    return done


def _in_child(vendor, lines):
    """Whole lines that a child wrote before it ended, and how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            with os.fdopen(writer, "w", buffering=1) as out:
                for line in lines:
                    out.write(json.dumps(vendor.verdict(line)) + "\n")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as source:
        text = source.read()
    _, status = os.waitpid(child, 0)
    return text.split("\n")[:-1], status


def main():
    """Answer line by line, in order."""
    vendor, lines = Vendor(), [line for line in sys.stdin if line.strip()]
    for start in range(0, len(lines), CHUNK):
        for verdict in answer(vendor, lines[start : start + CHUNK]):
            print(verdict)


if __name__ == "__main__":
    main()
