"""The known-answer check as a board's process runs it: an ordinary task, and what came of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from speckfarm_server.boards.child import ENDS, Child, fault_of
from speckfarm_server.boards.known_answer import Counts, network, write_recordings
from speckfarm_server.boards.wire import Message
from speckfarm_server.configuration import to_bytes
from speckfarm_server.errors import BoardFault, ErrorClass

LIMIT_S = 60.0  # of the whole check; a real board needs about 2 s, a simulated one less


async def ask(child: Child, chip: str, *, cache: Path, lease_s: float) -> Counts:
    """Let a board run the known-answer network; its counts for each recording and class.

    Raises BoardFault: what the process says, BOARD_HUNG, BOARD_PROCESS_DIED, CHECK_TOO_LONG.
    """
    configuration = network(chip)
    path = await asyncio.to_thread(write_recordings, cache)
    task = {
        "configuration": configuration.digest,
        "recordings": [[path.stem, str(path)]],
        "keep_lags": False,
    }
    child.send({"op": "run", **task}, to_bytes(configuration))
    child.expect(lease_s)
    limit = asyncio.get_running_loop().call_later(LIMIT_S, child.close, _too_long())
    try:
        message = await _end_of(child)
    finally:
        limit.cancel()
    child.relax()
    if message["op"] != "done":
        raise fault_of(message)
    return [recording["counts"] for recording in message["recordings"]]


async def _end_of(child: Child) -> Message:
    while True:
        message = await child.receive()
        if message["op"] in ENDS:
            return message


def _too_long() -> BoardFault:
    text = f"The known-answer check did not end within {LIMIT_S:g} s; the board is opened anew"
    return BoardFault("CHECK_TOO_LONG", text, ErrorClass.DEVICE_STALL, limit_s=LIMIT_S)
