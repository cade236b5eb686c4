"""Rules on what a network says that a chip has no field for."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from speckfarm_server.network import Network
from tests.networks import Plan, conv, linear, network, pooling
from tests.reports import found, only, report

ONE_FAULT: list[tuple[str, Plan, dict[str, Any]]] = [
    ("DILATION_UNSUPPORTED", conv(2, 3, dilation=(1, 2), output_shape=(2, 6, 4)), {}),
    ("GROUPS_UNSUPPORTED", conv(2, 3, groups=2), {}),
    ("NON_UNIFORM_THRESHOLD", conv(2, 3, threshold_range=(1.0, 2.0)), {}),
    ("THRESHOLD_NOT_POSITIVE", conv(2, 3, threshold=0.0, threshold_range=(0.0, 0.0)), {}),
    ("THRESHOLD_NOT_POSITIVE", conv(2, 3, threshold=float("nan")), {}),
    ("THRESHOLD_NOT_POSITIVE", conv(2, 3, threshold=1e39), {}),
    ("WEIGHTS_NOT_FINITE", conv(2, 3, weights=np.float32("nan")), {}),
    ("WEIGHTS_NOT_FINITE", conv(2, 3, bias=np.float32("inf")), {}),
    ("WEIGHTS_NOT_FINITE", conv(2, 3, r_range=(1e300, 1e300)), {"input_dt_us": 1000}),
    ("NON_UNIFORM_R", conv(2, 3, r_range=(1.0, 2.0)), {}),
    ("NON_UNIFORM_R", conv(2, 3, r_range=(float("nan"), float("nan"))), {"input_dt_us": 1000}),
    ("NON_UNIFORM_R", conv(2, 3, r_range=(0.0, 0.0)), {"input_dt_us": 1000}),
    ("R_NOT_ONE", conv(2, 3, r_range=(2.0, 2.0)), {}),
    ("LAYER_NOT_FOUND", conv(2, 3), {"decimator": {1: 4}}),
    ("LAYER_NOT_FOUND", conv(2, 3), {"layer_reset": {1: "zero"}}),
    ("LAYER_NOT_FOUND", conv(2, 3), {"monitor": (0, 1)}),
    ("LAYER_NOT_FOUND", conv(2, 3), {"cores": {1: 4}}),
    ("STRIDE_UNSUPPORTED", conv(2, 3, stride=3), {}),
    ("PADDING_OUT_OF_RANGE", conv(2, 3, padding=8), {}),
    ("OUTPUT_SIZE_MISMATCH", conv(2, 3, output_shape=(2, 5, 6)), {}),
]


@pytest.mark.parametrize(("reason", "plan", "settings"), ONE_FAULT)
def test_one_fault_gives_that_error_alone(
    reason: str, plan: Plan, settings: dict[str, Any]
) -> None:
    made = report(network((2, 8, 8), plan), **settings)

    assert [reason_ for _, reason_ in found(made)] == [reason]
    assert not made.deployable
    assert made.configuration is None


def test_dilation_of_a_1x1_kernel_means_nothing() -> None:
    assert report(network((2, 8, 8), conv(2, 1, dilation=(2, 2)))).deployable


def test_non_square_kernels_are_named_as_such() -> None:
    weights = np.full((2, 1, 3, 5), 0.1, np.float32)
    layer = network((1, 8, 8), conv(2, 3)).layers[0]
    made = Network(
        input_shape=(1, 8, 8), layers=(replace(layer, weights=weights, output_shape=(2, 6, 4)),)
    )

    assert found(report(made)) == [(0, "NON_SQUARE_KERNEL")]


@pytest.mark.parametrize("size", [(17, 17), (4, 6)])
def test_a_linear_layer_needs_a_small_square_map(size: tuple[int, int]) -> None:
    made = report(network((1, *size), linear(3)))

    assert found(made) == [(0, "LINEAR_INPUT_TOO_LARGE")]
    assert only(made, "LINEAR_INPUT_TOO_LARGE").metadata["height"] == str(size[0])


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("NON_SQUARE_POOLING", {"kernel_size": (2, 1), "stride": (2, 1)}),
        ("POOLING_STRIDE_MISMATCH", {"stride": (1, 1)}),
        ("POOLING_PADDING", {"padding": (1, 1)}),
    ],
)
def test_pooling_that_a_core_cannot_do_is_named(reason: str, changes: dict[str, Any]) -> None:
    first = replace(conv(2, 3, padding=1), poolings=(pooling(2, **changes),))
    made = report(network((1, 8, 8), first, conv(2, 3, input_shape=(2, 5, 5))))

    assert (0, reason) in found(made)
    assert (0, "LINK_SIZE_MISMATCH") not in found(made)


def test_pooling_by_3_is_refused_between_layers_only() -> None:
    between = report(network((1, 9, 9), conv(2, 3, padding=1, pool=3), linear(2)))
    at_the_end = report(network((1, 9, 9), conv(2, 3, padding=1, pool=3)))

    assert found(between) == [(0, "POOLING_UNSUPPORTED")]
    assert at_the_end.deployable
