"""Chips as tables of limits, and the memory formulas they are measured with.

Sources: sinabs 3.1.3 `backend/dynapcnn/chips/dynapcnn.py` (get_constraints), the Speck Dev Kit
Datasheet of August 2023 (tables T1 and T3, section 2.4), and the vendor's validator in samna 0.7.1
(chip speck2b), which accepts exactly these limits and rejects one step above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from speckfarm_server.errors import BadInput

KI = 1024
SENSOR_SIZE = 128  # pixels per axis of the sensor of every chip here (Datasheet section 1)
SENSOR_SHAPE = (2, SENSOR_SIZE, SENSOR_SIZE)  # features, y, x of recorded camera events
# The readout layer: classes it tells apart (sinabs' readout notebook), and the erratum that core
# channel 4(n - 1) feeds class n (sinabs docs, speck/faqs/chip_errata.md, speck2e and speck2f).
READOUT_CLASSES, READOUT_STRIDE = 15, 4

# Longest recording on a devkit: its stamps are 32 bits of us (events of samna 0.7.1) and begin at 0
# with each recording; a minute is left for the lead and the drain. What a stamp does after the last
# nobody has published.
LONGEST_REAL_US = (1 << 32) - 60_000_000


@dataclass(frozen=True, kw_only=True)
class CoreLimits:
    """What one core holds."""

    kernel_entries: int  # 8-bit words
    neuron_entries: int  # 16-bit words
    bias_entries: int  # 16-bit words
    synops_per_s: float  # believed sustainable rate; soft


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A chip's limits; ranges are inclusive."""

    name: str
    cores: tuple[CoreLimits, ...]
    input_size: tuple[int, int] = (1, 128)  # per axis
    output_size: tuple[int, int] = (1, 64)  # per axis, before pooling
    features: tuple[int, int] = (1, 1024)
    kernel_size: tuple[int, int] = (1, 16)  # square only
    strides: tuple[int, ...] = (1, 2, 4, 8)
    padding: tuple[int, int] = (0, 7)
    poolings: tuple[int, ...] = (1, 2, 4)
    destinations: int = 2
    threshold_high: tuple[int, int] = (0, 32767)
    threshold_low: tuple[int, int] = (-32768, 0)
    weight: tuple[int, int] = (-128, 127)
    bias: tuple[int, int] = (-32768, 32767)
    initial_state: tuple[int, int] = (-32768, 32767)
    feature_shift: tuple[int, int] = (0, 1023)
    # Destination number of the readout layer; None: no core can name it. Set by public 2e/2f
    # scripts (sinabs' readout notebook); samna 0.7.1 allows cores only.
    readout: int | None = 12
    sensor_size: int = SENSOR_SIZE
    dvs_poolings: tuple[int, ...] = (1, 2, 4)  # each axis by itself
    dvs_destinations: int = 2
    # Crop in sensor pixels, then pool (samna 0.7.1); else pool, then crop in pooled pixels
    # (Datasheet section 3; sinabs 3.1.3 dvs_layer.py writes 2e/2f so).
    dvs_crops_first: bool = False
    # Two sources into the same input features (addition). Refused by samna 0.7.1; sinabs 3 deploys
    # such networks on 2e/2f.
    fan_in_overlap: bool = True
    # Recorded events count as a source of input features. samna 0.7.1 counts cores and the camera
    # layer only, so there a core that others feed too must do without recorded events.
    fan_in_recorded: bool = True
    # Ranges of the other keys of the vendor's JSON, as far as a validator is known.
    vendor_ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)


def _cores() -> tuple[CoreLimits, ...]:
    sizes = [(16, 64)] * 3 + [(32, 32)] * 2 + [(64, 16)] * 2 + [(16, 16)] * 2
    # Rates are secondary (SANA-FE's platform catalogue, citing Speck papers): 100 M on core 0,
    # 30 M elsewhere. The vendor states only that a limit exists. Never a hard rule.
    return tuple(
        CoreLimits(
            kernel_entries=kernel * KI,
            neuron_entries=neuron * KI,
            bias_entries=KI,
            synops_per_s=100e6 if core == 0 else 30e6,
        )
        for core, (kernel, neuron) in enumerate(sizes)
    )


