"""BoardService and InfoService: what the farm has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import grpc

from speckfarm.v1 import boards_pb2 as boards
from speckfarm.v1 import boards_pb2_grpc, info_pb2_grpc
from speckfarm.v1 import info_pb2 as info
from speckfarm_server.boards.host import BoardHost
from speckfarm_server.chip import CHIPS, Chip
from speckfarm_server.convert_board import board_message
from speckfarm_server.farm import Farm
from speckfarm_server.service.authentication import calling_user
from speckfarm_server.service.status import translated

Context = grpc.aio.ServicerContext[Any, Any]


@translated
class BoardService(boards_pb2_grpc.BoardServiceServicer):
    """Boards."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    async def ListBoards(
        self, request: boards.ListBoardsRequest, context: Context
    ) -> boards.ListBoardsResponse:
        """List all boards."""
        hosts = sorted(self._farm.dispatcher.hosts, key=lambda host: host.id)
        return boards.ListBoardsResponse(boards=[self._message(host) for host in hosts])

    async def GetBoard(
        self, request: boards.GetBoardRequest, context: Context
    ) -> boards.GetBoardResponse:
        """Return one board."""
        host = self._farm.dispatcher.host(request.board)
        return boards.GetBoardResponse(board=self._message(host))

    async def WatchBoards(
        self, request: boards.WatchBoardsRequest, context: Context
    ) -> AsyncIterator[boards.WatchBoardsResponse]:
        """Stream all boards once, then each whenever it changes."""
        async for host in self._farm.dispatcher.watch_boards():
            yield boards.WatchBoardsResponse(board=self._message(host))

    async def DrainBoard(
        self, request: boards.DrainBoardRequest, context: Context
    ) -> boards.DrainBoardResponse:
        """Take a board out of service after its current job."""
        host = await self._farm.set_enabled(request.board, calling_user(), enabled=False)
        return boards.DrainBoardResponse(board=self._message(host))

    async def UndrainBoard(
        self, request: boards.UndrainBoardRequest, context: Context
    ) -> boards.UndrainBoardResponse:
        """Put a board back into service."""
        host = await self._farm.set_enabled(request.board, calling_user(), enabled=True)
        return boards.UndrainBoardResponse(board=self._message(host))

    def _message(self, host: BoardHost) -> boards.Board:
        return board_message(host, self._farm.dispatcher.job_on(host.id))


@translated
class InfoService(info_pb2_grpc.InfoServiceServicer):
    """The server's description."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm

    async def GetServerInfo(
        self, request: info.GetServerInfoRequest, context: Context
    ) -> info.GetServerInfoResponse:
        """Return version, limits, chips, and who is calling."""
        limits = self._farm.config.limits
        queued, active = self._farm.dispatcher.counts()
        return info.GetServerInfoResponse(
            version=version("speckfarm"),
            user=calling_user(),
            chips=[self._chip(chip) for chip in CHIPS.values()],
            max_model_bytes=limits.max_model_bytes,
            max_recording_bytes=limits.max_recording_bytes,
            max_benchmark_points=limits.max_benchmark_points,
            queued_jobs=queued,
            active_jobs=active,
        )

    def _chip(self, chip: Chip) -> info.Chip:
        cores = [
            info.CoreLimits(
                core=number,
                kernel_entries=core.kernel_entries,
                neuron_entries=core.neuron_entries,
                bias_entries=core.bias_entries,
                synops_per_s=core.synops_per_s,
            )
            for number, core in enumerate(chip.cores)
        ]
        boards = sum(host.chip == chip.name for host in self._farm.dispatcher.hosts)
        return info.Chip(name=chip.name, cores=cores, boards=boards)
