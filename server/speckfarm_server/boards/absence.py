"""Why a board is not there: its devkit is gone, or this server may not use it."""

from __future__ import annotations

from speckfarm_server.errors import BoardFault, ErrorClass

# Of the host, not of the devkit: no fault is counted, and it is looked for again.
UNAVAILABLE = ("DEVICE_NOT_FOUND", "DEVICE_NOT_ALLOWED", "DEVICE_IN_USE")


def is_missing(error: BoardFault | OSError) -> bool:
    """Whether there is no devkit at all."""
    return isinstance(error, BoardFault) and error.reason == "DEVICE_NOT_FOUND"


def is_unavailable(error: BoardFault | OSError) -> bool:
    """Whether nothing is wrong with a devkit: it is not there, or this server may not use it."""
    return isinstance(error, BoardFault) and (
        error.reason in UNAVAILABLE or error.error_class is ErrorClass.CONFIGURATION
    )


def unplugged(board: str) -> BoardFault:
    """The fault of an attempt whose devkit was pulled."""
    text = f"Board {board} was unplugged; plug it in again, meanwhile others take its jobs"
    return BoardFault("BOARD_UNPLUGGED", text, ErrorClass.INFRASTRUCTURE, board=board)
