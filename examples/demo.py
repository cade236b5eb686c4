"""`make demo`: a server with two simulated boards, the digits, and what came back."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import speckfarm

DIGITS = Path(__file__).parent / "digits"


def main() -> None:
    """Start a server in a folder of its own, run the digits, print, stop."""
    with tempfile.TemporaryDirectory(prefix="speckfarm-demo-") as data:
        command = [sys.executable, "-m", "speckfarm_server", "serve"]
        command += ["--listen", "127.0.0.1:0", "--data", data]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            wait_until_it_listens(server)
            local = json.loads((Path(data) / "local.json").read_text())
            run_digits(local["server"], local["token"])
        finally:
            server.terminate()
            server.communicate()


def wait_until_it_listens(server: subprocess.Popen[str]) -> None:
    """Read the server's log up to the line that says so; show the log if it never comes."""
    assert server.stderr is not None  # noqa: S101 - Popen was given a pipe
    lines = []
    for line in server.stderr:
        lines.append(line)
        if "listening on" in line:
            print(line.rstrip().partition("INFO ")[2])
            return
    raise SystemExit("the server did not start:\n" + "".join(lines))


def run_digits(address: str, token: str) -> None:
    """Check and run the example network on the example recordings."""
    with speckfarm.connect(address, token=token) as farm:
        print("\nspeckfarm check digits.nir\n")
        print(farm.check(DIGITS / "digits.nir"))

        print("\nspeckfarm run digits.nir digits.npz  (the first run on a machine compiles)\n")
        job = farm.run(DIGITS / "digits.nir", DIGITS / "digits.npz")
        result = job.wait()
        print(f"{job.id} ran on {result.board}, a simulated Speck")
        print("labels      ", *(recording.label for recording in result.recordings[:30]))
        print("predictions ", *result.predictions[:30])
        for stage, milliseconds in result.timings_ms.items():
            print(f"{stage:<12} {milliseconds:9.1f} ms")
        print("\nspeckfarm latency --by board  (from SQLite)\n")
        for row in farm.latency(by="board"):
            lag = row.latency
            percentiles = f"p50 {lag.p50_us:.1f} us, p99 {lag.p99_us:.1f} us"
            print(f"{row.key}: {lag.n} output spikes, {percentiles}")
        print(
            f"\naccuracy {result.accuracy:.2f} on {len(result.recordings)} digits, "
            f"p99 lag {result.latency.p99_us:.1f} us"
        )


if __name__ == "__main__":
    main()
