"""The world of the double: what is plugged in, what it does wrong, what was done to it."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import threading
from pathlib import Path
from typing import Any

_read: tuple[Any, dict[str, Any]] = (None, {})


def folder() -> Path:
    """Where all of it is."""
    return Path(os.environ["SAMNA_DOUBLE_WORLD"]).parent


def devices() -> dict[str, dict[str, Any]]:
    """What is plugged in now, by USB path."""
    global _read
    path = os.environ["SAMNA_DOUBLE_WORLD"]
    found = os.stat(path)
    stamp = (path, found.st_ino, found.st_mtime_ns, found.st_size)
    if _read[0] != stamp:
        _read = (stamp, json.loads(Path(path).read_text()))
    plugged: dict[str, dict[str, Any]] = _read[1]["devices"]
    return plugged


class Port:
    """One plugged-in board, until it is unplugged."""

    def __init__(self, usb_path: str, plug: int) -> None:
        self.usb_path, self.plug = usb_path, plug

    def device(self) -> dict[str, Any] | None:
        """What the world says of it; None once it was unplugged."""
        found = devices().get(self.usb_path)
        return found if found is not None and found["plug"] == self.plug else None

    def look(self, name: str) -> Any:
        """The value of a behaviour; None if the board does not behave so."""
        found = (self.device() or {}).get("behaviour", {}).get(name)
        return (
            None if found is None or self._is_used_up(name, found, takes=False) else found["value"]
        )

    def take(self, name: str, value: Any = None) -> Any:
        """As `look`, and that is one of the times that it happens. `value`: only if it has that."""
        found = (self.device() or {}).get("behaviour", {}).get(name)
        if found is None or value not in (None, found["value"]):
            return None
        return None if self._is_used_up(name, found, takes=True) else found["value"]

    def suffer(self, step: str) -> None:
        """Hang or die in a step, if the board does."""
        if self.take("hang", step):
            self.note(f"hang {step}")
            threading.Event().wait()
        if self.take("crash", step):
            self.note(f"crash {step}")
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), signal.SIGSEGV)

    def note(self, line: str) -> None:
        """Write down what was done."""
        with (folder() / f"{self.usb_path}.log").open("a") as file:
            file.write(f"{line}\n")

    def count(self, name: str) -> int:
        """How often this was called before, by any process."""
        with (folder() / f"{self.usb_path}.{name}.count").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(".")
            return file.tell() - 1

    def lock(self) -> int | None:
        """Hold the board machine-wide until the descriptor is closed; None if another does."""
        path = folder() / f"{self.usb_path}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def _is_used_up(self, name: str, found: dict[str, Any], *, takes: bool) -> bool:
        if found["times"] is None:
            return False
        counter = f"{name}-{found['set']}"
        path = folder() / f"{self.usb_path}.{counter}.count"
        if takes:
            return self.count(counter) >= int(found["times"])
        return path.exists() and path.stat().st_size >= int(found["times"])
