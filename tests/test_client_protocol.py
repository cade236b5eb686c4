"""What the client does when connections break, and how refusals arrive. Real gRPC throughout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import speckfarm
from speckfarm import patience, upload
from speckfarm.events import EVENT_DTYPE, pack
from speckfarm.v1 import jobs_pb2
from tests.small_farm import SmallFarm, event, result_message, serving, state_of

CONTENT = bytes(range(256)) * 4096  # 1 MiB: four chunks


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(upload, "PATIENCE_S", 0.1)


@pytest.fixture
def small() -> Iterator[SmallFarm]:
    farm = SmallFarm()
    with serving(farm):
        yield farm


@pytest.fixture
def farm(small: SmallFarm) -> Iterator[speckfarm.Farm]:
    with speckfarm.connect(small.address, "secret") as connected:
        yield connected


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.nir"
    path.write_bytes(CONTENT)
    return path


def test_the_token_travels_with_every_call(small: SmallFarm, farm: speckfarm.Farm) -> None:
    farm.info()

    assert small.tokens == ["Bearer secret"]


def test_a_file_is_sent_once(small: SmallFarm, farm: speckfarm.Farm, model: Path) -> None:
    farm.check(model)
    farm.check(str(model))
    farm.check(CONTENT)

    assert small.upload_offsets == [0]
    assert list(small.blobs.values()) == [CONTENT]


def test_a_broken_upload_goes_on_where_it_broke(
    small: SmallFarm, farm: speckfarm.Farm, model: Path
) -> None:
    small.break_upload_after = [300_000, 600_000]

    farm.check(model)

    assert small.upload_offsets == [0, 2 * upload.CHUNK_BYTES, 3 * upload.CHUNK_BYTES]
    assert list(small.blobs.values()) == [CONTENT]


def test_an_upload_that_makes_no_progress_gives_up(
    small: SmallFarm, farm: speckfarm.Farm, model: Path
) -> None:
    small.break_upload_after = [0] * 100

    with pytest.raises(speckfarm.FarmUnavailable, match="the cable was pulled"):
        farm.check(model)

    assert set(small.upload_offsets) == {0}


def test_arrays_and_paths_keep_their_order(
    small: SmallFarm, farm: speckfarm.Farm, model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "digits.npz"
    file.write_bytes(b"digits")
    events = np.zeros(2, [("t", "i8"), ("x", "u1"), ("y", "u1"), ("p", "u1")])

    farm.run(model, (events, 1), (events, 2), file, events)

    names = [request.name for request in small.created[:-1]]
    assert names == ["model.nir", "memory.npz", "digits.npz", "memory.npz"]
    assert small.created[-1].recordings == [request.digest for request in small.created[1:-1]]


def test_a_job_carries_its_options_and_a_request_id(
    small: SmallFarm, farm: speckfarm.Farm, model: Path
) -> None:
    farm.flash(model, chip="speck2e", kind="simulated", board="twin-0", queue_timeout_s=1.5)

    request = small.created[-1]
    assert (request.chip, request.board, request.board_kind) == ("speck2e", "twin-0", 2)
    assert request.queue_timeout.ToMilliseconds() == 1500
    assert not request.HasField("run_timeout")
    assert len(request.request_id) == 32


def test_a_misspelt_option_sends_nothing(
    small: SmallFarm, farm: speckfarm.Farm, model: Path
) -> None:
    with pytest.raises(speckfarm.BadRequest, match="Did you mean keep_lags"):
        farm.flash(model, keep_lag=True)  # type: ignore[call-arg]

    assert not small.blobs


def test_run_without_recordings_points_at_flash(farm: speckfarm.Farm, model: Path) -> None:
    with pytest.raises(speckfarm.BadRequest, match="flash"):
        farm.run(model)


def test_a_name_that_is_neither_file_nor_known_is_named(farm: speckfarm.Farm) -> None:
    with pytest.raises(speckfarm.NotFound, match=r"'nothing.nir' is neither a file") as caught:
        farm.check("nothing.nir")

    assert caught.value.reason == "MODEL_NOT_FOUND"


def test_a_path_that_is_not_there_is_never_taken_for_a_name(
    farm: speckfarm.Farm, tmp_path: Path
) -> None:
    with pytest.raises(speckfarm.BadRequest, match="cannot be read"):
        farm.check(tmp_path / "nothing.nir")


def test_a_broken_watch_is_attached_again_after_the_last_event(
    small: SmallFarm, farm: speckfarm.Farm
) -> None:
    small.job = state_of("RUNNING", sequence=2)
    small.streams = [
        [event(1, "QUEUED", job=small.job), event(2, "RUNNING")],
        [event(2, "RUNNING"), event(2, "RUNNING", done=1)],
        [event(3, "SUCCEEDED", done=2, job=state_of("SUCCEEDED"), result=result_message())],
    ]

    seen = [(each.sequence, each.recordings_done) for each in farm.job("j-1").watch()]

    assert seen == [(1, 0), (2, 0), (2, 1), (3, 2)]
    assert small.watched_after == [0, 2, 2]


def test_wait_returns_the_result_of_the_final_event(small: SmallFarm, farm: speckfarm.Farm) -> None:
    small.streams = [
        [event(1, "SUCCEEDED", job=state_of("SUCCEEDED"), result=result_message(accuracy=0.25))]
    ]

    result = farm.job("j-1").wait()

    assert result.accuracy == 0.25


def test_a_client_timeout_leaves_the_job_alone(small: SmallFarm, farm: speckfarm.Farm) -> None:
    small.streams = [[event(1, "QUEUED"), None]]

    with pytest.raises(speckfarm.WaitTimeout, match="not touched") as caught:
        farm.job("j-1").wait(timeout=0.05)

    assert isinstance(caught.value, TimeoutError)
    assert small.cancelled == []


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("FAILED", speckfarm.JobFailed),
        ("CANCELLED", speckfarm.JobCancelled),
        ("EXPIRED", speckfarm.JobExpired),
    ],
)
def test_a_job_without_result_raises_how_it_ended(
    small: SmallFarm, farm: speckfarm.Farm, state: str, kind: type[speckfarm.JobEnded]
) -> None:
    failure = jobs_pb2.JobError(
        reason="RUN_TIMEOUT",
        message="took 31 s",
        error_class=jobs_pb2.ERROR_CLASS_LIMIT,
        metadata={"run_timeout_s": "30"},
    )
    error = failure if state == "FAILED" else None
    small.streams = [[event(4, state, job=state_of(state, error=error))]]

    with pytest.raises(kind) as caught:
        farm.job("j-1").wait()

    assert caught.value.job_id == "j-1"
    if isinstance(caught.value, speckfarm.JobFailed):
        assert caught.value.reason == "RUN_TIMEOUT"
        assert caught.value.error_class == "LIMIT"
        assert caught.value.metadata == {"run_timeout_s": "30", "job": "j-1"}


def test_spikes_are_fetched_when_asked_for_and_survive_a_break(
    small: SmallFarm, farm: speckfarm.Farm
) -> None:
    spikes = np.array([(5, 3, 1, 0, 0), (6, 3, 1, 0, 1)], EVENT_DTYPE)
    source = upload.bytes_source(pack(spikes).tobytes(), "spikes")
    small.blobs[source.digest] = pack(spikes).tobytes()
    done = event(1, "SUCCEEDED", job=state_of("SUCCEEDED"))
    done.result.CopyFrom(result_message(spikes=source.digest))
    small.streams = [[done]]

    result = farm.job("j-1").wait()

    assert result.spikes.tolist() == spikes.tolist()
    assert result.spikes_of(0).tolist() == spikes.tolist()
    assert len(result.spikes_of(1)) == 0


def test_lags_that_were_not_kept_say_how_to_keep_them(
    small: SmallFarm, farm: speckfarm.Farm
) -> None:
    small.job = state_of("SUCCEEDED")

    result = farm.job("j-1").result()

    with pytest.raises(speckfarm.NotFound, match="keep_lags=True"):
        _ = result.lags


def test_lists_go_over_pages_and_stop_at_the_limit(farm: speckfarm.Farm) -> None:
    assert [job.id for job in farm.jobs()] == ["j-0", "j-1", "j-2", "j-3", "j-4"]
    assert [job.id for job in farm.jobs(limit=3)] == ["j-0", "j-1", "j-2"]


def test_a_benchmark_ends_in_flat_rows(
    small: SmallFarm, farm: speckfarm.Farm, model: Path, tmp_path: Path
) -> None:
    bench = farm.benchmark(model, _recording(tmp_path), sweep={"decimator.0": [None, 2]})

    rows = bench.wait().table()

    assert list(small.created[-1].axes[0].values) == ["off", "2"]
    assert [(row["decimator.0"], row["accuracy"], row["p99_us"]) for row in rows] == [
        ("off", 1.0, 7.125),
        ("2", 0.5, 7.125),
    ]
    assert bench.to_csv(tmp_path / "table.csv") == (tmp_path / "table.csv").read_text()
    assert bench.to_csv().splitlines()[0].startswith("model,decimator.0,job,state,board,accuracy")


def _recording(folder: Path) -> Path:
    path = folder / "r.npz"
    path.write_bytes(b"recording")
    return path


def test_nobody_at_the_address_names_the_address() -> None:
    with serving(SmallFarm()) as address:
        pass

    with (
        speckfarm.connect(address, "secret") as farm,
        pytest.raises(speckfarm.FarmUnavailable, match=address),
    ):
        farm.info()


def test_watching_outlives_a_restart_of_the_server() -> None:
    before, after = SmallFarm(), SmallFarm()
    before.streams = [[event(1, "QUEUED"), None]]
    after.job = state_of("QUEUED", sequence=1)
    after.streams = [[event(2, "SUCCEEDED", job=state_of("SUCCEEDED"))]]

    with serving(before) as address:
        farm = speckfarm.connect(address, "secret")
        watching = farm.job("j-1").watch()
        first = next(watching)
    with serving(after, address=address), farm:
        rest = list(watching)

    assert [each.sequence for each in [first, *rest]] == [1, 2]
    assert after.watched_after == [1]


def test_events_that_a_crash_made_the_farm_forget_do_not_hide_the_end(
    small: SmallFarm, farm: speckfarm.Farm
) -> None:
    small.streams = [
        [event(1, "QUEUED"), event(2, "ASSIGNED"), event(3, "RUNNING")],
        [event(2, "CANCELLED", job=state_of("CANCELLED"))],
    ]
    small.job = state_of("QUEUED", sequence=2)

    states = [each.state for each in farm.job("j-1").watch()]

    assert states == ["QUEUED", "ASSIGNED", "RUNNING", "CANCELLED"]
    assert small.watched_after == [0, 1]
