"""Changes carried out: maps, weights, links and settings follow."""

from pathlib import Path

import numpy as np
import pytest

from speckfarm_server.changes.change import WHATS, apply_change, origins_of
from speckfarm_server.check import check
from speckfarm_server.chip import CHIPS
from speckfarm_server.errors import BadInput, Change
from speckfarm_server.network import Network
from speckfarm_server.settings import Settings
from tests.broken_networks import star
from tests.networks import conv, digits_network, network

SPECK2F = CHIPS["speck2f"]


def change(what: str, value: str, layer: int | None = 0) -> Change:
    return Change(layer=layer, what=what, value=value, keeps_function=False, text="")


def shapes(made: Network) -> list[tuple[tuple[int, ...], ...]]:
    return [(layer.input_shape, layer.weights.shape, layer.output_shape) for layer in made.layers]


def test_maps_follow_a_stride_down_to_the_linear_layer() -> None:
    changed, _ = apply_change(digits_network(), Settings(), change("stride", "2x2"))

    assert shapes(changed) == [
        ((2, 34, 34), (16, 2, 3, 3), (16, 17, 17)),
        ((16, 8, 8), (32, 16, 3, 3), (32, 8, 8)),
        ((32, 4, 4), (64, 32, 3, 3), (64, 4, 4)),
        ((64, 2, 2), (10, 64, 2, 2), (10, 1, 1)),
    ]


def test_weights_of_kept_features_stay() -> None:
    made = digits_network()

    changed, _ = apply_change(made, Settings(), change("features", "8", 1))

    assert shapes(changed)[1:3] == [
        ((16, 17, 17), (8, 16, 3, 3), (8, 17, 17)),
        ((8, 8, 8), (64, 8, 3, 3), (64, 8, 8)),
    ]
    assert np.array_equal(changed.layers[1].weights, made.layers[1].weights[:8])
    assert np.array_equal(changed.layers[2].weights, made.layers[2].weights[:, :8])


def test_features_beside_those_left_out_move_down() -> None:
    made = star(2)

    changed, _ = apply_change(made, Settings(), change("features", "1", 1))

    assert [source.feature_shift for source in changed.layers[3].sources] == [0, 1]
    assert np.array_equal(changed.layers[3].weights, made.layers[3].weights[:, [0, 2, 3]])


def test_parts_of_a_layer_have_its_weights_side_by_side() -> None:
    made, others = digits_network(), Settings(decimator={1: 2, 2: 4}, monitor=(2,), cores={2: 6})

    changed, after = apply_change(made, others, change("layer_split", "2", 1))

    assert origins_of(made, change("layer_split", "2", 1)) == [0, 1, 1, 2, 3]
    assert [layer.output_shape[0] for layer in changed.layers] == [16, 16, 16, 64, 10]
    assert [(s.layer, s.feature_shift) for s in changed.layers[3].sources] == [(1, 0), (2, 16)]
    assert np.array_equal(changed.layers[2].weights, made.layers[1].weights[16:])
    assert (after.decimator, after.monitor, after.cores) == ({1: 2, 2: 2, 3: 4}, (3,), {3: 6})
    assert check(changed, SPECK2F, Settings()).deployable


def test_layers_left_out_are_bridged() -> None:
    made = digits_network()

    changed, _ = apply_change(made, Settings(), change("layers_dropped", "1,2", None))

    assert shapes(changed) == [
        ((2, 34, 34), (16, 2, 3, 3), (16, 34, 34)),
        ((16, 4, 4), (10, 16, 4, 4), (10, 1, 1)),
    ]
    assert changed.layers[1].sources[0].pooling == 8


def test_the_camera_pools_the_part_of_the_sensor_that_recordings_use() -> None:
    made = digits_network()

    changed, others = apply_change(made, Settings(), change("input_pooling", "4x4", None))

    assert changed.input_shape == (2, 8, 8)
    assert (others.input_pooling, others.crop) == ((4, 4), (0, 0, 32, 32))
    assert [layer.output_shape for layer in changed.layers] == [
        (16, 8, 8), (32, 4, 4), (64, 2, 2), (10, 1, 1),
    ]  # fmt: skip


def test_a_camera_that_pools_already_pools_the_same_pixels() -> None:
    made = network((2, 64, 64), conv(2, 3))

    _, others = apply_change(
        made, Settings(input_pooling=(2, 2)), change("input_pooling", "4x4", None)
    )

    assert (others.input_pooling, others.crop) == ((4, 4), None)


@pytest.mark.parametrize(
    ("what", "value", "layer"),
    [
        ("colour", "blue", 0), ("features", "8", 9), ("features", "8", None), ("features", "0", 0),
        ("stride", "2", 0), ("groups", "2", 0), ("bias", "on", 0), ("pooling_before", "2", 0),
        ("layer_copies", "2", 0), ("layer_split", "2", 3), ("layers_dropped", "3", None),
        ("core", "9", 0), ("cores", "0", None), ("input_pooling", "3x3", None),
    ],
)  # fmt: skip
def test_a_change_that_does_not_fit_the_network_is_refused(
    what: str, value: str, layer: int | None
) -> None:
    with pytest.raises((ValueError, BadInput)):
        apply_change(digits_network(), Settings(), change(what, value, layer))


def test_a_change_leaves_the_network_as_it_was() -> None:
    made = digits_network()
    before = shapes(made), [layer.weights.copy() for layer in made.layers]

    for what, value in [("features", "4"), ("kernel_size", "5x5"), ("pooling_after", "4")]:
        apply_change(made, Settings(), change(what, value))

    assert shapes(made) == before[0]
    assert all(
        np.array_equal(layer.weights, kept)
        for layer, kept in zip(made.layers, before[1], strict=True)
    )


def test_the_reference_page_lists_every_kind_of_change() -> None:
    page = Path(__file__).parent.parent / "docs" / "reference" / "checks.md"

    lines = page.read_text(encoding="utf-8").partition("## Changes")[2].splitlines()
    listed = [line.split("|")[1].strip(" `") for line in lines if line.startswith("| `")]

    assert sorted(listed) == sorted(WHATS)
