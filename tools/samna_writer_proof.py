"""Proves the writer of boards against the vendor's own objects, on speck2b, without a board.

    python tools/samna_writer_proof.py --python PYTHON [--count N] [--seed N]

PYTHON is a Python 3.10 with samna 0.7.1.0 and numpy. Nine in ten configurations are small graphs
with random values under every key, one is at the edges of the chip's limits; only those that our
check passes are sent, since the library crashes on some others. Each is written attribute by
attribute: the library finds it valid, its to_json() is our file, and read back it is equal. Small
ones are also compared index by index. Names that were marked as run must be there.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

CHILD = Path(__file__).resolve().parent / "samna_writer_child.py"


def main() -> int:
    """Send seeds until COUNT configurations were written; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", metavar="PYTHON", required=True)
    parser.add_argument("--count", type=int, default=5000, help="configurations to write")
    parser.add_argument("--seed", type=int, help="repeats a run; default: a new one")
    given = parser.parse_args()
    seed = secrets.randbelow(1 << 31) if given.seed is None else given.seed
    print(f"seed {seed}, {given.count} configurations", flush=True)
    child = subprocess.Popen(
        [given.python, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    faults = named(answer(child, "at its start"))
    figures: Counter[str] = Counter()
    sent = number = 0
    while sent < given.count:
        found = ask(child, f"{seed}:{number}")
        number += 1
        if found["sent"]:
            sent += 1
            figures.update(found["figures"])
            faults += [f"{seed}:{number - 1}: {text}" for text in found["faults"]]
    child.communicate()
    print("".join(f"{fault}\n" for fault in faults[:20]), end="")
    for name, count in sorted(figures.items()):
        print(f"{count:13,}  {name}")
    print(f"{sent} configurations written, {number - sent} that our check refuses left out, "
          f"{len(faults)} differences")  # fmt: skip
    return 1 if faults else 0


def named(report: dict[str, Any]) -> list[str]:
    """Print what the library lacks; faults are names that were said to have run."""
    print(f"{report['run']} names of the table are there and run; lacking in this library, never "
          f"run: {', '.join(report['lacking'])}")  # fmt: skip
    return [f"{name} is marked as run and is not there" for name in report["wrong"]]


def ask(child: subprocess.Popen[str], seed: str) -> dict[str, Any]:
    """What came of one seed."""
    if child.stdin is None:
        raise SystemExit("the child has no pipes")
    child.stdin.write(f"{seed}\n")
    child.stdin.flush()
    return answer(child, f"at seed {seed}")


def answer(child: subprocess.Popen[str], where: str) -> dict[str, Any]:
    """The child's next line; a crash of the library ends the proof."""
    line = child.stdout.readline() if child.stdout else ""
    if not line:
        raise SystemExit(f"the vendor's library ended with {child.wait()} {where}")
    found: dict[str, Any] = json.loads(line)
    return found


if __name__ == "__main__":
    sys.exit(main())
