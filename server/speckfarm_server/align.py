"""Alignment: which of the predicted outputs is which of the measured ones, in spite of losses.

Both are sequences of addresses in order of arrival. Outputs get lost, others are extra, and stamps
are late by an unknown time, so neither counts nor times say which is which; the order of addresses
does. A weighted longest common subsequence, in a band around equal shares of both counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.histogram import FloatArray, Int64Array

PIECE = 4096  # outputs that are aligned together
OVERLAP = 512  # with the next piece: at its end a piece has no future to decide by
FEWEST = 1024  # outputs of a choice of addresses that stand for all
MOST = 32768  # outputs that are aligned; of more, equal shares of the counts must do
LEAST_BAND, MOST_BAND = 48, 640  # places on either side of equal shares
LOST = 0.1  # share of the outputs that may be lost or extra
BONUS = 0.5  # for two neighbours that are as far apart in time as predicted
AGREE_US = 12.0
PEAK_BONUS = 1.5  # for a difference of times that many outputs share
PEAK_US = 16.0
NEAR = 50  # bins of PEAK_US to either side are what is usual
ALIKE = 0.75  # share that must be found; less is another order of outputs, or chance
EARLIEST, LATEST = 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Outputs:
    """Outputs of one layer in order of arrival."""

    t_us: FloatArray  # (n,)
    address: Int64Array  # (n,) feature, y and x in one number


def address(
    feature: NDArray[np.integer], y: NDArray[np.integer], x: NDArray[np.integer]
) -> Int64Array:
    """Feature, y and x in one number, (n,)."""
    return feature.astype(np.int64) << 14 | y.astype(np.int64) << 7 | x.astype(np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Alignment:
    """Which measured outputs are which predicted ones, both in order."""

    measured: Int64Array  # (k,)
    predicted: FloatArray  # (k,) in the middle of all that fit as well
    doubt: FloatArray  # (k,) how many places either way fit as well

    def places(self, count: int) -> FloatArray:
        """Places of all `count` measured outputs, between those of their neighbours."""
        return np.interp(np.arange(count), self.measured, self.predicted)


def align(measured: Outputs, predicted: Outputs) -> Alignment:
    """Find measured outputs among the predicted ones. Cost: 0.2 s for a choice of addresses.

    An event may cause many outputs at one time, whose order is not known; so if all together find
    no order, those of a few addresses may, which seldom come together.
    """
    times = len(np.unique(predicted.t_us))
    for most, fewest in ((PIECE, FEWEST), (min(PIECE, times // 2), FEWEST // 10)):
        here, there = _choice(measured.address, predicted.address, most, fewest)
        if min(len(here), len(there)) < 2 or max(len(here), len(there)) > MOST:
            continue
        first, last = _pieces(_take(measured, here), _take(predicted, there))
        if len(first[0]) >= ALIKE * min(len(here), len(there)):
            rows = np.union1d(first[0], last[0])
            ends = [np.interp(rows, pairs[0], pairs[1]) for pairs in (first, last)]
            low, high = (np.interp(end, np.arange(len(there)), there) for end in ends)
            return Alignment(
                measured=here[rows], predicted=(low + high) / 2, doubt=np.abs(high - low) / 2
            )
    return _by_counts(len(measured.t_us), len(predicted.t_us))


def _by_counts(total: int, expected: int) -> Alignment:
    """Equal shares of both counts: all that is left where addresses tell nothing."""
    share = np.linspace(0, 1, total)
    # Losses at random make the counts differ by a bridge between two ends, extra outputs at times
    # when few are predicted by a share of them.
    bridge = share * (1 - share)
    doubt = 2 * np.sqrt(LOST * expected * bridge) + LOST * expected * 2 * bridge
    doubt += 3 + LOST * expected / 10
    return Alignment(measured=np.arange(total), predicted=(expected - 1) * share, doubt=doubt)


def _choice(
    measured: Int64Array, predicted: Int64Array, most: int, fewest: int
) -> tuple[Int64Array, Int64Array]:
    """Places of the outputs to align: all, if they are not more, or those of some addresses.

    Addresses are taken in the order of a hash as long as they fit; if those are too few outputs to
    stand for all, the rarest.
    """
    if max(len(measured), len(predicted)) <= most:
        return np.arange(len(measured)), np.arange(len(predicted))
    addresses, inverse, counts = np.unique(predicted, return_inverse=True, return_counts=True)
    order = np.argsort((addresses * 2654435761) % (1 << 32), kind="stable")
    order = order[counts[order] <= most // 2]
    taken = order[counts[order].cumsum() <= most * 3 // 4]
    if counts[taken].sum() < fewest:
        order = np.argsort(counts, kind="stable")
        taken = order[: 1 + int(np.searchsorted(counts[order].cumsum(), fewest))]
    chosen = np.zeros(len(addresses), np.bool_)
    chosen[taken] = True
    return np.flatnonzero(np.isin(measured, addresses[chosen])), np.flatnonzero(chosen[inverse])


def _take(outputs: Outputs, at: Int64Array | slice) -> Outputs:
    return Outputs(t_us=outputs.t_us[at], address=outputs.address[at])


def _pieces(measured: Outputs, predicted: Outputs) -> list[tuple[Int64Array, Int64Array]]:
    """Pairs with the earliest and with the latest partners, piece by piece if they are many."""
    rows, columns = len(measured.t_us), len(predicted.t_us)
    if max(rows, columns) <= PIECE:
        half = max(LEAST_BAND, int(4 * np.sqrt(max(rows, columns))), abs(rows - columns))
        return _matches(measured, predicted, min(half, MOST_BAND))
    found: list[list[tuple[Int64Array, Int64Array]]] = [[], []]
    row = column = 0
    while row < rows:
        is_last = row + PIECE >= rows
        first = max(0, column - MOST_BAND)
        until = columns if is_last else column + round(PIECE * columns / rows) + MOST_BAND
        mine, near = slice(row, row + PIECE), slice(first, until)
        pair = _matches(_take(measured, mine), _take(predicted, near), MOST_BAND)
        kept = PIECE if is_last else PIECE - OVERLAP
        for which in (EARLIEST, LATEST):
            sure = pair[which][0] < kept
            found[which].append((pair[which][0][sure] + row, pair[which][1][sure] + first))
        row += kept
        if len(found[LATEST][-1][0]):
            column = int(found[LATEST][-1][1][-1]) + 1
    return [
        (np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))
        for parts in found
    ]


def _matches(
    measured: Outputs, predicted: Outputs, half: int
) -> list[tuple[Int64Array, Int64Array]]:
    """Pairs of the best alignment: with the earliest and with the latest partners that fit."""
    rows, columns = len(measured.t_us), len(predicted.t_us)
    starts = np.round(np.linspace(0, columns, rows + 1)).astype(np.int64) - half
    values = _values(measured, predicted, starts[1:] - 1, 2 * half + 1)
    table = _table(values, np.diff(starts))
    return [_walk(table, values, starts, which) for which in (EARLIEST, LATEST)]


def _values(
    measured: Outputs, predicted: Outputs, starts: Int64Array, width: int
) -> NDArray[np.int32]:
    """What it is worth to match a measured output (row) with predicted ones `starts` + column."""
    places = starts[:, None] + np.arange(width)[None, :]
    inside = (places >= 0) & (places < len(predicted.t_us))
    places = np.clip(places, 0, len(predicted.t_us) - 1)
    same = inside & (predicted.address[places] == measured.address[:, None])
    gap_us = np.diff(measured.t_us, prepend=np.inf)[:, None]
    agrees = np.zeros_like(same)
    for back in (1, 2):  # the one before, or one was lost between them
        apart_us = predicted.t_us - np.roll(predicted.t_us, back)
        agrees |= np.abs(apart_us[places] - gap_us) <= AGREE_US
    shared = _shared(measured.t_us[:, None] - predicted.t_us[places], same)
    values = _weights(measured.address, predicted.address)[:, None] * (1 + PEAK_BONUS * shared)
    rounded = np.where(same, np.round(16 * (values + BONUS * agrees)), 0)
    return rounded.astype(np.int32)


def _shared(shift_us: FloatArray, same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the difference of times is one that many pairs share, as on a board that keeps up.

    Far more than chance, and by a tenth of all outputs: rare where a queue grows.
    """
    found = np.floor(shift_us[same] / PEAK_US).astype(np.int64)
    if len(found) == 0:
        return same
    bins = found - found.min()
    counts = np.bincount(bins)
    near = counts + np.append(counts[1:], 0) + np.append(0, counts[:-1])
    sums = np.concatenate([[0], near.cumsum()])
    ends = np.arange(len(near))
    low, high = np.maximum(ends - NEAR, 0), np.minimum(ends + NEAR + 1, len(near))
    usual = (sums[high] - sums[low]) / (high - low)
    is_peak = (near > 1.25 * usual) & (near > usual + 8 * np.sqrt(usual)) & (near > len(same) / 10)
    shared = np.zeros_like(same)
    shared[same] = is_peak[bins]
    return shared


