"""How a variation is shown: recordings that change first, then the figures of all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from speckfarm.cli_answers import MOST_ROWS, counted
from speckfarm.cli_output import Answer, Row
from speckfarm.variation import RecordingVariation, Spread, Variation


def variation_answer(found: Variation, *, as_csv: bool) -> Answer:
    """CSV has a row for each recording; the table leaves out those that do not change, if many."""
    shown = list(found.recordings)
    if not as_csv and len(shown) > MOST_ROWS:
        shown = [each for each in shown if each.changes][:MOST_ROWS]
    rows = [_row(each, as_csv=as_csv) for each in shown]
    columns = ("name", "label", "predictions", "spikes_min", "spikes_median", "spikes_max")
    return Answer(
        plain=found.to_dict(),
        rows=rows,
        columns=(*columns, "relative_std"),
        above=[_about(found)],
        below=_figures(found, shown),
    )


def _row(each: RecordingVariation, *, as_csv: bool) -> Row:
    spikes = each.output_spikes
    predictions = " ".join(map(str, each.predictions))
    return {
        "recording": each.recording,
        "name": each.name,
        "label": each.label,
        "predictions": predictions if as_csv else _summed(each.predictions),
        "changes": each.changes,
        "spikes_min": round(spikes.min),
        "spikes_median": spikes.median,
        "spikes_max": round(spikes.max),
        "counts_min": " ".join(f"{count.min:g}" for count in each.counts),
        "counts_median": " ".join(f"{count.median:g}" for count in each.counts),
        "counts_max": " ".join(f"{count.max:g}" for count in each.counts),
        "relative_std": each.relative_std,
    }


def _summed(found: Sequence[int]) -> str:
    """Classes and how many runs said so: "7 x9", or "7 x8, 1 x1"."""
    return ", ".join(f"{feature} x{runs}" for feature, runs in Counter(found).most_common())


def _about(found: Variation) -> str:
    boards = ", ".join(f"{n} on {board}" for board, n in sorted(Counter(found.boards).items()))
    failed = f"; {counted(found.failed, 'run')} without a result" if found.failed else ""
    runs = counted(len(found.jobs), f"{found.board_kind} run")
    return f"benchmark {found.benchmark}: {runs} ({boards}){failed}"


def _figures(found: Variation, shown: Sequence[RecordingVariation]) -> list[str]:
    changing = sum(each.changes for each in found.recordings)
    total = counted(len(found.recordings), "recording")
    lines = [f"{changing} of {total} ({found.changed:.1%}) change their prediction"]
    if len(shown) < len(found.recordings):
        some = f"; shown are the first {len(shown)}" if len(shown) < changing else ""
        lines[0] += f"{some} (every recording: -o csv)"
    spread = "no output spikes"
    if found.relative_std is not None:
        spread = f"output spikes {_range(found.output_spikes)}"
        spread += f", counts of a class vary by {found.relative_std:.2%} (relative std)"
    lines.append(spread)
    if found.accuracy is not None:
        lines.append(f"accuracy {found.accuracy.min:.3f} to {found.accuracy.max:.3f}")
    if found.p99_us is not None:
        lines.append(f"p99 lag {found.p99_us.min:.1f} to {found.p99_us.max:.1f} us")
    return lines


def _range(spread: Spread) -> str:
    return f"{spread.min:.0f} to {spread.max:.0f}"
