"""What the benchmarks print: percentiles over repeats, and the distance to a goal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all values do not exceed (nearest rank)."""
    return float(np.percentile(values, percent, method="inverted_cdf"))


def median(values: Sequence[float]) -> float:
    """The middle of the repeats."""
    return float(np.median(values))


def say(name: str, values: Sequence[float], unit: str, *, goal: str = "") -> None:
    """One line: the median of the repeats, every repeat, and the goal if there is one."""
    each = " ".join(f"{value:.3g}" for value in values)
    end = f"   goal {goal}" if goal else ""
    print(f"{name:<58}{median(values):>10.3g} {unit:<8} ({each}){end}", flush=True)
