"""What the twin will not run, said before it is built."""

from __future__ import annotations

from speckfarm_server.configuration import Configuration, CoreConfiguration
from speckfarm_server.rules.simulated import refusals


def refuse(configuration: Configuration) -> None:
    """Raise ValueError, with the reason, for what is no graph or what the twin has no model of.

    `rules/simulated.py` decides on every key of a vendor's file.
    """
    _refuse_numbers(configuration)
    _refuse_inputs(configuration)
    for core in configuration.cores:
        _refuse_kills(core)
    for found in refusals(configuration):
        raise ValueError(f"{found.key}: found {found.value}; {found.why}, so the twin refuses it")


def _refuse_numbers(configuration: Configuration) -> None:
    for name in ("core", "layer"):
        numbers = [getattr(core, name) for core in configuration.cores]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"{name}: found {numbers}; each may be used once")


def _refuse_inputs(configuration: Configuration) -> None:
    dvs = configuration.dvs
    ways = configuration.inputs if dvs is None or not dvs.destinations else dvs.destinations
    if not any(way.enable for way in ways):
        raise ValueError("no core takes the input; set `inputs`, or destinations of `dvs`")
    if dvs is not None and dvs.destinations and configuration.inputs:
        raise ValueError("recorded events enter by `inputs` or by `dvs`; found both")


def _refuse_kills(core: CoreConfiguration) -> None:
    for name in ("weights_kill", "biases_kill", "neurons_kill"):
        bits = getattr(core, name)
        if bits is not None and bits.any():
            text = "what killed ones do is not published, so the twin refuses them"
            raise ValueError(f"core {core.core}, {name}: found {int(bits.sum())} set; {text}")
