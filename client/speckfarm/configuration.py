"""The configuration that a model becomes, from the farm to a file of the vendor's library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from speckfarm.operands import ModelLike, upload_model
from speckfarm.settings import build_settings
from speckfarm.v1 import models_pb2

if TYPE_CHECKING:
    from speckfarm.connection import Connection
    from speckfarm.settings import SettingOptions


def fetch_configuration(
    connection: Connection, model: ModelLike, chip: str | None, settings: SettingOptions
) -> bytes:
    """The JSON, UTF-8. Raises ModelRejected with all findings, BadRequest NOT_IN_VENDOR_JSON."""
    request = models_pb2.GetConfigurationRequest(
        settings=build_settings(settings, also_known=("chip",)),
        chip=chip or "",
        digest=upload_model(connection, model),
    )
    return connection.call(connection.models.GetConfiguration, request).json
