"""Devkits that are pulled, plugged in, swapped and proved: what a board makes of them."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from speckfarm_server.boards import fault_budget
from speckfarm_server.boards.identity import Identity
from speckfarm_server.boards.known_answer import COUNTS
from speckfarm_server.boards.proof import proof_of
from speckfarm_server.boards.state import Health, RuntimeState
from speckfarm_server.boards.uevents import UsbWatch
from speckfarm_server.config import BoardConfig
from speckfarm_server.errors import BadInput, BoardFault, ErrorClass
from tests.supervised import DEVICE, Supervised, play, plug, pull, script_of, supervised
from tests.test_uevents import message

KEPT = ("type", "serial", "logic_version", "usb_path", "usb_address")
ACCEPTED = Identity(**{name: DEVICE[name] for name in KEPT})


class Kernel:
    """Tells a board what the kernel would, through a real socket."""

    def __init__(self, board: Supervised) -> None:
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._watch = UsbWatch(ours, board.host.usb_changed)

    def say(self, action: str, usb_path: str = "2-1.3") -> None:
        self._theirs.send(message(action, f"/devices/pci0000:00/usb2/2-1/{usb_path}"))

    def close(self) -> None:
        self._watch.close()
        self._theirs.close()


def write_proof(folder: Path, counts: Any = COUNTS, tolerance: float = 0.05) -> str:
    path = folder / "proof.json"
    path.write_text(json.dumps({"known_answer": {"counts": counts, "tolerance": tolerance}}))
    return str(path)


def test_a_board_that_is_pulled_goes_offline_and_comes_back_as_soon_as_it_is_plugged_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault_budget, "FIRST_BACK_OFF_S", 600.0)  # no try of its own is in time
    monkeypatch.setattr(fault_budget, "LONGEST_BACK_OFF_S", 600.0)

    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path)) as board:
            host = await board.idle()
            kernel = Kernel(board)
            pull(tmp_path)
            kernel.say("remove")
            await board.offline()
            assert (host.health, host.faults, host.in_service) == (Health.UNKNOWN, 0, False)
            assert host.message.startswith("no devkit since 2")
            assert host.message.endswith(": it was unplugged")

            plug(tmp_path, usb_address=10)
            kernel.say("add")
            await board.idle()
            kernel.close()

            assert (host.health, host.faults) == (Health.GOOD, 0)
            assert (RuntimeState.RECOVERING, Health.UNKNOWN, "known-answer check") in board.history
            assert host.swap_hint == (
                "plugged in anew, or the host was started: USB address 10 instead of 9"
            )
            assert board.events == ["board.unplugged"]

    play(scene)


def test_a_running_attempt_on_a_board_that_is_pulled_is_an_infrastructure_fault(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        async with supervised(tmp_path, script) as board:
            await board.idle()
            (tmp_path / "ping").write_text("hang")  # what comes next is never answered
            child = board.host._keeper.child
            assert child is not None
            child.send({"op": "ping"})
            kernel = Kernel(board)
            job = asyncio.create_task(board.run(tmp_path))
            await board.until(lambda host: host.runtime_state is RuntimeState.BUSY)
            pull(tmp_path)
            kernel.say("remove")

            with pytest.raises(BoardFault) as caught:
                await job

            kernel.close()
            assert (caught.value.reason, caught.value.error_class) == (
                "BOARD_UNPLUGGED",
                ErrorClass.INFRASTRUCTURE,
            )
            board.host.replace("what the runner says of it")
            assert (board.host.runtime_state, board.host.faults) == (RuntimeState.OFFLINE, 0)

    play(scene)


def test_a_board_pulled_during_its_test_is_absent_and_not_at_fault(tmp_path: Path) -> None:
    async def scene() -> None:
        script = script_of(tmp_path, configure_ms=600_000)
        async with supervised(tmp_path, script, limits={"lease_s": 600.0}) as board:
            await board.until(lambda host: host.message == "known-answer check")
            kernel = Kernel(board)
            pull(tmp_path)
            kernel.say("remove")

            host = await board.offline()

            kernel.close()
            assert (host.faults, board.events) == (0, ["board.unplugged"])

    play(scene)


def test_other_devices_may_come_and_go(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path), usb="2-1.3") as board:
            host = await board.idle()
            before = len(board.history)
            kernel = Kernel(board)
            for action, usb_path in [("remove", "2-1"), ("remove", "2-1.30"), ("add", "2-1.3")]:
                kernel.say(action, usb_path)
            kernel.say("remove", "2-1.3")

            await board.offline()

            kernel.close()
            assert len(board.history) == before + 1
            assert host.faults == 0

    play(scene)


def test_without_messages_a_board_that_is_not_there_is_looked_for_again(tmp_path: Path) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        pull(tmp_path)
        async with supervised(tmp_path, script) as board:
            host = await board.offline()
            assert "no devkit" in host.message
            assert (host.health, host.faults) == (Health.UNKNOWN, 0)

            plug(tmp_path)
            await board.idle()

            assert (host.health, host.swap_hint) == (Health.GOOD, "")
            assert board.events == ["board.unplugged"]  # told once, however often it was tried

    play(scene)


def test_the_first_devkit_is_accepted_once_it_passed(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path)) as board:
            await board.until(lambda host: host.device is not None)
            assert board.identities == []

            await board.idle()

            assert board.identities == [ACCEPTED]

    play(scene)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"type": "Speck2eDevKit"}, "type 'Speck2eDevKit' instead of 'Speck2fDevKit'"),
        ({"serial": "77"}, "serial number '77' instead of ''"),
        ({"logic_version": 3}, "logic version 3 instead of 0"),
    ],
)
def test_another_devkit_is_drained_until_an_operator_accepts_it(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        plug(tmp_path, **changes)
        async with supervised(tmp_path, script, accepted=ACCEPTED) as board:
            host = await board.idle()
            assert (host.enabled, host.in_service) == (False, False)
            assert host.message.startswith(f"another devkit is in this place ({words})")
            assert "`speckfarm undrain b` accepts it" in host.message
            assert [(n.event, n.message, n.is_drained) for n in board.news] == [
                ("board.swapped", words, True)
            ]

            host.set_enabled(True)

            assert (host.enabled, host.message, host.in_service) == (True, "", True)
            [identity] = board.identities
            assert {name: getattr(identity, name) for name in changes} == changes
            host.replace("it crashed")
            await board.idle()
            assert (host.enabled, host.message, board.events) == (True, "", ["board.swapped"])

    play(scene)


def test_a_new_address_is_a_hint_that_an_operator_can_clear(tmp_path: Path) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        plug(tmp_path, usb_address=12, usb_path="2-2")
        async with supervised(tmp_path, script, accepted=ACCEPTED) as board:
            host = await board.idle()
            assert host.enabled
            assert "USB path '2-2' instead of '2-1.3', USB address 12 instead of 9" in (
                host.swap_hint
            )

            host.set_enabled(True)

            assert host.swap_hint == ""
            assert [each.usb_address for each in board.identities] == [12]

    play(scene)


@pytest.mark.parametrize(("factor", "hint"), [("0.98", ""), ("0.9", "since it was proved: ")])
def test_a_proved_board_that_moved_within_a_fifth_passes_with_a_hint(
    tmp_path: Path, factor: str, hint: str
) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        (tmp_path / "answer").write_text(factor)
        proof = write_proof(tmp_path)
        async with supervised(tmp_path, script, accepted=ACCEPTED, proof=proof) as board:
            host = await board.idle()

            assert host.swap_hint.startswith(hint)
            assert bool(host.swap_hint) is bool(hint)
            assert host.enabled

    play(scene)


def test_a_proved_board_is_held_against_its_own_counts(tmp_path: Path) -> None:
    own = [[2 * count for count in row] for row in COUNTS]

    async def scene() -> None:
        script = script_of(tmp_path)
        proof = write_proof(tmp_path, own)
        async with supervised(tmp_path, script, accepted=ACCEPTED, proof=proof) as board:
            await board.until(lambda host: host.health is Health.BAD)
            (tmp_path / "answer").write_text("2.0")
            host = await board.idle()
            assert (host.health, host.swap_hint) == (Health.GOOD, "")

    play(scene)


def test_the_proof_of_a_devkit_that_was_swapped_counts_no_more(tmp_path: Path) -> None:
    own = [[2 * count for count in row] for row in COUNTS]

    async def scene() -> None:
        script = script_of(tmp_path)
        plug(tmp_path, serial="77")
        proof = write_proof(tmp_path, own)
        async with supervised(tmp_path, script, accepted=ACCEPTED, proof=proof) as board:
            host = await board.idle()  # by the counts of the twin
            host.set_enabled(True)
            [identity] = board.identities
            host.replace("it crashed")
            await board.idle()
            assert host.faults == 1
        async with supervised(tmp_path, script, accepted=identity, proof=proof) as board:
            await board.idle()  # and so after a restart of the server
            assert board.host.enabled
        write_proof(tmp_path, own, 0.06)  # the new one was proved
        async with supervised(tmp_path, script, accepted=identity, proof=proof) as board:
            await board.until(lambda host: host.health is Health.BAD)

    play(scene)


def test_a_proof_whose_known_answer_could_not_run_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_text('{"known_answer": null, "assumptions": {}}')

    assert proof_of(BoardConfig(id="b", kind="real", proof=str(path))) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "FileNotFoundError"),
        ("{", "JSONDecodeError"),
        ("{}", "it has no key known_answer"),
        ("[]", "it is no JSON object"),
        ('{"known_answer": {"counts": [[1, 2]], "tolerance": 0.05}}', "4 rows of 4 numbers"),
        ('{"known_answer": {"counts": 7, "tolerance": 0.05}}', "TypeError"),
        (f'{{"known_answer": {{"counts": {[[-1] * 4] * 4}, "tolerance": 0.05}}}}', "from 0"),
        (f'{{"known_answer": {{"counts": {[[1] * 4] * 4}, "tolerance": 5}}}}', "0 to 1"),
        (f'{{"known_answer": {{"counts": {[[1] * 4] * 4}}}}}', "tolerance"),
    ],
)
def test_a_proof_that_cannot_be_read_is_refused_at_the_start(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "proof.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(BadInput, match=words) as caught:
        proof_of(BoardConfig(id="b", kind="real", proof=str(path)))

    assert caught.value.reason == "CONFIG_PROOF_UNREADABLE"
    assert str(path) in caught.value.message
