"""What a finished run gives to notice, beyond its figures."""

from __future__ import annotations

from collections.abc import Sequence

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.job_result import RecordingResult


def observe(recordings: Sequence[RecordingResult]) -> tuple[Finding, ...]:
    """Warnings NO_OUTPUT and LABEL_OUT_OF_RANGE; none for a run that needs no comment."""
    if not recordings:
        return ()
    return (*_silent(recordings), *_labels(recordings))


def _silent(recordings: Sequence[RecordingResult]) -> list[Finding]:
    silent = [number for number, recording in enumerate(recordings) if recording.prediction < 0]
    if not silent:
        return []
    return [
        Finding(
            reason="NO_OUTPUT",
            severity=Severity.WARNING,
            message=(
                f"{len(silent)} of {len(recordings)} recordings gave no output spike (first: "
                f"{recordings[silent[0]].name!r}); their prediction is -1 and counts as wrong. "
                "Look where the spikes end with `monitor`, and at decimators, thresholds and the "
                "lower clip"
            ),
            metadata={"silent": str(len(silent)), "recordings": str(len(recordings))},
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
