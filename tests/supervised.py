"""One board under supervision, without a farm around it: what it does is awaited, not slept for."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from speckfarm_server.boards.host import BoardHost
from speckfarm_server.boards.identity import Identity
from speckfarm_server.boards.known_answer import network, write_recordings
from speckfarm_server.boards.news import BoardNews
from speckfarm_server.boards.state import Health, RuntimeState
from speckfarm_server.config import BoardConfig, FarmConfig, LimitsConfig, UsbConfig
from speckfarm_server.configuration import to_bytes

PATIENCE_S = 60.0
DEVICE: dict[str, Any] = {
    "type": "Speck2fDevKit", "usb_path": "2-1.3", "usb_address": 9, "serial": "",
    "logic_version": 0, "samna": "0.48.6", "first_event": "keep",
}  # fmt: skip


def script_of(folder: Path, **script: Any) -> dict[str, Any]:
    """The script of a board like a devkit: it is tested and pinged, and words of files rule it."""
    for name, word in (("answer", "pass"), ("ping", ""), ("open", "")):
        (folder / name).write_text(word)
    plug(folder)
    like_a_devkit = {
        "device": str(folder / "device"),
        "known_answer": str(folder / "answer"),
        "ping": str(folder / "ping"),
        "open": str(folder / "open"),
    }
    return {**like_a_devkit, **script}


def plug(folder: Path, **changes: Any) -> None:
    """Put a devkit into the board's place."""
    scratch = folder / "device.new"
    scratch.write_text(json.dumps({**DEVICE, **changes}))
    os.replace(scratch, folder / "device")


def pull(folder: Path) -> None:
    """Take it out."""
    (folder / "device").unlink()


class Supervised:
    """A host, all that it said, and what it is waited for."""

    def __init__(self, config: BoardConfig, farm: FarmConfig) -> None:
        self.news: list[BoardNews] = []
        self.history: list[tuple[RuntimeState, Health, str]] = []
        self._changed = asyncio.Event()
        self.host = BoardHost(config, farm, self._note, lambda _, news: self.news.append(news))

    async def until(self, condition: Callable[[BoardHost], bool]) -> BoardHost:
        """Return as soon as the board fulfils a condition."""

        async def wait() -> None:
            while not condition(self.host):
                self._changed.clear()
                await self._changed.wait()

        try:
            await asyncio.wait_for(wait(), PATIENCE_S)
        except asyncio.TimeoutError:
            raise AssertionError(f"it never came to that: {self.history}") from None
        return self.host

    async def idle(self) -> BoardHost:
        """Wait until it takes jobs."""
        return await self.until(lambda host: host.runtime_state is RuntimeState.IDLE)

    async def offline(self) -> BoardHost:
        """Wait until it has no process."""
        return await self.until(lambda host: host.runtime_state is RuntimeState.OFFLINE)

    async def run(self, folder: Path) -> list[str]:
        """Run a job; the words that began its messages."""
        configuration = network(self.host.chip)
        task = {
            "configuration": configuration.digest,
            "recordings": [["d", str(write_recordings(folder))]],
            "keep_lags": False,
        }
        return [m["op"] async for m in self.host.run(task, to_bytes(configuration))]

    @property
    def events(self) -> list[str]:
        """Names of what was logged."""
        return [news.event for news in self.news if news.event]

    @property
    def identities(self) -> list[Identity]:
        """What was stored of devkits."""
        return [news.identity for news in self.news if news.identity is not None]

    def _note(self, host: BoardHost) -> None:
        self.history.append((host.runtime_state, host.health, host.message))
        self._changed.set()


@asynccontextmanager
async def supervised(
    folder: Path,
    script: dict[str, Any] | None = None,
    *,
    accepted: Identity | None = None,
    kind: str = "scripted",
    limits: dict[str, float] | None = None,
    usb_shown: UsbConfig | None = None,
    **board: Any,
) -> AsyncIterator[Supervised]:
    """A board that was started; short limits, a long heartbeat."""
    lengths = {"quarantine_s": 0.05, "heartbeat_s": 60.0, **(limits or {})}
    farm = FarmConfig(
        data=str(folder / "data"),
        limits=LimitsConfig(**lengths),  # type: ignore[arg-type]
        usb=usb_shown or UsbConfig(),
    )
    words = "{}" if script is None else json.dumps(script)
    made = Supervised(BoardConfig(id="b", kind=kind, script=words, **board), farm)
    made.host.start(accepted)
    try:
        yield made
    finally:
        await made.host.close()


def kill_process(word: str) -> None:
    """kill -9 the one child of this process that was started with a word in its command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it ended meanwhile
            continue
        if parent == os.getpid() and b"boards.process" in command and word.encode() in command:
            found.append(int(folder.name))
    [process_id] = found
    os.kill(process_id, signal.SIGKILL)


def play(scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test that waits."""
    asyncio.run(scene())
