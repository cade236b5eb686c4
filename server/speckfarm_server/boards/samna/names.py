"""Every name of the vendor's library samna that the farm uses, in one table, by chip and version.

This module never imports samna; it is given modules and objects. Labels of sources: `V071` was run
here with samna 0.7.1.0, whose one chip of ours is speck2b, without a board. `SD` is samna's public
reference (deviceController, filters, configuration and event of speck2e and speck2f). `DS` is the
Speck Dev Kit Datasheet of August 2023. `S` is sinabs 3.1.3. `OF`, `LENS` and `BMI` are public
programs that drive speck2f devkits (speck_optical_flow, LENS, spike_bmi). All but `V071` was read
and never run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.vendor.keys import (
    SPECK2B,
    SPECK2EF,
    Array,
    Dialect,
    Many,
    Number,
    Section,
    Switch,
)

LIBRARY, CONFIGURATION = "samna", "configuration"  # owners that need no board
RAN_WITH = "0.7.1.0"  # the one version whose names were ever run here


@dataclass(frozen=True, kw_only=True)
class Name:
    """One name of the vendor's library."""

    path: str  # from its owner, as Python spells it
    owner: str = LIBRARY  # samna, configuration, or a part of an opened board
    source: str
    older: tuple[str, ...] = ()  # paths of earlier versions that do as well
    has_run: bool = False  # here, with RAN_WITH and speck2b; no name has run with a board
    is_optional: bool = False  # a board works without it

    @property
    def text(self) -> str:
        """The name with its owner."""
        return f"{self.owner}.{self.path}"


@dataclass(frozen=True, kw_only=True)
class ChipNames:
    """What is called otherwise on each chip."""

    chip: str  # also the name of its module in samna
    dialect: Dialect  # its attributes are those of the JSON
    device_types: tuple[str, ...] = ()  # `device_type_name` of devkits with it
    words: Mapping[str, str]  # what stands for {word} in paths; a name with another is not its


CHIP_NAMES = {
    "speck2f": ChipNames(
        chip="speck2f",
        dialect=SPECK2EF,
        device_types=("Speck2fDevKit", "Speck2fModuleDevKit"),  # S io.py
        words={"chip": "speck2f", "input": "input"},
    ),
    "speck2e": ChipNames(
        chip="speck2e",
        dialect=SPECK2EF,
        device_types=("Speck2eDevKit", "Speck2eTestBoard"),  # S io.py
        # Its source node is named otherwise: S chips/speck2e.py.
        words={"chip": "speck2e", "input": "speck2e_input"},
    ),
    # For proofs without a board: 0.7.1 cannot open one, and no devkit with speck2b is supported.
    "speck2b": ChipNames(chip="speck2b", dialect=SPECK2B, words={"chip": "speck2b"}),
}


def _name(path: str, source: str, *older: str, owner: str = LIBRARY, **flags: bool) -> Name:
    return Name(path=path, source=source, older=older, owner=owner, **flags)


def _optional(path: str, source: str, *older: str, owner: str = LIBRARY) -> Name:
    return _name(path, source, *older, owner=owner, is_optional=True)


def _fields(path: str, fields: str, source: str, *, is_optional: bool = False) -> dict[str, Name]:
    """A class and its fields, by their last words."""
    paths = [path, *(f"{path}.{field}" for field in fields.split())]
    short = path.rpartition(".")[2]
    return {
        f"{short}{each.removeprefix(path)}": _name(each, source, is_optional=is_optional)
        for each in paths
    }


