"""What a finished run gives to notice, beyond its figures."""

from __future__ import annotations

from collections.abc import Sequence

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.job_result import LayerActivity, RecordingResult
from speckfarm_server.overrun import Overrun, Verdict


def observe(
    recordings: Sequence[RecordingResult], layers: Sequence[LayerActivity]
) -> tuple[Finding, ...]:
    """Warnings NO_OUTPUT, LABEL_OUT_OF_RANGE, BANDWIDTH_EXCEEDED, STATE_SATURATED,
    SYNOPS_ABOVE_LIMIT; the remarks BANDWIDTH_INCONCLUSIVE, SYNOPS_RATE.

    None for a run without recordings, and no rates where nothing counted synaptic operations.
    """
    if not recordings:
        return ()
    exceeded = _exceeded(recordings)
    named = {finding.layer for finding in exceeded}  # what would be said of them twice
    quieter = [layer for layer in layers if layer.layer not in named]
    figures = (*_saturated(layers), *_above_limit(quieter), *_rates(layers))
    bandwidth = exceeded or _unsure(recordings)
    return (*_silent(recordings, layers), *_labels(recordings), *bandwidth, *figures)


def _silent(
    recordings: Sequence[RecordingResult], layers: Sequence[LayerActivity]
) -> list[Finding]:
    silent = [number for number, recording in enumerate(recordings) if recording.prediction < 0]
    if not silent:
        return []
    figures = {"silent": str(len(silent)), "recordings": str(len(recordings))}
    advice = "Find with `monitor` where the spikes end; look at decimators, thresholds, lower clip"
    mute = next((layer for layer in layers if layer.output_spikes == 0), None)
    if mute is not None and mute.input_spikes is not None:
        figures |= {"mute_layer": str(mute.layer), "arrived": str(mute.input_spikes)}
        advice = (
            f"Spikes end at layer {mute.layer}: {mute.input_spikes:,} reached it, and it never "
            "fired. Look at its weights, threshold and lower clip, and at decimators before it"
        )
    return [
        Finding(
            reason="NO_OUTPUT",
            severity=Severity.WARNING,
            message=(
                f"{len(silent)} of {len(recordings)} recordings gave no output spike (first: "
                f"{recordings[silent[0]].name!r}); their prediction is -1 and counts as wrong. "
                f"{advice}"
            ),
            metadata=figures,
        )
    ]


def _labels(recordings: Sequence[RecordingResult]) -> list[Finding]:
    classes = len(recordings[0].counts)
    labels = [recording.label for recording in recordings if recording.label is not None]
    beyond = [label for label in labels if label >= classes]
    if not beyond:
        return []
    return [
        Finding(
            reason="LABEL_OUT_OF_RANGE",
            severity=Severity.WARNING,
            message=(
                f"{len(beyond)} of {len(labels)} labels go up to {max(beyond)}, but the network "
                f"has {classes} output features, 0 to {classes - 1}: these recordings can never "
                "be predicted right. Number the labels as the network's outputs"
            ),
            metadata={"found": str(max(beyond)), "allowed": str(classes - 1)},
        )
    ]


def _exceeded(recordings: Sequence[RecordingResult]) -> list[Finding]:
    """One finding for each core that could not keep up, with the figures of its worst recording."""
    found: dict[int, list[RecordingResult]] = {}
    for recording in recordings:
        overrun = recording.overrun
        if overrun is not None and overrun.layer is not None:
            found.setdefault(overrun.layer, []).append(recording)
    return [_exceeding(layer, late, len(recordings)) for layer, late in sorted(found.items())]


def _exceeding(layer: int, late: Sequence[RecordingResult], total: int) -> Finding:
    worst = max(late, key=lambda recording: _asked(recording.overrun))
    overrun = worst.overrun
    if overrun is None:
        raise ValueError(f"recording {worst.name!r} has no verdict")
    figures = {
        "core": overrun.core,
        "drift_us_per_s": overrun.drift_us_per_s,
        "synops_per_s": overrun.synops_per_s,
        "synops_limit_per_s": overrun.synops_limit_per_s,
    }
    metadata = {name: f"{value:.0f}" for name, value in figures.items() if value is not None}
    drift = overrun.drift_us_per_s
    grew = "" if drift is None or drift <= 0 else f", and lags grew by {drift:.3g} us per second"
    before = (
        "set a decimator on the layer before (`speckfarm advise` finds the least), "
        if layer
        else ""
    )
    return Finding(
        reason="BANDWIDTH_EXCEEDED",
        severity=Severity.WARNING,
        layer=layer,
        message=(
            f"Core {overrun.core} could not keep up in {len(late)} of {total} recordings, so input "
            f"was held back and outputs came late. In the worst ({worst.name!r}) it was asked for "
            f"{_millions(overrun.synops_per_s)} SynOps/s and is believed to sustain "
            f"{_millions(overrun.synops_limit_per_s)}{grew}. To give it less to do, {before}"
            "use a smaller kernel, fewer output features, or recordings with fewer events"
        ),
        metadata={
            **metadata,
            "confidence": f"{min(r.overrun.confidence for r in late if r.overrun):.2f}",
            "exceeded": str(len(late)),
            "recordings": str(total),
            "recording": worst.name,
        },
    )


