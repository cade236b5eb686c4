"""A user on a machine of their own: a home folder, and the command line started there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speckfarm.certificate import fingerprint_of
from tests.farm_process import FarmProcess


@dataclass(frozen=True, kw_only=True)
class Laptop:
    """Nothing of the server's machine is here but the address, the fingerprint and the token."""

    home: Path
    prefix: tuple[str, ...] = ()  # what starts a process there, e.g. in a network of its own

    def speckfarm(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run `speckfarm`, with text on its stdin."""
        self.home.mkdir(exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if "SPECKFARM" not in key}
        homes = {"XDG_CONFIG_HOME": str(self.home), "XDG_DATA_HOME": str(self.home)}
        return subprocess.run(
            [*self.prefix, sys.executable, "-m", "speckfarm.cli", *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
            env={**kept, **homes, "HOME": str(self.home)},
        )

    def json(self, *arguments: str) -> Any:
        """What a command that succeeds prints as JSON."""
        done = self.speckfarm(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def profile(self) -> Path:
        """Where logins are kept."""
        return self.home / "speckfarm" / "profile.json"


def fingerprint(server: FarmProcess) -> str:
    """SHA-256 of the server's certificate, as its operator has it."""
    return fingerprint_of(json.loads((server.data / "local.json").read_text())["certificate"])
