"""How the command line prints: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from speckfarm.errors import ModelRejected, SpeckfarmError

Row = Mapping[str, object]
DIGEST_COLUMNS = ("model", "recording", "configuration", "key")
SHORT_DIGEST = 12
MAX_WIDTH = 10_000
MAPS = ("layer_reset", "decimator", "cores", "metadata")  # their keys differ from row to row


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command has to say, for every way of printing."""

    plain: object  # the JSON contract's object or list
    rows: Sequence[Row] = ()  # for CSV and the table
    columns: Sequence[str] = ()  # those the table shows; default: all
    above: Sequence[str] = ()  # lines before the table
    below: Sequence[str] = ()  # lines after it
    is_drawn: bool = True  # False: the rows are for CSV only


class Screen:
    """Answers go to stdout; notes, progress and errors go to stderr."""

    def __init__(
        self, output: str = "table", *, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.output = output
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr

    @property
    def is_for_people(self) -> bool:
        """False when a program reads stdout."""
        return self.output == "table"

    def show(self, answer: Answer) -> None:
        """Print an answer."""
        if self.output == "json":
            self.line(json.dumps(answer.plain, indent=2))
        elif self.output == "csv":
            write_csv(answer.rows, self._stdout)
        else:
            self._show_table(answer)

    def show_event(self, plain: Row, words: str) -> None:
        """Print one of a stream of events: a JSON line, a CSV row, or words."""
        if self.output == "json":
            self.line(json.dumps(plain))
        elif self.output == "csv":
            csv.writer(self._stdout, lineterminator="\n").writerow(plain.values())
        else:
            self.line(words)

    def line(self, text: str) -> None:
        """Print a line at once, even into a pipe."""
        self._stdout.write(text + "\n")
        self._stdout.flush()

    def note(self, text: str) -> None:
        """Tell people something that is not the answer."""
        self._stderr.write(text + "\n")
        self._stderr.flush()

    def error(self, error: SpeckfarmError, advice: str) -> None:
        """One readable block, and for programs one line of JSON."""
        lines = [f"error: {error.message}"]
        if isinstance(error, ModelRejected):
            lines += [f"  {finding}" for finding in error.findings]
        lines += [f"  {path}: {text}" for path, text in error.fields if text not in error.message]
        lines.append(f"  reason      {error.reason}")
        if advice:
            lines.append(f"  what to do  {advice}")
        self.note("\n".join(lines))
        if self.output == "json":
            self.note(json.dumps({"error": error_dict(error)}))

    def _show_table(self, answer: Answer) -> None:
        for text in answer.above:
            self.line(text)
        if answer.rows and answer.is_drawn:
            self._draw(answer.rows, answer.columns or list(answer.rows[0]))
        for text in answer.below:
            self.line(text)

    def _draw(self, rows: Sequence[Row], columns: Sequence[str]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in columns:
            numeric = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
            table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(cell(name, row.get(name))) for name in columns))
        # As wide as it needs to be: wrapped lines are easier to read, and to copy, than cut cells.
        console = Console(file=self._stdout, width=MAX_WIDTH, highlight=False)
        with console.capture() as captured:
            console.print(table)
        self.line("\n".join(text.rstrip() for text in captured.get().splitlines()))


def error_dict(error: SpeckfarmError) -> dict[str, object]:
    """An error for JSON, with the findings if the check had any."""
    plain = error.to_dict()
    if isinstance(error, ModelRejected):
        plain["findings"] = [finding.to_dict() for finding in error.findings]
    return plain


def write_csv(rows: Sequence[Row], file: TextIO) -> None:
    """Rows with a header; nothing at all without rows."""
    if rows:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        file.flush()


def flat(row: Row) -> dict[str, object]:
    """A row whose nested objects became columns of their own, lists and maps became words."""
    columns: dict[str, object] = {}
    for key, value in row.items():
        if key in MAPS and isinstance(value, Mapping):
            columns[key] = " ".join(f"{inner}={each}" for inner, each in value.items())
        elif key == "error" and isinstance(value, Mapping):
            columns[key] = value["reason"]
        elif isinstance(value, Mapping):
            columns |= {f"{key}_{inner}": each for inner, each in flat(value).items()}
        elif isinstance(value, (list, tuple)):
            columns[key] = " ".join(str(each) for each in value)
        else:
            columns[key] = value
    return columns


def cell(name: str, value: object) -> str:
    """A value as people read it in a table."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    text = str(value)
    if name in DIGEST_COLUMNS and len(text) == 64:
        return text[:SHORT_DIGEST]
    if "T" in text and text[:2] == "20" and text[4:5] == "-":
        return text[:19].replace("T", " ")  # ISO 8601, in UTC, without its fraction
    return text
