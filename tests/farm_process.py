"""A real server in its own process, on a free port, for tests that talk to it through gRPC."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import speckfarm

TWINS = """
[[boards]]
id = "twin-0"
[[boards]]
id = "twin-1"
"""


def scripted(*scripts: dict[str, object]) -> str:
    """farm.toml with one scripted board for each script: script-0, script-1 ..."""
    return "".join(
        f"[[boards]]\nid = 'script-{n}'\nkind = 'scripted'\nscript = '{json.dumps(script)}'\n"
        for n, script in enumerate(scripts)
    )


class FarmProcess:
    """`speckfarm-server serve` on loopback; killable, restartable on the same data."""

    def __init__(
        self,
        data: Path,
        toml: str = TWINS,
        *,
        listen: str = "127.0.0.1:0",
        prefix: tuple[str, ...] = (),  # what starts a process where the server shall run
    ) -> None:
        self.data = data
        self.address = ""
        self.token = ""
        self.log: list[str] = []
        self._listen = listen
        self._prefix = prefix
        self._config = data.parent / f"{data.name}.toml"
        self._config.write_text(toml)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self, *, listen: str = "") -> FarmProcess:
        """Start and wait until it listens; where it did before, if it is told that address."""
        where = listen or self._listen
        command = [*self._prefix, sys.executable, "-m", "speckfarm_server"]
        command += ["serve", "--listen", where]
        command += ["--data", str(self.data), "--config", str(self._config)]
        self._process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        listening = threading.Event()
        self._reader = threading.Thread(target=self._read, args=[self._process, listening])
        self._reader.start()
        listening.wait(30)
        if not any("listening on" in line for line in self.log):
            self.kill()
            raise RuntimeError("the server did not start:\n" + "".join(self.log))
        local = json.loads((self.data / "local.json").read_text())
        self.address, self.token = local["server"], local["token"]
        return self

    def connect(self) -> speckfarm.Farm:
        """A client of the local user."""
        return speckfarm.connect(self.address, token=self.token)

    @property
    def process_id(self) -> int:
        """Of the server itself."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop in good order."""
        self._end(signal.SIGTERM)

    def server_command(self, *arguments: str) -> str:
        """Run another `speckfarm-server` command on the same data; returns what it printed."""
        command = [sys.executable, "-m", "speckfarm_server", *arguments]
        done = subprocess.run(
            [*command, "--data", str(self.data)], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(30)
        if self._reader is not None:
            self._reader.join(30)
        if self._process is not None and self._process.stderr is not None:
            self._process.stderr.close()

    def _read(self, process: subprocess.Popen[str], listening: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log.append(line)
            if "listening on" in line:
                listening.set()
        listening.set()
