"""Networks and recordings at the edge of sense: clear findings, bounded memory, a prompt cancel."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import speckfarm
from speckfarm.job import Job
from tests.farm_follow import child_processes, end_of, failure_of, faults, follow_to
from tests.farm_process import FarmProcess
from tests.nir_files import chain_nir, conv, neurons

pytestmark = pytest.mark.system

ONE_TWIN = "[[boards]]\nid = 'twin-0'\n"
SIZE = 16
Files = dict[str, Path]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    process = FarmProcess(tmp_path_factory.mktemp("extreme") / "data", ONE_TWIN).start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def farm(own: FarmProcess) -> Iterator[speckfarm.Farm]:
    with own.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Networks by what they do."""
    folder = tmp_path_factory.mktemp("models")
    shape = (1, SIZE, SIZE)
    grow = conv(np.full((16, 1, 3, 3), 1.0), padding=np.array([1, 1]))
    more = conv(np.full((16, 16, 3, 3), 1.0), padding=np.array([1, 1]))
    point = np.ones((1, 1, 1, 1), np.float32)
    nets = {
        "silent": [conv(-point), neurons()],
        "endless": [grow, neurons(), more, neurons(), more, neurons()],
        "pass": [conv(point / 2), neurons()],
        "charging": [conv(2 * point), neurons()],
    }
    return {
        name: chain_nir(folder / f"{name}.nir", *nodes, input_shape=shape)
        for name, nodes in nets.items()
    }


