"""Packed recordings: the form on disk, and polarity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speckfarm.events import MAX_TIME_US, unpack
from speckfarm_server.errors import BadInput
from speckfarm_server.recording_file import read_recordings
from speckfarm_server.recordings import (
    Recordings,
    from_file,
    select_polarity,
    to_file,
)
from tests.recording_files import (
    EVENTS,
    NMNIST,
    columns,
    npz,
    rows_of,
)

EVENT = st.tuples(
    st.integers(0, MAX_TIME_US), st.integers(0, 127), st.integers(0, 127), st.integers(0, 1023)
)


@st.composite
def many_recordings(draw: st.DrawFn) -> Recordings:
    parts = draw(st.lists(st.lists(EVENT, min_size=1, max_size=6), min_size=1, max_size=4))
    rows = [row for part in parts for row in sorted(part, key=lambda row: row[0])]
    offsets = np.cumsum([0, *map(len, parts)])
    labels = draw(
        st.none() | st.lists(st.integers(0, 99), min_size=len(parts), max_size=len(parts))
    )
    more = {} if labels is None else {"labels": labels}
    recordings = read_recordings(npz(**columns(rows), offsets=offsets, **more), "a.npz")
    assert rows_of(recordings) == rows
    return recordings


@given(recordings=many_recordings())
def test_the_form_on_disk_gives_back_everything(
    recordings: Recordings, tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("recordings") / "a"

    to_file(recordings, path)
    back = from_file(path)

    for name in Recordings.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, name), getattr(recordings, name), strict=False)
    assert not back.packed.flags.writeable


@pytest.mark.parametrize("cut", [0, 3, 12, 40, -1])
def test_a_damaged_form_on_disk_is_unreadable(cut: int, tmp_path: Path):
    path = tmp_path / "a"
    to_file(read_recordings(NMNIST, "a.bin"), path)
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(BadInput) as caught:
        from_file(path)

    assert caught.value.reason == "RECORDING_UNREADABLE"


@pytest.mark.parametrize(
    ("polarity", "expected"),
    [
        ("keep", EVENTS),
        ("merge", [(0, 1, 2, 0), (5, 3, 4, 0), (5, 33, 0, 0)]),
        ("on", [(5, 3, 4, 0), (5, 33, 0, 0)]),
        ("off", [(0, 1, 2, 0)]),
    ],
)
def test_polarity_makes_features(polarity: str, expected: list[tuple[int, ...]]):
    recordings = read_recordings(NMNIST, "a.bin")

    packed = select_polarity(recordings.packed, polarity)

    events = unpack(packed)
    assert [tuple(map(int, event[["t", "x", "y", "feature"]])) for event in events] == expected
