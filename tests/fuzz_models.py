"""Fuzz the parser of model files: `python -m tests.fuzz_models --count 100000 --seed 1`.

Mutations of real files go through the farm's own parsing processes, which fork for each file, and
what they accept through the check for every chip. Every answer must be a BadInput with a reason or
a report. Files that break this are kept in --keep.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import random
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from speckfarm_server.check import Report, check
from speckfarm_server.check_vendor import check_configuration
from speckfarm_server.chip import CHIPS, Chip
from speckfarm_server.errors import BadInput
from speckfarm_server.parse_host import ParseHost
from speckfarm_server.parsed import Parsed
from speckfarm_server.settings import Settings
from tests.mutations import mutate

PROCESSES = 2
LARGEST_SEED = 200_000  # bytes; small files are mutated and read faster
DATA = Path(__file__).parent / "data"


@dataclass(kw_only=True)
class Tally:
    """What came of the mutations."""

    answers: Counter[str] = field(default_factory=Counter)  # reasons, "report", "network refused"
    faults: list[str] = field(default_factory=list)  # what was no answer, with seed and change
    slowest_s: float = 0.0


async def fuzz(seeds: Sequence[bytes], *, count: int, seed: int, keep: Path) -> Tally:
    """Send `count` mutations of `seeds` through a ParseHost and the check."""
    tally = Tally()
    numbers = iter(range(count))
    host = ParseHost(processes=PROCESSES)

    async def work(path: Path) -> None:
        for number in numbers:
            change = _write_mutation(seeds, f"{seed}/{number}", path)
            began_s = time.monotonic()
            answer = await _answer(host, path)
            tally.slowest_s = max(tally.slowest_s, time.monotonic() - began_s)
            tally.answers[answer.split(":")[0]] += 1
            if answer.startswith("FAULT"):
                tally.faults.append(f"{seed}/{number} ({change}) {answer}")
                _keep(path, keep / f"{seed}-{number}")

    with tempfile.TemporaryDirectory() as scratch:
        try:
            await asyncio.gather(*(work(Path(scratch, str(n))) for n in range(PROCESSES)))
        finally:
            host.close()
    return tally


def _write_mutation(seeds: Sequence[bytes], name: str, path: Path) -> str:
    rng = random.Random(name)
    data, change = mutate(rng.choice(seeds), rng)
    path.write_bytes(data)
    return change


def _keep(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


async def _answer(host: ParseHost, path: Path) -> str:
    try:
        parsed = await host.parse_model(path)
        reports = [report for chip in CHIPS.values() for report in _reports(parsed, chip)]
        if not reports:
            return "findings" if parsed.findings else "FAULT: refused without a finding"
    except BadInput as error:
        return "FAULT: PARSE_CRASHED, unforeseen" if "nobody" in error.message else error.reason
    except Exception as error:
        return f"FAULT: {type(error).__name__}: {error}"
    return "deployable" if any(report.deployable for report in reports) else "report"


def _reports(parsed: Parsed, chip: Chip) -> list[Report]:
    if parsed.network is not None:
        return [check(parsed.network, chip, Settings())]
    if parsed.configuration is not None:
        return [check_configuration(parsed.configuration, chip, Settings())]
    return []


def seed_files(folders: Sequence[Path]) -> list[bytes]:
    """Model files to start from: small ones, so that many can be tried."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*"))]
    nir = [_unpacked(path) for path in paths if path.name.endswith((".nir", ".nir.gz"))]
    vendors = [_unpacked(path) for path in paths if fnmatch(path.name, "vendor_*.json*")]
    many = nir + vendors * (1 + len(nir) // 5)  # few vendor files: let them have their share
    return [data for data in many if len(data) < LARGEST_SEED]


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def main() -> None:
    """Print what came of it; exit code 1 if something was no answer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"))
    parser.add_argument(
        "seeds", nargs="*", type=Path, default=[DATA, DATA.parent.parent / "examples"]
    )
    options = parser.parse_args()
    began_s = time.monotonic()
    seeds = seed_files(options.seeds)
    tally = asyncio.run(fuzz(seeds, count=options.count, seed=options.seed, keep=options.keep))
    rate = options.count / (time.monotonic() - began_s)
    print(f"{options.count:,} mutations of {len(seeds)} files, seed {options.seed}: {rate:.0f}/s")
    print(f"slowest answer {tally.slowest_s:.1f} s")
    for answer, times in tally.answers.most_common():
        print(f"{times:8,}  {answer}")
    print(*tally.faults, sep="\n")
    raise SystemExit(bool(tally.faults))


if __name__ == "__main__":
    main()