def recorded(path: Path, t_us: Any) -> Path:
    """Events at these times, all over the map."""
    place = np.arange(len(t_us)) * 7 % (SIZE * SIZE)
    columns = {"x": place % SIZE, "y": place // SIZE, "p": np.zeros(len(t_us))}
    np.savez(
        path, t=np.asarray(t_us, np.uint32), **{k: v.astype(np.uint8) for k, v in columns.items()}
    )
    return path


def reasons(result: speckfarm.Result) -> set[str]:
    return {finding.reason for finding in result.findings}


def message_of(result: speckfarm.Result, reason: str) -> str:
    [message] = [finding.message for finding in result.findings if finding.reason == reason]
    return message


def peak_mib(own: FarmProcess) -> float:
    """The most memory that the board's process has held."""
    [process] = child_processes(own, "boards.process")
    status = Path(f"/proc/{process}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def forget_peak(own: FarmProcess) -> float:
    """Let the peak begin at what is held now, and return that."""
    [process] = child_processes(own, "boards.process")
    Path(f"/proc/{process}/clear_refs").write_text("5")
    return peak_mib(own)


def follow_into_the_run(own: FarmProcess, job: Job) -> None:
    """Follow a job until its board has computed for a while."""
    follow_to(job, "RUNNING")
    began_s = computed_s(own)
    while computed_s(own) < began_s + 0.2:
        pass


def computed_s(own: FarmProcess) -> float:
    """Processor time of the board's process."""
    [process] = child_processes(own, "boards.process")
    ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def test_a_network_that_never_spikes_is_said_to_be_silent(
    farm: speckfarm.Farm, files: Files, tmp_path: Path
) -> None:
    result = farm.run(files["silent"], recorded(tmp_path / "r.npz", np.arange(100))).wait(40)

    assert {"LAYER_SILENT", "NO_OUTPUT"} <= reasons(result)
    assert "Spikes end at layer 0: 100 reached it" in message_of(result, "NO_OUTPUT")
    assert (result.recordings[0].prediction, result.recordings[0].output_events) == (-1, 0)


def test_a_network_that_fires_for_ever_ends_with_the_limit_and_its_way_out(
    own: FarmProcess, farm: speckfarm.Farm, files: Files, tmp_path: Path
) -> None:
    held_mib = forget_peak(own)
    job = farm.run(files["endless"], recorded(tmp_path / "r.npz", np.arange(10_000)))

    failure = failure_of(job)

    assert failure.reason == "TOO_MANY_OUTPUTS"
    assert "weights above its thresholds" in failure.message
    assert peak_mib(own) - held_mib < 500  # 10 million outputs of 21 bytes, and what they become
    report = farm.check(files["endless"])
    assert "WEIGHT_REACHES_THRESHOLD" in {finding.reason for finding in report.findings}
    assert faults(own) == []


def test_a_network_that_fires_for_ever_is_cancelled_within_a_second(
    own: FarmProcess, farm: speckfarm.Farm, files: Files, tmp_path: Path
) -> None:
    recording = recorded(tmp_path / "r.npz", np.arange(100_000))
    job = farm.run(files["endless"], recording, decimator={0: 32, 1: 32, 2: 512})
    follow_into_the_run(own, job)
    began = time.monotonic()

    job.cancel()

    assert end_of(job) == "CANCELLED"
    assert time.monotonic() - began < 1


@pytest.mark.slow
def test_ten_million_events_in_a_millisecond_need_bounded_memory(
    own: FarmProcess, farm: speckfarm.Farm, files: Files, tmp_path: Path
) -> None:
    recording = recorded(tmp_path / "r.npz", np.arange(10_000_000) // 10_000)
    held_mib = forget_peak(own)

    result = farm.run(files["pass"], recording, decimator={0: 512}).wait(100)

    assert result.recordings[0].input_events == 10_000_000
    assert result.recordings[0].duration_us == 999
    assert peak_mib(own) - held_mib < 400  # 80 MB of them are the recording
    assert faults(own) == []


@pytest.mark.slow
def test_a_millisecond_of_ten_million_events_is_cancelled_within_a_second(
    own: FarmProcess, farm: speckfarm.Farm, files: Files, tmp_path: Path
) -> None:
    job = farm.run(
        files["endless"],
        recorded(tmp_path / "r.npz", np.arange(10_000_000) // 10_000),
        decimator={0: 128, 1: 512, 2: 512},
    )
    follow_into_the_run(own, job)
    began = time.monotonic()

    job.cancel()

    assert end_of(job) == "CANCELLED"
    assert time.monotonic() - began < 1


def test_one_event_has_a_result(farm: speckfarm.Farm, files: Files, tmp_path: Path) -> None:
    result = farm.run(files["charging"], recorded(tmp_path / "r.npz", [5])).wait(40)

    [recording] = result.recordings
    assert (recording.input_events, recording.output_events, recording.duration_us) == (1, 1, 0)
    assert recording.latency.n == 1
    assert recording.latency.drift_us_per_s is None
    assert "SYNOPS_RATE" not in reasons(result)


def test_events_of_one_time_are_served_one_after_the_other(
    farm: speckfarm.Farm, files: Files, tmp_path: Path
) -> None:
    result = farm.run(files["charging"], recorded(tmp_path / "r.npz", [5] * 10_000)).wait(40)

    [recording] = result.recordings
    assert (recording.input_events, recording.output_events) == (10_000, 10_000)
    assert recording.duration_us == 0
    assert recording.latency.n == 10_000
    assert 0 < recording.latency.p50_us < recording.latency.max_us
    assert recording.latency.drift_us_per_s is None


def test_charge_that_piles_up_is_told_before_the_run(
    farm: speckfarm.Farm, files: Files, tmp_path: Path
) -> None:
    result = farm.run(files["charging"], recorded(tmp_path / "r.npz", range(10))).wait(40)

    [warning] = [each for each in result.findings if each.reason == "STATE_MAY_SATURATE"]
    assert (warning.severity, warning.layer) == ("warning", 0)
    assert "charge can pile up to 32,767" in warning.message


def test_what_simulated_boards_refuse_is_not_queued(
    farm: speckfarm.Farm, files: Files, tmp_path: Path
) -> None:
    recording = recorded(tmp_path / "r.npz", range(10))
    jobs = [job.id for job in farm.jobs()]

    with pytest.raises(speckfarm.ModelRejected) as caught:
        farm.run(files["pass"], recording, readout_threshold=1, slow_clock_hz=1000)

    assert [finding.reason for finding in caught.value.findings] == ["TWIN_REFUSES"]
    assert "16 x 16" in caught.value.message
    assert [job.id for job in farm.jobs()] == jobs
    assert farm.check(files["pass"], readout_threshold=1, slow_clock_hz=1000).deployable


def test_charge_that_was_lost_at_16_bits_is_counted(
    farm: speckfarm.Farm, files: Files, tmp_path: Path
) -> None:
    on_one_pixel = tmp_path / "r.npz"
    zeros = np.zeros(2000, np.uint8)
    np.savez(on_one_pixel, t=np.arange(2000, dtype=np.uint32), x=zeros, y=zeros, p=zeros)

    result = farm.run(files["charging"], on_one_pixel).wait(40)

    # Weight 127, threshold 64: 63 stay at each event, so the 520th (of 2000) is the first too many.
    [warning] = [each for each in result.findings if each.reason == "STATE_SATURATED"]
    assert int(warning.metadata["saturated"]) == 2000 - 519