# Keys are paths of field names as Python spells them, without the numbers of list items. Measured
# with samna 0.7.1, which spells `threashold` so and takes any 16-bit value for it.
SAMNA_0_7_1_RANGES = {
    "dvs_filter.filter_size.x": (0, 7),
    "dvs_filter.filter_size.y": (0, 7),
    "dvs_filter.threashold": (0, 65535),
    "readout.input_address_interpretation": (0, 3),
    "readout.p2s_input_selection": (0, 3),
    "readout.threshold": (0, 65535),
    **{
        f"factory_config.cnn_layers.{memory}.{name}": (0, largest)
        for memory in ("kernel", "leak", "neuron")
        for name, largest in (("clock_pulse", 63), ("clock_setup", 63), ("macro_read", 3))
    },
    **{f"factory_config.dvs.current_control_p{n}": (0, 15) for n in (3, 4, 5, 6, 7)},
    **{f"factory_config.dvs.current_out{n}": (0, 63) for n in (1, 2, 3, 4)},
    "factory_config.decoder_delay": (0, 7),
    "factory_config.delay_handshake_to_decoder": (0, 7),
    "factory_config.neurons.clock_delay": (0, 7),
    "factory_config.neurons.reset_delay": (0, 7),
    "factory_config.out_num_channels": (1, 3),
    **{
        f"debug_config.cnn_layers_config.{memory}_bist_read_timing": (0, 3)
        for memory in ("kernel", "leak", "neuron")
    },
    "debug_config.dvs.dig_sensor_test": (0, 15),
}

# 2e and 2f share one table in sinabs. 2b is the generation the public validator knows; it also
# accepted pooling 8 (not relied on for 2e/2f).
CHIPS = {
    "speck2f": Chip(name="speck2f", cores=_cores()),
    "speck2e": Chip(name="speck2e", cores=_cores()),
    "speck2b": Chip(
        name="speck2b",
        cores=_cores(),
        poolings=(1, 2, 4, 8),
        fan_in_overlap=False,
        fan_in_recorded=False,
        vendor_ranges=SAMNA_0_7_1_RANGES,
        readout=None,
        dvs_crops_first=True,
    ),
}

# Decimator: 1 spike in N passes; register code -> N (Datasheet table T4; there is no 64).
DECIMATOR_CODES = {2: 0, 4: 1, 8: 2, 16: 3, 32: 4, 128: 5, 256: 6, 512: 7}


def find_chip(name: str) -> Chip:
    """Look a chip up by name; BadInput UNKNOWN_CHIP lists the known ones."""
    if name in CHIPS:
        return CHIPS[name]
    known = ", ".join(CHIPS)
    raise BadInput(
        "UNKNOWN_CHIP", f"No chip is called {name!r}; known: {known}", found=name, allowed=known
    )


def kernel_entries(in_features: int, out_features: int, kernel_size: int) -> int:
    """Kernel memory in 8-bit words: c * 2^(ceil(log2(k*k)) + ceil(log2 f)); c is not rounded."""
    return in_features << (_ceil_log2(kernel_size * kernel_size) + _ceil_log2(out_features))


def neuron_entries(out_features: int, height: int, width: int) -> int:
    """Neuron memory in 16-bit words before pooling: f * 2^(ceil(log2 h) + ceil(log2 w))."""
    return out_features << (_ceil_log2(height) + _ceil_log2(width))


def output_size(size: int, kernel_size: int, stride: int, padding: int) -> int:
    """Output pixels along one axis: floor((in - k + 2p) / s) + 1 (Datasheet 2.4)."""
    return (size - kernel_size + 2 * padding) // stride + 1


def _ceil_log2(value: int) -> int:
    return max(0, value - 1).bit_length()
