"""Configurations for tests, built by hand: a legal core, and chains of cores."""

from dataclasses import replace
from typing import Any

import numpy as np

from speckfarm_server.chip import output_size
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination

CORE = CoreConfiguration(
    core=2,
    layer=0,
    input_shape=(1, 1, 1),
    output_shape=(1, 1, 1),
    kernel_size=1,
    stride=(1, 1),
    padding=(0, 0),
    weights=np.ones((1, 1, 1, 1), np.int8),
    biases=np.zeros(1, np.int16),
    threshold_high=2,
    threshold_low=-2,
    return_to_zero=False,
)


def core(features: int = 1, **changes: Any) -> CoreConfiguration:
    """A core whose output shape and arrays follow from the rest, unless they are given."""
    made = replace(CORE, **changes)
    _, height, width = made.input_shape
    height, width = (
        output_size(size, made.kernel_size, made.stride[axis] or 1, made.padding[axis])
        for axis, size in enumerate((height, width))
    )
    made = replace(made, output_shape=changes.get("output_shape", (features, height, width)))
    shape = (made.output_shape[0], made.input_shape[0], made.kernel_size, made.kernel_size)
    arrays = {"weights": np.ones(shape, np.int8), "biases": np.zeros(shape[0], np.int16)}
    return replace(made, **{k: changes.get(k, array) for k, array in arrays.items()})


def configuration(*cores: CoreConfiguration, **changes: Any) -> Configuration:
    """A configuration of these cores, layers numbered in order."""
    numbered = tuple(replace(core, layer=layer) for layer, core in enumerate(cores))
    made = Configuration(
        chip="speck2f",
        input_shape=cores[0].input_shape,
        cores=numbered,
        inputs=(Destination(core=cores[0].core),),
    )
    return replace(made, **changes)
