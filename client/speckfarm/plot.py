"""Pictures of a result: what can be shown is fetched, drawn as panels of one figure, and saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias, get_args

from speckfarm import plot_data as data
from speckfarm.errors import BadRequest, NotFound
from speckfarm.recorded import fetch_recorded, read_recorded

if TYPE_CHECKING:
    from speckfarm.connection import Connection
    from speckfarm.drawing import Picture
    from speckfarm.recorded import Events
    from speckfarm.result import Result

Panel: TypeAlias = Literal["lags", "latency", "raster", "synops", "images"]
PANELS: tuple[Panel, ...] = get_args(Panel)
SUFFIXES = (".png", ".svg", ".pdf")
WIDTH_IN, HEIGHT_IN, IMAGES_HEIGHT_IN = 7.2, 2.7, 3.2  # of a page with two columns

Draw: TypeAlias = "Callable[[Any], None]"  # on axes; images on a part of the figure


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """Of what a picture is asked for."""

    connection: Connection
    result: Result
    recording: int | str | None = None  # place in `Result.recordings`, name; None: the worst p99
    input_file: str | Path | None = None  # its events; None: fetched from the farm
    window_ms: float | None = None  # of an event image; None: a quarter of the recording

    def __post_init__(self) -> None:
        if self.window_ms is not None and not 0 < self.window_ms < math.inf:
            text = f"window_ms is {self.window_ms}; a number of milliseconds above 0 is wanted"
            raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": "window_ms"})

    @property
    def index(self) -> int:
        """The recording that is drawn. Raises BadRequest."""
        names = [each.name for each in self.result.recordings]
        wanted = self.recording
        if not names:
            text = f"Job {self.result.job_id} has no recordings: it only configured a board"
            raise BadRequest("NOTHING_TO_PLOT", text, metadata={"job": self.result.job_id})
        if wanted is None:
            return data.worst(self.result)
        if isinstance(wanted, str):
            return names.index(wanted) if wanted in names else self._refuse(names)
        is_there = not isinstance(wanted, bool) and 0 <= wanted < len(names)
        return wanted if is_there else self._refuse(names)

    def _refuse(self, names: Sequence[str]) -> NoReturn:
        near = get_close_matches(str(self.recording), names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        allowed = f"0 to {len(names) - 1}, or a name such as {names[0]}"
        text = f"No recording of job {self.result.job_id} is {self.recording!r}: {allowed}{hint}"
        metadata = {"argument": "recording", "found": str(self.recording), "allowed": allowed}
        raise BadRequest("BAD_ARGUMENT", text, metadata=metadata)

    def input_file_events(self) -> list[Events]:
        """Recordings of the file that was put in. Raises NotFound or BadRequest."""
        digest = self.result.recordings[self.index].recording
        if self.input_file is not None:
            return read_recorded(Path(self.input_file), digest)
        return fetch_recorded(self.connection, digest)


def make_picture(subject: Subject, panels: Sequence[str] = ()) -> Picture:
    """Draw the panels; all that there is something for, if none is named.

    Raises BadRequest EXTRA_MISSING without matplotlib, BAD_ARGUMENT, NOTHING_TO_PLOT, NotFound
    LAGS_NOT_KEPT and what reading the input raises.
    """
    require_matplotlib()
    wanted, index = _checked(panels), subject.index
    draws: dict[Panel, Draw] = {}
    left_out: dict[Panel, BadRequest | NotFound] = {}
    for panel in wanted or PANELS:
        try:
            draws[panel] = _PREPARE[panel](subject)
        except (BadRequest, NotFound) as error:
            if wanted or (subject.input_file is not None and panel == "images"):
                raise
            left_out[panel] = error
    if not draws:
        raise next(iter(left_out.values()))
    name = subject.result.recordings[index].name
    picture = _drawn(draws, f"{subject.result.job_id}, recording {index} ({name})")
    picture.recording, picture.panels = index, tuple(draws)
    picture.left_out = {panel: error.message for panel, error in left_out.items()}
    if left_out:
        _add_note(picture)
    return picture


def require_matplotlib() -> None:
    """Raise BadRequest EXTRA_MISSING if matplotlib is not here."""
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        text = (
            "Drawing needs matplotlib, which is not installed here: `pip install '.[plot]'` in a "
            "checkout, or `pip install matplotlib`"
        )
        metadata = {"package": "matplotlib", "extra": "plot"}
        raise BadRequest("EXTRA_MISSING", text, metadata=metadata) from error


def check_suffix(path: Path, argument: str) -> None:
    """Raise BadRequest BAD_ARGUMENT for a kind of file that is not written."""
    if path.suffix.lower() not in SUFFIXES:
        allowed = ", ".join(SUFFIXES)
        text = f"{argument} {path}: a file name that ends in one of {allowed} is wanted"
        metadata = {"argument": argument, "found": path.suffix, "allowed": allowed}
        raise BadRequest("BAD_ARGUMENT", text, metadata=metadata)


def _checked(panels: Sequence[str]) -> tuple[Panel, ...]:
    unknown = [panel for panel in panels if panel not in PANELS]
    if unknown:
        allowed = ", ".join(PANELS)
        text = f"No panel is called {unknown[0]!r}; known: {allowed}"
        metadata = {"argument": "panels", "found": str(unknown[0]), "allowed": allowed}
        raise BadRequest("BAD_ARGUMENT", text, metadata=metadata)
    return tuple(panel for panel in PANELS if panel in panels)


def _drawn(draws: Mapping[Panel, Draw], title: str) -> Picture:
    """Panels two in a row, images in a row of their own; one alone takes the width."""
    from speckfarm.drawing import Picture, styled

    small = [panel for panel in draws if panel != "images"]
    rows = math.ceil(len(small) / 2)
    heights = [HEIGHT_IN] * rows + [IMAGES_HEIGHT_IN] * ("images" in draws)
    with styled():
        figure = Picture(figsize=(WIDTH_IN, sum(heights)), layout="constrained")
        figure.suptitle(title, fontsize=8, color="#555555", x=0.01, ha="left")
        grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
        for number, panel in enumerate(small):
            row, column = divmod(number, 2)
            is_alone = number == len(small) - 1 and column == 0
            place = grid[row, :] if is_alone else grid[row, column]
            draws[panel](figure.add_subplot(place))
        if "images" in draws:
            draws["images"](figure.add_subfigure(grid[rows, :]))
    return figure


def _add_note(picture: Picture) -> None:
    """Say in the picture what is missing from it; whoever asks for panels by name never sees it."""
    by_reason: dict[str, list[str]] = {}
    for panel, why in picture.left_out.items():
        by_reason.setdefault(why, []).append(panel)
    lines = [f"not drawn: {', '.join(panels)}. {why}" for why, panels in by_reason.items()]
    picture.supxlabel("\n".join(lines), fontsize=6, color="#555555", x=0.01, ha="left")


def _lags(subject: Subject) -> Draw:
    from speckfarm import drawing

    found = data.lag_series(subject.result, subject.index)
    return lambda axes: drawing.draw_lags(axes, found)


def _latency(subject: Subject) -> Draw:
    from speckfarm import drawing

    found = data.latencies(subject.result, None if subject.recording is None else subject.index)
    return lambda axes: drawing.draw_latency(axes, found)


def _raster(subject: Subject) -> Draw:
    from speckfarm import drawing

    found = data.raster(subject.result, subject.index)
    return lambda axes: drawing.draw_raster(axes, found)


def _synops(subject: Subject) -> Draw:
    from speckfarm import drawing

    found = data.loads(subject.result)
    return lambda axes: drawing.draw_synops(axes, found)


def _images(subject: Subject) -> Draw:
    from speckfarm import drawing

    window_us = None if subject.window_ms is None else subject.window_ms * 1e3
    found = data.images(
        subject.result, subject.index, subject.input_file_events(), window_us=window_us
    )
    return lambda part: drawing.draw_images(part, found)


_PREPARE: Mapping[Panel, Callable[[Subject], Draw]] = {
    "lags": _lags,
    "latency": _latency,
    "raster": _raster,
    "synops": _synops,
    "images": _images,
}
