"""Whether a neuron's state can leave its 16 bits, told by a configuration's numbers alone."""

from __future__ import annotations

from collections.abc import Iterator

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration
from speckfarm_server.errors import Finding, Severity
from speckfarm_server.rules.tables import finding

MAY_SATURATE = "STATE_MAY_SATURATE"


def may_saturate(configuration: Configuration, chip: Chip) -> Iterator[Finding]:
    """A warning STATE_MAY_SATURATE for each layer whose states can pass an end of their range."""
    lowest, highest = chip.initial_state  # the range of a state
    for core in configuration.cores:
        up, down = _steps(core, ticks=configuration.slow_clock_hz is not None)
        # Below the threshold a state takes any step; at it, it fires first.
        most, least = core.threshold_high - 1 + up, core.threshold_low + down
        parts = []
        if up > core.threshold_high and not core.return_to_zero:
            parts.append(
                f"steps of up to {up} are larger than the threshold {core.threshold_high}, which a "
                f"neuron sheds at most once per event, so charge can pile up to {highest:,}"
            )
        elif most > highest:
            parts.append(
                f"threshold_high {core.threshold_high} and steps of up to {up} lead to {most:,}, "
                f"beyond {highest:,}"
            )
        if least < lowest:
            parts.append(
                f"threshold_low {core.threshold_low} and steps down to {down} lead to {least:,}, "
                f"beyond {lowest:,}"
            )
        if parts:
            text = (
                f"Neurons have 16 bits: {'; '.join(parts)}. What a chip does there is not "
                "published; the twin stays at the end. Keep weights below the threshold and "
                "thresholds well inside the range."
            )
            figures = {
                "threshold_high": core.threshold_high, "threshold_low": core.threshold_low,
                "largest_step": up, "lowest_step": down, "lowest": lowest, "highest": highest,
            }  # fmt: skip
            yield finding(MAY_SATURATE, Severity.WARNING, core.layer, text, figures)


def _steps(core: CoreConfiguration, *, ticks: bool) -> tuple[int, int]:
    """The largest step up and down that one event, or one tick, makes a state take."""
    found = [0, int(core.weights.max(initial=0)), int(core.weights.min(initial=0))]
    if ticks and core.leak_enable:
        found += [int(core.biases.max(initial=0)), int(core.biases.min(initial=0))]
    return max(found), min(found)
