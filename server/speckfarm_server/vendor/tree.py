"""The tree of a vendor's JSON, value by value against the table of keys: types, ranges, shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.errors import BadInput
from speckfarm_server.vendor.keys import Array, Dialect, Key, Many, Number, Section, Switch
from speckfarm_server.vendor.write import EMPTY_LIST, EMPTY_OBJECT, SWITCH, UNKNOWN, row_major

Values: TypeAlias = dict[str, Any]
MAX_UNKNOWN = 10_000
LARGEST = (1 << 63) - 1  # of an unknown number
MAX_PATH = 300  # characters of an unknown value's; also bounds nesting
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a tree holds."""

    values: Values  # by attribute; lists for Many, arrays in the farm's order
    unknown: Mapping[str, int]  # numbers and switches of other keys, as in Configuration.vendor


def read_tree(root: Mapping[str, Any], keys: Section, dialect: Dialect) -> Reading:
    """Read every value that the table knows and note those that it does not.

    Raises BadInput for the first value that is wrong.
    """
    reader = _Reader(dialect)
    values = reader.section(root, keys, "")
    return Reading(values=values, unknown=reader.unknown)


def kind_of(value: object) -> str:
    """A value's type in words."""
    return _KINDS.get(type(value), "an object")


_KINDS: Mapping[type, str] = {
    bool: "true or false", int: "a whole number", float: "a number that is not whole", str: "text",
    list: "a list", type(None): "null",
}  # fmt: skip


class _Reader:
    def __init__(self, dialect: Dialect) -> None:
        self.unknown: dict[str, int] = {}
        self._dialect = dialect

    def section(self, found: object, keys: Section, path: str) -> dict[str, Any]:
        if not isinstance(found, dict):
            raise _wrong_kind(path, found, "an object")
        names = {self._dialect.spelled(name): name for name in keys}
        values = {
            name: self._key(found, spelled, keys[name], path) for spelled, name in names.items()
        }
        for spelled, value in found.items():
            if spelled not in names:
                self._note(value, UNKNOWN + _joined(path, _checked(spelled, path)))
        return values

    def _key(self, found: Mapping[str, Any], spelled: str, key: Key, path: str) -> Any:
        here = _joined(path, spelled)
        if spelled in found:
            return self._value(found[spelled], key, here)
        if not is_optional(key):
            text = f"{here} is missing; the vendor's library writes every field"
            raise BadInput("MISSING_FIELD", text, path=here)
        if isinstance(key, (Number, Switch)):
            return key.default
        return None if isinstance(key, Array) else self.section({}, _keys(key), here)

    def _value(self, found: Any, key: Key, path: str) -> Any:
        if isinstance(key, Number):
            return _number(found, key.low, key.high, path)
        if isinstance(key, Switch):
            if type(found) is not bool:
                raise _wrong_kind(path, found, "true or false")
            return found
        if isinstance(key, Array):
            return _array(found, key, path)
        if isinstance(key, Many):
            numbered = {f"value{number}": key.keys for number in range(key.count)}
            return list(self.section(found, numbered, path).values())
        return self.section(found, key, path)

    def _note(self, value: object, path: str) -> None:
        """Keep a value under a key that the table does not have."""
        if len(path) > MAX_PATH:
            text = f"{path[:80]} ... is nested too deeply; paths of {MAX_PATH} characters are read"
            raise BadInput("MODEL_UNREADABLE", text, path=path[:80], allowed=MAX_PATH)
        if isinstance(value, dict) and value:
            for key, each in value.items():
                self._note(each, _joined(path, _checked(key, path.removeprefix(UNKNOWN))))
        elif isinstance(value, list) and value:
            for index, each in enumerate(value):
                self._note(each, f"{path}[{index}]")
        else:
            self._note_leaf(value, path)

    def _note_leaf(self, value: object, path: str) -> None:
        if len(self.unknown) == MAX_UNKNOWN:
            text = f"More than {MAX_UNKNOWN:,} values have keys that the farm does not know"
            raise BadInput("MODEL_TOO_LARGE", text, allowed=MAX_UNKNOWN)
        if isinstance(value, bool):
            self.unknown[path + SWITCH] = value
        elif isinstance(value, int):
            self.unknown[path] = _number(value, -LARGEST, LARGEST, path.removeprefix(UNKNOWN))
        elif isinstance(value, (dict, list)):
            self.unknown[path + (EMPTY_OBJECT if isinstance(value, dict) else EMPTY_LIST)] = 0
        else:
            text = "a whole number, true or false"
            raise _wrong_kind(path.removeprefix(UNKNOWN), value, text)


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _checked(key: str, path: str) -> str:
    if len(key) <= 100 and _KEY.fullmatch(key):
        return key
    text = f"{path or 'The file'} has the key {ascii(key)[:100]}; letters, digits and _ are wanted"
    raise BadInput("MODEL_UNREADABLE", text, path=path, found=ascii(key)[:100])


