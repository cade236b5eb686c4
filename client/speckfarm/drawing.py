"""Pictures of a result with matplotlib: each function draws one panel of arrays on axes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from speckfarm.plot_data import Band, FloatArray, Images, LagSeries, Latencies, Load, Raster

# Okabe and Ito's colours, which colour-blind readers tell apart (jfly.uni-koeln.de/color).
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = (
    "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7",
)  # fmt: skip
GREY = "#555555"
LAYER_COLOURS = (SKY, GREEN, ORANGE, PURPLE)
STYLE: dict[str, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "axes.spines.top": False, "axes.spines.right": False, "legend.framealpha": 0.85,
    "legend.edgecolor": "none", "legend.fontsize": 7, "svg.fonttype": "none", "pdf.fonttype": 42,
}  # fmt: skip
BINS = 60
THINNED_ABOVE, FINEST_DOTS = 50_000, 4000  # points; dots along an axis that are told apart
TIME_UNITS = ((1e6, "s"), (1e3, "ms"), (1.0, "µs"))
NARROW, FEW_DECADES = 4.0, 300.0  # highest / lowest value of an axis
MANY_POINTS = 5000  # more are drawn as pixels in an SVG or PDF
DPI, PREVIEW_DPI = 200, 120


class Picture(Figure):
    """A matplotlib figure that says what it shows; a notebook draws it without pyplot."""

    recording: int = 0  # place in `Result.recordings`
    panels: tuple[str, ...] = ()
    left_out: Mapping[str, str] = {}  # panel -> why there is nothing to draw

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """As of every figure: PNG, SVG or PDF by the ending of the name."""
        with styled():
            super().savefig(*args, **{"dpi": DPI, **kwargs})

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=PREVIEW_DPI)
        return file.getvalue()


@contextmanager
def styled() -> Iterator[None]:
    """The style of all pictures, whatever the user's own is."""
    with style.context(["default", STYLE]):
        yield


def draw_lags(axes: Axes, lags: LagSeries) -> None:
    """Lag of every output over the time of its cause, and the drift line."""
    divisor, unit = _unit(float(np.abs(lags.lag_us).max()))
    is_many = len(lags.lag_us) > MANY_POINTS
    axes.plot(
        *_distinct(lags.cause_us / 1e3, lags.lag_us / divisor), ".", color=BLUE,
        markersize=2.5 if is_many else 4, alpha=0.6, markeredgewidth=0, rasterized=is_many,
        label="output spike",
    )  # fmt: skip
    if lags.drift_us_per_s is not None:
        ends_us = np.array([lags.cause_us.min(), lags.cause_us.max()])
        axes.plot(
            ends_us / 1e3, lags.line_us(ends_us) / divisor, "-", color=VERMILLION, linewidth=1.5,
            label=f"drift {_per_second(lags.drift_us_per_s)}",
        )  # fmt: skip
    how = "" if lags.method is None else f", {lags.method}"
    how += "" if lags.error_us is None else f" ± {lags.error_us:.3g} µs"
    axes.set_title(f"Lag over time{how}")
    axes.set_xlabel("time of the causing input (ms)")
    axes.set_ylabel(f"lag ({unit})")
    axes.set_ylim(*_with_room(lags.lag_us / divisor))
    axes.legend(loc="upper left", markerscale=2)


def draw_latency(axes: Axes, found: Latencies) -> None:
    """Histogram of lags, both axes logarithmic, with median and 99th percentile."""
    positive_us = found.lag_us[found.lag_us > 0]
    how = "" if found.method is None else f", {found.method}"
    axes.set_title(f"Latency, {found.of}{how}")
    axes.set_xlabel("lag")
    axes.set_ylabel("output spikes")
    if len(positive_us):
        low, high = float(positive_us.min()), float(positive_us.max())
        edges_us = np.geomspace(low * 0.98, high * 1.02, BINS + 1)
        axes.hist(positive_us, bins=edges_us.tolist(), color=BLUE, linewidth=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _log_ticks(axes.xaxis, high / low, _time)
    for at_us, name, dashes in ((found.p50_us, "median", "--"), (found.p99_us, "p99", "-")):
        if at_us > 0:
            axes.axvline(at_us, color=VERMILLION, linestyle=dashes, label=f"{name} {_time(at_us)}")
    if left_out := len(found.lag_us) - len(positive_us):
        axes.plot([], [], " ", label=f"{left_out:,} at 0 or below left out")
    axes.margins(y=0.15)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best")


def draw_raster(axes: Axes, found: Raster) -> None:
    """Every recorded spike: time and feature; each layer has a band, the exit layer on top."""
    alone = len(found.bands) == 1
    ticks, names = [], []
    for number, band in enumerate(found.bands):
        colour = BLUE if band.is_exit else LAYER_COLOURS[number % len(LAYER_COLOURS)]
        heights = np.asarray(band.feature if alone else _within(band, number), np.float64)
        is_many = len(heights) > MANY_POINTS
        axes.plot(
            *_distinct(band.time_us / 1e3, heights), "|", color=colour,
            markersize=7 if alone else 3, markeredgewidth=0.4 if is_many else 0.8,
            alpha=0.5 if is_many else 1.0, rasterized=is_many,
        )  # fmt: skip
        ticks.append(number + 0.5)
        names.append(f"layer {band.layer}\n{_features(band)}")
        if number and not alone:
            axes.axhline(number, color=GREY, linewidth=0.4)
    if alone:
        axes.set_ylabel(f"output feature of layer {found.bands[0].layer}")
        axes.set_ylim(-0.7, found.bands[0].features - 0.3)
        axes.yaxis.set_major_locator(MaxNLocator(10, integer=True))
    else:
        axes.set_yticks(ticks, names)
        axes.set_ylim(0, len(found.bands))
        axes.tick_params(axis="y", length=0)
    axes.axvline(
        found.end_us / 1e3, color=VERMILLION, linestyle="--", linewidth=1, label="input ends"
    )
    answer = "no prediction" if found.prediction < 0 else f"predicted {found.prediction}"
    label = "" if found.label is None else f", label {found.label}"
    axes.set_title(f"Spikes, {answer}{label}")  # short, for the legend is beside it
    axes.set_xlabel("time (ms)")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, borderpad=0.0)


