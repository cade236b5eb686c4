"""The keys of the vendor's configuration JSON: names, ranges, defaults and spelling, by chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from speckfarm_server.configuration import Configuration


@dataclass(frozen=True, kw_only=True)
class Number:
    """A whole number; the range is that of the library's type, beyond which it would wrap."""

    low: int
    high: int
    default: int = 0
    is_optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Switch:
    """true or false."""

    default: bool = False
    is_optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Array:
    """Dimensions, strides and values; one zero by default. x comes before y."""

    axes: int
    low: int = 0
    high: int = 0
    is_switch: bool = False  # values are true or false
    is_optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Many:
    """Objects of one kind under value0, value1 ..."""

    count: int
    keys: Section


Section: TypeAlias = Mapping[str, "Number | Switch | Array | Many | Section"]
Key: TypeAlias = "Number | Switch | Array | Many | Section"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How the JSON of some chips is written."""

    chips: tuple[str, ...]  # the first stands for all until one is asked for
    is_camel_case: bool
    keys: Section  # by the names of the vendor's Python attributes

    def spelled(self, name: str) -> str:
        """An attribute's name as a key."""
        if not self.is_camel_case:
            return name
        first, *others = name.split("_")
        return first + "".join(word[:1].upper() + word[1:] for word in others)


CORES = 9
CAMEL_CASE = "?camelCase"  # in Configuration.vendor, no path: a 2e/2f file was spelled so


def dialect_of(configuration: Configuration) -> Dialect:
    """The dialect that a configuration is written in."""
    if configuration.chip in SPECK2B.chips:
        return SPECK2B
    return SPECK2EF_CAMEL if CAMEL_CASE in configuration.vendor else SPECK2EF


_BYTE = Number(low=0, high=255)
_WORD = Number(low=0, high=65535)
_SIGNED_WORD = Number(low=-32768, high=32767)
_ON, _OFF = Switch(default=True), Switch()


def _pair(key: Number | Switch) -> Section:
    return {"x": key, "y": key}


_SHAPE: Section = {
    "feature_count": replace(_WORD, default=1),
    "size": _pair(replace(_BYTE, default=1)),
}
# In the order in which samna 0.7.1 writes them, which is no part of the format.
_CORE: Section = {
    "destinations": Many(
        count=2,
        keys={
            "layer": _BYTE, "enable": _OFF, "feature_shift": _WORD,
            "pooling": replace(_BYTE, default=1),
        },
    ),
    "return_to_zero": _OFF,
    "leak_enable": _OFF,
    "threshold_high": _SIGNED_WORD,
    "threshold_low": _SIGNED_WORD,
    "monitor_enable": _OFF,
    "dimensions": {
        "padding": _pair(_BYTE),
        "stride": _pair(replace(_BYTE, default=1)),
        "kernel_size": replace(_BYTE, default=1),
        "input_shape": _SHAPE,
        "output_shape": _SHAPE,
    },
    "weights": Array(axes=4, low=-128, high=127),  # out, in, x, y
    "weights_kill_bit": Array(axes=4, is_switch=True),
    "biases": Array(axes=1, low=-32768, high=32767),
    "biases_kill_bit": Array(axes=1, is_switch=True),
    "neurons_initial_value": Array(axes=3, low=-32768, high=32767),  # feature, x, y
    "neurons_value_kill_bit": Array(axes=3, is_switch=True),
}  # fmt: skip
KILL_BITS = ("weights_kill_bit", "biases_kill_bit", "neurons_value_kill_bit")
_DVS: Section = {
    "monitor_enable": _OFF,
    "destinations": Many(count=2, keys={"layer": _BYTE, "enable": _OFF}),
    "mirror_diagonal": _OFF,
    "merge": _OFF,
    "on_channel": _ON,
    "off_channel": _ON,
    "origin": _pair(_BYTE),
    "pooling": _pair(replace(_BYTE, default=1)),
    "cut": _pair(replace(_BYTE, default=127)),
    "mirror": _pair(_OFF),
    # True in the vendor's own default; the farm keeps live events out unless a file lets them in.
    "pass_sensor_events": _OFF,
}


def _byte(default: int) -> Number:
    return replace(_BYTE, default=default)


def _memory(pulse: int, setup: int) -> Section:
    return {"clock_pulse": _byte(pulse), "clock_setup": _byte(setup), "macro_read": _byte(1)}


