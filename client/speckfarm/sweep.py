"""Sweeps: settings and their values become the axes of a grid."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from speckfarm.errors import BadRequest
from speckfarm.v1 import benchmarks_pb2, settings_pb2

_BY_LAYER = {"reset": "layer_reset", "decimator": "decimator", "cores": "cores"}


def build_axes(
    sweep: Mapping[str, Sequence[object]], settings: settings_pb2.Settings
) -> list[benchmarks_pb2.SweepAxis]:
    """Axes in the order of the sweep.

    Raises BadRequest BAD_ARGUMENT for a value that stands twice in an axis, or a setting that is
    swept although all points share it.
    """
    axes = []
    for key, values in sweep.items():
        words = [sweep_word(value) for value in values]
        twice = sorted({word for word in words if words.count(word) > 1})
        if twice:
            raise _wrong(key, f"{key} has the value {twice[0]} twice; each makes a row of its own")
        if _is_set(settings, key):
            raise _wrong(key, f"{key} is swept and also set for all points; leave out one of them")
        axes.append(benchmarks_pb2.SweepAxis(key=key, values=words))
    return axes


def sweep_word(value: object) -> str:
    """A sweep's value as the word that the server reads: None and False are "off", True is "on",
    (0, 2) is "0+2"."""
    if value is None or isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return "+".join(str(item) for item in value) or "off"
    return str(value)


def _is_set(settings: settings_pb2.Settings, key: str) -> bool:
    name, _, layer = key.partition(".")
    if layer:
        return layer.isdigit() and int(layer) in getattr(settings, _BY_LAYER.get(name, ""), {})
    # Two axes of one setting are two fields on the wire.
    given = {re.sub("_[xy]$", "", field.name) for field, _ in settings.ListFields()}
    return name in given


def _wrong(key: str, text: str) -> BadRequest:
    return BadRequest("BAD_ARGUMENT", text, metadata={"argument": "sweep", "found": key})
