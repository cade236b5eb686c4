"""The proof of one board as a page for people."""

from __future__ import annotations

import json
from collections.abc import Iterator

from speckfarm_server.prove.answer import Verdict
from speckfarm_server.prove.proof import NOT_RUN, Done, Proof, file_names, tally

SIMULATED = (
    "This board is **simulated**: the page says that the command works and nothing about silicon."
)
REAL = (
    "This board is a devkit. When this farm was written, the way from it to a chip had only run on "
    "a double of the vendor's library, never on hardware: where a line surprises, suspect the farm "
    "as well as the chip."
)
LIMITS = """\
- Kill bits, the congestion balancer, the camera layer beyond its echo, the noise filter, leaks on
  the slow clock and the readout layer were not asked about.
- Results are sorted by time, so whether stamps come in order is not told.
- Times are read off whole microseconds, over many spikes; `docs/explanation/proof.md` has each
  method and its error.
- Rules were tried against what came out; a chip that follows none of them is "different" with no
  rule named.
"""


def as_page(proof: Proof) -> str:
    """Markdown."""
    return "\n".join(_lines(proof))


def _lines(proof: Proof) -> Iterator[str]:
    ended = ", ".join(f"{count} {word}" for word, count in tally(proof.done).items())
    yield f"# Proof of board {proof.board}, {proof.date:%Y-%m-%d}"
    yield ""
    yield f"{len(proof.done)} experiments: {ended}."
    yield ""
    yield REAL if proof.kind == "real" else SIMULATED
    yield ""
    yield from _identity(proof)
    yield "## Answers"
    yield ""
    yield "| question | answer | found | settles |"
    yield "|---|---|---|---|"
    for done in proof.done:
        yield _row(done)
    yield ""
    yield from _to_do(proof)
    yield "## Figures"
    yield ""
    for done in proof.done:
        yield from _figures(done)
    yield "## What this page does not say"
    yield ""
    yield LIMITS


def _identity(proof: Proof) -> Iterator[str]:
    facts = {
        "board": proof.board,
        "kind": proof.kind,
        "chip": proof.chip,
        **(proof.device or {}),
        "made": f"{proof.date:%Y-%m-%d %H:%M} UTC",
        "speckfarm": proof.version,
    }
    yield "| what | value |"
    yield "|---|---|"
    for name, value in facts.items():
        yield f"| {name} | {value if value not in ('', None) else '(empty)'} |"
    yield ""


def _row(done: Done) -> str:
    experiment, answer = done.experiment, done.answer
    verdict = NOT_RUN if answer is None else answer.verdict.value
    shown = f"**{verdict}**" if answer is None or answer.verdict is Verdict.DIFFERENT else verdict
    found = done.problem if answer is None else answer.found
    cells = [experiment.question, shown, found, experiment.settles]
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def _to_do(proof: Proof) -> Iterator[str]:
    _, name = file_names(proof)
    yield "## What to do with it"
    yield ""
    line = f'`proof = "{name}"` (with its folder)'
    if proof.kind == "real":
        yield f"- {line} at this board in farm.toml: its health is then judged by what it answered"
        yield "  today."
        yield "- The same line at a simulated board: it then has these constants. Its results show"
    else:
        yield f"- {line} at a simulated board in farm.toml sets its constants, and is nothing"
        yield "  that it is judged by. A real board refuses the file. Results of that board show"
    yield "  another digest of assumptions."
    for done in proof.done:
        if done.answer is not None and done.answer.advice:
            yield f"- {done.experiment.name}: {done.answer.advice}"
    if proof.not_simulated:
        yield "- The twin has no rule yet for: " + ", ".join(
            f"{name} = {value}" for name, value in proof.not_simulated.items()
        )
    yield ""


def _figures(done: Done) -> Iterator[str]:
    yield f"### {done.experiment.name}"
    yield ""
    jobs = ", ".join(done.jobs) or "none"
    yield f"Jobs: {jobs}. It took {done.took_s:.1f} s."
    yield ""
    if done.answer is not None and done.answer.figures:
        for name, value in done.answer.figures.items():
            yield f"- `{name}`: {_short(value)}"
        yield ""


def _short(value: object, most: int = 400) -> str:
    text = json.dumps(value)
    return text if len(text) <= most else f"{text[:most]} ... (all of it is in the .json)"