def _unsure(recordings: Sequence[RecordingResult]) -> list[Finding]:
    unsure = [
        recording.overrun.why
        for recording in recordings
        if recording.overrun is not None and recording.overrun.verdict is Verdict.INCONCLUSIVE
    ]
    if not unsure:
        return []
    reasons = ", ".join(f"{why} ({unsure.count(why)})" for why in sorted(set(unsure)))
    return [
        Finding(
            reason="BANDWIDTH_INCONCLUSIVE",
            severity=Severity.INFO,
            message=(
                f"{len(unsure)} of {len(recordings)} recordings do not tell whether all cores kept "
                f"up: {reasons}. Longer recordings, or inner layers with `monitor`, tell more"
            ),
            metadata={"inconclusive": str(len(unsure)), "recordings": str(len(recordings))},
        )
    ]


def _asked(overrun: Overrun | None) -> float:
    return 0.0 if overrun is None else overrun.synops_per_s or 0.0


def _saturated(layers: Sequence[LayerActivity]) -> list[Finding]:
    return [
        Finding(
            reason="STATE_SATURATED",
            severity=Severity.WARNING,
            layer=layer.layer,
            message=(
                f"{layer.saturated:,} times a neuron's state would have left its 16 bits and "
                "stayed at their end instead, as the simulator assumes of the chip: charge was "
                "lost, and a chip may do otherwise. Keep weights below the threshold, and "
                "thresholds well inside -32,768 and 32,767"
            ),
            metadata={"saturated": str(layer.saturated)},
        )
        for layer in layers
        if layer.saturated
    ]


def _above_limit(layers: Sequence[LayerActivity]) -> list[Finding]:
    """A core that is asked for more than it is believed to do; speck.md 2.2."""
    return [
        Finding(
            reason="SYNOPS_ABOVE_LIMIT",
            severity=Severity.WARNING,
            layer=layer.layer,
            message=(
                f"Executes {_millions(layer.peak_synops_per_s)} SynOps/s in its busiest recording; "
                f"its core is believed to sustain {_millions(layer.synops_limit)} (no official "
                "figure exists). Above its limit a core stalls the whole chip: outputs come late. "
                "Use fewer output features or a smaller kernel, or train with the SynOps loss"
                f"{', or set a decimator on the layer before' if layer.layer else ''}"
            ),
            metadata={
                "peak_synops_per_s": f"{layer.peak_synops_per_s:.0f}",
                "synops_limit_per_s": f"{layer.synops_limit:.0f}",
            },
        )
        for layer in layers
        if layer.peak_synops_per_s is not None
        and layer.synops_limit is not None
        and layer.peak_synops_per_s > layer.synops_limit
    ]


def _rates(layers: Sequence[LayerActivity]) -> list[Finding]:
    """SynOps per second of each layer, counted and by the published formula."""
    figures: dict[str, str] = {}
    words = []
    for layer in layers:
        if not layer.synops or layer.synops_per_s is None or layer.synops_formula is None:
            continue
        formula_per_s = layer.synops_formula * layer.synops_per_s / layer.synops
        figures[f"layer_{layer.layer}_synops_per_s"] = f"{layer.synops_per_s:.0f}"
        figures[f"layer_{layer.layer}_formula_synops_per_s"] = f"{formula_per_s:.0f}"
        words.append(
            f"layer {layer.layer}: {_millions(layer.synops_per_s)} "
            f"(formula {_millions(formula_per_s)})"
        )
    if not words:
        return []
    text = f"SynOps/s over all recordings: {', '.join(words)}. The formula ignores borders"
    return [Finding(reason="SYNOPS_RATE", severity=Severity.INFO, message=text, metadata=figures)]


def _millions(rate: float | None) -> str:
    return "nothing" if rate is None else f"{rate / 1e6:.3g} M"
