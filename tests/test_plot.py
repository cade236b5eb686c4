"""Pictures carry the data of the result, whatever they look like."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import speckfarm
from speckfarm.cli import main
from speckfarm.events import EVENT_DTYPE, pack
from speckfarm.recorded import parse_recorded
from speckfarm.result import Result
from speckfarm.upload import bytes_source
from speckfarm.v1 import blobs_pb2, jobs_pb2, latency_pb2, recordings_pb2
from tests.farm_process import FarmProcess
from tests.recording_files import EVENTS, NMNIST, columns, npy, npz, structured
from tests.small_farm import SmallFarm, abort, result_message, serving, state_of

Run = Callable[..., int]
INPUT = np.array(  # two recordings: a diagonal in 8 ms, and four events
    [(1000 + 1000 * n, n, n, n % 2) for n in range(8)] + [(n, 7, 0, 1) for n in range(4)],
    [("t", "<i8"), ("x", "u1"), ("y", "u1"), ("p", "<u2")],
)
FILE = npz(events=INPUT, offsets=[0, 8, 12])
FILE_DIGEST = bytes_source(FILE, "r.npz").digest
LAGS_US = np.array([10.0, 20.0, 30.0, np.nan, 5.0])  # three of recording 0, one without cause
SPIKES = np.array(
    [
        # recording 0: layer 0 has a map, layer 1 is the exit; the first input is at 1000 µs
        (1010, 1, 0, 0, 0), (1500, 0, 3, 2, 1), (3020, 1, 1, 0, 0), (4000, 0, 2, 3, 3),
        (8030, 1, 1, 0, 0), (8500, 1, 1, 0, 0),
        # recording 1
        (6, 1, 0, 0, 0),
    ],
    EVENT_DTYPE,
)  # fmt: skip


class Steady(SmallFarm):
    """Downloads in one piece, and a registered recording file."""

    def __init__(self) -> None:
        super().__init__()
        self.blobs[FILE_DIGEST] = FILE
        self.result = self.keep(SPIKES, LAGS_US)

    def keep(self, spikes: NDArray[Any], lags_us: NDArray[Any] | None) -> jobs_pb2.Result:
        """A result whose spikes and lags are blobs here."""
        digests = {}
        contents = {"spikes": pack(spikes).tobytes()}
        contents |= {} if lags_us is None else {"lags": lags_us.astype("<f8").tobytes()}
        for name, content in contents.items():
            digests[name] = bytes_source(content, name).digest
            self.blobs[digests[name]] = content
        exact = latency_pb2.LATENCY_METHOD_EXACT
        first = jobs_pb2.RecordingResult(
            recording=FILE_DIGEST, name="diagonal", label=1, prediction=1, counts=[1, 3],
            input_events=8, output_events=6, duration_us=7000,
            latency=latency_pb2.Latency(
                n=3, uncaused=1, method=exact, first_output_us=10.0, p99_us=30.0,
                drift_us_per_s=2000.0,
            ),
        )  # fmt: skip
        second = jobs_pb2.RecordingResult(
            recording=FILE_DIGEST, name="short", prediction=0, counts=[1, 0],
            input_events=4, output_events=1, duration_us=3,
            latency=latency_pb2.Latency(n=1, method=exact, first_output_us=6.0, p99_us=5.0),
        )  # fmt: skip
        layers = [
            jobs_pb2.LayerActivity(
                layer=0, synops=9, synops_per_s=2e7, peak_synops_per_s=6e7, synops_limit=3e7
            ),
            jobs_pb2.LayerActivity(layer=1, synops=1, synops_per_s=1e6, synops_limit=1e8),
        ]
        return result_message(
            recordings=[first, second],
            latency=latency_pb2.Latency(n=4, method=exact, p50_us=10.0, p99_us=30.0),
            layers=layers,
            **digests,
        )

    def Download(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.digest not in self.blobs:
            abort(context, 5, "BLOB_NOT_FOUND", "no such blob")
        yield blobs_pb2.DownloadResponse(chunk=self.blobs[request.digest][request.offset :])

    def GetRecording(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.recording not in self.blobs:
            abort(context, 5, "RECORDING_NOT_FOUND", "no such recording")
        found = recordings_pb2.Recording(digest=request.recording, name="r.npz", count=2)
        return recordings_pb2.GetRecordingResponse(recording=found)

    def GetJob(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.job != "j-1":
            abort(context, 5, "JOB_NOT_FOUND", f"no job {request.job}")
        return jobs_pb2.GetJobResponse(job=self.job)

    def GetResult(self, request: Any, context: Any) -> Any:  # noqa: N802
        return jobs_pb2.GetResultResponse(result=self.result)


@pytest.fixture
def small() -> Iterator[Steady]:
    farm = Steady()
    farm.job = state_of("SUCCEEDED")
    with serving(farm):
        yield farm


@pytest.fixture
def result(small: Steady) -> Iterator[Result]:
    with speckfarm.connect(small.address, "secret") as farm:
        yield farm.job("j-1").result()


@pytest.fixture
def run(small: Steady, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("SPECKFARM_SERVER", small.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", "secret")
    monkeypatch.chdir(tmp_path)
    return lambda *words: main(words)


def line(axes: Any, label: str) -> Any:
    [found] = [each for each in axes.get_lines() if str(each.get_label()).startswith(label)]
    return found


def test_lags_stand_at_the_time_of_their_cause(result: Result) -> None:
    [axes] = result.plot("lags", recording=0).get_axes()

    points = line(axes, "output spike")
    assert points.get_xdata().tolist() == [0.0, 2.0, 7.0]  # ms after the first input
    assert points.get_ydata().tolist() == [10.0, 20.0, 30.0]
    assert "µs" in axes.get_ylabel()
    assert "ms" in axes.get_xlabel()
    assert "exact" in axes.get_title(loc="left")


def test_the_drift_line_has_the_measured_slope_and_goes_through_the_middle(result: Result) -> None:
    [axes] = result.plot("lags", recording=0).get_axes()

    drift = line(axes, "drift")
    (x0, x1), (y0, y1) = drift.get_xdata(), drift.get_ydata()
    assert (y1 - y0) / ((x1 - x0) * 1e-3) == pytest.approx(2000.0)  # µs per s
    assert y0 + (3.0 - x0) / (x1 - x0) * (y1 - y0) == pytest.approx(20.0)
    assert drift.get_label() == "drift +2e+03 µs per s"


def test_without_a_drift_there_is_no_line(small: Steady, result: Result) -> None:
    [axes] = result.plot("lags", recording=1).get_axes()

    assert [each.get_label() for each in axes.get_lines()] == ["output spike"]


def test_the_histogram_has_every_lag_and_logarithmic_axes(result: Result) -> None:
    [axes] = result.plot("latency").get_axes()

    assert sum(bar.get_height() for bar in axes.patches) == 4
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert line(axes, "p99").get_xdata()[0] == 30.0
    assert "2 recordings" in axes.get_title(loc="left")


def test_the_histogram_of_one_recording_has_its_own_lags(result: Result) -> None:
    [axes] = result.plot("latency", recording=0).get_axes()

    assert sum(bar.get_height() for bar in axes.patches) == 3
    assert "diagonal" in axes.get_title(loc="left")


def test_lags_at_0_or_below_are_counted_beside_the_histogram(small: Steady) -> None:
    small.result = small.keep(SPIKES, np.array([-3.0, 0.0, 30.0, np.nan, 5.0]))
    with speckfarm.connect(small.address, "secret") as farm:
        [axes] = farm.job("j-1").result().plot("latency").get_axes()

    assert sum(bar.get_height() for bar in axes.patches) == 2
    assert any("2 at 0 or below" in str(each.get_label()) for each in axes.get_lines())


def test_the_raster_has_a_band_for_each_layer_with_the_exit_layer_on_top(result: Result) -> None:
    [axes] = result.plot("raster", recording=0).get_axes()

    inner, outer = (each for each in axes.get_lines() if each.get_marker() == "|")
    assert inner.get_xdata().tolist() == [0.5, 3.0]
    assert np.all((inner.get_ydata() > 0) & (inner.get_ydata() < 1))
    assert outer.get_xdata().tolist() == pytest.approx([0.01, 2.02, 7.03, 7.5])
    assert np.all((outer.get_ydata() > 1) & (outer.get_ydata() < 2))
    assert line(axes, "input ends").get_xdata()[0] == 7.0
    assert "predicted 1, label 1" in axes.get_title(loc="left")


def test_a_raster_of_the_exit_layer_alone_counts_features(result: Result) -> None:
    [axes] = result.plot("raster", recording=1).get_axes()

    [spikes] = (each for each in axes.get_lines() if each.get_marker() == "|")
    assert (spikes.get_xdata().tolist(), spikes.get_ydata().tolist()) == ([0.006], [0])
    assert axes.get_ylim() == (-0.7, 1.7)


def test_synops_are_shown_against_the_limit_of_each_core(result: Result) -> None:
    [axes] = result.plot("synops").get_axes()

    assert line(axes, "all recordings").get_xdata().tolist() == [20.0, 1.0]
    busiest = line(axes, "busiest").get_xdata().tolist()
    assert busiest == pytest.approx([60.0, np.nan], nan_ok=True)
    assert line(axes, "believed limit").get_xdata().tolist() == [30.0, 100.0]
    words = [text.get_text() for text in axes.get_yticklabels()]
    assert words == ["layer 0\n200 % of limit", "layer 1\n1 % of limit"]
    assert axes.get_xscale() == "log"


def pictures(figure: Any) -> list[NDArray[Any]]:
    return [each.get_array() for axes in figure.get_axes() for each in axes.get_images()]


def test_event_images_show_input_above_output_in_successive_windows(result: Result) -> None:
    images = pictures(result.plot("images", recording=0))

    inputs, outputs = images[:4], images[4:]
    assert [image.shape for image in inputs] == [(8, 8)] * 4
    assert sum(inputs).tolist() == np.eye(8, dtype=int).tolist()
    assert [int(image.sum()) for image in inputs] == [2, 2, 2, 2]
    assert [image.shape for image in outputs] == [(4, 4)] * 4
    assert [int(image.sum()) for image in outputs] == [1, 1, 0, 0]
    assert outputs[0][2, 1] == 1


def test_event_images_may_be_short_and_spread_over_the_recording(result: Result) -> None:
    picture = result.plot("images", recording=0, window_ms=1.0)

    images = pictures(picture)
    found = [np.argwhere(image).tolist() for image in images[:4]]
    assert found == [[[0, 0]], [[3, 3]], [[5, 5]], [[7, 7]]]
    titles = [axes.get_title(loc="left") for axes in picture.get_axes()[:4]]
    assert titles[0] == "0 to 1 ms"


def test_a_window_as_long_as_the_recording_has_all_of_it(result: Result) -> None:
    images = pictures(result.plot("images", recording=0, window_ms=1e6))

    assert [int(image.sum()) for image in images[:4]] == [8] * 4


@pytest.mark.parametrize("window_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_a_window_without_length_is_refused(result: Result, window_ms: float) -> None:
    with pytest.raises(speckfarm.BadRequest, match="milliseconds above 0"):
        result.plot("images", window_ms=window_ms)


def test_the_input_may_be_a_file_of_this_machine(
    small: Steady, result: Result, tmp_path: Path
) -> None:
    (tmp_path / "mine.npz").write_bytes(FILE)
    del small.blobs[FILE_DIGEST]

    images = pictures(result.plot("images", recording=0, input_file=tmp_path / "mine.npz"))

    assert sum(int(image.sum()) for image in images[:4]) == 8


def test_another_file_is_not_shown_as_the_input(result: Result, tmp_path: Path) -> None:
    (tmp_path / "other.npz").write_bytes(npz(**columns(EVENTS)))

    with pytest.raises(speckfarm.BadRequest, match="not the file that was run"):
        result.plot(input_file=tmp_path / "other.npz")


def test_an_input_that_the_farm_no_longer_has_says_what_to_give(
    small: Steady, result: Result
) -> None:
    del small.blobs[FILE_DIGEST]

    with pytest.raises(speckfarm.NotFound) as caught:
        result.plot("images", recording=0)

    assert caught.value.reason == "RECORDING_NOT_FOUND"
    assert "--input FILE" in caught.value.advice


def test_all_panels_are_drawn_if_there_is_something_for_them(result: Result) -> None:
    picture = result.plot()

    assert picture.panels == ("lags", "latency", "raster", "synops", "images")
    assert picture.left_out == {}
    assert picture.recording == 0  # the one with the largest p99 lag


def test_what_cannot_be_drawn_is_left_out_with_its_reason(small: Steady) -> None:
    small.result = small.keep(SPIKES[SPIKES["layer"] == 1], None)
    small.result.recordings[0].output_events = 4
    with speckfarm.connect(small.address, "secret") as farm:
        picture = farm.job("j-1").result().plot()

    assert picture.panels == ("raster", "synops")
    assert "keep_lags=True" in picture.left_out["lags"]
    assert "monitor" in picture.left_out["images"]
    [note] = [text for text in picture.texts if "not drawn" in text.get_text()]
    assert "lags, latency" in note.get_text()


def test_lags_that_were_asked_for_and_not_kept_say_how_to_keep_them(small: Steady) -> None:
    small.result = small.keep(SPIKES, None)
    with speckfarm.connect(small.address, "secret") as farm:
        found = farm.job("j-1").result()

        with pytest.raises(speckfarm.NotFound, match="keep_lags=True") as caught:
            found.plot("lags")

    assert caught.value.reason == "LAGS_NOT_KEPT"


def test_on_a_board_that_counts_no_synops_there_are_none_to_draw(small: Steady) -> None:
    for layer in small.result.layers:
        for name in ("synops", "synops_per_s", "peak_synops_per_s"):
            layer.ClearField(name)
    with speckfarm.connect(small.address, "secret") as farm:
        found = farm.job("j-1").result()

        with pytest.raises(speckfarm.BadRequest, match="were not counted on twin-0"):
            found.plot("synops")


def test_a_job_without_recordings_has_nothing_to_draw(small: Steady) -> None:
    del small.result.recordings[:]
    with speckfarm.connect(small.address, "secret") as farm:
        found = farm.job("j-1").result()

        with pytest.raises(speckfarm.BadRequest) as caught:
            found.plot()

    assert caught.value.reason == "NOTHING_TO_PLOT"


def test_a_silent_recording_has_no_raster(small: Steady) -> None:
    small.result = small.keep(SPIKES[:6], LAGS_US[:4])
    small.result.recordings[1].output_events = 0
    del small.result.recordings[1].counts[:]
    with speckfarm.connect(small.address, "secret") as farm:
        found = farm.job("j-1").result()

        for panel in ("lags", "latency", "raster", "images"):
            with pytest.raises(speckfarm.BadRequest) as caught:
                found.plot(panel, recording=1)
            assert caught.value.reason == "NOTHING_TO_PLOT"


@pytest.mark.parametrize("recording", [-1, 2, True, "long", "0"])
def test_a_recording_that_is_not_there_is_refused_with_the_range(
    result: Result, recording: int | str
) -> None:
    with pytest.raises(speckfarm.BadRequest, match="0 to 1, or a name such as diagonal"):
        result.plot(recording=recording)


def test_a_recording_may_be_named(result: Result) -> None:
    assert result.plot("raster", recording="short").recording == 1

    with pytest.raises(speckfarm.BadRequest, match="did you mean short"):
        result.plot(recording="shirt")


def test_an_unknown_panel_is_refused_with_the_known_ones(result: Result) -> None:
    with pytest.raises(speckfarm.BadRequest, match="known: lags, latency, raster, synops, images"):
        result.plot("spikes")  # type: ignore[arg-type]


def test_a_notebook_is_shown_a_png(result: Result) -> None:
    assert result.plot("synops")._repr_png_().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(
    result: Result,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(speckfarm.BadRequest, match=r"pip install '\.\[plot\]'") as caught:
        result.plot()
    assert caught.value.reason == "EXTRA_MISSING"
    assert run("plot", "j-1") == 2
    assert "EXTRA_MISSING" in capsys.readouterr().err


STARTS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".PNG": b"\x89PNG"}


@pytest.mark.parametrize("suffix", list(STARTS))
def test_the_name_of_the_file_says_its_kind(
    run: Run, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plot", "j-1", "-O", f"a{suffix}", "--panels", "raster,synops") == 0

    assert (tmp_path / f"a{suffix}").read_bytes().startswith(STARTS[suffix])
    assert f"wrote a{suffix}: raster, synops" in capsys.readouterr().out


def test_of_very_many_points_those_on_one_dot_are_drawn_once(small: Steady) -> None:
    spikes = np.zeros(60_000, EVENT_DTYPE)
    spikes["t"], spikes["layer"] = 1010 + np.arange(60_000) // 100, 1
    spikes["feature"] = np.arange(60_000) % 2
    small.result = small.keep(spikes, np.full(60_000, 10.0))
    first, second = small.result.recordings
    first.output_events, first.counts[:] = 59_999, [30_000, 29_999]
    second.counts[:] = [0, 1]
    with speckfarm.connect(small.address, "secret") as farm:
        picture = farm.job("j-1").result().plot("lags", "raster", recording=0)

    lags, raster = picture.get_axes()
    assert len(line(lags, "output spike").get_xdata()) == 600
    [drawn] = (each for each in raster.get_lines() if each.get_marker() == "|")
    dots = set(zip(drawn.get_xdata().round(6), drawn.get_ydata(), strict=True))
    assert len(drawn.get_xdata()) == len(dots) == 1200


def test_text_in_an_svg_stays_text(run: Run, tmp_path: Path) -> None:
    run("plot", "j-1", "-O", "a.svg", "--panels", "raster")

    assert ">time (ms)<" in (tmp_path / "a.svg").read_text()


def test_the_file_is_named_after_the_job_and_json_says_what_is_in_it(
    small: Steady, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.result = small.keep(SPIKES, None)

    assert run("plot", "j-1", "-o", "json", "--recording", "0") == 0

    plain = json.loads(capsys.readouterr().out)
    assert (plain["file"], plain["recording"], plain["name"]) == ("j-1.png", 0, "diagonal")
    assert plain["panels"] == ["raster", "synops", "images"]
    assert set(plain["left_out"]) == {"lags", "latency"}
    assert plain["bytes"] == (tmp_path / "j-1.png").stat().st_size


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["j-2"], 2, "JOB_NOT_FOUND"),
        (["j-1", "-O", "a.gif"], 2, ".png, .svg, .pdf"),
        (["j-1", "-O", "a"], 2, ".png, .svg, .pdf"),
        (["j-1", "-O", "nowhere/a.png"], 2, "there is no folder nowhere"),
        (["j-1", "-o", "a.png"], 2, "-O FILE"),
        (["j-1", "--recording", "7"], 2, "0 to 1, or a name"),
        (["j-1", "--recording", "diagonale"], 2, "did you mean diagonal?"),
        (["j-1", "--panels", "lag"], 2, "known: lags"),
        (["j-1", "--window", "0"], 2, "milliseconds above 0"),
        (["j-1", "--window", "short"], 2, "a number is wanted"),
        (["j-1", "--input", "none.npz"], 3, "FILE_UNREADABLE"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_in_words(
    run: Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    named: str,
) -> None:
    assert run("plot", *words) == code

    assert named in capsys.readouterr().err
    assert list(tmp_path.glob("*.png")) == []


def test_a_job_that_has_not_ended_has_nothing_yet(
    small: Steady, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_ready(request: Any, context: Any) -> Any:
        abort(context, 9, "RESULT_NOT_READY", "not yet")

    monkeypatch.setattr(small, "GetResult", not_ready)
    with serving(small) as address:
        monkeypatch.setenv("SPECKFARM_SERVER", address)

        assert run("plot", "j-1") == 2


ROWS = [tuple(row) for row in EVENTS]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (npz(events=structured(EVENTS)), "a.npz"),
        (npz(**columns(EVENTS)), "a.npz"),
        (npy(structured(EVENTS)), "a.npy"),
        (npy(np.array(EVENTS)), "a.npy"),
        (NMNIST, "a.bin"),
    ],
)
def test_every_kind_of_recording_file_is_read(content: bytes, name: str) -> None:
    [events] = parse_recorded(content, name)

    assert [tuple(row[key].item() for key in "txyp") for row in events] == ROWS


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "a.npz"),
        (b"hello", "a.npz"),
        (FILE[:50], "a.npz"),
        (npz(x=[1]), "a.npz"),
        (npz(**columns(EVENTS), offsets=[0, 9]), "a.npz"),
        (npz(**columns(EVENTS), offsets=[2, 1]), "a.npz"),
        (npy(np.zeros((3, 2))), "a.npy"),
        (NMNIST[:-1], "a.bin"),
        (npz(events=np.array([{}], object)), "a.npz"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(content: bytes, name: str) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        parse_recorded(content, name)

    assert caught.value.reason == "RECORDING_UNREADABLE"


def test_a_job_of_the_farm_is_drawn_whole(
    server: FarmProcess, digits_model: Path, digits_recordings: Path
) -> None:
    with server.connect() as farm:
        job = farm.run(digits_model, digits_recordings, monitor=[0], keep_lags=True)
        found = job.wait(timeout=60)

        picture = found.plot()

        assert picture.left_out == {}
        index = picture.recording
        assert found.recordings[index].latency.p99_us == max(
            each.latency.p99_us or 0.0 for each in found.recordings
        )
        lags = line(picture.get_axes()[0], "output spike").get_ydata()
        assert len(lags) == found.recordings[index].output_spikes
        assert sum(bar.get_height() for bar in picture.get_axes()[1].patches) == found.latency.n
        with np.load(digits_recordings) as file:
            start, stop = file["offsets"][index : index + 2]
        images = pictures(picture)
        assert sum(int(image.sum()) for image in images[:4]) == stop - start
        assert sum(int(image.sum()) for image in images[4:]) == len(found.spikes_of(index, 0))
        file_like = io.BytesIO()
        picture.savefig(file_like, format="png")
        assert file_like.getvalue().startswith(b"\x89PNG")
