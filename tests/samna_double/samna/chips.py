"""What samna has for each chip: its events, its configuration, its validator."""

from __future__ import annotations

import json
from operator import index
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

from tests.samna_objects import Plain, speck2ef

U8, U16, U32, I16 = (0, 0xFF), (0, 0xFFFF), (0, 0xFFFFFFFF), (-0x8000, 0x7FFF)
FIELDS: dict[str, dict[str, tuple[int, int]]] = {
    "Spike": {"layer": U8, "feature": U16, "x": U8, "y": U8, "timestamp": U32},
    "DvsEvent": {"x": U8, "y": U8, "p": (0, 1), "timestamp": U32},
    "ReadNeuronValue": {"layer": U8, "address": U32},
    "WriteNeuronValue": {"layer": U8, "address": U32, "neuron_state": I16},
    "NeuronValue": {"layer": U8, "address": U32, "neuron_state": I16},
    "ReadoutPinValue": {"index": U8, "timestamp": U32},
    "ReadoutValue": {"value": U32},  # neither layer nor timestamp
}
INPUTS = ("Spike", "DvsEvent", "ReadNeuronValue", "WriteNeuronValue")


class Event:
    """An event: made without arguments, as all public programs do; its fields have C's ranges."""

    __slots__: tuple[str, ...] = ()
    ranges: ClassVar[dict[str, tuple[int, int]]] = {}

    def __init__(self) -> None:
        for name in self.__slots__:
            object.__setattr__(self, name, 0)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.ranges:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        low, high = self.ranges[name]
        if not low <= index(value) <= high:
            raise TypeError(f"incompatible function arguments: {name} = {value}")
        object.__setattr__(self, name, index(value))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"


def made(kind: type[Event], *values: int) -> Any:
    """An event with these fields in order, unchecked: there are many."""
    event = object.__new__(kind)
    for name, value in zip(kind.__slots__, values, strict=True):
        object.__setattr__(event, name, value)
    return event


class Configuration(Plain):
    """A configuration object; its class has what the vendor's has."""

    def __init__(self) -> None:
        vars(self).update(vars(speck2ef()))

    def to_json(self) -> str:
        """As text; no reader of it is known."""
        return json.dumps(self, default=_tree)


def _tree(value: Any) -> Any:
    if isinstance(value, Plain):
        return {name: each for name, each in vars(value).items() if not name.startswith("_")}
    return value.tolist()


def chip_module(name: str) -> Any:
    """The part of the library that is about one chip; its classes are no other chip's."""
    module: Any = ModuleType(f"samna.{name}")
    configuration = type("SpeckConfiguration", (Configuration,), {})
    module.configuration = SimpleNamespace(SpeckConfiguration=configuration)
    module.event = SimpleNamespace(**{
        each: type(each, (Event,), {"__slots__": tuple(fields), "ranges": fields})
        for each, fields in FIELDS.items()
    })

    def validate_configuration(found: Any) -> tuple[bool, str]:
        if not isinstance(found, configuration):
            raise TypeError(f"incompatible function arguments: {type(found).__name__}")
        return True, ""

    module.validate_configuration = validate_configuration
    return module
