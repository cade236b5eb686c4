"""Damaged and hostile model files get an answer with a reason, or a report: never anything else."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest

from tests.fuzz_models import DATA, fuzz, seed_files

COUNT = 1000  # `python -m tests.fuzz_models` takes as many as one likes


@pytest.mark.slow
def test_every_mutation_of_a_model_file_gets_an_answer(tmp_path: Path) -> None:
    seed = secrets.randbits(32)

    tally = asyncio.run(fuzz(seed_files([DATA]), count=COUNT, seed=seed, keep=tmp_path))

    assert tally.faults == [], f"seed {seed}"
    assert sum(tally.answers.values()) == COUNT
    assert {"findings", "report", "deployable", "MODEL_UNREADABLE"} <= set(tally.answers)
