"""The library: uploaded models and recordings, parsed once, and the configurations made of them.

What is parsed is kept beside the blobs in a cache folder that may be deleted at any time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from speckfarm_server import configuration as configurations
from speckfarm_server.blobs import Blobs
from speckfarm_server.check import Report, check, ordered
from speckfarm_server.check_vendor import check_configuration
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import (
    BadInput,
    Exhausted,
    Finding,
    ModelRejected,
    Severity,
    WrongState,
)
from speckfarm_server.job import BoardKind, JobSpec
from speckfarm_server.live import now_us
from speckfarm_server.network import Network
from speckfarm_server.parse_host import ParseHost
from speckfarm_server.parsed import Parsed
from speckfarm_server.parsed_cache import read_parsed, write_parsed
from speckfarm_server.recording_fit import check_fit, check_length
from speckfarm_server.recordings import Recordings, from_file, to_file
from speckfarm_server.settings import Settings
from speckfarm_server.store import queries
from speckfarm_server.store.rows import Model, Recording
from speckfarm_server.store.store import Store
from speckfarm_server.vendor.write import write_vendor_json

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Library:
    """Models and recordings of one farm."""

    def __init__(self, folder: Path, *, store: Store, blobs: Blobs, parser: ParseHost) -> None:
        self._folder = folder
        self._recording_folder = folder / "recordings"
        self._store = store
        self._blobs = blobs
        self._parser = parser
        self._parsed: _Recent[str, Parsed] = _Recent(16)
        self._reports: _Recent[tuple[str, str, str], Report] = _Recent(64)
        self._serialised: _Recent[str, bytes] = _Recent(32)
        self._files: _Recent[str, Recordings] = _Recent(256)  # mapped, not in memory
        self._models: _Recent[str, Model] = _Recent(1024)
        self._recordings: _Recent[str, Recording] = _Recent(1024)

    async def add_model(self, digest: str, name: str, user: str) -> Model:
        """Parse an uploaded blob and register it; BLOB_MISSING, MODEL_REJECTED, parser's errors."""
        path = self._uploaded(digest)
        parsed = await self.parsed(digest)
        read = parsed.network or parsed.configuration
        if read is None:  # no chip could ever run it
            raise ModelRejected(parsed.findings)
        layers = read.layers if isinstance(read, Network) else read.cores
        model = Model(
            digest=digest,
            name=name or digest[:12],
            user=user,
            created_us=now_us(),
            size=path.stat().st_size,
            input_shape=read.input_shape,
            layers=len(layers),
        )
        await self._store.add_model(model, json.dumps(model.input_shape))
        return await self._store.read(queries.find_model, digest)

    async def add_recording(self, digest: str, name: str, user: str) -> Recording:
        """Parse an uploaded blob and register it; BLOB_MISSING or the reader's errors."""
        path = self._uploaded(digest)
        file = await self._file(digest, name)
        recording = Recording(
            digest=digest,
            name=name or digest[:12],
            user=user,
            created_us=now_us(),
            size=path.stat().st_size,
            count=len(file),
            events=len(file.packed),
            duration_us=file.duration_us,
            labelled=file.labels is not None,
        )
        await self._store.add_recording(recording)
        return await self._store.read(queries.find_recording, digest)

    async def model(self, digest: str) -> Model:
        """A registered model; NotFound MODEL_NOT_FOUND."""
        return await self._models.get(digest, lambda: self._store.read(queries.find_model, digest))

    async def recording(self, digest: str) -> Recording:
        """A registered recording file; NotFound RECORDING_NOT_FOUND."""
        return await self._recordings.get(
            digest, lambda: self._store.read(queries.find_recording, digest)
        )

    def forget(self, digest: str) -> None:
        """A model or recording was deleted."""
        self._models.drop(digest)
        self._recordings.drop(digest)

    async def parsed(self, digest: str) -> Parsed:
        """The network or configuration of an uploaded model."""
        return await self._parsed.get(digest, lambda: self._parse(digest))

    async def report(self, digest: str, chip: str, settings: Settings) -> Report:
        """Check an uploaded model; findings of the parser come first."""
        key = (digest, chip, settings.canonical())
        return await self._reports.get(key, lambda: self._check(digest, chip, settings))

    async def vendor_json(
        self, digest: str, chip: str, settings: Settings
    ) -> tuple[Configuration, bytes]:
        """What an uploaded model becomes, also as JSON; ModelRejected, NOT_IN_VENDOR_JSON."""
        report = await self.report(digest, chip, settings)
        if report.configuration is None:
            raise ModelRejected(report.findings)
        text = await asyncio.to_thread(write_vendor_json, report.configuration)
        return report.configuration, text

    async def check_fit(
        self, digests: Sequence[str], report: Report, *, most: int, kind: BoardKind
    ) -> tuple[int, int]:
        """Number of recordings in these files and their length in µs, if all fit the network.

        Raises BadInput if one does not, Exhausted TOO_MANY_RECORDINGS if they are more than `most`.
        """
        count = duration_us = 0
        for digest, times in Counter(digests).items():
            recording = await self.recording(digest)
            count += times * recording.count
            duration_us += times * recording.duration_us
            file = await self._file(digest, recording.name)
            if report.configuration is not None:
                check_fit(file, report.configuration)
            if kind is BoardKind.REAL:
                check_length(file)
        if count > most:
            text = f"These are {count} recordings; a job takes {most}. Make several jobs of them"
            raise Exhausted("TOO_MANY_RECORDINGS", text, found=count, allowed=most)
        return count, duration_us

    async def configuration_bytes(self, spec: JobSpec) -> bytes:
        """The configuration of an accepted job, serialised for its board's process."""
        return await self._serialised.get(spec.configuration, lambda: self._serialise(spec))

    async def recording_files(self, spec: JobSpec) -> list[tuple[str, str]]:
        """Digest and normalised file of a job's recordings; what the cache lost is made again."""
        found = [(digest, self._recording_path(digest)) for digest in spec.recordings]
        for digest, path in found:
            if not path.is_file():
                self._files.drop(digest)
                await self._file(digest, (await self.recording(digest)).name)
        return [(digest, str(path)) for digest, path in found]

    def _uploaded(self, digest: str) -> Path:
        if self._blobs.has(digest):
            return self._blobs.path(digest)
        message = f"There is no complete blob {digest}; upload it first"
        raise WrongState("BLOB_MISSING", message, digest=digest)

    async def _parse(self, digest: str) -> Parsed:
        path = self._uploaded(digest)
        folder = self._folder / "networks"
        parsed = await asyncio.to_thread(read_parsed, folder, digest)
        if parsed is None:
            parsed = await self._parser.parse_model(path)
            await asyncio.to_thread(write_parsed, folder, digest, parsed)
        return parsed

    async def _check(self, digest: str, chip: str, settings: Settings) -> Report:
        known = find_chip(chip)
        parsed = await self.parsed(digest)
        if parsed.configuration is not None:
            judge = partial(check_configuration, parsed.configuration, known, settings)
        elif parsed.network is not None:
            judge = partial(check, parsed.network, known, settings)
        else:
            return Report(chip=chip, findings=parsed.findings, layers=(), configuration=None)
        report = await asyncio.to_thread(judge)
        return _with_findings(report, parsed.findings)

    async def _serialise(self, spec: JobSpec) -> bytes:
        report = await self.report(spec.model, spec.chip, spec.settings)
        if report.configuration is None or report.configuration.digest != spec.configuration:
            message = (
                f"Job {spec.id} was accepted with configuration {spec.configuration[:12]}, which "
                "this version of the farm does not make any more; submit it again"
            )
            raise WrongState("CONFIGURATION_CHANGED", message, job=spec.id)
        return configurations.to_bytes(report.configuration)

    def _recording_path(self, digest: str) -> Path:
        return self._recording_folder / f"{digest}.events"

    async def _file(self, digest: str, name: str) -> Recordings:
        return await self._files.get(digest, lambda: self._read_recording(digest, name))

    async def _read_recording(self, digest: str, name: str) -> Recordings:
        target = self._recording_path(digest)
        if target.is_file():
            try:
                return await asyncio.to_thread(from_file, target)
            except (OSError, BadInput) as error:
                logger.warning("the cached recording %s is damaged: %s", target, error)
        parsed = await self._parser.parse_recording(self._uploaded(digest), name)
        await asyncio.to_thread(_write_recordings, target, parsed)
        return await asyncio.to_thread(from_file, target)


