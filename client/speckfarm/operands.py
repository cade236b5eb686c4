"""What users hand in as model or recording becomes a digest that the farm knows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np
from numpy.typing import NDArray

from speckfarm.arrays import EventArray, as_event_array, recording_file
from speckfarm.errors import BadRequest, Exhausted, NotFound, about
from speckfarm.upload import NOTABLE_BYTES, Source, bytes_source, file_source, send_missing
from speckfarm.v1 import info_pb2, models_pb2, recordings_pb2

if TYPE_CHECKING:
    from speckfarm.connection import Connection

ModelLike: TypeAlias = Union[str, "os.PathLike[str]", bytes]
Events: TypeAlias = NDArray[np.void]
RecordingLike: TypeAlias = Union[str, "os.PathLike[str]", Events, tuple[Events, "int | None"]]

NAME_FROM_MEMORY = "memory"


def upload_model(connection: Connection, model: ModelLike) -> str:
    """Digest of a model whose bytes are on the farm; nothing is registered.

    A path, the file's bytes, or the digest or name of a registered model. Raises NotFound.
    """
    source = _model_source(connection, model)
    if source is not None:
        send_missing(connection, [source])
        return source.digest
    request = models_pb2.GetModelRequest(model=str(model))
    try:
        return connection.call(connection.models.GetModel, request).model.digest
    except NotFound:
        raise _neither(str(model), "model") from None


def register_model(connection: Connection, model: ModelLike) -> str:
    """Digest of a registered model; uploads and registers as far as needed."""
    source = _model_source(connection, model)
    digest = upload_model(connection, model)
    if source is not None:
        request = models_pb2.CreateModelRequest(digest=digest, name=source.name)
        connection.call(connection.models.CreateModel, request)
    return digest


def register_models(connection: Connection, models: Sequence[ModelLike]) -> list[str]:
    """Digests of registered models, in order; of several, a refused one is named."""
    if len(models) == 1:
        return [register_model(connection, models[0])]
    digests = []
    for model in models:
        name = NAME_FROM_MEMORY if isinstance(model, bytes) else Path(model).name
        with about(name):
            digests.append(register_model(connection, model))
    return digests


def model_name(connection: Connection, digest: str) -> str | None:
    """The name that a model was registered under; None if it is not registered."""
    try:
        request = models_pb2.GetModelRequest(model=digest)
        return connection.call(connection.models.GetModel, request).model.name or None
    except NotFound:
        return None


def register_recordings(connection: Connection, recordings: Sequence[RecordingLike]) -> list[str]:
    """Digests of registered recording files, in order.

    Each is a path, an event array, (array, label), or the digest or name of a registered file.
    Neighbouring arrays become one file. Raises NotFound, BadRequest.
    """
    operands = _merged(connection, recordings)
    send_missing(connection, [each for each in operands if isinstance(each, Source)])
    return [_register_recording(connection, each) for each in operands]


def _model_source(connection: Connection, model: ModelLike) -> Source | None:
    """None if it is no file: then it must be a name that the farm knows."""
    if isinstance(model, bytes):
        return bytes_source(model, NAME_FROM_MEMORY)
    return _path_source(connection, model, "model")


def _path_source(connection: Connection, path: str | os.PathLike[str], what: str) -> Source | None:
    if isinstance(path, str) and not Path(path).exists():
        return None
    file = Path(path)
    if file.is_file() and file.stat().st_size > NOTABLE_BYTES:
        _check_size(connection, file, what)  # before gigabytes are hashed in vain
    return file_source(file)  # a PathLike that is not there is an error, never a name


def _check_size(connection: Connection, file: Path, what: str) -> None:
    info = connection.call(connection.info.GetServerInfo, info_pb2.GetServerInfoRequest())
    allowed = info.max_model_bytes if what == "model" else info.max_recording_bytes
    size = file.stat().st_size
    if 0 < allowed < size:
        text = f"{file} has {size} bytes; a {what} may have {allowed} on this farm"
        metadata = {"path": str(file), "found_bytes": str(size), "allowed_bytes": str(allowed)}
        if what == "model":  # the reasons that the farm itself would give
            raise BadRequest("MODEL_TOO_LARGE", text, metadata=metadata)
        raise Exhausted("UPLOAD_TOO_LARGE", text, metadata=metadata)


def _merged(connection: Connection, recordings: Sequence[RecordingLike]) -> list[Source | str]:
    """Sources for paths and arrays, text for names on the farm."""
    loose = [_read_operand(connection, each) for each in recordings]
    merged: list[Source | str] = []
    for _, group in groupby(loose, _group_key):
        members = list(group)
        arrays = [each for each in members if isinstance(each, EventArray)]
        if arrays:
            merged.append(bytes_source(recording_file(arrays), f"{NAME_FROM_MEMORY}.npz"))
        merged += [each for each in members if not isinstance(each, EventArray)]
    return merged


def _read_operand(connection: Connection, value: RecordingLike) -> Source | EventArray | str:
    if isinstance(value, (str, os.PathLike)):
        return _path_source(connection, value, "recording") or str(value)
    return as_event_array(value)


def _group_key(value: Source | EventArray | str) -> tuple[bool, bool]:
    # A file has a label for every recording or for none.
    return isinstance(value, EventArray), isinstance(value, EventArray) and value.label is None


def _register_recording(connection: Connection, operand: Source | str) -> str:
    if isinstance(operand, Source):
        create = recordings_pb2.CreateRecordingRequest(digest=operand.digest, name=operand.name)
        with about(operand.name):
            answer = connection.call(connection.recordings.CreateRecording, create)
        return answer.recording.digest
    request = recordings_pb2.GetRecordingRequest(recording=operand)
    try:
        return connection.call(connection.recordings.GetRecording, request).recording.digest
    except NotFound:
        raise _neither(operand, "recording") from None


def _neither(name: str, what: str) -> NotFound:
    text = (
        f"{name!r} is neither a file on this machine nor a {what} on the farm. Give the path of a "
        f"file, or the digest or name of a {what} that `speckfarm {what}s` lists"
    )
    return NotFound(f"{what.upper()}_NOT_FOUND", text, metadata={"found": name})
