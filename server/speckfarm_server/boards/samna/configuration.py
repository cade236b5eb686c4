"""A Configuration is written into the vendor's own objects, attribute by attribute, and read back.

The objects are given by the caller; this module never imports samna. Names come from the table of
the vendor's JSON, whose writer orders the axes (x before y). With samna 0.7.1.0 and speck2b both
ways are proved (`make vendor`). What speck2e and speck2f have beyond that follows their
documentation and has never run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.boards.samna.names import ChipNames, missing
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.vendor.keys import (
    CAMEL_CASE,
    KILL_BITS,
    Array,
    Key,
    Many,
    Number,
    Section,
    Switch,
)
from speckfarm_server.vendor.tree import array_type, is_optional
from speckfarm_server.vendor.values import configuration_of
from speckfarm_server.vendor.write import (
    EMPTY_LIST,
    EMPTY_OBJECT,
    ROOT,
    SWITCH,
    UNKNOWN,
    Tree,
    attributes_of,
)

Value: TypeAlias = "int | bool | NDArray[Any]"
Step: TypeAlias = "str | int"  # an attribute, or a place in a list


def write(configuration: Configuration, target: object, names: ChipNames) -> None:
    """Write all of a configuration into a new configuration object of the vendor's library.

    All nine cores are written, idle ones as they are after a reset. Attributes that are assumed and
    not documented are set only if the configuration says something else than their default, for a
    section of such alone (readout, DVS filter) all or none. Raises BoardFault WRONG_CHIP,
    VENDOR_NAMES_MISSING with every attribute that is missing (the vendor's objects take any name
    in silence) and then nothing is written, or VENDOR_VALUE_REFUSED; BadInput NOT_IN_VENDOR_JSON
    for a decimator on speck2b. Values are to be checked by the rules before: samna crashes on some.
    """
    wanted = list(_leaves_for(configuration, names))
    lacking = [leaf.text for leaf in wanted if leaf.is_needed and not leaf.is_in(target)]
    if lacking:
        raise missing(lacking)
    for leaf in wanted:
        if leaf.is_in(target):
            leaf.write(target)


def differences(configuration: Configuration, target: object, names: ChipNames) -> list[str]:
    """Paths at which an object does not hold what `write` writes; [] if it holds all."""
    wanted = _leaves_for(configuration, names)
    return [leaf.text for leaf in wanted if not leaf.is_held_by(target)]


def read(target: object, names: ChipNames) -> Configuration:
    """The configuration that an object holds.

    As with a vendor's file, what belongs to a run is not in it, recorded events enter where no core
    leads, and layers are numbered behind their sources. On speck2e and speck2f, kill bits that kill
    nothing are None. Raises BoardFault VENDOR_NAMES_MISSING.
    """
    lacking: list[str] = []
    values = _read_section(target, names.dialect.keys, "", lacking)
    if lacking:
        raise missing(lacking)
    return replace(configuration_of(values, names.dialect), chip=names.chip)


@dataclass(frozen=True, kw_only=True)
class _Leaf:
    """One attribute and its value."""

    path: tuple[Step, ...]
    value: Value
    is_needed: bool  # False: its default, under a name that is only assumed

    @property
    def text(self) -> str:
        """cnn_layers[3].destinations[0].layer."""
        steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return "".join(steps).removeprefix(".")

    def is_in(self, target: object) -> bool:
        """Whether the library's objects have the attribute."""
        holder, name = self._holder(target), str(self.path[-1])
        # On the class first: to get an array from the library is slow.
        return hasattr(type(holder), name) or hasattr(holder, name)

    def write(self, target: object) -> None:
        """Set the attribute; arrays as lists, which every version takes."""
        value = self.value.tolist() if isinstance(self.value, np.ndarray) else self.value
        try:
            setattr(self._holder(target), str(self.path[-1]), value)
        except (TypeError, ValueError) as error:
            words = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            text = (
                f"The installed samna refuses the value of {self.text}: {words}. Its version takes "
                "less than the chip's rules allow; change the model, or install another version"
            )
            raise BoardFault(
                "VENDOR_VALUE_REFUSED", text, ErrorClass.JOB, path=self.text
            ) from error

    def is_held_by(self, target: object) -> bool:
        """Whether the object has this value, or needs none."""
        if not self.is_in(target):
            return not self.is_needed
        found = getattr(self._holder(target), str(self.path[-1]))
        if isinstance(self.value, np.ndarray):
            return np.array_equal(np.array(found), self.value)
        return bool(found == self.value)

    def _holder(self, target: object) -> object | None:
        for step in self.path[:-1]:
            target = _at(target, step) if isinstance(step, int) else getattr(target, step, None)
        return target


