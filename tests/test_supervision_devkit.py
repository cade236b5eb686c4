"""Supervision of a devkit, through SamnaBoard and the double of samna. No board has been here."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from speckfarm_server.boards.state import Health, RuntimeState
from speckfarm_server.config import UsbConfig
from tests.double_world import World
from tests.supervised import Supervised, play, supervised


def devkit(folder: Path, world: World, **limits: float) -> AbstractAsyncContextManager[Supervised]:
    shown = UsbConfig(sysfs=str(world.sysfs), nodes=str(world.nodes))
    more: dict[str, Any] = {"kind": "real", "usb": "2-1.3", "usb_shown": shown}
    return supervised(folder, limits=limits, **more)


def test_a_devkit_gives_the_known_answer_and_then_takes_jobs(tmp_path: Path, world: World) -> None:
    async def scene() -> None:
        async with devkit(tmp_path, world) as board:
            host = await board.idle()

            assert (host.health, host.faults, host.swap_hint) == (Health.GOOD, 0, "")
            assert host.device is not None
            assert (host.device.type, host.device.usb_path) == ("Speck2fDevKit", "2-1.3")
            assert "known-answer check" in [message for _, _, message in board.history]
            assert [each.usb_address for each in board.identities] == [9]
            assert (await board.run(tmp_path))[-1] == "done"

    play(scene)


def test_a_devkit_that_loses_first_events_and_stamps_late_passes(
    tmp_path: Path, world: World
) -> None:
    world.behave(lost_first_event=True, offset_us=40, jitter_us=5, core01_shuffle=True)

    async def scene() -> None:
        async with devkit(tmp_path, world) as board:
            assert (await board.idle()).health is Health.GOOD
            assert board.host.faults == 0

    play(scene)


def test_a_pulled_devkit_is_found_out_by_its_ping_and_tested_when_it_is_back(
    tmp_path: Path, world: World
) -> None:
    async def scene() -> None:
        async with devkit(tmp_path, world, heartbeat_s=1.5) as board:
            host = await board.idle()
            world.unplug()
            await board.offline()
            assert (host.health, host.faults) == (Health.UNKNOWN, 0)
            assert "No devkit fits board b" in host.message

            world.plug(address=10)
            await board.idle()

            assert host.health is Health.GOOD
            assert host.swap_hint.endswith("USB address 10 instead of 9")
            assert board.events == ["board.unplugged"]

    play(scene)


def test_a_devkit_that_is_seen_and_dead_is_quarantined_until_it_answers(
    tmp_path: Path, world: World
) -> None:
    async def scene() -> None:
        async with devkit(tmp_path, world, heartbeat_s=2.0) as board:
            host = await board.idle()
            world.behave(dead_handle=True)
            await board.until(lambda host: host.runtime_state is RuntimeState.RECOVERING)
            assert "failed ping: " in host.message
            assert "does not answer reads of a neuron" in host.message
            await board.until(lambda host: host.health is Health.BAD)

            world.behave(dead_handle=None)
            await board.idle()

            assert (host.health, host.faults) == (Health.GOOD, 1)
            assert board.events == ["board.quarantined", "board.returned"]

    play(scene)


def test_a_devkit_swapped_for_one_with_a_serial_number_is_drained(
    tmp_path: Path, world: World
) -> None:
    async def scene() -> None:
        async with devkit(tmp_path, world, heartbeat_s=1.5) as board:
            host = await board.idle()
            world.replug(serial="77")

            await board.until(lambda host: not host.enabled)

            assert "serial number '77' instead of ''" in host.message
            assert board.events == ["board.swapped"]

    play(scene)


def test_a_server_that_stops_lets_the_devkit_be_closed(tmp_path: Path, world: World) -> None:
    async def scene() -> None:
        async with devkit(tmp_path, world) as board:
            await board.idle()
        assert world.log()[-1] == "close"

    play(scene)
