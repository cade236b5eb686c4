"""Output of one recording: put together from chunks, pooled behind the exit, packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from speckfarm.events import FEATURE_SHIFT, LAYER_SHIFT, TIME_SHIFT, X_SHIFT, Y_SHIFT, PackedEvents
from speckfarm_server.boards.board import Chunk
from speckfarm_server.configuration import Configuration

_COLUMNS = ("t_us", "cause", "layer", "feature", "y", "x")


def join(chunks: Sequence[Chunk]) -> Chunk:
    """All chunks of one recording, at least one, in order of arrival."""
    return Chunk(**{name: np.concatenate([getattr(c, name) for c in chunks]) for name in _COLUMNS})


def in_time(output: Chunk) -> Chunk:
    """Sorted by time, then layer, then as they came."""
    order = np.lexsort((output.layer, output.t_us))
    return Chunk(**{name: getattr(output, name)[order] for name in _COLUMNS})


def pool_exit(output: Chunk, configuration: Configuration) -> Chunk:
    """Boards report spikes before pooling; a pooling after the last layer is the host's."""
    last = configuration.cores[-1]
    if last.exit_pooling == 1:
        return output
    divisor = np.where(output.layer == last.layer, last.exit_pooling, 1).astype(np.uint8)
    return replace(output, y=output.y // divisor, x=output.x // divisor)


def pack_output(output: Chunk) -> PackedEvents:
    """As events of the wire; times rounded down to whole us, those before 0 up to it."""
    packed: PackedEvents = (
        np.maximum(np.floor(output.t_us), 0).astype(np.uint64) << np.uint64(TIME_SHIFT)
        | output.layer.astype(np.uint64) << np.uint64(LAYER_SHIFT)
        | output.feature.astype(np.uint64) << np.uint64(FEATURE_SHIFT)
        | output.y.astype(np.uint64) << np.uint64(Y_SHIFT)
        | output.x.astype(np.uint64) << np.uint64(X_SHIFT)
    )
    return packed
