"""The clocks: jobs are timed by the monotonic one, usage and results are dated by the other."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise

from speckfarm_server.doctor.line import Line, note, ok, wrong

READINGS = 1000
TOLERANCE_S = 60.0  # by which the newest data may be ahead: files have coarse times
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES = 512  # more than struct timex has anywhere; all zero means: only read


@dataclass(frozen=True, kw_only=True)
class Clock:
    """What the clocks show."""

    wall_s: float  # since 1970
    readings_s: Sequence[float]  # of the monotonic clock, one after the other
    is_synchronised: bool | None  # by NTP or PTP, as the kernel knows; None: it does not tell


def find_clock() -> Clock:
    """Read the clocks, and ask the kernel whether something keeps them right."""
    readings = [time.monotonic() for _ in range(READINGS)]
    return Clock(wall_s=time.time(), readings_s=readings, is_synchronised=_ask_kernel())


def judge_clock(found: Clock, newest_data_s: float | None) -> Line:
    """Compare with each other and with when the database was written last, if it was."""
    if any(later < earlier for earlier, later in pairwise(found.readings_s)):
        advice = "Jobs cannot be timed on this machine; look at its clock source"
        return wrong("clock", "the monotonic clock runs backwards", advice)
    if newest_data_s is not None and found.wall_s < newest_data_s - TOLERANCE_S:
        text = f"it shows {_shown(found.wall_s)}, but data was written {_shown(newest_data_s)}"
        return wrong("clock", text, "Set the clock, and let NTP keep it")
    shown = _shown(found.wall_s)
    if found.is_synchronised is None:
        return note("clock", f"{shown}; the kernel does not tell whether it is synchronised")
    if not found.is_synchronised:
        advice = "Usage will be dated wrongly: enable NTP (timedatectl set-ntp true)"
        return note("clock", f"{shown}, not synchronised", advice)
    return ok("clock", f"{shown}, synchronised")


def _ask_kernel() -> bool | None:
    """adjtimex(2) with nothing to set; containers may forbid it."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "adjtimex"):  # not Linux
        return None
    state = int(library.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return None if state < 0 else state != _TIME_ERROR


def _shown(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