# speck2b. Measured: what samna 0.7.1.0 writes, reads back and validates.
_FACTORY: Section = {
    "cnn_layers": Many(
        count=CORES,
        keys={
            "enable_kernel_skip_memory_cell": _OFF,
            "enable_leak_skip_memory_cell": _OFF,
            "enable_neuron_skip_memory_defect": _OFF,
            "kernel": _memory(32, 16),
            "leak": _memory(16, 32),
            "neuron": _memory(16, 0),
        },
    ),
    "neurons": Many(count=16, keys={"clock_delay": _byte(4), "reset_delay": _byte(7)}),
    "out_data_request_delay": _byte(16),
    "monitor_input_enable": _OFF,
    "s2p_monitor_enable": _OFF,
    "delay_handshake_to_decoder": _byte(6),
    "decoder_delay": _byte(2),
    "out_num_channels": _byte(1),
    "concat_enable": _ON,
    "io_pin_pull_down_enable": _ON,
    "io_test_pin_pull_down_enable": _OFF,
    "dvs": {
        "sensor_config_timing": _BYTE,
        **{f"current_control_p{number}": _byte(9 * (number == 5)) for number in range(3, 8)},
        **{f"current_out{number}": _byte(3) for number in range(1, 5)},
    },
}
_DEBUG: Section = {
    "dvs": {
        "scan_chain_enable": _OFF,
        "test_enable": _OFF,
        "sensor_enable_startup1": _ON,
        "sensor_enable_startup2": _OFF,
        "sensor_pulse": _ON,
        "sensor_sel_pulse": _OFF,
        "dig_sensor_test": _BYTE,
    },
    "input_interface": {"in_interface_scan_chain_enable": _OFF, "router_scan_chain_enable": _OFF},
    "cnn_layers_config": Many(
        count=CORES,
        keys={
            **{f"{part}_scan_en": _OFF for part in ("kernel", "decoder", "leak", "neuron")},
            **{f"{part}_bist_read_timing": _byte(1) for part in ("kernel", "leak", "neuron")},
        },
    ),
    "readout": {"readout_scan_en": _OFF},
}
SPECK2B = Dialect(
    chips=("speck2b",),
    is_camel_case=True,
    keys={
        "cnn_layers": Many(count=CORES, keys=_CORE),
        "dvs_layer": {"monitor_sensor_enable": _OFF, **_DVS},
        "dvs_filter": {
            "filter_bypass": _ON,
            "threashold": replace(_WORD, default=5),  # the vendor's spelling
            "filter_size": _pair(_byte(1)),
        },
        "readout": {
            "threshold": _WORD,
            "low_pass_filter_disable": _OFF,
            "low_pass_filter32_not16": _ON,
            "input_address_interpretation": _BYTE,
            "bypass_enable": _OFF,
            "p2s_input_selection": _BYTE,
        },
        "factory_config": _FACTORY,
        "debug_config": _DEBUG,
    },
)

# speck2f and speck2e. ASSUMED: no library that writes such a file is public. Known are the names of
# attributes: Speck Dev Kit Datasheet of August 2023, section 3.2.2 (all but those of factory_config
# and debug_config, without kill bits), samna's public reference of speck2e and speck2f. Assumed
# are: keys spelled as attributes (samna 0.7.1 does so for speck and speck2, speck2b is camelCase:
# that is read too), the layout of speck2b, and types, ranges and defaults of what is optional here.
_OPTIONAL_OFF = Switch(is_optional=True)


def _optional(low: int, high: int, default: int = 0) -> Number:
    return Number(low=low, high=high, default=default, is_optional=True)


_CORE_EF: Section = {
    **_CORE,
    "weights_kill_bit": Array(axes=4, is_switch=True, is_optional=True),
    "biases_kill_bit": Array(axes=1, is_switch=True, is_optional=True),
    "neurons_value_kill_bit": Array(axes=3, is_switch=True, is_optional=True),
    "output_decimator_enable": _OFF,
    "output_decimator_interval": Number(low=0, high=7),  # chip.DECIMATOR_CODES; Datasheet table T4
    "input_congestion_balancer_enable": _OPTIONAL_OFF,
    "leak_internal_slow_clk_enable": _OPTIONAL_OFF,
}
SPECK2EF = Dialect(
    chips=("speck2f", "speck2e"),
    is_camel_case=False,
    keys={
        "cnn_layers": Many(count=CORES, keys=_CORE_EF),
        "dvs_layer": {"raw_monitor_enable": _OPTIONAL_OFF, **_DVS},
        "dvs_filter": {
            "enable": _OPTIONAL_OFF,
            "filter_size": _pair(_optional(0, 15, 1)),  # windows 1 to 15, 0 in low-pass mode
            "hot_pixel_filter_enable": _OPTIONAL_OFF,
            "internal_slow_clk": _OPTIONAL_OFF,
            "low_pass_mode_enable": _OPTIONAL_OFF,
            "threshold": _optional(0, 65535, 5),
        },
        "readout": {
            "enable": _OPTIONAL_OFF,
            "internal_slow_clk": _OPTIONAL_OFF,
            "low_pass_filter32_not16": _OPTIONAL_OFF,  # Datasheet 3.2.5.3; on in speck2b
            "low_pass_filter_disable": _OPTIONAL_OFF,
            "monitor_enable": _OPTIONAL_OFF,
            "output_mode_sel": _optional(0, 3),
            "readout_configuration_sel": _optional(0, 3),
            "readout_pin_monitor_enable": _OPTIONAL_OFF,
            "threshold": _optional(0, 65535),
        },
    },
)
SPECK2EF_CAMEL = replace(SPECK2EF, is_camel_case=True)
