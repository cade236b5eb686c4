"""Files that a command writes: looked at before hours of work, and refused in words."""

from __future__ import annotations

import os
from pathlib import Path

from speckfarm.errors import BadRequest


def check_writable(flag: str, path: Path) -> None:
    """Raise BadRequest BAD_ARGUMENT if `path`, given with `flag`, cannot be written."""
    if path.is_dir():
        raise unwritable(flag, path, "it is a folder")
    if not path.exists() and not path.parent.is_dir():
        raise unwritable(flag, path, f"there is no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise unwritable(flag, path, "permission denied")


def unwritable(flag: str, path: Path, why: str) -> BadRequest:
    """The error for a file that cannot be written."""
    text = f"{flag} {path} cannot be written: {why}"
    return BadRequest("BAD_ARGUMENT", text, metadata={"argument": flag, "found": str(path)})
