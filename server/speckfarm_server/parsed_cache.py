"""Parsed models on disk, beside the blobs; the folder may be deleted at any time."""

from __future__ import annotations

import json
import logging
import os
import secrets
import zipfile
from dataclasses import asdict
from pathlib import Path

from speckfarm_server import configuration as configurations
from speckfarm_server import network as networks
from speckfarm_server.job_result import finding_from_plain
from speckfarm_server.parsed import Parsed

FORMAT = 2  # raised when the same file is read into something else than before
logger = logging.getLogger(__name__)
_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile
)  # fmt: skip


def read_parsed(folder: Path, digest: str) -> Parsed | None:
    """What `write_parsed` wrote; None if it is not there or damaged."""
    network, configuration, notes = _paths(folder, digest)
    if not notes.is_file():
        return None
    try:
        findings = tuple(map(finding_from_plain, json.loads(notes.read_text())))
        if configuration.is_file():
            made = configurations.from_bytes(configuration.read_bytes())
            return Parsed(network=None, findings=findings, configuration=made)
        if network.is_file():
            return Parsed(network=networks.from_bytes(network.read_bytes()), findings=findings)
    except _DAMAGED as error:
        logger.warning("what is cached of model %s is damaged: %s", digest, error)
    return None


def write_parsed(folder: Path, digest: str, parsed: Parsed) -> None:
    """Keep a network or a configuration; a model that is neither is parsed again."""
    network, configuration, notes = _paths(folder, digest)
    if parsed.configuration is not None:
        _write(configuration, configurations.to_bytes(parsed.configuration))
    elif parsed.network is not None:
        _write(network, networks.to_bytes(parsed.network))
    else:
        return
    _write(notes, json.dumps([asdict(finding) for finding in parsed.findings]).encode())


def _paths(folder: Path, digest: str) -> tuple[Path, Path, Path]:
    return (
        folder / f"{digest}.{FORMAT}.npz",
        folder / f"{digest}.{FORMAT}.configuration.npz",
        folder / f"{digest}.{FORMAT}.json",
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{secrets.token_hex(4)}")
    scratch.write_bytes(data)
    os.replace(scratch, path)
