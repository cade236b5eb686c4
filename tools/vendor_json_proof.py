"""Proves `write_vendor_json` and `read_vendor_json` against the vendor's own library, on speck2b.

    python tools/vendor_json_proof.py --python PYTHON [--count N]

PYTHON is a Python 3.10 with samna 0.7.1.0. For each random configuration: the library reads our
file, finds it valid, holds the same values in its own objects, field by field, and writes back a
file with the same keys and values; we read that one and have the same configuration again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.vendor_configurations import random_configuration  # noqa: E402

from speckfarm_server.configuration import (  # noqa: E402
    Configuration,
    CoreConfiguration,
    DvsConfiguration,
)
from speckfarm_server.vendor.read import read_vendor_json  # noqa: E402
from speckfarm_server.vendor.write import write_vendor_json  # noqa: E402


def main() -> int:
    """Ask the library about every configuration; 1 if it and we differ anywhere."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--python", metavar="PYTHON", required=True)
    arguments.add_argument("--count", type=int, default=400)
    given = arguments.parse_args()
    child = subprocess.Popen(
        [given.python, str(ROOT / "tools" / "vendor_child.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    figures: Counter[str] = Counter()
    faults = []
    for seed in range(given.count):
        configuration = random_configuration(seed)
        answer = _ask(child, write_vendor_json(configuration))
        faults += [f"seed {seed}: {text}" for text in _faults(configuration, answer, figures)]
    child.communicate()
    print("\n".join(faults[:20]))
    for name, count in sorted(figures.items()):
        print(f"{count:9,}  {name}")
    print(f"{given.count} configurations, {len(faults)} differences")
    return bool(faults)


def _ask(child: subprocess.Popen[str], data: bytes) -> dict[str, Any]:
    if child.stdin is None or child.stdout is None:
        raise SystemExit("the child has no pipes")
    child.stdin.write(json.dumps(data.decode()) + "\n")
    child.stdin.flush()
    line = child.stdout.readline()
    if not line:
        raise SystemExit(f"the vendor's library ended with {child.wait()}")
    answer: dict[str, Any] = {"ours": json.loads(data), **json.loads(line)}
    return answer


def _faults(
    configuration: Configuration, answer: dict[str, Any], figures: Counter[str]
) -> list[str]:
    if "error" in answer:
        return [f"the library cannot read it: {answer['error']}"]
    figures["configurations that the library reads"] += 1
    faults = [] if answer["valid"] else [f"the library refuses it: {answer['message']}"]
    figures["of them valid"] += answer["valid"]
    ours, theirs = dict(flat(answer["ours"])), dict(flat(json.loads(answer["json"])))
    figures["keys and values equal in its file"] += len(ours)
    faults += [
        f"{path}: {ours.get(path)} and {theirs.get(path)}" for path in differing(ours, theirs)
    ]
    back = read_vendor_json(answer["json"].encode())
    if back.configuration.digest != configuration.digest or back.findings:
        faults.append("its file gives another configuration")
    again = dict(flat(json.loads(write_vendor_json(back.configuration))))
    faults += [f"{path} is not written back" for path in differing(theirs, again)]
    for core in configuration.cores:
        wanted = core_values(core)
        figures["cores compared attribute by attribute"] += 1
        figures["values in arrays compared by index"] += _sizes(core)
        found = answer["cores"][core.core]
        faults += [f"core {core.core}: {name}" for name in wanted if found[name] != wanted[name]]
    if configuration.dvs is not None:
        wanted = dvs_values(configuration.dvs)
        figures["connected camera layers compared"] += 1
        faults += [f"camera: {name}" for name in wanted if answer["dvs"][name] != wanted[name]]
    return faults


def flat(value: Any, path: str = "") -> Any:
    """Path and value of every leaf; true is not 1."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from flat(each, f"{path}.{key}")
    elif isinstance(value, list):
        yield path, [(type(each), each) for each in value]
    else:
        yield path, (type(value), value)


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Paths of leaves that are not in both, or not equal."""
    return [path for path in {**one, **other} if one.get(path) != other.get(path)]


def core_values(core: CoreConfiguration) -> dict[str, Any]:
    """What the library's core must hold, written out index by index."""
    f, h, w = core.output_shape
    c, k = core.input_shape[0], core.kernel_size
    state = np.zeros((f, h, w), int) if core.initial_state is None else core.initial_state
    killed = np.zeros((f, c, k, k), bool) if core.weights_kill is None else core.weights_kill
    dead = np.zeros((f, h, w), bool) if core.neurons_kill is None else core.neurons_kill
    silent = np.zeros(f, bool) if core.biases_kill is None else core.biases_kill
    ways = [[to.core, to.pooling, to.feature_shift, to.enable] for to in core.destinations]
    return {
        "weights": _by_x(core.weights),
        "weights_kill_bit": _by_x(killed),
        "biases": core.biases.tolist(),
        "biases_kill_bit": silent.tolist(),
        "neurons_initial_value": _by_x(state[np.newaxis])[0],
        "neurons_value_kill_bit": _by_x(dead[np.newaxis])[0],
        "threshold_high": core.threshold_high,
        "threshold_low": core.threshold_low,
        "return_to_zero": core.return_to_zero,
        "leak_enable": core.leak_enable,
        "monitor_enable": core.monitor_enable,
        "input": [core.input_shape[0], core.input_shape[2], core.input_shape[1]],
        "output": [f, w, h],
        "kernel_size": k,
        "stride": [core.stride[1], core.stride[0]],
        "padding": [core.padding[1], core.padding[0]],
        "destinations": ways + [[0, 1, 0, False]] * (2 - len(ways)),
    }


def _by_x(array: Any) -> Any:
    """Nested lists [a][b][x][y] of an array (a, b, y, x)."""
    height, width = array.shape[2:]
    return [
        [[[plane[y, x].item() for y in range(height)] for x in range(width)] for plane in block]
        for block in array
    ]


def _sizes(core: CoreConfiguration) -> int:
    return 2 * (core.weights.size + core.biases.size + int(np.prod(core.output_shape)))


def dvs_values(dvs: DvsConfiguration) -> dict[str, Any]:
    """What the library's camera layer must hold."""
    ways = [[to.core, to.enable] for to in dvs.destinations]
    return {
        **{
            name: list(reversed(getattr(dvs, name)))
            for name in ("origin", "cut", "pooling", "mirror")
        },
        **{
            name: getattr(dvs, name)
            for name in ("merge", "on_channel", "off_channel", "mirror_diagonal")
        },
        "pass_sensor_events": dvs.pass_sensor_events,
        "monitor_enable": dvs.monitor_enable,
        "destinations": ways + [[0, False]] * (2 - len(ways)),
    }


if __name__ == "__main__":
    sys.exit(main())