def is_optional(key: Key) -> bool:
    """Whether a key, with all that is in it, may be left out."""
    if isinstance(key, (Number, Switch, Array)):
        return key.is_optional
    return all(map(is_optional, _keys(key).values()))


def _keys(key: Many | Section) -> Section:
    return key.keys if isinstance(key, Many) else key


def _number(found: object, low: int, high: int, path: str) -> int:
    if type(found) is not int:
        raise _wrong_kind(path, found, "a whole number")
    if low <= found <= high:
        return found
    raise _out_of_range(path, found, low, high)


def _array(found: object, key: Array, path: str) -> NDArray[Any]:
    """An array in the farm's order of axes; it has at least one value along each."""
    parts = dict(found) if isinstance(found, dict) else None
    if parts is None or parts.keys() != {"dimensions", "offsets", "values"}:
        text = f"{path} must be an object with dimensions, offsets and values, and nothing else"
        raise BadInput("MODEL_UNREADABLE", text, path=path)
    shape = _sizes(parts["dimensions"], key.axes, f"{path}.dimensions")
    offsets = _sizes(parts["offsets"], key.axes, f"{path}.offsets")
    values = parts["values"]
    if not isinstance(values, list):
        raise _wrong_kind(f"{path}.values", values, "a list")
    if len(values) != math.prod(shape):
        text = f"{path} has {len(values):,} values; its dimensions {shape} ask for "
        text += f"{math.prod(shape):,}"
        raise BadInput(
            "WRONG_SHAPE", text, path=path, found=len(values), expected=math.prod(shape),
            dimensions=shape,
        )  # fmt: skip
    if offsets != row_major(shape):
        text = f"{path}.offsets are {offsets}; dimensions {shape} in order ask for "
        text += f"{row_major(shape)}"
        raise BadInput("WRONG_SHAPE", text, path=path, found=offsets, expected=row_major(shape))
    array = np.array(_checked_values(values, key, f"{path}.values"), array_type(key)).reshape(shape)
    return np.ascontiguousarray(array if key.axes < 2 else array.swapaxes(-1, -2))


def _sizes(found: object, axes: int, path: str) -> tuple[int, ...]:
    names = [f"value{axis}" for axis in range(axes)]
    if not isinstance(found, dict) or sorted(found) != names:
        text = f"{path} must be an object with {', '.join(names)}, one for each axis"
        raise BadInput("WRONG_SHAPE", text, path=path, axes=axes)
    return tuple(_number(found[name], 1, 1 << 31, f"{path}.{name}") for name in names)


def _checked_values(values: list[Any], key: Array, path: str) -> list[Any]:
    wanted = bool if key.is_switch else int
    if set(map(type, values)) != {wanted}:
        index = next(index for index, value in enumerate(values) if type(value) is not wanted)
        words = "true or false" if key.is_switch else "a whole number"
        raise _wrong_kind(f"{path}[{index}]", values[index], words)
    if not key.is_switch and (min(values) < key.low or max(values) > key.high):
        index = next(i for i, value in enumerate(values) if not key.low <= value <= key.high)
        raise _out_of_range(f"{path}[{index}]", values[index], key.low, key.high)
    return values


def array_type(key: Array) -> type[np.generic]:
    """Type of an array's values here."""
    if key.is_switch:
        return np.bool_
    return np.int8 if key.high <= 127 else np.int16


def _wrong_kind(path: str, found: object, wanted: str) -> BadInput:
    text = f"{path} is {kind_of(found)}; {wanted} is wanted"
    return BadInput("MODEL_UNREADABLE", text, path=path, found=kind_of(found), allowed=wanted)


def _out_of_range(path: str, found: int, low: int, high: int) -> BadInput:
    is_short = found.bit_length() <= 64
    number = str(found) if is_short else f"a number of {found.bit_length()} bits"
    text = f"{path} is {number}; {low} to {high} fit. The vendor's own reader would let it wrap"
    return BadInput("VALUE_OUT_OF_RANGE", text, path=path, found=number, smallest=low, largest=high)
