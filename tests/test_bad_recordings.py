"""Damaged and mistaken recordings: a reason each, nothing queued, the server unharmed."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import speckfarm
from speckfarm.v1 import jobs_pb2, recordings_pb2
from tests.farm_follow import faults, raw_calls
from tests.farm_process import FarmProcess
from tests.nir_files import chain_bytes, conv, neurons

Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def farm(server: FarmProcess) -> Iterator[speckfarm.Farm]:
    with server.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def one_feature() -> bytes:
    """A network whose input has one feature, 34 x 34."""
    return chain_bytes(
        conv((1, 1, 1, 1), input_shape=np.array([34, 34])), neurons(), input_shape=(1, 34, 34)
    )


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def events(**changed: Any) -> bytes:
    """Three events of a legal recording, with columns changed; None leaves one out."""
    columns: Arrays = {"t": [0, 10, 20], "x": [1, 2, 3], "y": [1, 2, 3], "p": [0, 1, 0]}
    columns |= changed
    return npz(**{name: np.array(c) for name, c in columns.items() if c is not None})


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty file": (lambda: b"", "RECORDING_UNREADABLE"),
    "zero events": (lambda: events(t=[], x=[], y=[], p=[]), "RECORDING_EMPTY"),
    "one of two without events": (lambda: events(offsets=[0, 0, 3]), "RECORDING_EMPTY"),
    "unsorted times": (lambda: events(t=[0, 20, 10]), "TIMES_UNSORTED"),
    "negative times": (lambda: events(t=[-1, 10, 20]), "TIMES_NEGATIVE"),
    "times beyond 36 bits": (lambda: events(t=[0, 10, 2**40]), "TIME_TOO_LARGE"),
    "times in seconds": (lambda: events(t=[0.0, 0.5, 1.5]), "NOT_INTEGER"),
    "times that are NaN": (lambda: events(t=[0.0, np.nan, 2.0]), "NOT_FINITE"),
    "negative coordinates": (lambda: events(x=[1, -2, 3]), "COORDINATE_OUT_OF_RANGE"),
    "coordinates beyond the chip": (lambda: events(y=[1, 2, 200]), "COORDINATE_OUT_OF_RANGE"),
    "coordinates outside the network": (lambda: events(x=[1, 2, 34]), "RECORDING_OUTSIDE_INPUT"),
    "features outside the network": (lambda: events(p=[0, 1, 2]), "RECORDING_OUTSIDE_INPUT"),
    "features beyond the chip": (lambda: events(p=[0, 1, 2000]), "FEATURE_OUT_OF_RANGE"),
    "a column missing": (lambda: events(p=None), "COLUMNS_WRONG"),
    "columns of different lengths": (lambda: events(x=[1, 2]), "COLUMNS_WRONG"),
    "columns of words": (lambda: events(x=["a", "b", "c"]), "COLUMNS_WRONG"),
    "three columns": (lambda: npy(np.zeros((5, 3), np.int64)), "COLUMNS_WRONG"),
    "offsets that skip events": (lambda: events(offsets=[0, 2]), "OFFSETS_WRONG"),
    "labels for other recordings": (lambda: events(labels=[1, 2]), "LABELS_WRONG"),
    "names for other recordings": (lambda: events(names=["a", "b"]), "NAMES_WRONG"),
    "Python objects": (lambda: npy(np.array([{"t": 0}], object)), "RECORDING_UNREADABLE"),
    "truncated": (lambda: events()[:300], "RECORDING_UNREADABLE"),
    "a pickle": (lambda: pickle.dumps([(0, 1, 1, 0)]), "UNSUPPORTED_RECORDING"),
    "text": (lambda: b"t,x,y,p\n0,1,1,0\n", "UNSUPPORTED_RECORDING"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_recording_is_refused_with_its_reason(
    kind: str,
    server: FarmProcess,
    farm: speckfarm.Farm,
    tmp_path: Path,
    digits_model: Path,
    one_digit: Path,
) -> None:
    make, reason = BAD[kind]
    path = tmp_path / "recording.npz"
    path.write_bytes(make())
    jobs = [job.id for job in farm.jobs()]

    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.run(digits_model, path)

    assert caught.value.reason == reason
    assert len(caught.value.message.split()) > 6
    assert [job.id for job in farm.jobs()] == jobs
    assert faults(server) == []
    result = farm.run(digits_model, one_digit).wait(timeout=40)
    assert result.recordings[0].prediction == result.recordings[0].label


def test_two_polarities_into_one_feature_ask_for_a_choice(
    farm: speckfarm.Farm, tmp_path: Path, one_feature: bytes
) -> None:
    path = tmp_path / "recording.npz"
    path.write_bytes(events())

    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.run(one_feature, path)

    assert caught.value.reason == "POLARITY_NOT_CHOSEN"
    assert dict(caught.value.fields).keys() == {"settings.polarity"}
    assert farm.run(one_feature, path, polarity="merge").wait(timeout=40).recordings


def test_a_polarity_that_leaves_no_event_is_refused(
    farm: speckfarm.Farm, tmp_path: Path, one_feature: bytes
) -> None:
    path = tmp_path / "recording.npz"
    path.write_bytes(events(p=[0, 0, 0]))

    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.run(one_feature, path, polarity="on")

    assert caught.value.reason == "RECORDING_EMPTY"


def test_a_polarity_for_a_network_with_two_features_is_refused(
    farm: speckfarm.Farm, digits_model: Path, one_digit: Path
) -> None:
    with pytest.raises(speckfarm.BadRequest) as caught:
        farm.run(digits_model, one_digit, polarity="on")

    assert caught.value.reason == "POLARITY_MISMATCH"


def test_a_recording_that_was_refused_is_not_registered(
    farm: speckfarm.Farm, tmp_path: Path, digits_model: Path
) -> None:
    path = tmp_path / "never-registered.npz"
    path.write_bytes(events(t=[9, 8, 7]))

    with pytest.raises(speckfarm.BadRequest):
        farm.run(digits_model, path)

    assert path.name not in {recording.name for recording in farm.recordings(limit=1000)}


def test_more_recordings_than_a_job_takes_are_refused(
    farm: speckfarm.Farm, server: FarmProcess, digits_model: Path, digits_recordings: Path
) -> None:
    farm.run(digits_model, digits_recordings).wait(timeout=40)
    model, recording = digest_of(digits_model), digest_of(digits_recordings)
    request = jobs_pb2.CreateJobRequest(model=model, recordings=[recording] * 1001)

    with raw_calls(server) as calls, pytest.raises(speckfarm.Exhausted) as caught:
        calls.call(calls.jobs.CreateJob, request)

    assert caught.value.reason == "TOO_MANY_RECORDINGS"
    assert caught.value.metadata == {"found": "100100", "allowed": "100000"}


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("digest", "reason"),
    [("00" * 32, "BLOB_MISSING"), ("../../farm.db", "INVALID_DIGEST"), ("", "INVALID_DIGEST")],
)
def test_a_recording_is_registered_only_from_an_uploaded_blob(
    server: FarmProcess, digest: str, reason: str
) -> None:
    request = recordings_pb2.CreateRecordingRequest(digest=digest, name="x.npz")

    with raw_calls(server) as calls, pytest.raises(speckfarm.SpeckfarmError) as caught:
        calls.call(calls.recordings.CreateRecording, request)

    assert caught.value.reason == reason
