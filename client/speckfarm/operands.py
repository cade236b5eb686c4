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
from speckfarm.errors import NotFound
from speckfarm.upload import Source, bytes_source, file_source, send_missing
from speckfarm.v1 import models_pb2, recordings_pb2

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
    source = _model_source(model)
    if source is not None:
        send_missing(connection, [source])
        return source.digest
    request = models_pb2.GetModelRequest(model=str(model))
    try:
        return connection.call(connection.models.GetModel, request).model.digest
    except NotFound as error:
        raise _neither(str(model), "model") from error


def register_model(connection: Connection, model: ModelLike) -> str:
    """Digest of a registered model; uploads and registers as far as needed."""
    source = _model_source(model)
    digest = upload_model(connection, model)
    if source is not None:
        request = models_pb2.CreateModelRequest(digest=digest, name=source.name)
        connection.call(connection.models.CreateModel, request)
    return digest


def register_recordings(connection: Connection, recordings: Sequence[RecordingLike]) -> list[str]:
    """Digests of registered recording files, in order.

    Each is a path, an event array, (array, label), or the digest or name of a registered file.
    Neighbouring arrays become one file. Raises NotFound, BadRequest.
    """
    operands = _merged(recordings)
    send_missing(connection, [each for each in operands if isinstance(each, Source)])
    return [_register_recording(connection, each) for each in operands]


def _model_source(model: ModelLike) -> Source | None:
    """None if it is no file: then it must be a name that the farm knows."""
    if isinstance(model, bytes):
        return bytes_source(model, NAME_FROM_MEMORY)
    return _path_source(model)


def _path_source(path: str | os.PathLike[str]) -> Source | None:
    if isinstance(path, str) and not Path(path).exists():
        return None
    return file_source(Path(path))  # a PathLike that is not there is an error, never a name


def _merged(recordings: Sequence[RecordingLike]) -> list[Source | str]:
    """Sources for paths and arrays, text for names on the farm."""
    loose = [_read_operand(each) for each in recordings]
    merged: list[Source | str] = []
    for _, group in groupby(loose, _group_key):
        members = list(group)
        arrays = [each for each in members if isinstance(each, EventArray)]
        if arrays:
            merged.append(bytes_source(recording_file(arrays), f"{NAME_FROM_MEMORY}.npz"))
        merged += [each for each in members if not isinstance(each, EventArray)]
    return merged


def _read_operand(value: RecordingLike) -> Source | EventArray | str:
    if isinstance(value, (str, os.PathLike)):
        return _path_source(value) or str(value)
    return as_event_array(value)


def _group_key(value: Source | EventArray | str) -> tuple[bool, bool]:
    # A file has a label for every recording or for none.
    return isinstance(value, EventArray), isinstance(value, EventArray) and value.label is None


def _register_recording(connection: Connection, operand: Source | str) -> str:
    if isinstance(operand, Source):
        create = recordings_pb2.CreateRecordingRequest(digest=operand.digest, name=operand.name)
        return connection.call(connection.recordings.CreateRecording, create).recording.digest
    request = recordings_pb2.GetRecordingRequest(recording=operand)
    try:
        return connection.call(connection.recordings.GetRecording, request).recording.digest
    except NotFound as error:
        raise _neither(operand, "recording") from error


def _neither(name: str, what: str) -> NotFound:
    text = (
        f"{name!r} is neither a file on this machine nor a {what} on the farm. Give the path of a "
        f"file, or the digest or name of a {what} that `speckfarm {what}s` lists"
    )
    return NotFound(f"{what.upper()}_NOT_FOUND", text, metadata={"found": name})
