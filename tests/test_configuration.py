"""The digest of a configuration changes with every field and with nothing else."""

import io
import json
from dataclasses import fields, replace

import numpy as np
import pytest

from speckfarm_server.configuration import (
    Configuration,
    CoreConfiguration,
    Destination,
    DvsConfiguration,
    from_bytes,
    to_bytes,
)
from tests.configurations import configuration, core

TWO = (
    core(2, core=3, input_shape=(1, 4, 4), destinations=(Destination(core=4, pooling=2),)),
    core(1, core=4, input_shape=(2, 2, 2)),
)
OTHER_CORE = {
    "core": 5,
    "layer": 7,
    "input_shape": (1, 4, 5),
    "output_shape": (2, 4, 5),
    "kernel_size": 3,
    "stride": (1, 2),
    "padding": (1, 0),
    "weights": np.full((2, 1, 1, 1), 2, np.int8),
    "biases": np.array([0, 1], np.int16),
    "threshold_high": 3,
    "threshold_low": -3,
    "return_to_zero": True,
    "leak_enable": True,
    "monitor_enable": True,
    "decimator": 2,
    "destinations": (Destination(core=4, pooling=4),),
    "exit_pooling": 2,
    "initial_state": np.zeros((2, 4, 4), np.int16),
    "weights_kill": np.zeros((2, 1, 1, 1), np.bool_),
    "biases_kill": np.zeros(2, np.bool_),
    "neurons_kill": np.zeros((2, 4, 4), np.bool_),
}
OTHER_DVS = {
    "merge": True,
    "on_channel": False,
    "off_channel": False,
    "pooling": (1, 2),
    "origin": (1, 0),
    "cut": (127, 126),
    "mirror": (False, True),
    "mirror_diagonal": True,
    "pass_sensor_events": True,
    "monitor_enable": True,
    "destinations": (Destination(core=3),),
}
OTHER = {
    "chip": "speck2e",
    "input_shape": (1, 4, 5),
    "cores": TWO[:1],
    "inputs": (Destination(core=4),),
    "dvs": DvsConfiguration(),
    "vendor": {"readout.threshold": 1},
    "polarity": "merge",
    "slow_clock_hz": 100.0,
    "keep_state": True,
    "order_seed": 0,
    "settings": '{"reset": "zero"}',
}


def made() -> Configuration:
    return configuration(*TWO)


def test_the_same_configuration_built_twice_has_the_same_digest() -> None:
    assert made().digest == made().digest
    assert len(made().digest) == 64


@pytest.mark.parametrize("name", [field.name for field in fields(Configuration)])
def test_every_field_changes_the_digest(name: str) -> None:
    changed = replace(made(), **{name: OTHER[name]})

    assert changed.digest != made().digest


@pytest.mark.parametrize("name", [field.name for field in fields(CoreConfiguration)])
def test_every_field_of_a_core_changes_the_digest(name: str) -> None:
    first = replace(made().cores[0], **{name: OTHER_CORE[name]})

    changed = replace(made(), cores=(first, made().cores[1]))

    assert changed.digest != made().digest


@pytest.mark.parametrize("name", [field.name for field in fields(DvsConfiguration)])
def test_every_field_of_the_dvs_layer_changes_the_digest(name: str) -> None:
    changed = replace(made(), dvs=DvsConfiguration(**{name: OTHER_DVS[name]}))

    assert changed.digest != replace(made(), dvs=DvsConfiguration()).digest


@pytest.mark.parametrize(
    "change", [{"core": 6}, {"pooling": 1}, {"feature_shift": 1}, {"enable": False}]
)
def test_every_field_of_a_destination_changes_the_digest(change: dict[str, int]) -> None:
    first = made().cores[0]
    to = replace(first.destinations[0], **change)

    changed = replace(made(), cores=(replace(first, destinations=(to,)), made().cores[1]))

    assert changed.digest != made().digest


def test_the_order_of_the_layers_changes_the_digest() -> None:
    assert replace(made(), cores=made().cores[::-1]).digest != made().digest


def test_memory_order_of_an_array_does_not_change_the_digest() -> None:
    first = made().cores[0]
    turned = replace(first, weights=np.asfortranarray(first.weights))

    assert replace(made(), cores=(turned, made().cores[1])).digest == made().digest


def test_a_configuration_survives_its_bytes() -> None:
    full = replace(
        made(),
        cores=(replace(made().cores[0], **OTHER_CORE), made().cores[1]),
        dvs=DvsConfiguration(**OTHER_DVS),
        vendor={"readout.threshold": 1},
        order_seed=5,
    )

    read = from_bytes(to_bytes(full))

    assert read.digest == full.digest
    assert read.dvs == full.dvs
    assert read.cores[0].destinations == full.cores[0].destinations


def test_arrays_survive_the_bytes() -> None:
    read = from_bytes(to_bytes(made()))

    assert read.digest == made().digest
    assert np.array_equal(read.cores[0].weights, made().cores[0].weights)


def test_a_configuration_that_an_earlier_version_stored_has_no_order_seed() -> None:
    with np.load(io.BytesIO(to_bytes(replace(made(), order_seed=5)))) as file:
        arrays = dict(file)
    head = json.loads(arrays["head"].tobytes())
    del head["order_seed"]
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    older = io.BytesIO()
    np.savez(older, **arrays)

    read = from_bytes(older.getvalue())

    assert read.order_seed is None
    assert read.digest == made().digest


def test_a_core_is_found_by_its_number() -> None:
    found = made().core_of(4)

    assert found is not None
    assert found.layer == 1
    assert made().core_of(8) is None


def test_a_core_counts_its_memory() -> None:
    first = core(65, input_shape=(16, 33, 33), kernel_size=3)

    assert first.kernel_entries == 16 * 16 * 128
    assert first.neuron_entries == 65 * 32 * 32
