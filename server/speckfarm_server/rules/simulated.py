"""What a chip would run and the twin refuses, and what is decided on every key of a vendor's file.

A key is simulated, or harmless, or refused with the reason where it matters: the twin ignores
nothing that changes what leaves a chip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from speckfarm_server.chip import Chip, find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.rules.fan_in import dvs_targets
from speckfarm_server.rules.tables import finding
from speckfarm_server.rules.vendor import field_of
from speckfarm_server.vendor.readout import NORMAL_CLASSIFIER, readout_of, readout_ways

TWIN_REFUSES = "TWIN_REFUSES"
# Tells a class at every tick (Datasheet 3.2.5); not in the table of keys, so it is kept as unknown.
OVERRIDE = "readout.override_threshold_max"
_CORE_NUMBER = re.compile(r"(?:cnn_?[lL]ayers)(?:\.value|\[)(\d+)")
Matters: TypeAlias = Callable[[Configuration, Chip, str], bool]  # the key has been set


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Something that the twin will not run."""

    key: str
    value: object
    why: str
    layer: int | None = None


def refusals(configuration: Configuration) -> Iterator[Refusal]:
    """Every value that would change what leaves a chip, in a way that the twin has no model of."""
    chip = find_chip(configuration.chip)
    for key, value in configuration.vendor.items():
        matters, why = REFUSED.get(field_of(key), (_never, ""))
        if matters(configuration, chip, key):
            yield Refusal(key=key, value=value, why=why)
    yield from _of_readout(configuration, chip)


def twin_refuses(configuration: Configuration) -> Iterator[Finding]:
    """Warnings TWIN_REFUSES; what has an error of its own (the noise filter) is left to that."""
    for refusal in refusals(configuration):
        if not refusal.key.startswith("dvs"):
            text = (
                f"Simulated boards refuse {refusal.key} = {refusal.value}: {refusal.why}. "
                "Change it, or ask for a real board."
            )
            metadata = {"key": refusal.key, "value": refusal.value}
            yield finding(TWIN_REFUSES, Severity.WARNING, refusal.layer, text, metadata)


def errors_on_twins(findings: Sequence[Finding]) -> list[Finding]:
    """Those that keep a job off simulated boards, as the errors that they are there."""
    return [
        replace(each, severity=Severity.ERROR) for each in findings if each.reason == TWIN_REFUSES
    ]