def _at(items: object, index: int) -> object | None:
    return items[index] if isinstance(items, Sequence) and index < len(items) else None


def _leaves_for(configuration: Configuration, names: ChipNames) -> Iterator[_Leaf]:
    if configuration.chip != names.chip:
        text = f"A configuration of {configuration.chip} is not for a board with {names.chip}"
        raise BoardFault(
            "WRONG_CHIP",
            text,
            ErrorClass.INTERNAL,
            found=configuration.chip,
            expected=names.chip,
        )
    values = attributes_of(configuration)
    for core in values["cnn_layers"]:
        _size_kill_bits(core)
    yield from _leaves(values, names.dialect.keys, (), is_whole=False)
    for path, value in configuration.vendor.items():
        if path.startswith(UNKNOWN) and path != CAMEL_CASE:
            yield from _unknown(path, value)


def _size_kill_bits(core: Tree) -> None:
    """Kill bits must have the sizes of what they kill, and no file need have them."""
    for bits, killed in zip(KILL_BITS, _KILLED, strict=True):
        core.setdefault(bits, np.zeros(core[killed].shape, np.bool_))


_KILLED = ("weights", "biases", "neurons_initial_value")  # by KILL_BITS


def _leaves(
    values: Tree, keys: Section, path: tuple[Step, ...], *, is_whole: bool
) -> Iterator[_Leaf]:
    is_whole = is_whole or (is_optional(keys) and not _is_default(values, keys))
    for name, value in values.items():
        key, here = keys.get(name), (*path, name)
        if isinstance(value, list):
            inner = key.keys if isinstance(key, Many) else {}
            for index, each in enumerate(value):
                yield from _leaves(each, inner, (*here, index), is_whole=is_whole)
        elif isinstance(value, dict):
            inner = key if isinstance(key, Mapping) else {}
            yield from _leaves(value, inner, here, is_whole=is_whole)
        elif key is None or not is_optional(key):
            yield _Leaf(path=here, value=value, is_needed=True)
        elif isinstance(key, Array) or is_whole or not _is_default(value, key):
            yield _Leaf(path=here, value=value, is_needed=not _is_default(value, key))


def _is_default(value: Any, key: Key) -> bool:
    if isinstance(key, Array):
        return not value.any()
    if isinstance(key, (Number, Switch)):
        return bool(value == key.default)
    if isinstance(key, Many):
        return all(_is_default(each, key.keys) for each in value)
    return all(_is_default(each, key[name]) for name, each in value.items() if name in key)


def _unknown(path: str, value: int) -> Iterator[_Leaf]:
    """A key that the farm does not know, as the attribute that it is in Python."""
    if path.endswith((EMPTY_OBJECT, EMPTY_LIST)):
        return
    words = path.removeprefix(UNKNOWN).removesuffix(SWITCH).removeprefix(f"{ROOT}.")
    steps = tuple(
        int(place[1] or place[2])
        if (place := _PLACE.fullmatch(step))
        else _HUMP.sub(r"_\1", step).lower()
        for step in _STEP.findall(words)
    )
    found = bool(value) if path.endswith(SWITCH) else value
    yield _Leaf(path=steps, value=found, is_needed=True)


_STEP, _PLACE = re.compile(r"\w+|\[\d+\]"), re.compile(r"value(\d+)|\[(\d+)\]")
_HUMP = re.compile(r"(?<=[a-z0-9])([A-Z])")


def _read_section(target: object, keys: Section, path: str, lacking: list[str]) -> Tree:
    return {
        name: _read(target, name, key, (f"{path}.{name}" if path else name, lacking))
        for name, key in keys.items()
    }


def _read(target: object, name: str, key: Key, note: tuple[str, list[str]]) -> Any:
    """An attribute; what is missing is noted, unless it is assumed: then it has its default."""
    path, lacking = note
    found = getattr(target, name, None)
    if found is None and not is_optional(key):
        lacking.append(path)
        return None
    if isinstance(key, Many):
        items = [_at(found, index) for index in range(key.count)]
        return [
            _read_section(item, key.keys, f"{path}[{index}]", lacking)
            for index, item in enumerate(items)
        ]
    if isinstance(key, Array):
        return None if found is None else _read_array(found, key)
    if isinstance(key, (Number, Switch)):
        value = key.default if found is None else found
        return bool(value) if isinstance(key, Switch) else int(value)
    return _read_section(found, key, path, lacking)


def _read_array(found: object, key: Array) -> NDArray[Any] | None:
    array = np.array(found, array_type(key))
    array = np.ascontiguousarray(array if key.axes < 2 else array.swapaxes(-1, -2))
    return None if key.is_optional and not array.any() else array
