"""The helper process that parses untrusted files: one fork per file, with limits.

Started by `parse_host`. It keeps numpy and h5py warm, is single-threaded (so that forking is safe)
and reads no file itself. A request is one message with two open files:
the upload, and an empty one for the answer. The forked child can open nothing more: its limit on
file descriptors is 0 before the first untrusted byte is read.
"""

from __future__ import annotations

import codecs
import gc
import io
import json
import os
import resource
import select
import signal
import socket
from contextlib import suppress
from dataclasses import asdict
from typing import Any, BinaryIO, NoReturn

import h5py
import numpy as np

from speckfarm_server import configuration, network, recording_file
from speckfarm_server.configuration import Configuration
from speckfarm_server.errors import BadInput, Finding
from speckfarm_server.file_kind import NPY_MAGIC
from speckfarm_server.nir import hdf5
from speckfarm_server.parse import parse_network
from speckfarm_server.parse_limits import (
    CONFIGURATION,
    LIMITS,
    MESSAGE_BYTES,
    MODEL,
    NETWORK,
    RECORDING,
    Limits,
)
from speckfarm_server.parsed import Parsed
from speckfarm_server.recording_file import read_recordings
from speckfarm_server.recordings import write_to
from speckfarm_server.vendor.read import looks_like_json, read_vendor_json
from speckfarm_server.vendor.write import write_vendor_json

CRASHED = 70  # exit code after an error that nobody foresaw
FILE_BYTES = {MODEL: hdf5.MAX_FILE_BYTES, RECORDING: recording_file.MAX_FILE_BYTES}


def main(control_fd: int) -> None:
    """Serve requests until the server's end of the socket closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when to stop
    control = socket.socket(fileno=control_fd)
    warm_up()
    gc.freeze()  # keep the collector from touching, and so copying, shared pages
    while True:
        message, files, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 2)
        end = _run(json.loads(message), files, control) if message else None
        for file in files:
            os.close(file)
        if end is None:
            return
        with suppress(OSError):  # a server that has gone closes the socket, seen above
            control.send(json.dumps(end).encode())


def _run(
    request: dict[str, Any], files: list[int], control: socket.socket
) -> dict[str, object] | None:
    """Fork for one file and wait; None if the server went away meanwhile."""
    alive, held = os.pipe()  # the child holds one end: it closes when the child ends, however
    baseline_bytes = _address_space_bytes()
    pid = os.fork()
    if pid == 0:
        _parse_and_exit(request, files, held, baseline_bytes)
    os.close(held)
    watched: list[int | socket.socket] = [alive, control]
    ready, _, _ = select.select(watched, [], [], request["time_s"])
    if alive not in ready:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(alive)
    if control in ready:
        return None
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "late": alive not in ready or code == -signal.SIGXCPU}


def _parse_and_exit(
    request: dict[str, Any], files: list[int], held: int, baseline_bytes: int
) -> NoReturn:
    code = CRASHED
    try:
        gc.disable()  # it ends in milliseconds, and collecting touches pages to be copied
        source, answer = files
        limits = LIMITS[request["kind"]]
        data = _read(source, FILE_BYTES[request["kind"]])
        _confine(limits, baseline_bytes, keep=(answer, held))
        with os.fdopen(answer, "wb", closefd=False) as file:
            answer_request(request["kind"], data, request["name"], file)
        code = 0
    except BaseException as error:  # nothing may get out into the loop of the helper
        with suppress(BaseException):
            os.pwrite(files[1], _head({"crash": f"{type(error).__name__}: {error}"[:500]}), 0)
    finally:
        os._exit(code)


def _read(source: int, most_bytes: int) -> bytes:
    with os.fdopen(source, "rb", closefd=False) as file:
        return file.read(most_bytes + 1)  # one more: the parser says that it is too large


def _confine(limits: Limits, baseline_bytes: int, keep: tuple[int, ...]) -> None:
    """Give up everything that parsing does not need."""
    lowest = 0
    for fd in sorted(keep):  # closes the control socket, standard streams and the upload
        os.closerange(lowest, fd)
        lowest = fd + 1
    os.closerange(lowest, max(lowest, 1024))
    for what, limit in (
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, limits.answer_bytes),
        (resource.RLIMIT_CPU, int(limits.time_s) + 1),
        (resource.RLIMIT_AS, baseline_bytes + limits.memory_bytes),
    ):
        _, hard = resource.getrlimit(what)
        allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (allowed, allowed))


def answer_request(kind: str, data: bytes, name: str, file: BinaryIO) -> None:
    """Write one line of JSON and, if all went well, what was parsed."""
    try:
        if kind == RECORDING:
            recordings = read_recordings(data, name)
            write_to(recordings, file)
            return
        parsed = _parse_model(data)
    except BadInput as error:
        figures = {"reason": error.reason, "message": error.message, "metadata": error.metadata}
        file.write(_head({"error": figures}))
        return
    what, body = _body(parsed)
    findings = [_plain(finding) for finding in parsed.findings]
    file.write(_head({"findings": findings, "body": what}) + body)


def _parse_model(data: bytes) -> Parsed:
    if not looks_like_json(data):
        return parse_network(data)
    read = read_vendor_json(data)
    return Parsed(network=None, findings=read.findings, configuration=read.configuration)


def _body(parsed: Parsed) -> tuple[str, bytes]:
    if parsed.configuration is not None:
        return CONFIGURATION, configuration.to_bytes(parsed.configuration)
    return NETWORK, b"" if parsed.network is None else network.to_bytes(parsed.network)


def _plain(finding: Finding) -> dict[str, object]:
    return {**asdict(finding), "severity": finding.severity.value}


def _head(values: dict[str, object]) -> bytes:
    return json.dumps(values).encode() + b"\n"


def _address_space_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def warm_up() -> None:
    """Run everything once, so that forks find it loaded: they cannot open a file to import."""
    codecs.lookup("cp437")  # names in zip archives
    good_model, bad_header = io.BytesIO(), NPY_MAGIC + b"\x01\x00\x06\x00{'a':"
    _write_model(good_model)
    good_recording = io.BytesIO()
    event = np.zeros(1, np.int64)
    np.savez_compressed(good_recording, t=event, x=event, y=event, p=event, names=np.array(["a"]))
    for kind, data in (
        (MODEL, good_model.getvalue()),
        (MODEL, good_model.getvalue()[:-100]),
        (MODEL, write_vendor_json(Configuration(chip="speck2b", input_shape=(1, 1, 1), cores=()))),
        (MODEL, b'{"value0": 1e400}'),
        (RECORDING, good_recording.getvalue()),
        (RECORDING, bad_header),
    ):
        answer_request(kind, data, "warm-up", io.BytesIO())


def _write_model(buffer: io.BytesIO) -> None:
    nodes: dict[str, dict[str, Any]] = {
        "a": {"type": "Input", "shape": [1, 1, 1]},
        "b": {"type": "Conv2d", "weight": [[[[1.0]]]], "stride": 1, "padding": "same"},
        "c": {"type": "IF", "r": 1.0, "v_threshold": 1.0},
        "d": {"type": "Output"},
    }
    with h5py.File(buffer, "w") as file:
        file["node/type"] = "NIRGraph"
        file["node/edges"] = np.array([[b"a", b"b"], [b"b", b"c"], [b"c", b"d"]])
        for name, fields in nodes.items():
            for field, value in fields.items():
                file[f"node/nodes/{name}/{field}"] = value
