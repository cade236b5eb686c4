"""Supervision of one board: its test, its fault budget, quarantine, and its heartbeat."""

from __future__ import annotations

from pathlib import Path

import pytest

from speckfarm_server.boards.fault_budget import FaultBudget, back_off_s
from speckfarm_server.boards.kinds import is_pinged, is_tested
from speckfarm_server.boards.state import Health, RuntimeState
from speckfarm_server.config import BoardConfig
from tests.supervised import kill_process, play, pull, script_of, supervised

CHECKED = "known-answer check"


def test_a_board_like_a_devkit_takes_no_job_before_it_gave_the_known_answer(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path)) as board:
            host = await board.idle()

            states = [state for state, _, _ in board.history]
            assert (host.health, host.faults, host.in_service) == (Health.GOOD, 0, True)
            assert (RuntimeState.STARTING, Health.UNKNOWN, CHECKED) in board.history
            assert states == [RuntimeState.STARTING] * 2 + [RuntimeState.IDLE]

    play(scene)


def test_a_wrong_answer_twice_is_a_quarantine_until_the_answer_is_right(tmp_path: Path) -> None:
    async def scene() -> None:
        script = script_of(tmp_path, known_answer=str(tmp_path / "answer"))
        (tmp_path / "answer").write_text("fail")
        async with supervised(tmp_path, script) as board:
            host = await board.until(lambda host: host.health is Health.BAD)
            assert (host.runtime_state, host.faults) == (RuntimeState.OFFLINE, 2)
            assert host.message.startswith("in quarantine since 2")
            assert "after 2 faults in a row, the last: The known answer is wrong: " in host.message
            assert not host.in_service

            (tmp_path / "answer").write_text("pass")
            await board.idle()

            assert (host.health, host.faults) == (Health.GOOD, 1)
            assert host.message == ""
            assert board.events == ["board.quarantined", "board.returned"]
            assert "known are 399" in board.news[0].message

    play(scene)


def test_a_wrong_answer_that_is_only_to_be_told_keeps_no_job_away(tmp_path: Path) -> None:
    async def scene() -> None:
        script = script_of(tmp_path, known_answer="fail")
        async with supervised(tmp_path, script, known_answer="told") as board:
            host = await board.idle()

            assert (host.health, host.faults, host.in_service) == (Health.UNKNOWN, 0, True)
            assert host.message.startswith("The known answer is wrong: ")
            assert (await board.run(tmp_path))[-1] == "done"

    play(scene)


def test_a_first_fault_costs_no_time_and_the_second_is_a_quarantine(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path)) as board:
            host = await board.idle()

            host.replace("it crashed")
            assert (host.runtime_state, host.health) == (RuntimeState.RECOVERING, Health.UNKNOWN)
            assert host.in_service
            await board.idle()
            assert (host.health, host.faults, board.events) == (Health.GOOD, 1, [])

            host.replace("it crashed again")
            assert (host.runtime_state, host.health) == (RuntimeState.OFFLINE, Health.BAD)
            await board.idle()
            assert (host.faults, board.events) == (1, ["board.quarantined", "board.returned"])

            host.replace("and again")
            assert host.health is Health.BAD  # one fault was left on the budget

    play(scene)


def test_a_job_that_succeeds_clears_the_budget(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path)) as board:
            host = await board.idle()
            host.replace("it crashed")
            await board.idle()

            assert (await board.run(tmp_path))[-1] == "done"

            assert host.faults == 0
            host.replace("it crashed")
            assert host.health is Health.UNKNOWN

    play(scene)


def test_a_fault_while_the_board_is_brought_up_is_counted_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path)) as board:
            host = await board.idle()

            host.replace("it hung")
            host.replace("the job says that it hung")

            assert (host.faults, host.health) == (1, Health.UNKNOWN)

    play(scene)


def test_a_board_that_does_not_start_is_tried_again_and_then_quarantined(tmp_path: Path) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        (tmp_path / "open").write_text("fault")
        async with supervised(tmp_path, script) as board:
            host = await board.until(lambda host: host.health is Health.BAD)
            assert "does not start: The script says fault" in [m for _, _, m in board.history]
            assert "The script says fault" in host.message

            (tmp_path / "open").write_text("")
            await board.idle()

            assert (host.health, host.faults) == (Health.GOOD, 1)

    play(scene)


