"""Networks that break rules, one for every reason about memory or structure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from speckfarm_server.network import Network, Pooling, Source
from tests.networks import conv, digits_network, linear, network, pooling


def with_layer(made: Network, number: int, **changes: Any) -> Network:
    layers = list(made.layers)
    layers[number] = replace(layers[number], **changes)
    return replace(made, layers=tuple(layers))


def _dilated() -> Network:
    made = network((2, 16, 16), conv(4, 3), conv(4, 5), conv(2, 3))
    weights = np.full((4, 4, 3, 3), 0.1, np.float32)
    return with_layer(made, 1, weights=weights, dilation=(2, 2))


def _grouped() -> Network:
    made = network((2, 16, 16), conv(4, 3), conv(4, 3), conv(2, 3))
    return with_layer(made, 1, weights=made.layers[1].weights[:, :2], groups=2)


def _flat_kernel() -> Network:
    made = network((2, 16, 16), conv(4, 3), conv(4, 5, padding=1), conv(2, 3))
    weights = made.layers[1].weights[:, :, 1:4]
    return with_layer(made, 1, weights=weights, padding=(0, 1))


def _pooled(pool: Pooling, size: tuple[int, int]) -> Network:
    """Two layers with any pooling between them that leaves a map of `size`."""
    made = network((2, 16, 16), conv(4, 3, padding=1), conv(2, 3))
    source = Source(layer=0, poolings=(pool,))
    shape = (2, size[0] - 2, size[1] - 2)
    return with_layer(made, 1, sources=(source,), input_shape=(4, *size), output_shape=shape)


def star(targets: int) -> Network:
    """A layer that feeds several; the last layer takes them all."""
    first, *_ = network((2, 8, 8), conv(4, 3, padding=1, weights=0.4), conv(2, 1)).layers
    branch = network((4, 8, 8), conv(2, 3, padding=1, weights=0.3)).layers[0]
    branches = [
        replace(branch, name=f"branch{n}", sources=(Source(layer=0),)) for n in range(targets)
    ]
    last = network((2 * targets, 8, 8), conv(2, 3, padding=1, weights=0.2)).layers[0]
    sources = tuple(Source(layer=n + 1, feature_shift=2 * n) for n in range(targets))
    layers = (first, *branches, replace(last, name="last", sources=sources))
    return Network(input_shape=(2, 8, 8), layers=layers)


# What a user would run into, for every reason about memory or structure.
EXAMPLES: dict[str, Callable[[], tuple[Network, dict[str, Any]]]] = {
    "KERNEL_MEMORY_EXCEEDED": lambda: (network((64, 8, 8), conv(512, 3), conv(8, 3)), {}),
    "NEURON_MEMORY_EXCEEDED": lambda: (network((17, 64, 64), conv(17, 1), conv(2, 3)), {}),
    "BIAS_MEMORY_EXCEEDED": lambda: (network((2, 4, 4), conv(1500, 1, bias=0.1), conv(2, 1)), {}),
    "INPUT_SIZE_OUT_OF_RANGE": lambda: (network((2, 200, 200), conv(4, 4, stride=4)), {}),
    "OUTPUT_SIZE_OUT_OF_RANGE": lambda: (
        network((2, 128, 128), conv(4, 3, padding=1), conv(4, 3, stride=2)), {},
    ),
    "INPUT_FEATURES_OUT_OF_RANGE": lambda: (network((2, 4, 4), conv(1100, 1), conv(9, 1)), {}),
    "OUTPUT_FEATURES_OUT_OF_RANGE": lambda: (network((2, 4, 4), conv(1100, 1), conv(9, 1)), {}),
    "FAN_IN_TOP": lambda: (network((2, 4, 4), conv(1100, 1), conv(9, 1)), {}),
    "KERNEL_SIZE_OUT_OF_RANGE": lambda: (network((2, 64, 64), conv(2, 17), conv(2, 3)), {}),
    "STRIDE_UNSUPPORTED": lambda: (network((2, 40, 40), conv(4, 3, stride=3), conv(2, 3)), {}),
    "PADDING_OUT_OF_RANGE": lambda: (network((2, 20, 20), conv(4, 15, padding=8)), {}),
    "NON_SQUARE_KERNEL": lambda: (_flat_kernel(), {}),
    "DILATION_UNSUPPORTED": lambda: (_dilated(), {}),
    "GROUPS_UNSUPPORTED": lambda: (_grouped(), {}),
    "LINEAR_INPUT_TOO_LARGE": lambda: (network((2, 34, 34), conv(4, 3), linear(10)), {}),
    "POOLING_UNSUPPORTED": lambda: (network((2, 36, 36), conv(8, 3, pool=3), linear(10)), {}),
    "POOLING_STRIDE_MISMATCH": lambda: (_pooled(pooling(2, kernel_size=(3, 3)), (7, 7)), {}),
    "POOLING_PADDING": lambda: (_pooled(pooling(2, padding=(1, 1)), (9, 9)), {}),
    "NON_SQUARE_POOLING": lambda: (
        _pooled(pooling(2, kernel_size=(2, 1), stride=(2, 1)), (8, 16)), {},
    ),
    "TOO_MANY_DESTINATIONS": lambda: (star(3), {}),
    "TOO_MANY_LAYERS": lambda: (
        network((2, 16, 16), *[conv(4, 3, padding=1)] * 10, linear(3)), {},
    ),
    "NO_PLACEMENT": lambda: (
        network((16, 64, 64), *[conv(16, 3, padding=1)] * 4, conv(2, 3)), {},
    ),
    "LAYER_NOT_FOUND": lambda: (digits_network(), {"decimator": {5: 2}, "monitor": (7,)}),
}  # fmt: skip