_MADE = "{chip}.configuration.SpeckConfiguration"
_SOURCE = "BasicSourceNode_{chip}_event_{input}_event"
_SINK = "BasicSinkNode_{chip}_event_output_event"
_OLD_SINK = "BufferSinkNode_{chip}_event_output_event"  # V071
_GRAPH = "graph.EventFilterGraph"
_POWER_SINK = "BasicSinkNode_unifirm_modules_events_measurement"
_INFO = "device_type_name serial_number usb_bus_number usb_device_address logic_version"
_SEEN = "SD, OF; V071 has it, never used"
# By what the farm calls them, in the order of a board's life.
_NAMES: Mapping[str, Name] = {
    "version": _optional("__version__", "absent in V071"),
    "module": _name("{chip}", "V071, SD", has_run=True),
    # Discovery.
    "all_devices": _name("device.get_all_devices", "SD, S io.py; absent in V071"),
    **_fields("device.DeviceInfo", _INFO, "S device_management.md; V071 has it, never used"),
    "open_device": _name("device.open_device", "SD, S io.py; absent in V071"),
    "close_device": _name("device.close_device", "SD, S io.py; absent in V071"),
    # An opened board and its parts.
    "reset_board": _name("reset_board_soft", "S device_management.md", owner="board"),
    "model": _name("get_model", "S, OF", owner="board"),
    "stop_watch": _name("get_stop_watch", "S io.py", owner="board"),
    "io_module": _name("get_io_module", "S, DS, OF", owner="board"),
    "power_monitor": _optional("get_power_monitor", "S power_monitoring", owner="board"),
    # Its configuration.
    "Configuration": _name(_MADE, "V071, SD", has_run=True),
    "to_json": _name(f"{_MADE}.to_json", "V071, SD", has_run=True),
    "validate": _name("{chip}.validate_configuration", "V071, S", has_run=True),
    "apply": _name("apply_configuration", "S, OF, BMI", owner="model"),
    # Graphs. Before 0.21 nodes were joined otherwise (sinabs issue 147).
    "graph": _name(_GRAPH, "SD, S, OF; V071 has it, never used"),
    "graph.sequential": _name(f"{_GRAPH}.sequential", "SD, S, OF; absent in V071"),
    "graph.start": _name(f"{_GRAPH}.start", _SEEN),
    "graph.stop": _name(f"{_GRAPH}.stop", _SEEN),
    "source": _name(_SOURCE, "S chips/speck2e.py, speck2f.py"),
    "source.write": _name(f"{_SOURCE}.write", "S, OF, LENS"),
    "sink": _name(_SINK, "S chips/speck2e.py, speck2f.py", _OLD_SINK),
    "sink.get_events": _name(f"{_SINK}.get_events", "SD, S, OF", f"{_OLD_SINK}.get_events"),
    "sink.clear_events": _optional(f"{_SINK}.clear_events", "SD; absent in V071"),
    "model.sink": _name("get_sink_node", "S, OF", owner="model"),
    "model.source": _name("get_source_node", "S, OF", owner="model"),
    # Clocks. start(reset=True) came with an unknown version (BMI), so it is not used.
    "watch.start": _name("start", "S io.py, BMI", "set_enable_value", owner="stop watch"),
    "watch.stop": _name("stop", "S io.py", "set_enable_value", owner="stop watch"),
    "watch.reset": _name("reset", "S io.py", owner="stop watch"),
    "slow_clock": _name("set_slow_clk", "S notebooks, OF", owner="io module"),
    "slow_clock_hz": _name("set_slow_clk_rate", "S notebooks, OF", owner="io module"),
    # Events in and out.
    **_fields("{chip}.event.Spike", "layer feature x y timestamp", _SEEN),
    **_fields("{chip}.event.DvsEvent", "x y p timestamp", _SEEN),
    **_fields("{chip}.event.ReadNeuronValue", "layer address", _SEEN),
    **_fields("{chip}.event.NeuronValue", "layer address neuron_state", "SD; V071: state alone"),
    **_fields("{chip}.event.WriteNeuronValue", "layer address neuron_state", "SD, BMI; V071 too"),
    **_fields(
        "{chip}.event.ReadoutPinValue", "index timestamp", "SD; absent in V071", is_optional=True
    ),
    # Power.
    "power.start": _optional(
        "start_auto_power_measurement", "S, DS", "start_auto_power_monitor", owner="power monitor"
    ),
    "power.stop": _optional("stop_auto_power_measurement", "S", owner="power monitor"),
    "power.source": _optional("get_source_node", "S", owner="power monitor"),
    "power.sink": _optional(_POWER_SINK, "S power_monitoring"),
    "power.sink.get_events": _optional(f"{_POWER_SINK}.get_events", "S power_monitoring"),
    "power.channel": _optional("channel", "S, BMI", owner="measurement"),
    "power.value": _optional("value", "S, BMI; watts", owner="measurement"),
    "power.stamp": _optional("timestamp", "S, BMI; all 0 with old firmware", owner="measurement"),
}


