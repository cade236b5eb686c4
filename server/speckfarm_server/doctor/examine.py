"""All checks, in the order in which a server would meet the faults."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from speckfarm_server.boards.samna.install import find_samna
from speckfarm_server.config import FarmConfig, UsbConfig
from speckfarm_server.doctor import clock, data, devkits, proofs, reach, software, usb
from speckfarm_server.doctor.line import Line, State, ok, wrong
from speckfarm_server.errors import FarmError


def examine(read_config: Callable[[], FarmConfig], file: Path | None) -> list[Line]:
    """Look at this host; `read_config` gives what a server would use, `file` is farm.toml."""
    python = tuple(sys.version_info[:3])
    names = [each.name for each in software.REQUIREMENTS]
    lines = [software.judge_python(python)]
    lines += software.judge_packages(software.find_packages(names), python)
    try:
        config = read_config()
        _ = config.address
    except FarmError as error:  # what the file would say is not known: only the host is left
        told = wrong("config", f"{error.message} [{error.reason}]", "Correct it in farm.toml")
        return [*lines, told, *_hardware(None), clock.judge_clock(clock.find_clock(), None)]
    lines.append(ok("config", f"{file or 'no farm.toml: the defaults'}, {_boards(config)}"))
    lines += _proofs(config)
    lines += _hardware(config)
    lines.append(clock.judge_clock(clock.find_clock(), _written_s(config.data_folder)))
    return [*lines, *_data(config)]


def _hardware(config: FarmConfig | None) -> Iterator[Line]:
    boards = [] if config is None else devkits.real_boards(config)
    places = UsbConfig() if config is None else config.usb
    sysfs, nodes = Path(places.sysfs), Path(places.nodes)
    needed = bool(boards)
    samna = find_samna(sys.path)
    yield software.judge_samna(samna, needed=needed)
    found = usb.find_devices(sysfs, nodes)
    ports = {board.usb for board in boards if board.usb}
    devices = usb.judge_devices(found, has_bus=nodes.is_dir(), needed=needed, ports=ports)
    yield devices
    is_open = devices.state is State.OK
    yield usb.judge_rules(usb.find_rules(), needed=needed and not is_open)
    if samna.fault is None:
        yield from devkits.judge_devkits(devkits.find_devkits(places, boards))


def _proofs(config: FarmConfig) -> Iterator[Line]:
    try:
        for found in proofs.find_proofs(config.boards):
            yield from proofs.judge_proof(found)
    except ModuleNotFoundError as error:
        yield _cannot_be_imported(error)


def _data(config: FarmConfig) -> Iterator[Line]:
    folder = data.find_folder(config.data_folder)
    yield from data.judge_folder(folder, data.user_name(os.geteuid()))
    if not folder.is_writable:  # nothing below it can be told
        return
    is_held = folder.exists and data.find_lock(folder.path)
    if folder.exists:
        yield data.judge_fsync(data.find_fsync_ms(folder.path))
        yield data.judge_lock(is_held=is_held)
    yield from _needing_packages(config, folder.path)
    yield reach.judge_port(reach.find_port(*config.address, folder.path), is_held=is_held)


def _needing_packages(config: FarmConfig, folder: Path) -> Iterator[Line]:
    """Checks that need sqlalchemy or cryptography; without them, `packages` has said so."""
    try:
        from speckfarm_server.store.database import HEAD

        yield data.judge_database(data.find_database(folder), HEAD)
        found = reach.find_certificate(config.tls, folder / "tls") if config.uses_tls else None
        yield reach.judge_certificate(found, datetime.now(timezone.utc))
    except ModuleNotFoundError as error:
        yield _cannot_be_imported(error)


def _cannot_be_imported(error: ModuleNotFoundError) -> Line:
    return wrong("packages", f"{error.name} cannot be imported", "Install it first; see above")


def _written_s(folder: Path) -> float | None:
    """When the database was written last."""
    files = [each for each in (folder / "farm.db", folder / "farm.db-wal") if os.path.exists(each)]
    return max((each.stat().st_mtime for each in files), default=None)


def _boards(config: FarmConfig) -> str:
    return ", ".join(f"{board.id} ({board.kind} {board.chip})" for board in config.boards)
