"""From a board's report to a result, and to the rows that lab-wide latency is read from."""

from __future__ import annotations

import json
from typing import Any

from speckfarm_server.boards.wire import Message
from speckfarm_server.job import JobError
from speckfarm_server.job_result import (
    JobResult,
    LayerActivity,
    LayerLags,
    RailPower,
    RecordingResult,
    StageTimes,
    accuracy_of,
    device_from_plain,
    ending_from_plain,
    finding_from_plain,
    overrun_from_plain,
)
from speckfarm_server.latency import Latency
from speckfarm_server.live import LiveJob
from speckfarm_server.observe import observe
from speckfarm_server.store.steps import event_row
from speckfarm_server.store.writer import Row


def collect(live: LiveJob, done: Message, released_us: int, *, spikes: str, lags: str) -> JobResult:
    """Put together what the board reported. `spikes` and `lags` are digests of stored blobs."""
    recordings = tuple(_recording(plain) for plain in done["recordings"])
    layers = tuple(LayerActivity(**layer) for layer in done["layers"])
    started_us = live.started_us or released_us
    return JobResult(
        job=live.spec.id,
        board=live.board,
        board_kind=live.spec.board_kind.value,
        recordings=recordings,
        accuracy=accuracy_of(recordings),
        latency=None if done["latency"] is None else Latency(**done["latency"]),
        histogram=bytes.fromhex(done["histogram"]),
        findings=(
            *live.spec.findings,
            *map(finding_from_plain, done["findings"]),
            *observe(recordings, layers),
        ),
        timings=StageTimes(
            queue_ms=(started_us - live.spec.created_us) / 1e3,
            configure_ms=done["configure_ms"],
            reset_ms=done["reset_ms"],
            run_ms=done["run_ms"],
            collect_ms=done["collect_ms"],
            total_ms=(released_us - live.spec.created_us) / 1e3,
        ),
        layers=layers,
        spikes=spikes,
        lags=lags,
        assumptions=done["assumptions"],
        exit_spikes=done["exit_spikes"],
        device=device_from_plain(done["device"]),
        power=tuple(RailPower(**rail) for rail in done["power"]),
    )


def _recording(plain: dict[str, Any]) -> RecordingResult:
    lags = tuple(
        LayerLags(
            layer=item["layer"],
            latency=Latency(**item["latency"]),
            histogram=bytes.fromhex(item["histogram"]),
        )
        for item in plain.pop("lags")
    )
    overrun = overrun_from_plain(plain.pop("overrun"))
    ending = ending_from_plain(plain.pop("ending"))
    counts = tuple(plain.pop("counts"))
    return RecordingResult(**plain, counts=counts, lags=lags, overrun=overrun, ending=ending)


def latency_rows(live: LiveJob, result: JobResult, time_us: int) -> list[Row]:
    """One row for each recording and monitored layer, and one (recording -1) for the job."""
    rows: list[Row] = []

    def add(recording: int, layer: int, latency: Latency, histogram: bytes) -> None:
        rows.append({
            "job": live.spec.id,
            "recording": recording,
            "layer": layer,
            "time_us": time_us,
            "board": result.board,
            "board_kind": result.board_kind,
            "model": live.spec.model,
            "n": latency.n,
            "uncaused": latency.uncaused,
            "method": latency.method,
            "error_us": latency.error_us,
            "drain_us": latency.drain_us,
            "histogram": histogram,
        })

    for number, recording in enumerate(result.recordings):
        for lags in recording.lags:
            add(number, lags.layer, lags.latency, lags.histogram)
    if result.latency is not None:
        exit_layer = result.recordings[0].lags[0].layer
        add(-1, exit_layer, result.latency, result.histogram)
    return rows


def usage_row(live: LiveJob, board: str, released_us: int, *, error: JobError | None) -> Row:
    """The usage event of an attempt that ends."""
    return event_row(
        live.spec,
        time_us=released_us,
        event="attempt.ended",
        attempt=live.attempt,
        board=board,
        state=live.state.value,
        reason="" if error is None else error.reason,
        board_us=released_us - (live.started_us or released_us),
    )


def attempt_row(
    live: LiveJob,
    board: str,
    released_us: int,
    *,
    error: JobError | None,
    result: JobResult | None,
) -> Row:
    """What is kept of an attempt that ends."""
    return {
        "job": live.spec.id,
        "attempt": live.attempt,
        "board": board,
        "started_us": live.started_us or released_us,
        "ended_us": released_us,
        "outcome": live.state.value,
        "error": None if error is None else json.dumps(vars(error)),
        "timings": None if result is None else json.dumps(vars(result.timings)),
    }
