"""What silicon does and nobody has published, as the twin assumes it: all of it stands here.

A result pins `digest()`, so that figures made under other assumptions are told apart.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Literal

from speckfarm_server.chip import CHIPS

CORES = 9
MOST = 1 << 20  # ns, or spikes


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """One field per unknown, with where the default comes from and how sure that is.

    The first group may be varied. The second names rules that kernel.py is built on: another value
    raises ValueError. Service times are in the table of chips (`CoreLimits.synops_per_s`), and so
    is the order of pooling and crop (`Chip.dvs_crops_first`).
    """

    # From a core's first look at a spike to its first neuron, and from a neuron that fires to the
    # next core or the monitor. Nine cores in series take 3.36 us from pad to pad (Richter et al.,
    # arXiv 2304.06793), so fixed + pipe is about 370 ns; how it is shared out is a guess.
    fixed_ns: int = 300
    pipe_ns: int = 70
    # Spikes that wait in front of a core, without that in service. A full inbox stalls its sources,
    # up to the input; the vendor says only that the whole chip stalls. The depth is a guess.
    fifo_depth: int = 16
    # Factors on the rates of the table of chips, for each core; chips differ. A guess.
    rate_factors: tuple[float, ...] = (1.0,) * 9
    # Seed of what is unknown in the order: of neurons within one event, of cores 0 and 1. None:
    # neurons in the order below, cores 0 and 1 like the others.
    order_seed: int | None = None
    # Vendor's documentation says "reaches": v >= threshold_high. Never measured at equality.
    fires: Literal[">=", ">"] = ">="
    # Which of N spikes passes the decimator: the N-th (a counter counts up), or the first. Guess.
    decimator_passes: Literal["last", "first"] = "last"

    # "Output spikes of a convolution layer": one counter per core, not per neuron. Likely.
    decimator_counter: str = "per core"
    # Neuron memory is written one word at a time; the counter is a register of its own. A guess.
    decimator_cleared_by: str = "configure, not state reset"
    # Monitored spikes are before pooling (vendor's warning); after the decimator is a guess.
    monitor_tap: str = "after decimator, before pooling"
    # At most one per neuron and arriving spike; the rest stays. Datasheet, and measured by users.
    spikes_per_arrival: str = "one per neuron"
    # Clip first, then compare. Only threshold_low = threshold_high = 0 could show the difference.
    lower_clip: str = "per arriving spike, before comparison"
    # Neuron words are 16 bits; that they saturate instead of wrapping is a guess.
    saturation: str = "at -32768 and 32767"
    # Shows in the times within one event and in which spike a decimator passes. A guess; a vendor
    # engineer speaks of "high feature segment first".
    neuron_order: str = "y, x, feature, each ascending"
    # Every kernel entry that lands on the map is fetched and counted, zeros too. Likely.
    zero_weights: str = "cost a synaptic operation"
    # Spikes in rows and columns left over by a pooling that does not divide the map. As in torch.
    beyond_map: str = "dropped, cost nothing"
    # The vendor calls biases dense and costly; that they queue like a spike is a guess.
    leak_tick: str = "served like a spike that reaches every neuron, before spikes of its time"
    # First tick one period after the first event of a recording; on a board the phase is random.
    leak_phase: str = "first tick one period after first event"
    # The datasheet has a spike sent to each destination; that neither copy is later is a guess.
    fork: str = "reaches both destinations at the same time"
    # Routers are asynchronous, so on silicon an arbiter decides, and not always alike. A guess that
    # is easy to say; the input comes first because it waits for nothing.
    merge_order: str = "by arrival; at equal times the input, then sources by layer number"
    # `neurons_initial_value` is written with the configuration (sinabs does). Likely; that a reset
    # between recordings writes it again is the farm's choice.
    initial_state: str = "held after configuring and after a state reset"
    # Sensor to core is not in any published figure apart from the core's own time. A guess.
    camera_delay: str = "none: camera events enter the cores at their time"
    # Vendor's pipeline figure has mirror and swap behind the crop; sinabs flips before it swaps.
    # Pooling before or after the crop is in the table of chips (`dvs_crops_first`).
    camera_order: str = "polarity, pooling and crop, mirror within the crop, swap"
    # "Sum pooling" of events: coordinates lose bits, nothing is counted or merged. Likely.
    camera_pooling: str = "every event passes as one; what is left over of a crop is dropped"
    # On silicon cores 0 and 1 work on two things at once and are not bit-reproducible (datasheet).
    cores_0_and_1: str = "with a seed: the second waiting spike may go first"

    def __post_init__(self) -> None:
        for name, least in (("fixed_ns", 0), ("pipe_ns", 0), ("fifo_depth", 2)):
            found = getattr(self, name)
            if not least <= found <= MOST:
                raise ValueError(f"{name}: found {found}, must be {least} to {MOST}")
        if len(self.rate_factors) != CORES or not all(factor > 0 for factor in self.rate_factors):
            text = f"must be {CORES} numbers above 0"
            raise ValueError(f"rate_factors: found {self.rate_factors}, {text}")
        for field in fields(self):
            allowed = _OPTIONS.get(field.name, (field.default,))
            found = getattr(self, field.name)
            if isinstance(field.default, str) and found not in allowed:
                raise ValueError(f"{field.name}: found {found!r}; the twin knows {allowed}")

    def digest(self) -> str:
        """SHA-256 over every assumption and what the table of chips has to guess as well."""
        plain = {
            "assumptions": asdict(self),
            "synops_per_s": {
                name: [core.synops_per_s for core in chip.cores] for name, chip in CHIPS.items()
            },
            "dvs_crops_first": {name: chip.dvs_crops_first for name, chip in CHIPS.items()},
        }
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


_OPTIONS = {"fires": (">=", ">"), "decimator_passes": ("last", "first")}

ASSUMPTIONS = Assumptions()
# No core takes time: each output comes at the time of its cause.
UNLOADED = Assumptions(fixed_ns=0, pipe_ns=0, rate_factors=(math.inf,) * CORES)
