"""How the command line prints: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
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
    header: Sequence[str] = ()  # of the CSV, should there be no rows
    columns: Sequence[str] = ()  # those the table shows; default: all
    above: Sequence[str] = ()  # lines before the table
    below: Sequence[str] = ()  # lines after it
    labels: Mapping[str, str] = field(default_factory=dict)  # digest -> name, in the table
    is_drawn: bool = True  # False: the rows are for CSV only


class Screen:
    """Answers go to stdout; notes, progress and errors go to stderr."""

    def __init__(
        self, output: str = "table", *, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.output = output
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._has_events = False

    @property
    def is_for_people(self) -> bool:
        """False when a program reads stdout."""
        return self.output == "table"

    def show(self, answer: Answer) -> None:
        """Print an answer."""
        if self.output == "json":
            self.line(json.dumps(answer.plain, indent=2))
        elif self.output == "csv":
            write_csv(answer.rows, self._stdout, header=answer.header)
        else:
            self._show_table(answer)

    def show_event(self, plain: Row, words: str) -> None:
        """Print one of a stream of events: a JSON line, a CSV row, or words."""
        if self.output == "json":
            self.line(json.dumps(plain))
        elif self.output == "csv":
            lines = csv.writer(self._stdout, lineterminator="\n")
            if not self._has_events:
                lines.writerow(plain)
            lines.writerow(plain.values())
            self._stdout.flush()
            self._has_events = True
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
        lines = [f"error: {_headline(error)}"]
        if isinstance(error, ModelRejected):
            notable = [each for each in error.findings if each.severity != "info"]
            lines += [f"  {line}" for each in notable for line in each.lines()]
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
            self._draw(answer, answer.columns or list(answer.rows[0]))
        for text in answer.below:
            self.line(text)

    def _draw(self, answer: Answer, columns: Sequence[str]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        rows = answer.rows
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in columns:
            numeric = all(isinstance(row.get(name), (int, float, type(None))) for row in rows)
            title = name.removeprefix("latency_").replace("layers_", "layer_")
            table.add_column(title, justify="right" if numeric else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(Text(cell(name, row.get(name), answer.labels)) for name in columns))
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


def _headline(error: SpeckfarmError) -> str:
    """The message, without the findings that are listed below it."""
    if isinstance(error, ModelRejected):
        first = [each.message for each in error.findings if each.severity == "error"][:1]
        cut = error.message.find(": ", error.message.find("cannot run"))
        if first and first[0] in error.message and cut > 0:
            return error.message[:cut]
    return error.message


def write_csv(rows: Sequence[Row], file: TextIO, *, header: Sequence[str] = ()) -> None:
    """Rows with a header; the header alone without rows. Absent values are empty."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or list(header)
    if names:
        writer = csv.DictWriter(file, names, lineterminator="\n")
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


def cell(name: str, value: object, labels: Mapping[str, str]) -> str:
    """A value as people read it in a table."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
    if name == "size" and isinstance(value, int):
        return bytes_words(value)
    text = str(value)
    if text in labels:
        return labels[text]
    if name in DIGEST_COLUMNS and len(text) == 64:
        return text[:SHORT_DIGEST]
    return local_time(text)


def local_time(text: str) -> str:
    """ISO 8601 with a time zone as local time without its fraction; other text as it is."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+[+-]\d\d:\d\d", text):
        return text
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


def bytes_words(size: int) -> str:
    """A size as people say it: 812 B, 1.5 MB."""
    exponent = max(0, min((len(str(size)) - 1) // 3, 3))
    return f"{size / 1000**exponent:.3g} {('B', 'kB', 'MB', 'GB')[exponent]}"
