"""Results on the wire: what a job measured, as messages of the contract."""

from __future__ import annotations

from speckfarm.v1 import jobs_pb2, latency_pb2
from speckfarm_server.convert import finding_message, kind_message
from speckfarm_server.convert_board import device_message
from speckfarm_server.job_result import Ending, JobResult, LayerActivity, RecordingResult
from speckfarm_server.latency import Latency
from speckfarm_server.overrun import Overrun

STAGE_TIMES = ("queue_ms", "configure_ms", "reset_ms", "run_ms", "collect_ms", "total_ms")


def latency_message(latency: Latency) -> latency_pb2.Latency:
    """Write latency figures."""
    method = latency_pb2.LatencyMethod.Value(f"LATENCY_METHOD_{latency.method.upper()}")
    figures = {name: getattr(latency, name) for name in _FIGURES}
    return latency_pb2.Latency(method=method, **figures)


_FIGURES = (
    "n", "uncaused", "error_us", "first_output_us", "p50_us", "p90_us", "p99_us", "max_us",
    "drain_us", "drift_us_per_s",
)  # fmt: skip


def result_message(result: JobResult, job: jobs_pb2.Job) -> jobs_pb2.Result:
    """Write a result."""
    return jobs_pb2.Result(
        job=job,
        board=result.board,
        board_kind=kind_message(result.board_kind),
        recordings=[_recording_result(recording) for recording in result.recordings],
        accuracy=result.accuracy,
        latency=None if result.latency is None else latency_message(result.latency),
        findings=[finding_message(finding) for finding in result.findings],
        timings=jobs_pb2.StageTimes(**{
            name: getattr(result.timings, name) for name in STAGE_TIMES
        }),
        layers=[activity_message(layer) for layer in result.layers],
        spikes=result.spikes,
        lags=result.lags,
        assumptions=result.assumptions,
        device=device_message(result.device),
        power=[jobs_pb2.RailPower(**vars(rail)) for rail in result.power],
    )


def activity_message(layer: LayerActivity) -> jobs_pb2.LayerActivity:
    """Write what a layer did."""
    return jobs_pb2.LayerActivity(
        layer=layer.layer,
        input_spikes=layer.input_spikes,
        output_spikes=layer.output_spikes,
        synops=layer.synops,
        synops_formula=layer.synops_formula,
        synops_per_s=layer.synops_per_s,
        peak_synops_per_s=layer.peak_synops_per_s,
        synops_limit=layer.synops_limit,
    )


def _recording_result(recording: RecordingResult) -> jobs_pb2.RecordingResult:
    return jobs_pb2.RecordingResult(
        recording=recording.recording,
        name=recording.name,
        label=recording.label,
        prediction=recording.prediction,
        counts=recording.counts,
        input_events=recording.input_events,
        output_events=recording.output_events,
        duration_us=recording.duration_us,
        decision_us=recording.decision_us,
        latency=latency_message(recording.lags[0].latency),
        layer_latency={lags.layer: latency_message(lags.latency) for lags in recording.lags[1:]},
        overrun=None if recording.overrun is None else _overrun_message(recording.overrun),
        ending=_ending_message(recording.ending),
    )


def _ending_message(ending: Ending | None) -> jobs_pb2.RunEnding.ValueType:
    name = "UNSPECIFIED" if ending is None else ending.value
    return jobs_pb2.RunEnding.Value(f"RUN_ENDING_{name}")


def _overrun_message(overrun: Overrun) -> jobs_pb2.Overrun:
    return jobs_pb2.Overrun(
        verdict=jobs_pb2.OverrunVerdict.Value(f"OVERRUN_VERDICT_{overrun.verdict.value}"),
        confidence=overrun.confidence,
        why=overrun.why,
        layer=overrun.layer,
        core=overrun.core,
        drift_us_per_s=overrun.drift_us_per_s,
        synops_per_s=overrun.synops_per_s,
        synops_limit_per_s=overrun.synops_limit_per_s,
    )