def draw_synops(axes: Axes, found: Sequence[Load]) -> None:
    """Synaptic operations per second of each layer against what its core is believed to take."""
    places = np.arange(len(found))
    shapes = (
        ("mean_per_s", "o", "none", BLUE, "all recordings"),
        ("peak_per_s", "o", BLUE, BLUE, "busiest recording"),
        ("limit_per_s", "|", VERMILLION, VERMILLION, "believed limit of the core"),
    )
    for name, marker, fill, edge, label in shapes:
        axes.plot(
            [(getattr(load, name) or np.nan) / 1e6 for load in found], places, marker,
            markerfacecolor=fill, markeredgecolor=edge, label=label,
            markersize=16 if marker == "|" else 6, markeredgewidth=2 if marker == "|" else 1,
        )  # fmt: skip
    axes.set_yticks(places, [_load_words(load) for load in found])
    for text, load in zip(axes.get_yticklabels(), found, strict=True):
        text.set_color(VERMILLION if (_share(load) or 0.0) > 1 else "black")
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.margins(x=0.08)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    low, high = axes.get_xlim()
    _log_ticks(axes.xaxis, high / low, "{:g}".format)
    axes.set_xlabel("million synaptic operations per second")
    axes.set_title("SynOps/s and what cores sustain")
    axes.legend(
        loc="upper right", bbox_to_anchor=(1.0, -0.22), ncols=3, markerscale=0.6,
        columnspacing=0.8, handletextpad=0.2, borderaxespad=0.0,
    )  # fmt: skip


def draw_images(part: Figure | SubFigure, found: Images) -> None:
    """Input above output in successive windows; equal scales along a row."""
    grid = part.subplots(2, len(found.inputs), squeeze=False)
    rows = ((found.inputs, "input events"), (found.outputs, f"output of layer {found.layer}"))
    for row, (counts, name) in zip(grid, rows, strict=True):
        top = max(1.0, float(np.quantile(counts[counts > 0], 0.99)) if counts.any() else 1.0)
        for axes, image in zip(row, counts, strict=True):
            drawn = axes.imshow(image, cmap="cividis", vmin=0, vmax=top, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(False)
        row[0].set_ylabel(name)
        bar = part.colorbar(drawn, ax=row.tolist(), shrink=0.85, pad=0.01, aspect=12)
        bar.set_label("events per pixel" if counts is found.inputs else "spikes per position")
        bar.ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    for axes, (begin_us, end_us) in zip(grid[0], found.windows_us, strict=True):
        axes.set_title(f"{begin_us / 1e3:.4g} to {end_us / 1e3:.4g} ms", fontweight="normal")


def _log_ticks(axis: Axis, ratio: float, words: Callable[[float], str]) -> None:
    """Ticks at powers of ten, and at 3 times those where there are few; only they have labels."""
    steps = LogLocator(subs=(1.0, 3.0) if ratio < FEW_DECADES else (1.0,))
    axis.set_major_locator(MaxNLocator(4) if ratio < NARROW else steps)
    axis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
    axis.set_minor_formatter(NullFormatter())


def _load_words(load: Load) -> str:
    share = _share(load)
    return f"layer {load.layer}" + ("" if share is None else f"\n{100 * share:.3g} % of limit")


def _share(load: Load) -> float | None:
    """Of the limit, in the busiest recording."""
    rate = load.mean_per_s if load.peak_per_s is None else load.peak_per_s
    return None if rate is None or not load.limit_per_s else rate / load.limit_per_s


def _distinct(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Points of which no two would fall on the same dot; few are all kept."""
    if len(x) <= THINNED_ABOVE:
        return x, y
    span = np.array([np.ptp(x), np.ptp(y)])
    dots = np.stack([x, y]) / np.where(span > 0, span, 1.0)[:, None] * FINEST_DOTS
    _, kept = np.unique(dots.round().astype(np.int64), axis=1, return_index=True)
    kept.sort()
    return x[kept], y[kept]


def _within(band: Band, number: int) -> FloatArray:
    """Features spread over the band with this number, the lowest at its bottom."""
    return number + 0.06 + 0.88 * band.feature / max(band.features - 1, 1)


def _features(band: Band) -> str:
    return f"{band.features} feature" + ("" if band.features == 1 else "s")


def _with_room(values: FloatArray) -> tuple[float, float]:
    """Limits of an axis with room for a legend above the points."""
    low, high = min(0.0, float(values.min())), float(values.max())
    span = max(high - low, 1e-9)
    return low - 0.03 * span, high + 0.35 * span


def _unit(largest_us: float) -> tuple[float, str]:
    return (1e3, "ms") if largest_us >= 10_000 else (1.0, "µs")


def _time(time_us: float) -> str:
    divisor, unit = next(each for each in TIME_UNITS if time_us >= each[0] or each[0] == 1.0)
    return f"{time_us / divisor:.3g} {unit}"


def _per_second(drift_us_per_s: float) -> str:
    divisor, unit = _unit(abs(drift_us_per_s))
    return f"{drift_us_per_s / divisor:+.3g} {unit} per s".replace("-", "−")
