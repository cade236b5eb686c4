"""The check of a finished configuration: can this chip run it, and if not, every reason why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from speckfarm.events import ECHO
from speckfarm_server.advice import (
    ADVICE,
    advise,
    silent_features,
    synops_of_network,
    synops_per_event,
)
from speckfarm_server.check import LayerNeed, Report, ordered
from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, DvsConfiguration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.network import Layer, Network
from speckfarm_server.quantise import QuantisedLayer
from speckfarm_server.rules.network import layer_not_found
from speckfarm_server.rules.readout import check_readout
from speckfarm_server.rules.simulated import refusals, twin_refuses
from speckfarm_server.rules.state import may_saturate
from speckfarm_server.rules.tables import apply_farm_rules, apply_rules, finding
from speckfarm_server.rules.traps import find_traps
from speckfarm_server.settings import Settings
from speckfarm_server.vendor.keys import dialect_of
from speckfarm_server.vendor.readout import readout_of
from speckfarm_server.vendor.write import UNKNOWN

# Every reason that only this check gives; docs/reference/checks.md explains each.
REASONS: Mapping[str, Severity] = {
    "CHIP_MISMATCH": Severity.ERROR,
    "SETTING_NOT_APPLICABLE": Severity.ERROR,
    "SEVERAL_EXITS": Severity.WARNING,
    "SINABS_CLIP_TRAP": Severity.WARNING,
    "UNKNOWN_KEY": Severity.WARNING,
    "KEYS_NOT_SIMULATED": Severity.INFO,
}
NAMED_KEYS = 10  # in a message; the others are counted


def check_configuration(configuration: Configuration, chip: Chip, settings: Settings) -> Report:
    """Apply what settings may still change, and every rule; all findings at once. No side effect.

    A file for another chip gives CHIP_MISMATCH alone: the other rules would be those of the wrong
    chip.
    """
    family = dialect_of(configuration).chips
    if chip.name not in family:
        found = [_chip_mismatch(chip, family)]
        made = configuration
    elif not configuration.cores:
        found = [_no_layers()]
        made = configuration
    else:
        made = with_settings(replace(configuration, chip=chip.name), settings)
        found = [*_settings_not_applicable(settings), *_findings(made, chip, settings)]
    report = Report(
        chip=chip.name,
        findings=ordered(_once(found)),
        layers=tuple(_need(core, made, chip) for core in made.cores),
        configuration=made,
    )
    return report if report.deployable else replace(report, configuration=None)


def with_settings(configuration: Configuration, settings: Settings) -> Configuration:
    """Settings that a finished configuration leaves open; the others are refused by name."""
    last = len(configuration.cores) - 1
    dvs = configuration.dvs
    clock = settings.slow_clock_hz
    return replace(
        configuration,
        cores=tuple(
            _core(core, settings, is_exit=number == last)
            for number, core in enumerate(configuration.cores)
        ),
        dvs=None if dvs is None else _dvs(dvs, settings),
        polarity=settings.polarity if dvs is None else "keep",
        slow_clock_hz=None if clock is None else float(clock),
        keep_state=settings.state == "keep",
        order_seed=settings.order_seed,
        settings=settings.canonical(),
        vendor=_without_intervals(configuration, settings),
    )


def _without_intervals(configuration: Configuration, settings: Settings) -> dict[str, int]:
    """The file's code of a decimator that is off must not speak for one that a setting turns on."""
    decided = [core.core for core in configuration.cores if core.layer in settings.decimator]
    told = {f"cnn_layers[{core}].output_decimator_interval" for core in decided}
    return {path: value for path, value in configuration.vendor.items() if path not in told}


def _core(core: CoreConfiguration, settings: Settings, *, is_exit: bool) -> CoreConfiguration:
    reset = settings.layer_reset.get(core.layer) or settings.reset
    return replace(
        core,
        return_to_zero=core.return_to_zero if reset is None else reset == "zero",
        decimator=settings.decimator.get(core.layer, core.decimator),
        monitor_enable=core.monitor_enable or is_exit or core.layer in settings.monitor,
    )


def _dvs(dvs: DvsConfiguration, settings: Settings) -> DvsConfiguration:
    polarity = settings.polarity
    dvs = replace(dvs, monitor_enable=dvs.monitor_enable or ECHO in settings.monitor)
    if polarity == "keep":
        return dvs
    return replace(dvs, merge=True, on_channel=polarity != "off", off_channel=polarity != "on")


def _findings(configuration: Configuration, chip: Chip, settings: Settings) -> Iterator[Finding]:
    network = _stand_in(configuration)
    for problem in layer_not_found(network, chip, settings):
        yield finding("LAYER_NOT_FOUND", Severity.ERROR, None, *problem)
    yield from _echo_needs_camera(configuration, settings)
    yield from apply_rules(configuration, chip)
    yield from apply_farm_rules(configuration, chip)
    integers = [_integers(core) for core in configuration.cores]
    for found in advise(network, integers, configuration, settings):
        if found.reason not in _OWN_ADVICE:
            yield found
    for core in configuration.cores:
        for reason, (value, text) in _OWN_ADVICE.items():
            if getattr(core, value) == 0:
                yield finding(reason, ADVICE[reason][0], core.layer, text, {value: 0})
    yield from silent_features(configuration)
    yield from check_readout(configuration, chip, settings)
    yield from twin_refuses(configuration)
    yield from may_saturate(configuration, chip)
    yield from find_traps(configuration)
    yield from _several_exits(configuration, chip)
    yield from _keys_not_simulated(configuration, chip)
    yield synops_of_network(configuration, chip)


