"""What silicon does and nobody has published, as the twin assumes it: all of it stands here.

A result pins `digest()`, so that figures made under other assumptions are told apart.
docs/explanation/twin.md has the table: `python tools/assumptions_table.py --write` makes it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias, TypeVar

from speckfarm_server.chip import CHIPS

Confidence: TypeAlias = Literal["documented", "likely", "guess", "false on silicon"]
Value = TypeVar("Value")

CORES = 9
MOST = 1 << 20  # ns, or spikes


def assumed(
    default: Value,
    what: str,
    *,
    source: str,
    confidence: Confidence,
    others: tuple[object, ...] = (),
) -> Value:
    """A field of Assumptions with its row of the table; `others` are values it may also have."""
    return field(default=default, metadata=because(what, source, confidence, others=others))


def because(
    what: str, source: str, confidence: Confidence, *, others: tuple[object, ...] = ()
) -> Mapping[str, Any]:
    """Why something is assumed, as the table shows it."""
    return {"what": what, "source": source, "confidence": confidence, "others": others}


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """One field per unknown, with what is assumed, where it comes from, and how sure that is.

    Numbers may be varied, and so may fields with `others`. The rest names rules that
    the kernel is built on: another value raises ValueError. Service times and the order of pooling
    and crop are in the table of chips (`OF_CHIPS`).
    """

    fixed_ns: int = assumed(
        300,
        "from a core's first look at a spike to its first neuron",
        source="nine cores take 3.36 µs from pad to pad (Richter et al., arXiv 2304.06793), so "
        "`fixed_ns` + `pipe_ns` is about 370; how it is shared out is a guess",
        confidence="guess",
    )
    pipe_ns: int = assumed(
        70,
        "from a neuron that fires to the next core or the monitor",
        source="as `fixed_ns`",
        confidence="guess",
    )
    fires: Literal[">=", ">"] = assumed(
        ">=",
        "a neuron fires when its state reaches the threshold",
        source='vendor\'s documentation says "reaches"; never measured at equality',
        confidence="documented",
        others=(">",),
    )
    decimator_passes: Literal["last", "first"] = assumed(
        "last",
        "which of N spikes passes the decimator: a counter counts up to N",
        source="nothing published",
        confidence="guess",
        others=("first",),
    )
    decimator_counter: str = assumed(
        "per core",
        "what counts the spikes of a decimator",
        source='vendor\'s words "output spikes of a convolution layer"',
        confidence="likely",
    )
    decimator_cleared_by: str = assumed(
        "configure, not state reset",
        "what sets the counter back: neurons are written word by word, it is a register",
        source="nothing published",
        confidence="guess",
    )
    monitor_tap: str = assumed(
        "after decimator, before pooling",
        "where monitored spikes are taken",
        source="before pooling: vendor's warning; behind the decimator: nothing published",
        confidence="guess",
    )
    spikes_per_arrival: str = assumed(
        "one per neuron",
        "how often a neuron can fire for one arriving spike; the rest of its charge stays",
        source="Datasheet; measured by users",
        confidence="documented",
    )
    lower_clip: str = assumed(
        "per arriving spike, before comparison",
        "when `threshold_low` holds the state; only two thresholds of 0 could show the order",
        source="per spike: Datasheet; the order: nothing published",
        confidence="likely",
    )
    saturation: str = assumed(
        "at -32768 and 32767",
        "what a state does at the ends of its 16 bits: it does not wrap",
        source="nothing published",
        confidence="guess",
    )
    neuron_order: str = assumed(
        "y, x, feature, each ascending",
        "in which order a spike reaches neurons; shows in times within one event and in which "
        "spike a decimator passes",
        source='nothing published; a vendor engineer spoke of "high feature segment first"',
        confidence="guess",
    )
    zero_weights: str = assumed(
        "cost a synaptic operation",
        "every entry of the kernel that lands on the map is fetched",
        source="vendor's formula of SynOps counts them",
        confidence="likely",
    )
    beyond_map: str = assumed(
        "dropped, cost nothing",
        "spikes in rows and columns left over by a pooling that does not divide the map",
        source="as in torch",
        confidence="likely",
    )
    leak_tick: str = assumed(
        "served like a spike that reaches every neuron, before spikes of its time; of ticks that "
        "wait only one is served",
        "how biases are added",
        source="the vendor calls them dense and costly; how they wait is a guess",
        confidence="guess",
    )
    leak_phase: str = assumed(
        "first tick one period after first event",
        "when the slow clock ticks",
        source="the farm's choice: on a board the phase is random",
        confidence="false on silicon",
    )
    fork: str = assumed(
        "each copy leaves when there is room for it; the core goes on when all have left",
        "when the two copies of a spike leave: at the same time unless a core is full",
        source="Datasheet: one spike to each destination; their times: nothing published",
        confidence="guess",
    )
    merge_order: str = assumed(
        "by arrival; of those that may leave at one time, what was held up longest, then the "
        "input, then sources by layer number",
        "which of several sources a core serves first; on silicon an arbiter decides",
        source="nothing published",
        confidence="guess",
    )
    initial_state: str = assumed(
        "held after configuring and after a state reset",
        "when neurons hold `neurons_initial_value`",
        source="sinabs writes it with the configuration; again on a reset is the farm's choice",
        confidence="likely",
    )
    camera_delay: str = assumed(
        "none: camera events enter the cores at their time",
        "what the event pre-processing layer takes",
        source="nothing published",
        confidence="guess",
    )
    camera_order: str = assumed(
        "polarity, pooling and crop, mirror within the crop, swap",
        "the order of steps of the event pre-processing layer",
        source="vendor's pipeline figure; sinabs flips before it swaps",
        confidence="likely",
    )
    camera_pooling: str = assumed(
        "every event passes as one; what is left over of a crop is dropped",
        "what sum pooling of camera events does: coordinates lose bits",
        source="vendor's name for it",
        confidence="likely",
    )
    camera_echo: str = assumed(
        "each event as it leaves, at its time, also if it finds no room in a core",
        "what the monitor of the event pre-processing layer shows",
        source="behind crop and mirror: vendor's pipeline figure; the time: nothing published",
        confidence="guess",
    )
    fifo_depth: int = assumed(
        16,
        "spikes that wait in front of a core; when as many do, its sources stall, up to the input",
        source="the vendor says that the whole chip stalls; the depth: nothing published",
        confidence="guess",
    )
    rate_factors: tuple[float, ...] = assumed(
        (1.0,) * CORES,
        "factors on `synops_per_s`, for each core; one chip is not as fast as another",
        source="nothing published",
        confidence="guess",
    )
    cores_0_and_1: str = assumed(
        "like the others; with a seed, the second waiting spike may go first",
        "cores 0 and 1 work on two things at once and are not bit-reproducible",
        source="Datasheet; that neighbours may swap is a guess at it",
        confidence="false on silicon",
    )
    order_seed: int | None = assumed(
        None,
        "seed of the order in which neurons of one event fire, and of cores 0 and 1; none: always "
        "the same order",
        source="the farm's choice, setting `order_seed`",
        confidence="false on silicon",
    )
    readout_told: str = assumed(
        "at each tick, the class of the largest average, if that is above the threshold",
        "when the readout layer's pins tell a class; of equal averages the lowest class",
        source="above: Datasheet 3.2.5, sinabs' readout notebook; equal ones: nothing published",
        confidence="documented",
    )
    readout_average: str = assumed(
        "counts of the last ticks, divided and rounded down",
        "what is averaged; a count stays at 65535, and all are 0 when a recording begins",
        source="16-bit counts and windows of 1, 16 and 32: Datasheet; rounding: nothing published",
        confidence="likely",
    )
    readout_channels: str = assumed(
        "channel 4(n - 1) feeds class n, others are not heard",
        "which spikes of the exit layer reach a class",
        source="sinabs' chip errata for speck2e and speck2f",
        confidence="documented",
    )
    readout_ticks: str = assumed(
        "those of leak ticks, until the first after the last event and the last spike",
        "when the readout layer counts; spikes of a tick's time go to the next",
        source="one slow clock drives both: Datasheet 3.2.6; phase and end: the farm's choice",
        confidence="guess",
    )

    def __post_init__(self) -> None:
        for name, least in (("fixed_ns", 0), ("pipe_ns", 0), ("fifo_depth", 2)):
            found = getattr(self, name)
            if not least <= found <= MOST:
                raise ValueError(f"{name}: found {found}, must be {least} to {MOST}")
        if len(self.rate_factors) != CORES or min(self.rate_factors) <= 0:
            text = f"must be {CORES} numbers above 0"
            raise ValueError(f"rate_factors: found {self.rate_factors}, {text}")
        for each in fields(self):
            allowed = (each.default, *each.metadata["others"])
            found = getattr(self, each.name)
            if isinstance(each.default, str) and found not in allowed:
                raise ValueError(f"{each.name}: found {found!r}; the twin knows {allowed}")

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


# What is assumed of a chip and stands in its table (chip.py); rows of the docs as well.
OF_CHIPS: Mapping[str, Mapping[str, Any]] = {
    "synops_per_s": because(
        "100 million synaptic operations per second on core 0, 30 million on the others",
        "second-hand: SANA-FE's platform catalogue, citing Speck papers; the vendor gives none",
        "guess",
    ),
    "dvs_crops_first": because(
        "speck2b crops, then pools; speck2e and speck2f pool, then crop in pooled pixels",
        "speck2b: the vendor's validator; speck2e and speck2f: Datasheet, sinabs",
        "likely",
    ),
}

ASSUMPTIONS = Assumptions()
# No core takes time: each output comes at the time of its cause.
UNLOADED = Assumptions(fixed_ns=0, pipe_ns=0, rate_factors=(math.inf,) * CORES)
