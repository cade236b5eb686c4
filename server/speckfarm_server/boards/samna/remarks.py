"""What there is to say of a devkit's configuration and run, beyond the figures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from speckfarm_server.boards.samna.link import whole_hz
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import Finding, Severity


def without_live_events(configuration: Configuration) -> Configuration:
    """Live events of the camera would enter beside the recorded ones, and move the marks."""
    dvs = configuration.dvs
    if dvs is None or not dvs.pass_sensor_events:
        return configuration
    return replace(configuration, dvs=replace(dvs, pass_sensor_events=False))


def changed(configuration: Configuration) -> Iterator[Finding]:
    """SLOW_CLOCK_ROUNDED, LIVE_EVENTS_OFF: what a board is told otherwise than asked for."""
    hz = configuration.slow_clock_hz
    if hz is not None and whole_hz(hz) != hz:
        yield Finding(
            reason="SLOW_CLOCK_ROUNDED",
            severity=Severity.INFO,
            message=f"A board's slow clock takes whole Hz: {hz:g} became {whole_hz(hz)}",
            metadata={"found_hz": f"{hz:g}", "used_hz": str(whole_hz(hz))},
        )
    if without_live_events(configuration) is not configuration:
        text = (
            "The model's configuration lets live events of the camera in (pass_sensor_events). "
            "They were kept out: the recorded events were the only input"
        )
        yield Finding(reason="LIVE_EVENTS_OFF", severity=Severity.INFO, message=text)


def unasked(events: int) -> tuple[Finding, ...]:
    """UNASKED_EVENTS, if there were any."""
    if not events:
        return ()
    text = (
        f"{events:,} events of a recording came out that no monitor was set for, and were dropped: "
        "a raw monitor may be on in the model's configuration"
    )
    return (
        Finding(
            reason="UNASKED_EVENTS",
            severity=Severity.WARNING,
            message=text,
            metadata={"events": str(events)},
        ),
    )
