"""What the commands show: jobs, results, reports, benchmarks and lists as Answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from speckfarm.benchmark import Benchmark, summary_dict
from speckfarm.cli_output import Answer, flat, local_time
from speckfarm.device import Device
from speckfarm.farm import Farm
from speckfarm.job import Job, JobEvent
from speckfarm.latency import Latency
from speckfarm.report import Report
from speckfarm.result import Result
from speckfarm.rows import Board
from speckfarm.settings import settings_dict
from speckfarm.v1 import benchmarks_pb2, settings_pb2

MOST_ROWS = 20  # recordings listed in full on a terminal; more become a summary
IN_THE_TABLE = "SYNOPS_PER_EVENT"  # a finding whose figures the table of `check` has
USUAL_ENDINGS = (None, "quiet", "served")
BOARD_COLUMNS = (
    "board", "kind", "chip", "usb", "state", "health", "enabled", "user", "job", "since", "message",
)  # fmt: skip


class Listed(Protocol):
    """A row of a list."""

    def to_dict(self) -> dict[str, object]:
        """For JSON."""


def report_answer(report: Report, model: str, *, as_csv: bool) -> Answer:
    """A check: the verdict first, what speaks for itself last; CSV lists the findings."""
    verdict = "can run" if report.deployable else "cannot run"
    rows = [
        flat(each.to_dict() | {"max_events_per_s": _rate(each.synops_limit, each.synops_per_event)})
        for each in report.layers
    ]
    notable = [line for each in report.findings if each.severity != "info" for line in each.lines()]
    below = [
        str(each)
        for each in report.findings
        if each.severity == "info" and not (each.reason == IN_THE_TABLE and rows)
    ]
    empty = ("reason", "severity", "layer", "message", "metadata", "changes")
    as_rows = [
        flat(each.to_dict() | {"changes": [str(change) for change in each.changes]})
        for each in report.findings
    ]
    return Answer(
        plain=report.to_dict(),
        rows=as_rows if as_csv else rows,
        header=empty,
        above=[f"{model} ({report.model[:12]}) {verdict} on {report.chip}", *notable],
        below=below,
    )


def result_answer(found: Result) -> Answer:
    """What a job measured; CSV has a row for each recording, or one for a flash."""
    plain = found.to_dict()
    lines = [str(each) for each in found.findings if each.reason != IN_THE_TABLE]
    lines.append(
        f"job {found.job_id} on {found.board} ({found.board_kind} {plain['chip']}), "
        f"{found.timings_ms['total']:.0f} ms from accepted to result"
    )
    lines += [device_line(found.device)] if found.device is not None else []
    if not found.recordings:
        hidden = ("recordings", "layers", "latency", "findings", "accuracy", "settings")
        row = flat({key: value for key, value in plain.items() if key not in hidden})
        return Answer(plain=plain, rows=[row], above=[*lines, found.summary()], is_drawn=False)
    rows = [flat(each.to_dict()) for each in found.recordings]
    is_drawn = len(rows) <= MOST_ROWS
    below = _figures(found) if is_drawn else [_predictions(found), *_figures(found)]
    columns = ["name", "label", "prediction", "input_events", "output_spikes", "decision_us"]
    columns += ["latency_p50_us", "latency_p99_us", "latency_drain_us"]
    for layer in _monitored(found):
        columns += [f"layers_{layer}_n", f"layers_{layer}_p99_us"]
    return Answer(
        plain=plain, rows=rows, columns=columns, above=lines, below=below, is_drawn=is_drawn
    )


def device_line(device: Device) -> str:
    """A devkit below the line of its board."""
    known = {"serial": device.serial, "samna": device.samna, "first event": device.first_event}
    listed = "".join(f", {name} {value}" for name, value in known.items() if value)
    line = f"  {device.type} at USB {device.usb_path}, logic version {device.logic_version}"
    return line + listed


def benchmark_answer(benchmark: Benchmark, labels: Mapping[str, str]) -> Answer:
    """The table of a benchmark; errors have a column where there are any."""
    rows = benchmark.table()
    rare = {name for name in ("error", "lag_error_us") if all(row[name] is None for row in rows)}
    hidden = {"job", "lags"} | rare
    columns = [name for name in (rows[0] if rows else {}) if name not in hidden]
    return Answer(plain=benchmark.to_dict(), rows=rows, columns=[*columns, "job"], labels=labels)


def benchmarks_answer(found: Sequence[Benchmark]) -> Answer:
    """A list of benchmarks."""
    plain = [benchmark.summary_dict() for benchmark in found]
    axes = [" ".join(f"{k}={','.join(v)}" for k, v in each.axes.items()) for each in found]
    columns = ("benchmark", "user", "created", "chip", "axes", "points_done", "points_total")
    header = list(flat(summary_dict(benchmarks_pb2.Benchmark())))
    rows = [flat(each | {"axes": words}) for each, words in zip(plain, axes, strict=True)]
    below = [] if plain else ["nothing to list"]
    return Answer(plain=plain, rows=rows, columns=columns, header=header, below=below)


def job_answer(job: Job) -> Answer:
    """One job, a line for each field."""
    plain = job.to_dict()
    shown = plain | {"settings": _setting_words(plain["settings"]), "run time": _run_time(plain)}
    width = max(len(name) for name in shown)
    lines = [f"{key:<{width}}  {_words(value)}" for key, value in shown.items()]
    return Answer(plain=plain, rows=[flat(plain)], above=lines, is_drawn=False)


def id_answer(name: str, plain: dict[str, object]) -> Answer:
    """What was queued: people get the id alone, as in JOB=$(speckfarm run --detach ...)."""
    return Answer(plain=plain, rows=[flat(plain)], above=[name], is_drawn=False)


def list_answer(
    found: Sequence[Listed],
    columns: Sequence[str] = (),
    *,
    empty: Mapping[str, object],
    labels: Mapping[str, str] | None = None,
) -> Answer:
    """A list; `empty` is a row whose names head the CSV of an empty list."""
    plain = [each.to_dict() for each in found]
    return Answer(
        plain=plain,
        rows=[flat(each) for each in plain],
        columns=columns,
        header=list(flat(empty)),
        below=[] if plain else ["nothing to list"],
        labels=labels or {},
    )


def boards_answer(found: Sequence[Board]) -> Answer:
    """The table of boards: where each is plugged in, and what may be wrong with it."""
    rows = [
        each.to_dict()
        | {
            "usb": "" if each.device is None else each.device.usb_path,
            "message": "; ".join(filter(None, (each.message, each.swap_hint))),
        }
        for each in found
    ]
    below = [] if rows else ["nothing to list"]
    plain = [each.to_dict() for each in found]
    return Answer(plain=plain, rows=rows, columns=BOARD_COLUMNS, below=below)


def model_labels(farm: Farm, digests: Iterable[str]) -> dict[str, str]:
    """Digest -> name, with some of the digest where two models have one name."""
    named = {digest: farm.model_name(digest) for digest in dict.fromkeys(digests)}
    uses = Counter(named.values())
    return {
        digest: name if uses[name] == 1 else f"{name} ({digest[:8]})"
        for digest, name in named.items()
        if name
    }


def event_words(event: JobEvent) -> str:
    """An event as a line."""
    clock = "" if event.time is None else f"{event.time.astimezone():%H:%M:%S} "
    is_running = event.state == "RUNNING" and event.recordings_done
    words = f"{counted(event.recordings_done, 'recording')} done" if is_running else event.message
    return f"{clock}{event.state} {words}".rstrip()


def without_empty_names(rows: Sequence[Listed]) -> list[str]:
    """Columns of a list, without `name` if no row has one."""
    columns = list(rows[0].to_dict()) if rows else []
    named = any(row.to_dict().get("name") for row in rows)
    return [name for name in columns if name != "name" or named]


def counted(number: int, what: str) -> str:
    """A number and its noun: 1 point, 2 points."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def _rate(synops_per_s: float, synops_per_event: float) -> float | None:
    return synops_per_s / synops_per_event if synops_per_event else None