def names_of(chip: str) -> Mapping[str, Name]:
    """The names that a board with a chip is driven with, by what the farm calls them."""
    words, is_measured = CHIP_NAMES[chip].words, CHIP_NAMES[chip].dialect is SPECK2B
    found = {}
    for key, name in _NAMES.items():
        try:
            paths = [path.format(**words) for path in (name.path, *name.older)]
        except KeyError:
            continue
        has_run = name.has_run and is_measured
        found[key] = replace(name, path=paths[0], older=tuple(paths[1:]), has_run=has_run)
    return found


def attributes_of_chip(chip: str) -> Iterator[Name]:
    """Every attribute of its configuration; of lists with alike items, those of the first."""
    names = CHIP_NAMES[chip]
    is_measured = names.dialect is SPECK2B
    for path, is_optional in _attributes(names.dialect.keys, ""):
        yield Name(
            owner=CONFIGURATION,
            path=path,
            source="V071" if is_measured else "SD" if is_optional else "DS 3.2.2, SD, S",
            has_run=is_measured,
            is_optional=is_optional,
        )


def resolve(thing: object, name: Name) -> Any:
    """What a name stands for on its owner, in the spelling that this version has.

    Raises BoardFault VENDOR_NAMES_MISSING.
    """
    for path in (name.path, *name.older):
        found = _find(thing, path)
        if found is not _NOTHING:
            return found
    raise missing([name.text])


def spelled(thing: object, name: Name) -> str:
    """The last word of a name as this version spells it on an object.

    Raises BoardFault VENDOR_NAMES_MISSING.
    """
    for path in (name.path, *name.older):
        word = path.rpartition(".")[2]
        if hasattr(thing, word):
            return word
    raise missing([name.text])


def member(thing: object, name: Name) -> Any:
    """What a name stands for on an object of its owner."""
    return getattr(thing, spelled(thing, name))


def missing(names: Iterable[str]) -> BoardFault:
    """The fault of a library that lacks names."""
    listed = sorted(names)
    text = (
        f"The installed samna lacks names that the farm uses ({len(listed)}): {', '.join(listed)}. "
        "Install a version that has them, or leave out what needs them"
    )
    metadata = {"count": len(listed), "names": ", ".join(listed)}
    return BoardFault("VENDOR_NAMES_MISSING", text, ErrorClass.CONFIGURATION, **metadata)


def names_missing(module: ModuleType, chips: Iterable[str] = ("speck2f", "speck2e")) -> list[Name]:
    """Names of these chips that a samna module lacks, as far as that shows without a board.

    What is in a missing module or class is not listed beside it. Makes a configuration of each
    chip, which touches no hardware.
    """
    lacking: dict[Name, None] = {}
    for chip in chips:
        names = names_of(chip)
        for name in names.values():
            if name.owner == LIBRARY and not _has(module, name) and not _below(name, lacking):
                lacking[name] = None
        kind = _find(module, names["Configuration"].path)
        if kind is not _NOTHING and callable(kind):
            made = kind()  # kept alive: its parts do not keep it
            lacking |= dict.fromkeys(
                name for name in attributes_of_chip(chip) if not _has(made, name)
            )
    return list(lacking)


_NOTHING = object()


def _has(thing: object, name: Name) -> bool:
    return any(_find(thing, path) is not _NOTHING for path in (name.path, *name.older))


def _below(name: Name, lacking: Iterable[Name]) -> bool:
    return any(name.path.startswith(f"{each.path}.") for each in lacking)


def _find(thing: object, path: str) -> object:
    for step in path.replace("[0]", ".[0]").split("."):
        if step == "[0]":
            items = list(thing) if isinstance(thing, Iterable) else []
            thing = items[0] if items else _NOTHING
        else:
            thing = getattr(thing, step, _NOTHING)
    return thing


def _attributes(keys: Section, path: str) -> Iterator[tuple[str, bool]]:
    for name, key in keys.items():
        here = f"{path}.{name}" if path else name
        if isinstance(key, (Number, Switch, Array)):
            yield here, key.is_optional
        elif isinstance(key, Many):
            yield from _attributes(key.keys, f"{here}[0]")
        else:
            yield from _attributes(key, here)
