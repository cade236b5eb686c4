"""The readout layer through the farm: settings in, events of layer 12 out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.farm_process import FarmProcess
from tests.nir_files import chain_nir, conv, neurons


def test_a_job_with_a_readout_threshold_tells_classes_at_ticks(
    server: FarmProcess, tmp_path: Path
) -> None:
    weights = np.zeros((5, 2, 1, 1), np.float32)
    weights[0, 0] = weights[4, 1] = 0.6  # 24 spikes per tick
    model = chain_nir(tmp_path / "m.nir", conv(weights), neurons(), input_shape=(2, 1, 1))
    zeros = np.zeros(800, np.uint8)
    polarity = np.repeat(np.array([0, 1], np.uint8), 400)
    np.savez(tmp_path / "r.npz", t=np.arange(800) * 250, x=zeros, y=zeros, p=polarity)
    settings = {"readout_threshold": 10, "slow_clock_hz": 100}

    with server.connect() as farm:
        report = farm.check(model, **settings)
        result = farm.run(model, tmp_path / "r.npz", **settings).wait(timeout=40)
        pins = result.spikes_of(0, layer=12)

    assert not [each for each in report.findings if each.severity != "info"]
    assert pins["t"].tolist() == [10_000 * n for n in range(1, 21)]
    assert pins["feature"].tolist() == [1] * 10 + [2] * 10
    [recording] = result.recordings
    assert recording.counts == (recording.counts[0], 0, 0, 0, recording.counts[4])
    assert recording.output_events == sum(recording.counts) + 20
    assert recording.latency.n == sum(recording.counts)