class _Recent(Generic[K, V]):
    """The most recently used values; a value that is being made is waited for, not made twice."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._futures: OrderedDict[K, asyncio.Future[V]] = OrderedDict()

    async def get(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        future = self._futures.get(key)
        if future is None:
            future = asyncio.ensure_future(_await(make()))
            self._futures[key] = future
            future.add_done_callback(lambda done: self._forget_failure(key, done))
            if len(self._futures) > self._size:
                self._futures.popitem(last=False)
        else:
            self._futures.move_to_end(key)
        return await asyncio.shield(future) if not future.done() else future.result()

    def drop(self, key: K) -> None:
        self._futures.pop(key, None)

    def _forget_failure(self, key: K, done: asyncio.Future[V]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._futures.pop(key, None)


async def _await(value: Awaitable[V]) -> V:
    return await value


def _with_findings(report: Report, findings: tuple[Finding, ...]) -> Report:
    if not findings:
        return report
    fatal = any(finding.severity is Severity.ERROR for finding in findings)
    known = {(finding.reason, finding.layer) for finding in findings}
    others = [f for f in report.findings if (f.reason, f.layer) not in known]
    return Report(
        chip=report.chip,
        findings=ordered([*findings, *others]),
        layers=report.layers,
        configuration=None if fatal else report.configuration,
    )


def _write_recordings(path: Path, recordings: Recordings) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)  # the cache may be deleted at any time
    scratch = path.with_suffix(f".{secrets.token_hex(4)}")
    to_file(recordings, scratch)
    os.replace(scratch, path)
