"""Recording files to packed events: formats, and every refusal."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm.events import MAX_TIME_US, unpack
from speckfarm_server.errors import BadInput
from speckfarm_server.recording_file import read_recordings
from tests.recording_files import (
    EVENTS,
    NMNIST,
    OUTCOMES,
    columns,
    npy,
    npz,
    outcome,
    rows_of,
    structured,
)


def refused(data: bytes, name: str = "a.npz") -> BadInput:
    with pytest.raises(BadInput) as caught:
        read_recordings(data, name)
    return caught.value


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (npz(events=structured(EVENTS)), "a.npz"),
        (npz(**columns(EVENTS)), "a.npz"),
        (npz(**columns(EVENTS, np.float64)), "a.npz"),
        (npz(**columns(EVENTS, ">u2")), "a.npz"),
        (npz(**{**columns(EVENTS), "p": np.array([False, True, True])}), "a.npz"),
        (npz(events=np.array(EVENTS)), "a.npz"),
        (npy(structured(EVENTS, "u4,f4,u1,?")), "a.npy"),
        (npy(np.array(EVENTS, np.int32)), "a.npy"),
        (npy(np.asfortranarray(EVENTS)), "a.npy"),
        (NMNIST, "a.bin"),
        (npz(events=structured(EVENTS)), "called wrongly.bin"),
    ],
)
def test_every_format_gives_the_same_events(data: bytes, name: str):
    recordings = read_recordings(data, name)

    assert rows_of(recordings) == EVENTS
    assert recordings.offsets.tolist() == [0, 3]
    assert recordings.labels is None
    assert (recordings.max_x, recordings.max_y, recordings.features) == (33, 4, (0, 1))
    assert recordings.duration_us == 5
    assert recordings.names == (name.rpartition(".")[0],)


def test_many_recordings_have_offsets_labels_and_names():
    rows = [(9, 0, 0, 0), (10, 1, 1, 1), (2, 2, 2, 2), (2, 3, 3, 0), (7, 0, 0, 0)]

    recordings = read_recordings(
        npz(**columns(rows), offsets=[0, 2, 5], labels=[7, 3], names=["seven", "three"]), "a.npz"
    )

    assert len(recordings) == 2
    assert recordings.labels is not None
    assert recordings.labels.tolist() == [7, 3]
    assert recordings.names == ("seven", "three")
    assert recordings.duration_us == 1 + 5
    assert unpack(recordings.recording(1))["t"].tolist() == [2, 2, 7]


def test_recordings_without_names_are_numbered():
    data = npz(**columns(EVENTS), offsets=[0, 1, 3])

    assert read_recordings(data, "some/cats.npz").names == ("cats-0", "cats-1")


@pytest.mark.parametrize(
    ("data", "name", "found"),
    [
        (b"#!AER-DAT4.0\r\n", "a.aedat4", "AEDAT 4"),
        (b"#!AER-DAT2.0\r\n", "a.aedat", "AEDAT"),
        (b"% Data file containing Event2D events.\n% Version 2\n", "a.dat", "Prophesee .dat"),
        (b"% date 2024\n% evt 3.0\n", "a.raw", "EVT3"),
        (b"\x89HDF\r\n\x1a\n", "a.h5", "HDF5"),
        (pickle.dumps([1]), "a.pkl", "pickle"),
        (b"1,2,3,4\n", "a.csv", "text"),
        (NMNIST, "a.dat", "unknown binary data"),
    ],
)
def test_other_formats_are_named_with_what_is_readable(data: bytes, name: str, found: str):
    error = refused(data, name)

    assert error.reason == "UNSUPPORTED_RECORDING"
    assert found in error.message
    assert ".npz" in error.message


@pytest.mark.parametrize(
    ("rows", "reason", "event"),
    [
        ([(0, 0, 0, 0), (5, 0, 0, 0), (4, 0, 0, 0)], "TIMES_UNSORTED", 2),
        ([(-1, 0, 0, 0), (5, 0, 0, 0)], "TIMES_NEGATIVE", 0),
        ([(0, 0, 0, 0), (MAX_TIME_US + 1, 0, 0, 0)], "TIME_TOO_LARGE", 1),
        ([(0, 0, 0, 0), (5, 128, 0, 0)], "COORDINATE_OUT_OF_RANGE", 1),
        ([(0, 0, 0, 0), (5, 0, -1, 0)], "COORDINATE_OUT_OF_RANGE", 1),
        ([(0, 0, 0, 1024)], "FEATURE_OUT_OF_RANGE", 0),
        ([(0, 0, 0, 0), (5, 0, 0, -1)], "FEATURE_OUT_OF_RANGE", 1),
    ],
)
def test_a_value_out_of_range_is_named_with_its_event(
    rows: list[tuple[int, ...]], reason: str, event: int
):
    good = [(7, 1, 1, 1), (8, 1, 1, 1)]

    error = refused(npz(**columns(good + rows), offsets=[0, 2, 2 + len(rows)]))

    assert error.reason == reason
    assert (error.metadata["recording"], error.metadata["event"]) == ("1", str(event))
    assert {"found", "allowed"} <= set(error.metadata)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (0.5, "NOT_INTEGER"),
        (np.nan, "NOT_FINITE"),
        (np.inf, "NOT_FINITE"),
        (1e300, "TIME_TOO_LARGE"),
    ],
)
def test_float_times_must_be_whole_and_finite(value: float, reason: str):
    data = {**columns(EVENTS), "t": np.array([0.0, 1.0, value])}

    error = refused(npz(**data))

    assert (error.reason, error.metadata["event"]) == (reason, "2")


def test_unsigned_times_beyond_int64_are_too_large():
    data = {**columns(EVENTS), "t": np.array([0, 1, 2**64 - 1], np.uint64)}

    assert refused(npz(**data)).reason == "TIME_TOO_LARGE"


def test_disorder_is_found_across_pieces():
    size = (1 << 18) + 1
    times_us = np.zeros(size, np.int64)
    times_us[-2] = 9
    zeros = np.zeros(size, np.uint8)

    error = refused(npz(t=times_us, x=zeros, y=zeros, p=zeros))

    assert (error.reason, error.metadata["event"]) == ("TIMES_UNSORTED", str(size - 1))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (npz(**columns([])), "a.npz"),
        (npz(**columns(EVENTS), offsets=[0, 0, 3]), "a.npz"),
        (npy(np.zeros((0, 4), np.int64)), "a.npy"),
        (b"", "a.bin"),
    ],
)
def test_a_recording_without_events_is_refused(data: bytes, name: str):
    assert refused(data, name).reason == "RECORDING_EMPTY"


@pytest.mark.parametrize(
    "arrays",
    [
        {"labels": [1]},
        {"t": [1], "x": [1], "y": [1]},
        {"t": [1], "x": [1], "y": [1], "p": [1, 2]},
        {"t": [1], "x": [1], "y": [1], "p": [1j]},
        {"t": ["1"], "x": [1], "y": [1], "p": [1]},
        {"t": [[1]], "x": [[1]], "y": [[1]], "p": [[1]]},
        {"t": 1, "x": 1, "y": 1, "p": 1},
        {"events": np.zeros((3, 5), np.int64)},
        {"events": np.zeros(3, [("time", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])},
        {"events": np.zeros(3, [("t", "i8", 2), ("x", "i2"), ("y", "i2"), ("p", "i1")])},
        {"events": np.zeros((2, 3), [("t", "i8"), ("x", "i2"), ("y", "i2"), ("p", "i1")])},
    ],
)
def test_wrong_columns_are_refused(arrays: dict[str, Any]):
    assert refused(npz(**arrays)).reason == "COLUMNS_WRONG"


@pytest.mark.parametrize(
    "offsets", [[], [0], [0, 2], [1, 3], [0, 4], [0, 2, 1, 3], [0.5, 3], ["0", "3"], [[0, 3]],
                [0, np.nan], [0, 1e300], np.array([0, 2**64 - 1], np.uint64)]
)  # fmt: skip
def test_wrong_offsets_are_refused(offsets: Any):
    assert refused(npz(**columns(EVENTS), offsets=offsets)).reason == "OFFSETS_WRONG"


@pytest.mark.parametrize("labels", [[], [1, 2], [-1], [0.5], ["cat"], [[1]]])
def test_wrong_labels_are_refused(labels: Any):
    assert refused(npz(**columns(EVENTS), labels=labels)).reason == "LABELS_WRONG"


@pytest.mark.parametrize("names", [[], ["a", "b"], [1], ["n" * 999], ["\ud800"], [b"\xff"]])
def test_wrong_names_are_refused(names: Any):
    assert refused(npz(**columns(EVENTS), names=names)).reason == "NAMES_WRONG"


def test_one_label_and_name_may_stand_alone():
    recordings = read_recordings(npz(**columns(EVENTS), labels=4, names=b"four"), "a.npz")

    assert recordings.labels is not None
    assert (recordings.labels.tolist(), recordings.names) == ([4], ("four",))


def header(shape: str, descr: str = "'<i8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def zip_of(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: zip_of(events=data)])
def test_a_header_that_declares_64_gib_is_refused_before_reading(wrap: Any):
    error = refused(wrap(header("(2147483648, 4)")), "a.npy")

    assert error.reason == "RECORDING_TOO_LARGE"
    assert error.metadata["found"] == "8,589,934,592 elements"


def test_an_archive_that_unpacks_to_too_much_is_refused_before_reading():
    data = bytearray(zip_of(events=bytes(1000), **{f"m{n}": b"" for n in range(3)}))
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (0xF0000000).to_bytes(4, "little")

    assert refused(bytes(data)).reason == "RECORDING_TOO_LARGE"


def test_an_archive_with_too_many_members_is_refused():
    data = zip_of(**{f"member{number}": b"" for number in range(65)})

    assert refused(data).reason == "RECORDING_TOO_LARGE"


def test_too_many_recordings_are_refused():
    offsets = np.arange(100_002)
    column = np.zeros(100_001, np.uint8)

    error = refused(npz(t=column, x=column, y=column, p=column, offsets=offsets))

    assert error.reason == "RECORDING_TOO_LARGE"


@pytest.mark.parametrize(
    "data",
    [
        header("(3,)"),
        header("(-3, 4)"),
        header("(3,)", "'|O'"),
        header("3"),
        header("(3,)", "'nonsense'"),
        header("(3,)")[:20],
        b"\x93NUMPY\x09\x09",
        npy(np.array([{}], object)),
        zip_of(events=header("(3,)")),
        zip_of(events=b""),
        npz(events=np.array([{}], object)),
        b"PK\x03\x04 and then nothing",
        b"",
    ],
)
def test_damaged_files_are_unreadable(data: bytes):
    assert refused(data, "a.npy").reason == "RECORDING_UNREADABLE"


def test_elements_of_no_or_many_bytes_are_too_large():
    for descr in ("'|V0'", "'|V9999'"):
        assert refused(header("(3,)", descr), "a.npy").reason == "RECORDING_TOO_LARGE"


def test_a_bin_of_a_length_that_is_no_multiple_of_five_is_unreadable():
    error = refused(NMNIST[:-1], "a.bin")

    assert error.reason == "RECORDING_UNREADABLE"
    assert "14 bytes" in error.message


def test_cutting_an_archive_anywhere_makes_it_unreadable():
    data = npz(events=structured(EVENTS * 1), labels=[1])

    found = {refused(data[:cut]).reason for cut in range(4, len(data))}

    assert found == {"RECORDING_UNREADABLE"}


def test_a_bit_flipped_in_an_archive_never_escapes_as_another_error():
    data = npz(events=structured(EVENTS), labels=[1])

    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        assert outcome(bytes(flipped)) in OUTCOMES


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes):
    for prefix in (b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00"):
        assert outcome(prefix + data, "a.bin") in OUTCOMES
