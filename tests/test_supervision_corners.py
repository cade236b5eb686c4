"""Moments at which a board's states could be confused: replaced, absent, swapped, forbidden."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from speckfarm_server.boards.absence import is_unavailable
from speckfarm_server.boards.state import Health, RuntimeState
from speckfarm_server.boards.wire import Message
from speckfarm_server.errors import BoardFault, ErrorClass
from tests.supervised import play, plug, pull, script_of, supervised
from tests.test_supervision_devices import ACCEPTED, Kernel


def test_an_answer_that_comes_with_a_replacement_does_not_make_the_board_idle(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        script = {"run_ms": 60_000}
        async with supervised(tmp_path, script) as board:
            host = await board.idle()
            job = asyncio.create_task(board.run(tmp_path))
            await board.until(lambda host: host.runtime_state is RuntimeState.BUSY)
            child = host._keeper.child
            assert child is not None
            assert child._inbox is not None
            child._inbox._messages.append(Message(op="done"))  # it arrived in the same moment
            child._inbox._wake()
            host.replace("it would not be cancelled")

            with pytest.raises(BoardFault) as caught:
                await job

            assert caught.value.error_class is ErrorClass.INFRASTRUCTURE
            assert (host.runtime_state, host.faults) == (RuntimeState.RECOVERING, 1)

    play(scene)


def test_an_absent_devkit_cannot_be_accepted(tmp_path: Path) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        plug(tmp_path, serial="B")  # in the place of ACCEPTED
        async with supervised(tmp_path, script, accepted=ACCEPTED) as board:
            host = await board.idle()
            assert not host.enabled
            kernel = Kernel(board)
            pull(tmp_path)
            kernel.say("remove")
            await board.offline()

            host.set_enabled(True)
            plug(tmp_path)
            kernel.say("add")
            await board.idle()
            kernel.close()

            assert board.identities == []
            assert (host.enabled, host.message) == (True, "")

    play(scene)


def test_devices_of_others_do_not_make_a_board_absent_anew(tmp_path: Path) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        pull(tmp_path)
        async with supervised(tmp_path, script) as board:
            host = await board.offline()
            since = host.message
            kernel = Kernel(board)
            for number in range(3):
                tries = len(board.history)
                kernel.say("add", f"1-{number}")
                await board.until(lambda _, tries=tries: len(board.history) > tries + 1)
            kernel.close()

            assert board.events == ["board.unplugged"]
            assert host.message == since

    play(scene)


def test_a_board_that_is_swapped_already_is_not_swapped_again_by_a_restart(tmp_path: Path) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        plug(tmp_path, serial="B")
        async with supervised(tmp_path, script, accepted=ACCEPTED) as board:
            board.host.enabled = False  # as the server before stored it
            host = await board.idle()

            assert board.events == []
            assert "another devkit" in host.message

    play(scene)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (BoardFault("DEVICE_NOT_ALLOWED", "", ErrorClass.INFRASTRUCTURE), True),
        (BoardFault("DEVICE_IN_USE", "", ErrorClass.INFRASTRUCTURE), True),
        (BoardFault("SAMNA_UNUSABLE", "", ErrorClass.CONFIGURATION), True),
        (BoardFault("DEVICE_NOT_OPENED", "", ErrorClass.INFRASTRUCTURE), False),
        (OSError("no more files"), False),
    ],
)
def test_what_is_wrong_with_the_host_is_told_from_what_is_wrong_with_a_board(
    fault: BoardFault | OSError, expected: bool
) -> None:
    assert is_unavailable(fault) is expected


def test_a_bug_while_a_board_is_brought_up_does_not_lose_it(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        (tmp_path / "device").write_text('{"type": "Speck2fDevKit"}')  # no Device can be made of it
        async with supervised(tmp_path, script) as board:
            await board.until(lambda host: host.health is Health.BAD)

            plug(tmp_path)
            host = await board.idle()

            assert host.health is Health.GOOD

    play(scene)
