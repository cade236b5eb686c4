"""A benchmark: a grid of jobs, described once and kept on the server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass

from speckfarm_server.errors import BadInput
from speckfarm_server.settings import Settings, from_canonical, with_key

MAX_AXES = 40  # nine layers have 27 settings of their own, and there are eleven more
MAX_KEY_CHARS = 64


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One direction of the grid."""

    key: str  # a setting, e.g. "decimator.0"
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One row of the table."""

    model: str
    values: tuple[str, ...]  # in the order of the axes
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What a user asks for: models times the product of the axes."""

    models: tuple[str, ...]
    recordings: tuple[str, ...]
    settings: Settings  # shared by all points
    axes: tuple[Axis, ...]
    chip: str
    board_kind: str  # empty: the default

    def points(self, *, max_points: int) -> list[Point]:
        """All rows, models outermost, last axis innermost.

        Raises BadInput GRID_EMPTY, GRID_TOO_LARGE, UNKNOWN_SETTING, SETTING_OUT_OF_RANGE.
        """
        self._check_size(max_points)
        points = []
        for model in self.models:
            for values in itertools.product(*(axis.values for axis in self.axes)):
                settings = self.settings
                for axis, value in zip(self.axes, values, strict=True):
                    settings = with_key(settings, axis.key, value)
                points.append(Point(model=model, values=values, settings=settings))
        return points

    def _check_size(self, max_points: int) -> None:
        empty = [axis.key for axis in self.axes if not axis.values]
        if not self.models or not self.recordings or empty:
            missing = f"values for {empty[0]}" if empty else "a model and a recording"
            raise BadInput("GRID_EMPTY", f"A benchmark needs {missing}; nothing would run")
        keys = [axis.key for axis in self.axes]
        if len(keys) > MAX_AXES or max(map(len, keys), default=0) > MAX_KEY_CHARS:
            text = (
                f"A benchmark has at most {MAX_AXES} axes with keys of {MAX_KEY_CHARS} characters"
            )
            raise BadInput("GRID_TOO_LARGE", text, found_axes=len(keys), allowed_axes=MAX_AXES)
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise BadInput("AXIS_TWICE", f"{twice} is swept twice; put all its values in one axis")
        size = len(self.models)
        for axis in self.axes:
            size *= len(axis.values)
        if size > max_points:
            text = f"The grid has {size} points; at most {max_points} are allowed"
            raise BadInput("GRID_TOO_LARGE", text, found_points=size, allowed_points=max_points)


def to_json(grid: Grid) -> str:
    """Serialise."""
    return json.dumps({
        "models": grid.models,
        "recordings": grid.recordings,
        "settings": grid.settings.canonical(),
        "axes": [[axis.key, axis.values] for axis in grid.axes],
        "chip": grid.chip,
        "board_kind": grid.board_kind,
    })


def from_json(text: str) -> Grid:
    """Read what `to_json` wrote."""
    plain = json.loads(text)
    return Grid(
        models=tuple(plain["models"]),
        recordings=tuple(plain["recordings"]),
        settings=from_canonical(plain["settings"]),
        axes=tuple(Axis(key=key, values=tuple(values)) for key, values in plain["axes"]),
        chip=plain["chip"],
        board_kind=plain["board_kind"],
    )


def values_of(grid: Grid, point: int) -> Sequence[str]:
    """The axes' values of one row."""
    values = []
    for axis in reversed(grid.axes):
        point, index = divmod(point, len(axis.values))
        values.append(axis.values[index])
    return values[::-1]