def test_a_simulated_board_starts_good_and_gives_the_known_answer_after_a_quarantine(
    tmp_path: Path,
) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, kind="simulated") as board:
            host = await board.idle()
            assert (host.health, CHECKED in [m for _, _, m in board.history]) == (
                Health.GOOD,
                False,
            )
            for _ in range(2):
                kill_process('"id": "b"')
                await board.until(lambda host: host.runtime_state is not RuntimeState.IDLE)
                await board.idle()

            assert (RuntimeState.RECOVERING, Health.BAD, CHECKED) in board.history
            assert (host.health, host.faults) == (Health.GOOD, 1)
            assert board.events == ["board.quarantined", "board.returned"]
            assert "died" in board.news[0].message

    play(scene)


def test_a_scripted_board_without_an_answer_is_not_asked(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, {}) as board:
            host = await board.idle()
            for _ in range(2):
                host.replace("it crashed")
                await board.idle()

            assert CHECKED not in [message for _, _, message in board.history]
            assert board.events == ["board.quarantined", "board.returned"]

    play(scene)


@pytest.mark.parametrize(("answer", "words"), [("it is hot", "it is hot"), ("hang", "silent for")])
def test_an_idle_board_whose_ping_fails_is_replaced(
    tmp_path: Path, answer: str, words: str
) -> None:
    async def scene() -> None:
        script = script_of(tmp_path)
        (tmp_path / "ping").write_text(answer)
        async with supervised(tmp_path, script, limits={"heartbeat_s": 0.1}) as board:
            await board.idle()

            host = await board.until(lambda host: host.runtime_state is not RuntimeState.IDLE)

            assert (host.runtime_state, host.health) == (RuntimeState.RECOVERING, Health.UNKNOWN)
            assert words in host.message
            (tmp_path / "ping").write_text("")
            await board.idle()
            assert (host.health, host.faults, board.events) == (Health.GOOD, 1, [])

    play(scene)


def test_a_process_that_dies_between_two_pings_is_replaced_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path)) as board:
            host = await board.idle()

            kill_process(str(tmp_path))
            await board.until(lambda host: host.runtime_state is RuntimeState.RECOVERING)

            assert "while it was idle: The process of board b died" in host.message
            await board.idle()

    play(scene)


def test_the_answer_to_a_ping_that_a_job_overtook_is_not_the_jobs(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path)) as board:
            await board.idle()
            child = board.host._keeper.child
            assert child is not None
            child.send({"op": "ping"})

            ops = await board.run(tmp_path)

            assert (ops[-1], "pong" in ops, board.host.faults) == ("done", False, 0)

    play(scene)


def test_a_failed_ping_of_a_board_that_was_pulled_is_no_fault(tmp_path: Path) -> None:
    async def scene() -> None:
        async with supervised(tmp_path, script_of(tmp_path), limits={"heartbeat_s": 0.1}) as board:
            host = await board.idle()
            pull(tmp_path)
            (tmp_path / "ping").write_text("it is not plugged in any more")

            await board.offline()

            assert (host.health, host.faults) == (Health.UNKNOWN, 0)
            assert host.message.startswith("no devkit since 2")
            assert board.events == ["board.unplugged"]

    play(scene)


def test_who_is_tested_and_pinged() -> None:
    real, twin, scripted = (
        BoardConfig(id="b", kind=kind) for kind in ("real", "simulated", "scripted")
    )

    assert [is_tested(b, after_quarantine=False) for b in (real, twin, scripted)] == [
        True, False, False
    ]  # fmt: skip
    assert [is_tested(b, after_quarantine=True) for b in (real, twin, scripted)] == [
        True, True, False
    ]  # fmt: skip
    assert [is_pinged(b) for b in (real, twin, scripted)] == [True, False, False]


def test_back_off_doubles_from_half_a_second_to_half_a_minute() -> None:
    assert [back_off_s(n) for n in range(9)] == [0.5, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_each_quarantine_takes_twice_as_long_until_a_job_succeeds() -> None:
    budget = FaultBudget()
    rests = []
    for _ in range(6):
        budget.count()
        rests.append(budget.rest_s(5.0))
        budget.ready()
    budget.clear()
    budget.count()

    assert rests == [0.5, 5, 10, 20, 30, 30]
    assert budget.rest_s(5.0) == 0.5


def test_a_quarantine_longer_than_half_a_minute_is_kept() -> None:
    budget = FaultBudget()
    for _ in range(5):
        budget.count()

    assert budget.rest_s(120.0) == 120.0


def test_an_excuse_takes_back_what_was_counted_since_the_board_was_ready() -> None:
    budget = FaultBudget()
    budget.count()
    budget.ready()
    budget.count()

    budget.excuse()

    assert (budget.faults, budget.is_spent, budget.rest_s(5.0)) == (1, False, 0.5)
