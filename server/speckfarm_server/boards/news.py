"""What of a board must outlive the server."""

from __future__ import annotations

from dataclasses import dataclass

from speckfarm_server.boards.identity import Identity


@dataclass(frozen=True, kw_only=True)
class BoardNews:
    """Something that happened to a board."""

    event: str = ""  # of the usage log; empty: none
    message: str = ""
    identity: Identity | None = None  # to be stored as the board's
    is_drained: bool = False  # it was taken out of service
