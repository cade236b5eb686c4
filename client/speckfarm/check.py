"""The check of a model, asked for without queueing anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from speckfarm.operands import ModelLike, upload_model
from speckfarm.report import read_report
from speckfarm.settings import build_settings
from speckfarm.v1 import models_pb2

if TYPE_CHECKING:
    from speckfarm.connection import Connection
    from speckfarm.report import Report


def check_model(
    connection: Connection,
    model: ModelLike,
    settings: Mapping[str, object],
    *,
    chip: str | None,
    also_known: tuple[str, ...] = ("chip",),
) -> Report:
    """The report; `also_known` are the caller's arguments that are no settings."""
    request = models_pb2.CheckModelRequest(
        settings=build_settings(settings, also_known=also_known),
        chip=chip or "",
        digest=upload_model(connection, model),
    )
    return read_report(connection.call(connection.models.CheckModel, request))