def _monitored(found: Result) -> list[int]:
    return sorted({layer for each in found.recordings for layer in each.layer_latency})


def _figures(found: Result) -> list[str]:
    lines = [f"lag in us: {_lags(found.latency)}"] if found.latency.n else []
    for layer in _monitored(found):
        each = [recording.layer_latency.get(layer, Latency()) for recording in found.recordings]
        highest = max((lags.p99_us for lags in each if lags.p99_us is not None), default=None)
        spikes = counted(sum(lags.n + lags.uncaused for lags in each), "spike")
        worst = "no lag measured" if highest is None else f"highest p99 lag {highest:.1f} us"
        lines.append(f"monitored layer {layer}: {spikes}, {worst}")
    return [*lines, *_power(found), *_endings(found), found.summary()]


def _power(found: Result) -> list[str]:
    rails = ", ".join(f"{rail} {1000 * mean:.3g} mW" for rail, mean in found.power_w.items())
    return [f"power: {rails}"] if rails else []


def _endings(found: Result) -> list[str]:
    counts = Counter(each.ending for each in found.recordings)
    return [
        f"{counted(count, 'recording')} ended by {ending}"
        for ending, count in counts.items()
        if ending not in USUAL_ENDINGS
    ]


def _lags(lags: Latency) -> str:
    figures = {"p50": lags.p50_us, "p90": lags.p90_us, "p99": lags.p99_us, "max": lags.max_us}
    figures |= {"drain": lags.drain_us, "drift per s": lags.drift_us_per_s}
    listed = ", ".join(f"{k} {v:.1f}" for k, v in figures.items() if v is not None)
    error = "" if lags.error_us is None else f", error {lags.error_us:.1f}"
    return f"{listed} ({counted(lags.n, 'spike')}, {lags.method}{error})"


def _predictions(found: Result) -> str:
    counts = Counter(each.prediction for each in found.recordings)
    listed = ", ".join(f"{feature}: {n}" for feature, n in sorted(counts.items()))
    return f"predictions {listed} (every recording: -o csv)"


def _setting_words(settings: object) -> str:
    defaults = settings_dict(settings_pb2.Settings())
    given = settings if isinstance(settings, Mapping) else {}
    words: list[str] = []
    for key, value in given.items():
        if isinstance(value, Mapping):
            name = key.removeprefix("layer_")
            words += [f"{name}.{layer}={each}" for layer, each in value.items()]
        elif value != defaults.get(key):
            listed = "+".join(str(each) for each in value) if isinstance(value, list) else value
            words.append(f"{key}={listed}")
    return " ".join(words) or "defaults"


def _run_time(job: Mapping[str, object]) -> str | None:
    started, ended = job["started"], job["ended"]
    if not (isinstance(started, str) and isinstance(ended, str)):
        return None
    took = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
    return f"{took.total_seconds():.2f} s (last attempt, with configuring and collecting)"


def _words(value: object) -> str:
    if isinstance(value, dict):
        return f"{value.get('message')} [{value.get('reason')}]"
    if isinstance(value, list):
        return " ".join(str(each) for each in value) or "-"
    return "-" if value is None else local_time(str(value))
