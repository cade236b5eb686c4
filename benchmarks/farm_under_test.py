"""A farm for measuring: a real server in its own process, on a temporary folder and a free port."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import grpc
import numpy as np

from speckfarm.farm import Farm, connect
from speckfarm.v1 import jobs_pb2

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
MODEL = DIGITS / "digits.nir"
RECORDINGS = DIGITS / "digits.npz"
START_S = 120.0  # the simulator may have to compile once

Script = Mapping[str, object]


def simulated(boards: int) -> str:
    """farm.toml with simulated boards."""
    return "".join(f"[[boards]]\nid = 'twin-{number}'\n" for number in range(boards))


def scripted(*scripts: Script) -> str:
    """farm.toml with one scripted board for each script; {} is a board whose work takes no time."""
    return "".join(
        f"[[boards]]\nid = 'script-{n}'\nkind = 'scripted'\nscript = '{json.dumps(script)}'\n"
        for n, script in enumerate(scripts)
    )


class FarmUnderTest:
    """Starts the server, waits until all boards are idle; stops it and removes its data."""

    def __init__(self, toml: str) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="speckfarm-benchmark-")
        self.folder = Path(self._temporary.name) / "data"
        config = Path(self._temporary.name) / "farm.toml"
        config.write_text(toml)
        command = [sys.executable, "-m", "speckfarm_server", "serve", "--listen", "127.0.0.1:0"]
        command += ["--data", str(self.folder), "--config", str(config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self._log: list[str] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        self._listening.wait(START_S)
        if not (self.folder / "local.json").exists():
            raise SystemExit("the server did not start:\n" + "".join(self._log))
        local = json.loads((self.folder / "local.json").read_text())
        self.address: str = local["server"]
        self.token: str = local["token"]

    def __enter__(self) -> FarmUnderTest:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.process.terminate()
        self.process.wait()
        self._reader.join()
        self._temporary.cleanup()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call has to carry."""
        return (("authorization", f"Bearer {self.token}"),)

    def connect(self) -> Farm:
        """The public client."""
        return connect(self.address, self.token)

    def channel(self) -> grpc.aio.Channel:
        """A channel for benchmarks that want many calls at once."""
        return grpc.aio.insecure_channel(self.address)

    def database(self) -> sqlite3.Connection:
        """The server's database, opened for reading."""
        return sqlite3.connect(f"file:{self.folder / 'farm.db'}?mode=ro", uri=True)

    def warm_up(self, *recordings: Path) -> jobs_pb2.CreateJobRequest:
        """Upload the example network, run it on every board; the request that does it again."""
        with self.connect() as farm:
            for board in [board.board for board in farm.boards()]:
                if recordings:
                    farm.run(MODEL, *recordings, board=board).wait()
                else:
                    farm.flash(MODEL, board=board).wait()
        return jobs_pb2.CreateJobRequest(
            model=digest_of(MODEL), recordings=[digest_of(path) for path in recordings]
        )

    def child_ids(self) -> dict[str, list[int]]:
        """Process ids of the server's children by what they are: boards, parser."""
        found: dict[str, list[int]] = {"board": [], "parser": []}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_text()
            except OSError:  # it ended meanwhile
                continue
            if parent == self.process.pid:
                found["board" if "boards.process" in command else "parser"].append(int(entry.name))
        return found

    def _read_log(self) -> None:
        for line in self.process.stderr or ():
            self._log.append(line)
            if "listening on" in line:
                self._listening.set()
        self._listening.set()


def digest_of(path: Path) -> str:
    """What the farm calls a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def resident_mib(process_id: int) -> float:
    """Resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_seconds(process_id: int) -> float:
    """Processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def one_event(folder: Path) -> Path:
    """A recording with a single event."""
    path = folder / "one_event.npz"
    one = np.ones(1, np.int64)
    np.savez(path, t=one, x=one, y=one, p=np.zeros(1, np.int64))
    return path