def _echo_needs_camera(configuration: Configuration, settings: Settings) -> Iterator[Finding]:
    if ECHO in settings.monitor and not configuration.echoes_input:
        text = (
            f"monitor = {ECHO} asks for the echo of the input, which comes out of the event "
            "pre-processing layer, but that feeds no core in this file. Give dvs_layer a "
            f"destination, or leave {ECHO} out."
        )
        yield finding("ECHO_NEEDS_CAMERA", Severity.ERROR, None, text, {"monitor": ECHO})


# Said of integers: nothing was quantised here, and no setting changes them.
_OWN_ADVICE = {
    "THRESHOLD_ZERO": (
        "threshold_high",
        "threshold_high is 0, so neurons fire at almost every event. Use a larger one.",
    ),
    "THRESHOLD_LOW_ZERO": (
        "threshold_low",
        "threshold_low is 0, which the vendor names a chip bug. Use -1 or lower.",
    ),
}


def _stand_in(configuration: Configuration) -> Network:
    """A network with these numbers as they are, for rules and advice that look at one."""
    return Network(
        input_shape=configuration.input_shape,
        layers=tuple(
            Layer(
                name=_name(core),
                neuron_name=_name(core),
                weights=core.weights.astype(np.float32),
                bias=core.biases.astype(np.float32),
                stride=core.stride,
                padding=core.padding,
                threshold=float(core.threshold_high),
                trained_lower_clip=core.threshold_low / max(1, core.threshold_high),
                input_shape=core.input_shape,
                output_shape=core.output_shape,
            )
            for core in configuration.cores
        ),
    )


def _integers(core: CoreConfiguration) -> QuantisedLayer:
    return QuantisedLayer(
        weights=core.weights,
        biases=core.biases,
        threshold_high=core.threshold_high,
        threshold_low=core.threshold_low,
        scale=1.0,
        bound_by="weights",
    )


def _name(core: CoreConfiguration) -> str:
    return f"core {core.core}"


def _need(core: CoreConfiguration, configuration: Configuration, chip: Chip) -> LayerNeed:
    sources = [
        source.layer
        for source in configuration.cores
        if any(to.enable and to.core == core.core for to in source.destinations)
    ]
    return LayerNeed(
        layer=core.layer,
        name=_name(core),
        core=core.core,
        kernel_entries=core.kernel_entries,
        neuron_entries=core.neuron_entries,
        synops_per_event=synops_per_event(core),
        synops_limit=chip.cores[core.core].synops_per_s,
        output_shape=core.output_shape,
        sources=tuple(sorted(sources)),
    )


def _chip_mismatch(chip: Chip, family: tuple[str, ...]) -> Finding:
    named = " or ".join(family)
    text = (
        f"The keys of this configuration are those of {named}, but it is checked for {chip.name}. "
        f"Ask for chip {named}."
    )
    metadata = {"chip": chip.name, "configured_for": named}
    return finding("CHIP_MISMATCH", Severity.ERROR, None, text, metadata)


def _no_layers() -> Finding:
    text = (
        "No core of this configuration is set up: all have the sizes and zero weights that they "
        "have after a reset. Export it from a configuration with a network."
    )
    return finding("NO_LAYERS", Severity.ERROR, None, text, {"found": 0, "allowed": "1 to 9"})


def _settings_not_applicable(settings: Settings) -> Iterator[Finding]:
    default = Settings()
    for name in _FINISHED:
        value = getattr(settings, name)
        if value != getattr(default, name):
            text = (
                f"Setting {name} was given, but a vendor's configuration is finished: its own "
                f"value stands. Leave {name} out, or change the file."
            )
            metadata = {"setting": name, "found": value}
            yield finding("SETTING_NOT_APPLICABLE", Severity.ERROR, None, text, metadata)


# What a file has decided: integers, cores and the event pre-processing layer.
_FINISHED = (
    "cores", "lower_clip", "input_dt_us", "input_pooling", "crop", "mirror", "swap_xy",
    "readout_threshold", "readout_average",
)  # fmt: skip


def _several_exits(configuration: Configuration, chip: Chip) -> Iterator[Finding]:
    """Spikes of one layer are counted; others' only if they are monitored."""
    exits = [
        core.layer
        for core in configuration.cores
        if all(to.core == chip.readout for to in core.destinations if to.enable)
    ]
    if len(exits) > 1:
        *others, last = exits
        named = ", ".join(map(str, others))
        text = (
            f"Layers {named} and {last} feed no other core. Predictions and latency are those of "
            f"layer {last}; monitor {named} to have their spikes as well."
        )
        metadata = {"exit_layer": last, "others": named}
        yield finding("SEVERAL_EXITS", Severity.WARNING, None, text, metadata)


def _keys_not_simulated(configuration: Configuration, chip: Chip) -> Iterator[Finding]:
    """What a board is told and makes no difference to the twin."""
    told = {refusal.key for refusal in refusals(configuration)}
    if readout_of(configuration, chip) is not None:
        told |= {key for key in configuration.vendor if key.startswith("readout.")}
    others = {
        key: value
        for key, value in configuration.vendor.items()
        if not key.startswith(UNKNOWN) and key not in told
    }
    if others:
        named = ", ".join(f"{key} = {value}" for key, value in list(others.items())[:NAMED_KEYS])
        named += " ..." if len(others) > NAMED_KEYS else ""
        text = (
            f"{len(others)} values differ from the chip's own and have no effect on a simulated "
            f"board: {named}."
        )
        metadata = {"count": len(others), "keys": named}
        yield finding("KEYS_NOT_SIMULATED", Severity.INFO, None, text, metadata)


def _once(findings: list[Finding]) -> list[Finding]:
    return list({(found.layer, found.reason, found.message): found for found in findings}.values())
