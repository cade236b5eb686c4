"""A histogram of lags that can be stored, merged for years and asked for percentiles.

Buckets grow by 2 %: bucket k holds magnitudes from 1.02^k up to 1.02^(k+1) and answers with a value
in between that is at most 0.02/2.02 = 0.99 % off either end. Negative lags have buckets of their
own, zero is exact, and the smallest and the largest lag are kept as they are.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
Int16Array: TypeAlias = NDArray[np.int16]
Int64Array: TypeAlias = NDArray[np.int64]

GROWTH = 1.02
MIDDLE = 2 * GROWTH / (1 + GROWTH)  # equally far, relatively, from both ends of a bucket
INVERSE_LOG_GROWTH = 1 / math.log(GROWTH)
# A key is bucket + KEY_OFFSET, negated for negative lags and 0 for zero, so that keys sort as lags
# do and fit 16 bits. Buckets are cut to +-16383: magnitudes from 1e-140 to 1e140 us.
KEY_OFFSET = 16384
MAX_BUCKET = KEY_OFFSET - 1
SMALLEST_US = 1e-140

VERSION = 1
HEADER = struct.Struct("<BBHQdd")  # version, bytes per count, buckets, uncaused, min, max
COUNT_TYPES = {1: "<u1", 2: "<u2", 4: "<u4", 8: "<u8"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """Lags in microseconds; only buckets that hold something are kept."""

    keys: Int16Array  # (buckets,), ascending
    counts: Int64Array  # (buckets,), all above 0
    minimum_us: float | None  # exact; None without lags
    maximum_us: float | None  # exact; None without lags
    n: int  # lags, that is the sum of counts
    uncaused: int  # outputs that have no lag

    @classmethod
    def of(cls, lags_us: FloatArray) -> Histogram:
        """Count lags (m,) in us; NaN counts as uncaused."""
        caused = lags_us[lags_us == lags_us]
        n = len(caused)
        uncaused = len(lags_us) - n
        if n == 0:
            return cls.of_none(uncaused=uncaused)
        keys = _keys(caused)
        lowest = int(keys.min())
        dense = np.bincount(keys - lowest)
        filled = dense.nonzero()[0]
        return cls(
            keys=(filled + lowest).astype(np.int16),
            counts=dense[filled],
            minimum_us=float(caused.min()),
            maximum_us=float(caused.max()),
            n=n,
            uncaused=uncaused,
        )

    @classmethod
    def of_none(cls, *, uncaused: int = 0) -> Histogram:
        """Make a histogram without lags."""
        return cls(
            keys=np.empty(0, np.int16),
            counts=np.empty(0, np.int64),
            minimum_us=None,
            maximum_us=None,
            n=0,
            uncaused=uncaused,
        )

    def merged(self, other: Histogram) -> Histogram:
        """Both together, as if made from the lags of both."""
        return merge_all([self, other])

    def percentile(self, q: float) -> float | None:
        """Nearest-rank percentile in us, q from 0 to 100; at most 1 % off; None without lags."""
        if self.minimum_us is None or self.maximum_us is None:
            return None
        rank = nearest_rank(q, self.n)
        if rank == 1:
            return self.minimum_us
        if rank == self.n:
            return self.maximum_us
        key = int(self.keys[np.searchsorted(self.counts.cumsum(), rank)])
        return min(max(_value(key), self.minimum_us), self.maximum_us)

    def to_bytes(self) -> bytes:
        """Little-endian: header, keys as int16, counts as the narrowest unsigned type."""
        largest = int(self.counts.max(initial=0))
        width = next(width for width in COUNT_TYPES if largest < 1 << 8 * width)
        ends = (self.minimum_us or 0.0, self.maximum_us or 0.0)
        head = HEADER.pack(VERSION, width, len(self.keys), self.uncaused, *ends)
        counts = self.counts.astype(COUNT_TYPES[width])
        return head + self.keys.astype("<i2").tobytes() + counts.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Histogram:
        """Read what `to_bytes` wrote; ValueError for anything else."""
        if len(data) < HEADER.size or data[0] != VERSION or data[1] not in COUNT_TYPES:
            raise ValueError(f"not a histogram of version {VERSION}: {data[: HEADER.size].hex()}")
        _, width, buckets, uncaused, minimum_us, maximum_us = HEADER.unpack_from(data)
        wanted = HEADER.size + buckets * (2 + width)
        if len(data) != wanted:
            raise ValueError(
                f"a histogram of {buckets} buckets has {wanted} bytes, not {len(data)}"
            )
        if buckets == 0:
            return cls.of_none(uncaused=uncaused)
        keys = np.frombuffer(data, "<i2", buckets, HEADER.size).astype(np.int16)
        counts = np.frombuffer(data, COUNT_TYPES[width], buckets, HEADER.size + 2 * buckets)
        return cls(
            keys=keys,
            counts=counts.astype(np.int64),
            minimum_us=minimum_us,
            maximum_us=maximum_us,
            n=int(counts.sum()),
            uncaused=uncaused,
        )


def merge_all(histograms: Sequence[Histogram]) -> Histogram:
    """All together, in any order with the same outcome; cost grows with the buckets, not lags."""
    uncaused = sum(histogram.uncaused for histogram in histograms)
    filled = [histogram for histogram in histograms if histogram.n]
    if not filled:
        return Histogram.of_none(uncaused=uncaused)
    keys = np.concatenate([histogram.keys for histogram in filled])
    counts = np.concatenate([histogram.counts for histogram in filled])
    order = keys.argsort(kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return Histogram(
        keys=keys[starts],
        counts=np.add.reduceat(counts[order], starts),
        minimum_us=min(h.minimum_us for h in filled if h.minimum_us is not None),
        maximum_us=max(h.maximum_us for h in filled if h.maximum_us is not None),
        n=sum(histogram.n for histogram in filled),
        uncaused=uncaused,
    )


def nearest_rank(q: float, n: int) -> int:
    """Rank, 1 to n, of the smallest of n values that at least q percent do not exceed."""
    return max(1, math.ceil(q * n / 100))


def _keys(lags_us: FloatArray) -> Int64Array:
    magnitude = np.maximum(np.abs(lags_us), SMALLEST_US)
    bucket = np.floor(np.log(magnitude) * INVERSE_LOG_GROWTH)
    signed = (np.minimum(bucket, MAX_BUCKET) + KEY_OFFSET) * np.sign(lags_us)
    keys: Int64Array = signed.astype(np.int64)
    return keys


def _value(key: int) -> float:
    if key == 0:
        return 0.0
    return math.copysign(GROWTH ** (abs(key) - KEY_OFFSET) * MIDDLE, key)
