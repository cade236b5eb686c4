"""Marks that a mistake before the farm has left on a configuration, told by its integers alone."""

from __future__ import annotations

import numpy as np

from speckfarm_server.configuration import Configuration, CoreConfiguration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.rules.tables import finding

# sinabs 3.1.3, discretize.py, puts -32768 in the place of min_v_mem = None and scales it together
# with weights and thresholds into 16 bits: the common factor becomes 1 or less.
CLIP_OF_NONE = -32768
# A factor of at most 1 leaves a trained threshold, 1 by default, as it was. A layer without weights
# and with an ordinary lower clip has a threshold of thousands beside the same threshold_low.
LARGEST_THRESHOLD_IN_TRAP = 127
# Below it a weight has lost half of its 8 bits.
SMALLEST_USABLE_WEIGHT = 16


def find_traps(configuration: Configuration) -> list[Finding]:
    """A warning for each layer that carries such marks; for files whose origin is not known."""
    return [
        _sinabs_clip(core)
        for core in configuration.cores
        if core.threshold_low == CLIP_OF_NONE
        and core.threshold_high <= LARGEST_THRESHOLD_IN_TRAP
        and _largest_weight(core) < SMALLEST_USABLE_WEIGHT
    ]


def _sinabs_clip(core: CoreConfiguration) -> Finding:
    largest = _largest_weight(core)
    found = (
        f"No weight is beyond {largest}, so {2 * largest + 1} of 256 values are left,"
        if largest
        else "All weights are 0, so nothing makes this layer fire,"
    )
    text = (
        f"{found} and threshold_low is {CLIP_OF_NONE} beside a threshold of {core.threshold_high}: "
        f"sinabs makes this of min_v_mem = None, which it takes for {CLIP_OF_NONE} and scales "
        "together with the weights. Set min_v_mem = -spike_threshold and convert again."
    )
    metadata = {
        "largest_weight": largest,
        "values_left": 2 * largest + 1,
        "values": 256,
        "threshold_high": core.threshold_high,
        "threshold_low": CLIP_OF_NONE,
    }
    return finding("SINABS_CLIP_TRAP", Severity.WARNING, core.layer, text, metadata)


def _largest_weight(core: CoreConfiguration) -> int:
    return int(np.abs(core.weights.astype(np.int16)).max(initial=0))
