"""The table of the twin's assumptions, from `twin/assumptions.py` to `docs/explanation/twin.md`.

`python tools/assumptions_table.py` says whether the page is up to date, `--write` brings it there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from speckfarm_server.twin import assumptions

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "twin.md"
BEGIN = "<!-- assumptions: made by tools/assumptions_table.py -->"
END = "<!-- end of assumptions -->"
HEAD = "| field | assumed | source | how sure |\n|---|---|---|---|\n"


def table(owner: type, of_chips: Mapping[str, Mapping[str, Any]]) -> str:
    """One row for each field of `owner`, then what the table of chips has to assume."""
    rows = [_row(name, _value(default), told) for name, default, told in _told(owner)]
    rows += [_row(name, "", told) for name, told in of_chips.items()]
    return HEAD + "".join(rows)


def with_table(page: str, made: str) -> str:
    """A page with the table between its markers; ValueError if they are not there once each."""
    before, *rest = page.split(BEGIN)
    inside_and_after = rest[0].split(END) if len(rest) == 1 else []
    if len(inside_and_after) != 2:
        raise ValueError(f"the page needs the lines {BEGIN} and {END}, once each and in this order")
    return f"{before}{BEGIN}\n\n{made}\n{END}{inside_and_after[1]}"


def main(arguments: list[str]) -> int:
    """Check or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="bring the page up to date")
    args = parser.parse_args(arguments)
    found = PAGE.read_text("utf-8")
    made = with_table(found, table(assumptions.Assumptions, assumptions.OF_CHIPS))
    if args.write:
        PAGE.write_text(made, "utf-8")
    elif found != made:
        print("docs/explanation/twin.md lags behind: python tools/assumptions_table.py --write")
        return 1
    return 0


def _told(owner: type) -> Iterator[tuple[str, object, Mapping[str, Any]]]:
    for each in fields(owner):
        missing = {"what", "source", "confidence"} - set(each.metadata)
        if missing:
            raise ValueError(f"{each.name} says no {', '.join(sorted(missing))}; use assumed()")
        yield each.name, each.default, each.metadata


def _value(default: object) -> str:
    """A value as the page shows it; equal factors are one."""
    if isinstance(default, tuple) and len(set(default)) == 1:
        return f"{len(default)} x {default[0]}"
    return "off" if default is None else str(default)


def _row(name: str, value: str, told: Mapping[str, Any]) -> str:
    others = "".join(f" (or {other})" for other in told.get("others", ()))
    assumed = ": ".join(filter(None, [f"{value}{others}", told["what"]]))
    cells = [f"`{name}`", assumed, told["source"], told["confidence"]]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