def _of_readout(configuration: Configuration, chip: Chip) -> Iterator[Refusal]:
    told = readout_of(configuration, chip)
    if told is None:
        return
    if told.addressing != NORMAL_CLASSIFIER:
        why = f"how maps spread over classes is not published; {NORMAL_CLASSIFIER} (1x 1y 16f) runs"
        key = "readout.readout_configuration_sel"
        yield Refusal(key=key, value=told.addressing, why=why)
    for key, value in configuration.vendor.items():
        if value and OVERRIDE in field_of(key):
            why = "which class is told when none has spiked is not published"
            yield Refusal(key=key, value=value, why=why)
    ways = list(readout_ways(configuration, chip))
    last = configuration.cores[-1]
    if len(ways) > 1 or ways[0][0] is not last:
        cores = ", ".join(str(core.core) for core, _ in ways)
        why = f"the readout layer takes one destination of the exit layer (core {last.core})"
        yield Refusal(key="cores to the readout", value=cores, why=why)
    for core, way in ways:
        height, width = (max(1, size // max(1, way.pooling)) for size in core.output_shape[1:])
        if (height, width) != (1, 1):
            why = "which class hears which place is not published; pool the map to 1 x 1"
            key = f"map of core {core.core} to the readout"
            yield Refusal(key=key, value=f"{height} x {width}", why=why, layer=core.layer)


def _never(_: Configuration, __: Chip, ___: str) -> bool:
    return False


def _always(_: Configuration, __: Chip, ___: str) -> bool:
    return True


def _of_used_core(configuration: Configuration, _: Chip, key: str) -> bool:
    number = _CORE_NUMBER.search(key)
    return number is not None and configuration.core_of(int(number[1])) is not None


def _of_leaking_core(configuration: Configuration, _: Chip, key: str) -> bool:
    number = _CORE_NUMBER.search(key)
    core = configuration.core_of(int(number[1])) if number else None
    return core is not None and core.leak_enable


def _of_camera(configuration: Configuration, chip: Chip, _: str) -> bool:
    return any(dvs_targets(configuration, chip))


def _of_used_readout(configuration: Configuration, chip: Chip, _: str) -> bool:
    return readout_of(configuration, chip) is not None


def _of_readout_layer(configuration: Configuration, _: Chip, __: str) -> bool:
    return bool(configuration.vendor.get("readout.enable"))


_FILTER = "the noise filter's semantics are not published well enough to compute it"
_SCAN = "a scan chain takes a circuit out of its use"
_SKIP = "which memory cells are skipped is not published"
_CLOCK = "the twin's slow clock is the board's; that made of live camera events fluctuates"
_REPORT = "the twin has no such output"
# Fields (paths without the numbers of items) that are refused where they matter, with the reason.
REFUSED: Mapping[str, tuple[Matters, str]] = {
    "cnn_layers.input_congestion_balancer_enable": (
        _of_used_core, "which spikes a busy core drops is not published",
    ),
    "cnn_layers.leak_internal_slow_clk_enable": (_of_leaking_core, _CLOCK),
    "dvs_filter.enable": (_of_camera, _FILTER),
    "dvs_filter.filter_bypass": (_of_camera, _FILTER),
    "readout.internal_slow_clk": (_of_used_readout, _CLOCK),
    "readout.monitor_enable": (
        _of_readout_layer, "reporting each tick's value silences the report of spikes",
    ),
    "factory_config.monitor_input_enable": (_always, _REPORT),
    "factory_config.s2p_monitor_enable": (_always, _REPORT),
    **{
        f"factory_config.cnn_layers.{name}": (_of_used_core, _SKIP)
        for name in (
            "enable_kernel_skip_memory_cell", "enable_leak_skip_memory_cell",
            "enable_neuron_skip_memory_defect",
        )
    },
    **{
        f"debug_config.cnn_layers_config.{part}_scan_en": (_always, _SCAN)
        for part in ("kernel", "decoder", "leak", "neuron")
    },
    "debug_config.input_interface.in_interface_scan_chain_enable": (_always, _SCAN),
    "debug_config.input_interface.router_scan_chain_enable": (_always, _SCAN),
}  # fmt: skip

_TIMING = "how fast circuits are driven, not what they compute"
_PINS = "how events leave the package, not which"
_SENSOR = "recorded events do not come from the sensor, and a simulated board has none"
_OF_FILTER = "nothing while the filter is off"
# Fields, or sections, that change nothing on a simulated board, with the reason.
HARMLESS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "factory_config.cnn_layers.kernel", "factory_config.cnn_layers.leak",
            "factory_config.cnn_layers.neuron", "factory_config.neurons",
            "factory_config.delay_handshake_to_decoder", "factory_config.decoder_delay",
            "debug_config.cnn_layers_config.kernel_bist_read_timing",
            "debug_config.cnn_layers_config.leak_bist_read_timing",
            "debug_config.cnn_layers_config.neuron_bist_read_timing",
        ),
        _TIMING,
    ),
    **dict.fromkeys(
        (
            "factory_config.out_data_request_delay", "factory_config.out_num_channels",
            "factory_config.concat_enable", "factory_config.io_pin_pull_down_enable",
            "factory_config.io_test_pin_pull_down_enable",
        ),
        _PINS,
    ),
    **dict.fromkeys(
        (
            "factory_config.dvs", "debug_config.dvs", "dvs_layer.pass_sensor_events",
            "dvs_layer.monitor_sensor_enable", "dvs_layer.raw_monitor_enable",
        ),
        _SENSOR,
    ),
    **dict.fromkeys(
        (
            "dvs_filter.filter_size", "dvs_filter.hot_pixel_filter_enable",
            "dvs_filter.internal_slow_clk", "dvs_filter.low_pass_mode_enable",
            "dvs_filter.threashold", "dvs_filter.threshold",
        ),
        _OF_FILTER,
    ),
    **dict.fromkeys(
        (
            "readout.bypass_enable", "readout.input_address_interpretation",
            "readout.p2s_input_selection", "debug_config.readout",
        ),
        "no core of speck2b sends to the readout layer",
    ),
    "readout.output_mode_sel": "of the report of each tick's value, which is refused",
}  # fmt: skip
