"""Boards on the wire."""

from __future__ import annotations

from speckfarm.v1 import boards_pb2
from speckfarm_server.boards.host import BoardHost
from speckfarm_server.convert import kind_message, time_message
from speckfarm_server.job_result import Device
from speckfarm_server.live import LiveJob


def board_message(host: BoardHost, live: LiveJob | None) -> boards_pb2.Board:
    """Write a board."""
    state = boards_pb2.BoardRuntimeState.Value(f"BOARD_RUNTIME_STATE_{host.runtime_state.value}")
    return boards_pb2.Board(
        id=host.id,
        kind=kind_message(host.kind.value),
        chip=host.chip,
        runtime_state=state,
        health=boards_pb2.BoardHealth.Value(f"BOARD_HEALTH_{host.health.value}"),
        enabled=host.enabled,
        job="" if live is None else live.spec.id,
        user="" if live is None else live.spec.user,
        since=time_message(int(host.since * 1e6)),
        configuration=host.loaded,
        message=host.message,
        device=device_message(host.device),
        swap_hint=host.swap_hint,
        faults=host.faults,
    )


def device_message(device: Device | None) -> boards_pb2.Device | None:
    """Write which devkit it is."""
    return None if device is None else boards_pb2.Device(**vars(device))
