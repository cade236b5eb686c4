"""What a samna module lacks of the names that the farm uses is found without a board."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from speckfarm_server.boards.samna.names import (
    CHIP_NAMES,
    CONFIGURATION,
    LIBRARY,
    Name,
    attributes_of_chip,
    names_missing,
    names_of,
    resolve,
)
from speckfarm_server.chip import CHIPS
from speckfarm_server.errors import BoardFault
from tests.samna_objects import samna_module


def found(*without: str) -> list[str]:
    return [name.text for name in names_missing(samna_module(without=without))]


def test_a_module_with_every_documented_name_lacks_nothing() -> None:
    assert found() == []


@pytest.mark.parametrize(
    "path",
    [
        "__version__",
        "device.get_all_devices",
        "device.DeviceInfo.logic_version",
        "graph.EventFilterGraph.sequential",
        "BasicSourceNode_speck2e_event_speck2e_input_event",
        "BasicSinkNode_speck2f_event_output_event.get_events",
        "BasicSinkNode_unifirm_modules_events_measurement",
        "speck2f.validate_configuration",
        "speck2f.event.WriteNeuronValue.neuron_state",
        "speck2e.event.Spike",
        "speck2e.configuration.SpeckConfiguration",
        "speck2e",
    ],
)
def test_a_name_that_is_taken_away_is_listed_and_nothing_that_was_in_it(path: str) -> None:
    assert found(path) == [f"samna.{path}"]


def test_a_whole_part_that_is_taken_away_is_listed_by_what_the_farm_uses_of_it() -> None:
    assert found("graph") == ["samna.graph.EventFilterGraph"]


@pytest.mark.parametrize(
    "path", ["cnn_layers[0].output_decimator_interval", "dvs_layer.cut.x", "readout.enable"]
)
def test_an_attribute_that_a_configuration_lacks_is_listed(path: str) -> None:
    module = samna_module()
    whole = module.speck2f.configuration.SpeckConfiguration

    def lacking() -> object:
        made = whole()
        holder = made
        *steps, last = path.replace("[0]", "").split(".")
        for step in steps:
            holder = getattr(holder, step)
            holder = holder[0] if isinstance(holder, list) else holder
        del vars(holder)[last]
        return made

    lacking.to_json = None  # type: ignore[attr-defined]
    module.speck2f.configuration.SpeckConfiguration = lacking

    [name] = names_missing(module)

    assert (name.text, name.owner) == (f"configuration.{path}", CONFIGURATION)
    assert names_missing(module, ("speck2e",)) == []


def test_the_spelling_of_an_earlier_version_will_do() -> None:
    module = samna_module(without=("BasicSinkNode_speck2f_event_output_event",))
    sink = SimpleNamespace(get_events=list)
    vars(module)["BufferSinkNode_speck2f_event_output_event"] = sink

    assert [name.path for name in names_missing(module, ("speck2f",)) if not name.is_optional] == []
    assert resolve(module, names_of("speck2f")["sink"]) is sink


def test_a_spelling_is_found_on_its_owner_the_newest_first() -> None:
    start = names_of("speck2f")["watch.start"]
    older = SimpleNamespace(set_enable_value="older")

    assert resolve(older, start) == "older"
    assert resolve(SimpleNamespace(start="newer", **vars(older)), start) == "newer"


def test_a_name_without_any_spelling_is_told() -> None:
    with pytest.raises(BoardFault, match=r"\(1\): stop watch.reset\.") as refused:
        resolve(object(), names_of("speck2f")["watch.reset"])

    assert refused.value.reason == "VENDOR_NAMES_MISSING"


def test_nodes_of_speck2e_are_named_as_its_library_names_them() -> None:
    assert names_of("speck2e")["source"].path == "BasicSourceNode_speck2e_event_speck2e_input_event"
    assert names_of("speck2f")["source"].path == "BasicSourceNode_speck2f_event_input_event"


def test_every_chip_has_names_and_each_type_of_devkit_is_of_one_chip() -> None:
    types = [each for names in CHIP_NAMES.values() for each in names.device_types]

    assert set(CHIP_NAMES) == set(CHIPS)
    assert sorted(types) == [
        "Speck2eDevKit", "Speck2eTestBoard", "Speck2fDevKit", "Speck2fModuleDevKit",
    ]  # fmt: skip


@pytest.mark.parametrize("chip", sorted(CHIP_NAMES))
def test_only_names_of_speck2b_without_a_board_are_said_to_have_run(chip: str) -> None:
    names: list[Name] = [*names_of(chip).values(), *attributes_of_chip(chip)]

    ran = [name for name in names if name.has_run]
    assert all(name.source for name in names)
    assert all(name.owner in {LIBRARY, CONFIGURATION} for name in ran)
    if chip != "speck2b":
        assert not [name for name in ran if name.owner == CONFIGURATION]
        assert not [name for name in ran if chip in name.path]
    assert not [name for name in names if "{" in name.path]


def test_nothing_here_imports_the_vendors_library() -> None:
    code = (
        "import sys, speckfarm_server.boards.samna.configuration as _;"
        "print([name for name in ('samna', 'samnagui', 'grpc', 'numba') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
