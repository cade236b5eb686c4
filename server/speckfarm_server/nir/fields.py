"""The fields of one NIR node, checked: numbers, whole numbers, pairs, shapes.

Every trouble becomes a finding that names the node and the field, and the value None. Values that
are legal NIR but that no chip has are kept; the check names those with its own rules.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.errors import Finding
from speckfarm_server.network import FloatArray
from speckfarm_server.nir.file import NirNode
from speckfarm_server.nir.graph import problem

MAX_AXIS = 1 << 16  # pixels or features along an axis; beyond it no shape is computed


class Fields:
    """Reads the fields of one node and collects what is wrong with them."""

    def __init__(self, node: NirNode) -> None:
        self.node = node
        self.findings: list[Finding] = []

    def refuse(self, reason: str, text: str, **metadata: object) -> None:
        """Add an ERROR finding: `text` continues the words "Node 'x' (Kind)"."""
        message = f"Node {self.node.name!r} ({self.node.kind}) {text}"
        figures = {"node": self.node.name, "kind": self.node.kind, **metadata}
        self.findings.append(problem(reason, message, **figures))

    def has(self, name: str) -> bool:
        """Whether the file has this field."""
        return name in self.node.fields

    def numbers(self, name: str) -> NDArray[Any] | None:
        """Read finite numbers of any shape, as stored."""
        array = self._array(name)
        if array is None:
            return None
        count = int(array.size - np.count_nonzero(np.isfinite(array)))
        if count:
            text = (
                f"has {count} values in {name!r} that are NaN or infinite; finite ones are wanted"
            )
            self.refuse("NOT_FINITE", text, field=name, found=count, allowed=0)
            return None
        if array.size == 0:
            text = f"has an empty {name!r}, shape {array.shape}"
            self.refuse("WRONG_SHAPE", text, field=name, found=array.shape)
            return None
        return array

    def float32(self, name: str) -> FloatArray | None:
        """Read finite numbers of any shape; those beyond float32 are NOT_FINITE."""
        array = self.numbers(name)
        if array is None:
            return None
        with np.errstate(over="ignore"):
            narrow: FloatArray = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(narrow).all():
            self.refuse("NOT_FINITE", f"has values in {name!r} beyond float32", field=name)
            return None
        return narrow.reshape(array.shape)

    def whole(self, name: str, default: int | None = None) -> int | None:
        """Read one whole number."""
        if default is not None and not self.has(name):
            return default
        values = self.wholes(name)
        if values is None:
            return None
        if len(values) != 1:
            text = f"has {len(values)} values in {name!r}; one is wanted"
            self.refuse("WRONG_SHAPE", text, field=name, found=len(values), allowed=1)
            return None
        return values[0]

    def pair(self, name: str, default: tuple[int, int] | None = None) -> tuple[int, int] | None:
        """Read (y, x); one number stands for both."""
        if default is not None and not self.has(name):
            return default
        values = self.wholes(name)
        if values is None:
            return None
        if len(values) not in (1, 2):
            text = f"has {len(values)} values in {name!r}; one or two are wanted"
            self.refuse("WRONG_SHAPE", text, field=name, found=len(values), allowed="1 or 2")
            return None
        return values[0], values[-1]

    def wholes(self, name: str) -> tuple[int, ...] | None:
        """Read whole numbers in a row or alone, as Python integers of any size."""
        array = self.numbers(name)
        if array is None:
            return None
        if array.ndim > 1 or array.size > 8:
            text = f"has {name!r} of shape {array.shape}; a number or a few in a row are wanted"
            self.refuse("WRONG_SHAPE", text, field=name, found=array.shape)
            return None
        values = array.ravel().tolist()
        if any(value != int(value) for value in values):
            text = f"has {name!r} = {values}; whole numbers are wanted"
            self.refuse("VALUE_OUT_OF_RANGE", text, field=name, found=values)
            return None
        return tuple(int(value) for value in values)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Read a shape; every axis 1 to MAX_AXIS."""
        values = self.wholes(name)
        if values is None:
            return None
        if not all(1 <= value <= MAX_AXIS for value in values):
            text = f"has {name!r} = {values}; allowed per axis: 1 to {MAX_AXIS}"
            self.refuse("VALUE_OUT_OF_RANGE", text, field=name, found=values, allowed=MAX_AXIS)
            return None
        return values

    def _array(self, name: str) -> NDArray[Any] | None:
        if not self.has(name):
            self.refuse("MISSING_FIELD", f"has no field {name!r}, which it needs", field=name)
            return None
        value = self.node.fields[name]
        if isinstance(value, str):
            text = f"has {name!r} = {value[:40]!r}; numbers are wanted"
            self.refuse("VALUE_OUT_OF_RANGE", text, field=name, found=value[:40])
            return None
        return value
