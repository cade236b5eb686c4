"""What users ask for and do not get leaves a usage event too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from speckfarm.v1 import boards_pb2
from speckfarm_server.errors import FarmError
from speckfarm_server.farm import Farm
from speckfarm_server.job import BoardKind
from speckfarm_server.service.authentication import calling_user

_KINDS = {
    boards_pb2.BOARD_KIND_REAL: BoardKind.REAL,
    boards_pb2.BOARD_KIND_SIMULATED: BoardKind.SIMULATED,
}


@asynccontextmanager
async def logged_refusals(
    farm: Farm, model: str, board_kind: boards_pb2.BoardKind.ValueType | None = None
) -> AsyncIterator[None]:
    """Log an error of the block as job.refused, then let it pass."""
    try:
        yield
    except FarmError as refusal:
        kind = None if board_kind is None else _KINDS.get(board_kind)
        await farm.log_refusal(calling_user(), model, refusal, board_kind=kind)
        raise
