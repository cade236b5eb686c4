"""Keyword arguments of run, flash and benchmark: settings, and how jobs are queued."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import cast

from google.protobuf.duration_pb2 import Duration

from speckfarm.errors import BadRequest
from speckfarm.settings import KEYS, SettingOptions


class JobOptions(SettingOptions, total=False):
    """Settings, and how a job is queued."""

    chip: str | None  # None: the first chip the farm has boards of
    kind: str | None  # real or simulated; None: real if the farm has one
    board: str | None  # only this board; None: any that fits
    keep_lags: bool  # keep every lag beside the result
    request_id: str | None  # the same id and arguments give the same job; None: made up
    queue_timeout_s: float | None  # longest wait in the queue; None: 24 h
    run_timeout_s: float | None  # longest run; None: by the recordings' length


class GridOptions(SettingOptions, total=False):
    """Settings that all points of a benchmark share, and how its jobs are queued."""

    chip: str | None
    kind: str | None
    request_id: str | None


QUEUE_KEYS = tuple(key for key in JobOptions.__annotations__ if key not in KEYS)
GRID_KEYS = tuple(key for key in GridOptions.__annotations__ if key not in KEYS)


def split_options(
    options: Mapping[str, object], keys: Sequence[str]
) -> tuple[dict[str, object], JobOptions]:
    """Settings (and whatever nobody knows), and those of `keys` that were given."""
    settings = {key: value for key, value in options.items() if key not in keys}
    queue = {key: value for key, value in options.items() if key in keys and value is not None}
    return settings, cast("JobOptions", queue)


def to_duration(seconds: float | None) -> Duration | None:
    """Seconds for the wire; None leaves the default to the farm. Raises BadRequest."""
    if seconds is None:
        return None
    duration = Duration()
    try:
        duration.FromTimedelta(timedelta(seconds=seconds))
    except (OverflowError, ValueError, TypeError) as error:
        text = f"A timeout is {seconds!r}; a number of seconds is wanted ({error})"
        raise BadRequest("TIMEOUT_INVALID", text) from error
    return duration
