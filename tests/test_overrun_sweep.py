"""A slice of benchmarks/overrun_sweep.py, which proves the overrun verdict."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SEEDS = range(50_000, 50_040)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_verdicts_on_hidden_boards_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sweep = importlib.import_module("overrun_sweep")

    runs = [sweep.run_case(seed) for seed in SEEDS]

    scored = [run for run in runs if run.truth != "between" and sweep.is_concluded(run)]
    assert {run.truth for run in scored} == {"overrun", "healthy"}
    assert len(scored) >= 24
    assert [run.seed for run in scored if not sweep.is_right(run)] == []
    named = [run for run in scored if run.overrun.layer is not None]
    assert len(named) >= 8
    assert sum(run.share >= sweep.AS_BUSY for run in named) >= len(named) - 1
    healthy = [run for run in scored if run.truth == "healthy" and run.error_us is not None]
    assert sorted(run.error_us[1] for run in healthy)[len(healthy) // 2] < 100


def test_a_case_is_the_same_whenever_it_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    cases = importlib.import_module("overrun_cases")

    one, other = cases.draw(7), cases.draw(7)

    assert one.configuration.digest == other.configuration.digest
    assert (one.packed == other.packed).all()
    assert (one.hidden, one.stamps) == (other.hidden, other.stamps)
    first, second = cases.play(one), cases.play(other)
    assert (first.stamp_us == second.stamp_us).all()
    assert first.held_back_us == second.held_back_us
    assert cases.draw(8).configuration.digest != one.configuration.digest
