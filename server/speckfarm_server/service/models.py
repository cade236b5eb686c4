"""ModelService and RecordingService: what users upload, and the check."""

from __future__ import annotations

from typing import Any

import grpc

from speckfarm.v1 import models_pb2 as models
from speckfarm.v1 import models_pb2_grpc, recordings_pb2_grpc
from speckfarm.v1 import recordings_pb2 as recordings
from speckfarm_server.chip import find_chip
from speckfarm_server.convert import (
    finding_message,
    layer_message,
    model_message,
    recording_message,
    settings_of,
)
from speckfarm_server.farm import Farm
from speckfarm_server.live import now_us
from speckfarm_server.service.authentication import calling_user
from speckfarm_server.service.pages import next_token, page_of
from speckfarm_server.service.refusals import logged_refusals
from speckfarm_server.service.status import translated
from speckfarm_server.store import queries

Context = grpc.aio.ServicerContext[Any, Any]


@translated
class ModelService(models_pb2_grpc.ModelServiceServicer):
    """Models and the check."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    async def CreateModel(
        self, request: models.CreateModelRequest, context: Context
    ) -> models.CreateModelResponse:
        """Register an uploaded blob as a model."""
        async with logged_refusals(self._farm, request.digest):
            model = await self._farm.library.add_model(
                request.digest, request.name[:255], calling_user()
            )
        return models.CreateModelResponse(model=model_message(model))

    async def GetModel(
        self, request: models.GetModelRequest, context: Context
    ) -> models.GetModelResponse:
        """Return one model."""
        model = await self._farm.store.read(queries.find_model, request.model)
        return models.GetModelResponse(model=model_message(model))

    async def ListModels(
        self, request: models.ListModelsRequest, context: Context
    ) -> models.ListModelsResponse:
        """List models, newest first."""
        page = page_of(request.page_size, request.page_token)
        rows = await self._farm.store.read(queries.list_models, page)
        token = (
            next_token(len(rows), page.size, rows[-1].created_us, rows[-1].digest) if rows else ""
        )
        return models.ListModelsResponse(
            models=[model_message(row) for row in rows], next_page_token=token
        )

    async def DeleteModel(
        self, request: models.DeleteModelRequest, context: Context
    ) -> models.DeleteModelResponse:
        """Take a model off the list."""
        model = await self._farm.store.read(queries.find_model, request.digest)
        await self._farm.store.delete_model(model.digest, now_us())
        self._farm.library.forget(model.digest)
        return models.DeleteModelResponse()

    async def CheckModel(
        self, request: models.CheckModelRequest, context: Context
    ) -> models.CheckModelResponse:
        """Tell whether a network would run, and every reason why not."""
        chip = request.chip or self._farm.default_chip
        find_chip(chip)
        settings = settings_of(request.settings)
        report = await self._farm.library.report(request.digest, chip, settings)
        return models.CheckModelResponse(
            model=request.digest,
            chip=chip,
            deployable=report.configuration is not None,
            findings=[finding_message(finding) for finding in report.findings],
            layers=[layer_message(need) for need in report.layers],
            configuration="" if report.configuration is None else report.configuration.digest,
        )

    async def GetConfiguration(
        self, request: models.GetConfigurationRequest, context: Context
    ) -> models.GetConfigurationResponse:
        """Return what the chip would be told, as the vendor's JSON."""
        chip = request.chip or self._farm.default_chip
        settings = settings_of(request.settings)
        made, text = await self._farm.library.vendor_json(request.digest, chip, settings)
        return models.GetConfigurationResponse(digest=made.digest, chip=made.chip, json=text)


@translated
class RecordingService(recordings_pb2_grpc.RecordingServiceServicer):
    """Recording files."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    async def CreateRecording(
        self, request: recordings.CreateRecordingRequest, context: Context
    ) -> recordings.CreateRecordingResponse:
        """Register an uploaded blob as recordings."""
        async with logged_refusals(self._farm, ""):
            recording = await self._farm.library.add_recording(
                request.digest, request.name[:255], calling_user()
            )
        return recordings.CreateRecordingResponse(recording=recording_message(recording))

    async def GetRecording(
        self, request: recordings.GetRecordingRequest, context: Context
    ) -> recordings.GetRecordingResponse:
        """Return one recording file."""
        recording = await self._farm.store.read(queries.find_recording, request.recording)
        return recordings.GetRecordingResponse(recording=recording_message(recording))

    async def ListRecordings(
        self, request: recordings.ListRecordingsRequest, context: Context
    ) -> recordings.ListRecordingsResponse:
        """List recording files, newest first."""
        page = page_of(request.page_size, request.page_token)
        rows = await self._farm.store.read(queries.list_recordings, page)
        token = (
            next_token(len(rows), page.size, rows[-1].created_us, rows[-1].digest) if rows else ""
        )
        return recordings.ListRecordingsResponse(
            recordings=[recording_message(row) for row in rows], next_page_token=token
        )

    async def DeleteRecording(
        self, request: recordings.DeleteRecordingRequest, context: Context
    ) -> recordings.DeleteRecordingResponse:
        """Take a recording file off the list."""
        recording = await self._farm.store.read(queries.find_recording, request.digest)
        await self._farm.store.delete_recording(recording.digest, now_us())
        self._farm.library.forget(recording.digest)
        return recordings.DeleteRecordingResponse()
