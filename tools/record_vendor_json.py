"""Records tests/data/vendor_speck2b.json.gz with the vendor's own library.

    PYTHON tools/record_vendor_json.py

PYTHON is a Python 3.10 with samna 0.7.1.0. Everything is set through the library's objects, with
numbers that tell axes and fields apart; tests/test_vendor_json.py knows them.
"""

import gzip
import sys
from pathlib import Path
from typing import Any

from vendor_child import load_samna

TARGET = Path(__file__).resolve().parent.parent / "tests" / "data" / "vendor_speck2b.json.gz"


def main() -> int:
    """Make a configuration of two cores behind the camera, have it validated, and write it."""
    samna = load_samna()
    configuration = samna.speck2b.configuration.SpeckConfiguration()
    set_camera(configuration.dvs_layer)
    set_first(configuration.cnn_layers[5])
    set_second(configuration.cnn_layers[2])
    configuration.cnn_layers[7].threshold_high = 9  # an idle core
    configuration.readout.threshold = 77
    configuration.factory_config.neurons[11].clock_delay = 3
    valid, message = samna.speck2b.validate_configuration(configuration)
    if not valid:
        print(message)
        return 1
    TARGET.write_bytes(gzip.compress(configuration.to_json().encode(), mtime=0))
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes")
    return 0


def set_camera(layer: Any) -> None:
    """12 x 8 pixels (x, y) pooled to 6 x 2, two features."""
    layer.origin.x, layer.origin.y = 10, 20
    layer.cut.x, layer.cut.y = 21, 27
    layer.pooling.x, layer.pooling.y = 2, 4
    layer.mirror.x = True
    layer.pass_sensor_events = False
    layer.monitor_sensor_enable = True
    layer.destinations[1].layer = 5
    layer.destinations[1].enable = True


def set_first(core: Any) -> None:
    """2 features of 6 x 2 (x, y) become 3 of 3 x 3."""
    core.dimensions.stride.x, core.dimensions.stride.y = 2, 1
    core.dimensions.padding.x, core.dimensions.padding.y = 0, 1
    set_sizes(core, (2, 6, 2), (3, 3, 3), kernel=2)
    core.weights = numbers((3, 2, 2, 2), lambda o, i, x, y: 40 * o + 10 * i + 2 * x + y - 60)
    core.weights_kill_bit = numbers((3, 2, 2, 2), lambda o, i, x, y: (o, i, x, y) == (2, 1, 1, 0))
    core.biases = [-300, 0, 300]
    core.biases_kill_bit = [False, True, False]
    core.neurons_initial_value = numbers((3, 3, 3), lambda f, x, y: 100 * f + 10 * x + y)
    core.neurons_value_kill_bit = numbers((3, 3, 3), lambda f, x, y: (f, x, y) == (1, 2, 0))
    core.threshold_high, core.threshold_low = 1000, -2000
    core.return_to_zero = core.leak_enable = True
    core.destinations[0].layer, core.destinations[0].enable = 2, True
    core.destinations[0].pooling = 2
    core.destinations[1].feature_shift = 6  # off


def set_second(core: Any) -> None:
    """3 features of 1 x 1 become 2."""
    set_sizes(core, (3, 1, 1), (2, 1, 1), kernel=1)
    core.weights = numbers((2, 3, 1, 1), lambda o, i, x, y: 3 * o + i - 128)
    core.weights_kill_bit = numbers((2, 3, 1, 1), lambda *_: False)
    core.biases, core.biases_kill_bit = [0, 0], [False, False]
    core.neurons_initial_value = numbers((2, 1, 1), lambda *_: 0)
    core.neurons_value_kill_bit = numbers((2, 1, 1), lambda *_: False)
    core.threshold_high, core.threshold_low = 32767, -32768
    core.monitor_enable = True


def set_sizes(
    core: Any, arriving: tuple[int, int, int], leaving: tuple[int, int, int], *, kernel: int
) -> None:
    """Features, x, y."""
    sizes = core.dimensions
    sizes.kernel_size = kernel
    for shape, found in ((sizes.input_shape, arriving), (sizes.output_shape, leaving)):
        shape.feature_count, shape.size.x, shape.size.y = found


def numbers(shape: tuple[int, ...], value: Any, *indices: int) -> Any:
    """Nested lists, each number made of its indices."""
    if not shape:
        return value(*indices)
    return [numbers(shape[1:], value, *indices, index) for index in range(shape[0])]


if __name__ == "__main__":
    sys.exit(main())
