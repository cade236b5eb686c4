"""Compares our rules with the vendor's validator on fresh random configurations of speck2b.

    python tools/vendor_agreement.py --count 20000 --python PYTHON_3.10_WITH_SAMNA [--seed N]

Two agree on a configuration if both accept it, or both refuse it for the same reasons. Prints every
disagreement with its description; the exit code is 1 if there is one.
"""

import argparse
import json
import secrets
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.vendor_generator import describe  # noqa: E402
from tests.vendor_verdicts import disagreement  # noqa: E402


def main() -> int:
    """Generate, ask, compare, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="configurations to compare")
    parser.add_argument("--seed", type=int, help="repeats a run; default: a new one")
    parser.add_argument("--python", required=True, help="Python 3.10 with samna 0.7.1.0 and numpy")
    given = parser.parse_args()
    seed = secrets.randbelow(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}, {given.count} configurations", flush=True)
    descriptions = [describe(f"{seed}:{number}") for number in range(given.count)]
    verdicts = ask(descriptions, given.python)
    differing = 0
    for number, (description, verdict) in enumerate(zip(descriptions, verdicts, strict=True)):
        if what := disagreement(description, verdict):
            differing += 1
            print(f"{number}: {what}\n    {json.dumps(description)}\n    {verdict['messages']}")
    print(summary(verdicts))
    share = 100 * (given.count - differing) / max(1, given.count)
    print(f"agreement {given.count - differing} of {given.count} ({share:.3f} %)")
    return 1 if differing else 0


def ask(descriptions: list[dict[str, Any]], python: str) -> list[dict[str, Any]]:
    """The vendor's verdict on each."""
    text = "".join(json.dumps(description) + "\n" for description in descriptions)
    command = [python, str(ROOT / "tools" / "ask_vendor.py")]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or len(verdicts) != len(descriptions):
        raise SystemExit(
            f"{' '.join(command)} ended with {done.returncode} after {len(verdicts)} of "
            f"{len(descriptions)} verdicts; it needs Python 3.10 with samna 0.7.1.0:\n{done.stderr}"
        )
    return verdicts


def summary(verdicts: list[dict[str, Any]]) -> str:
    """How many were legal, where the others ended, and which rules they broke."""
    stages = Counter(verdict["stage"] for verdict in verdicts if not verdict["valid"])
    rules = Counter(rule for verdict in verdicts for rule in verdict["rules"])
    alone = Counter(v["rules"][0] for v in verdicts if len(v["rules"]) == 1)
    lines = [
        f"vendor accepts {sum(verdict['valid'] for verdict in verdicts)}, refuses: "
        + ", ".join(f"{stage} {count}" for stage, count in sorted(stages.items())),
        "refused for (alone): "
        + ", ".join(f"{rule} {count} ({alone[rule]})" for rule, count in sorted(rules.items())),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