def _weights(measured: Int64Array, predicted: Int64Array) -> FloatArray:
    """What a match of each measured address is worth: the rarer, the more."""
    addresses, counts = np.unique(predicted, return_counts=True)
    place = np.minimum(np.searchsorted(addresses, measured), len(addresses) - 1)
    found = np.where(addresses[place] == measured, counts[place], 1)
    weights: FloatArray = 1.0 + np.log(len(predicted) / found)
    return weights


def _table(values: NDArray[np.int32], steps: Int64Array) -> NDArray[np.int32]:
    """Best sums of `row` measured outputs and the predicted ones before `starts[row]` + column."""
    rows, width = values.shape
    table = np.zeros((rows + 1, width), np.int32)
    old = np.zeros(1 + width + int(steps.max()), np.int32)
    for row in range(rows):
        old[0] = -1  # left of the band
        old[1 : 1 + width] = table[row]
        old[1 + width :] = table[row, -1]
        step = int(steps[row])
        matched = old[step : step + width] + values[row]
        best = np.maximum(old[step + 1 : step + 1 + width], matched)
        np.maximum.accumulate(best, out=table[row + 1])
    return table


def _walk(
    table: NDArray[np.int32], values: NDArray[np.int32], starts: Int64Array, which: int
) -> tuple[Int64Array, Int64Array]:
    """Pairs on one best path, from its end: which measured output is which predicted one."""
    row, last = len(values), values.shape[1] - 1
    column = last
    pairs: list[tuple[int, int]] = []
    while row > 0:
        here, value = table[row, column], values[row - 1, column]
        above = column + int(starts[row] - starts[row - 1])  # the same predicted one, a row up
        beside = min(above - 1, last)
        may_skip_measured = here == table[row - 1, min(above, last)]
        may_skip_predicted = column > 0 and here == table[row, column - 1]
        is_pair = value > 0 and beside >= 0 and here == table[row - 1, beside] + value
        skips_measured = may_skip_measured and (which == LATEST or not is_pair)
        skips_predicted = may_skip_predicted and (which == EARLIEST or not is_pair)
        if skips_predicted and not (which == LATEST and skips_measured):
            column -= 1
        elif skips_measured or not is_pair:
            row, column = row - 1, min(above, last)
        else:
            pairs.append((row - 1, int(starts[row]) + column - 1))
            row, column = row - 1, beside
    found = np.array(pairs[::-1], np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]
