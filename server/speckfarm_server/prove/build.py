"""Configurations for experiments: few cores, weights that are written down or follow a formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from speckfarm_server.chip import output_size
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination


def core(number: int, weights: ArrayLike, **changes: Any) -> CoreConfiguration:
    """A core with weights (f, c), or (f, c, k, k), on a map of `size`; monitored, threshold 1."""
    array = np.asarray(weights, np.int8)
    array = array[:, :, None, None] if array.ndim == 2 else array
    features, channels, kernel_size, _ = array.shape
    height, width = changes.pop("size", (1, 1))
    ways = tuple(Destination(core=target) for target in changes.pop("to", ()))
    values = {
        "layer": 0,
        "stride": (1, 1),
        "padding": (0, 0),
        "biases": np.zeros(features, np.int16),
        "threshold_high": 1,
        "threshold_low": -1,
        "return_to_zero": False,
        "monitor_enable": True,
    }
    return CoreConfiguration(
        core=number,
        weights=array,
        kernel_size=kernel_size,
        input_shape=(channels, height, width),
        output_shape=(
            features,
            output_size(height, kernel_size, 1, 0),
            output_size(width, kernel_size, 1, 0),
        ),
        destinations=ways,
        **{**values, **changes},
    )


def chain(chip: str, *cores: CoreConfiguration) -> Configuration:
    """A chip with these cores, events entering at the first."""
    return Configuration(
        chip=chip,
        input_shape=cores[0].input_shape,
        cores=cores,
        inputs=(Destination(core=cores[0].core),),
    )


def relay(number: int, features: int, **changes: Any) -> CoreConfiguration:
    """A core that passes each spike on, on the same feature, whether it fires at >= or at >."""
    weights = 2 * np.eye(features, dtype=np.int8)
    return core(number, weights, **{"return_to_zero": True, **changes})


def with_primer(made: CoreConfiguration) -> CoreConfiguration:
    """One input feature more, that of the primer, which no weight takes up."""
    channels, height, width = made.input_shape
    zeros = np.zeros((made.output_shape[0], 1, *made.weights.shape[2:]), np.int8)
    return replace(
        made,
        weights=np.concatenate([made.weights, zeros], axis=1),
        input_shape=(channels + 1, height, width),
    )


def neuron(chip: str, weights: Sequence[int], *, number: int = 3, **changes: Any) -> Configuration:
    """One neuron; input feature i has weight i, and one more feature, the primer's, has 0."""
    return chain(chip, core(number, [[*weights, 0]], **changes))
