"""How soon a job runs on another board: `python benchmarks/retry_time.py`.

Two scripted boards, of which one crashes or hangs in its first run; from the moment at which the
first attempt was given its board to that of the second. Limits of the farm: 5 s after a crash, 5 s
and `lease_s` after a hang.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from figures import say

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.farm_process import FarmProcess, scripted  # noqa: E402

DIGITS = ROOT / "examples" / "digits"
LEASE_S = 2.0
LIMITS = f"[limits]\nlease_s = {LEASE_S}\n"


def main() -> None:
    """A farm of its own for each round, so that each board fails for the first time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    crashes = [seconds_to_retry("crash") for _ in range(rounds)]
    hangs = [seconds_to_retry("hang") for _ in range(rounds)]
    say("crash to the next board", crashes, "s", goal="< 5")
    say(f"hang to the next board, lease_s = {LEASE_S:g}", hangs, "s", goal=f"< {5 + LEASE_S:g}")


def seconds_to_retry(what: str) -> float:
    """Between the first and the second time that a job got a board."""
    with tempfile.TemporaryDirectory() as folder:
        script: dict[str, object] = {"fail": {"2": what}, "marker": str(Path(folder) / "failed")}
        farm = FarmProcess(Path(folder) / "data", LIMITS + scripted(script, script)).start()
        try:
            with farm.connect() as client:
                job = client.run(DIGITS / "digits.nir", DIGITS / "digits.npz")
                begun = [event.time for event in job.watch(timeout=60) if event.state == "ASSIGNED"]
        finally:
            farm.stop()
    return (begun[1] - begun[0]).total_seconds()


if __name__ == "__main__":
    main()
