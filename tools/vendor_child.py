"""Child of the proofs: the vendor's library reads, validates and writes configurations.

Runs in an environment of its own, Python 3.10 with samna 0.7.1.0, needs no board, and imports
nothing of this project. Each line of stdin is a configuration's JSON text as a JSON string; each
line of stdout says what the library makes of it.
"""

import json
import os
import sys
from typing import Any

SCALARS = ("return_to_zero", "leak_enable", "threshold_high", "threshold_low", "monitor_enable")
ARRAYS = (
    "weights", "weights_kill_bit", "biases", "biases_kill_bit", "neurons_initial_value",
    "neurons_value_kill_bit",
)  # fmt: skip
DVS_SWITCHES = (
    "merge", "on_channel", "off_channel", "mirror_diagonal", "pass_sensor_events", "monitor_enable",
)  # fmt: skip


def load_samna() -> Any:
    """The library, which prints two lines to stdout when it is imported."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    import samna

    sys.stdout.flush()
    os.dup2(kept, 1)
    os.close(kept)
    return samna


def answer(samna: Any, text: str) -> dict[str, Any]:
    """Read a configuration into the library's own objects and say what they hold."""
    configuration = samna.speck2b.configuration.SpeckConfiguration()
    try:
        configuration.from_json(text)
    except RuntimeError as error:
        return {"error": str(error)}
    valid, message = samna.speck2b.validate_configuration(configuration)
    return {
        "valid": valid,
        "message": message,
        "json": configuration.to_json(),
        "cores": [core_fields(core) for core in configuration.cnn_layers],
        "dvs": dvs_fields(configuration.dvs_layer),
    }


def core_fields(core: Any) -> dict[str, Any]:
    """Attributes of a core; indices of arrays in the vendor's order, x before y."""
    sizes = core.dimensions
    shapes = {
        name: [shape.feature_count, shape.size.x, shape.size.y]
        for name, shape in (("input", sizes.input_shape), ("output", sizes.output_shape))
    }
    ways = [[to.layer, to.pooling, to.feature_shift, to.enable] for to in core.destinations]
    return {
        **{name: getattr(core, name) for name in (*SCALARS, *ARRAYS)},
        **shapes,
        "kernel_size": sizes.kernel_size,
        "stride": [sizes.stride.x, sizes.stride.y],
        "padding": [sizes.padding.x, sizes.padding.y],
        "destinations": ways,
    }


def dvs_fields(layer: Any) -> dict[str, Any]:
    """Attributes of the event pre-processing layer, x before y."""
    pairs = {name: getattr(layer, name) for name in ("origin", "cut", "pooling", "mirror")}
    return {
        **{name: getattr(layer, name) for name in DVS_SWITCHES},
        **{name: [pair.x, pair.y] for name, pair in pairs.items()},
        "destinations": [[to.layer, to.enable] for to in layer.destinations],
    }


def main() -> None:
    """Answer line by line."""
    samna = load_samna()
    for line in sys.stdin:
        print(json.dumps(answer(samna, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
