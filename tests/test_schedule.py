"""The schedule is a pure function: oldest job first, no board idle that could work."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from speckfarm_server.job import BoardKind
from speckfarm_server.schedule import Seat, Waiting, explain, pick

KINDS = st.sampled_from(list(BoardKind))
CHIPS = st.sampled_from(["speck2e", "speck2f"])
BOARDS = ("a", "b", "c", "d")


@st.composite
def queues(draw: st.DrawFn) -> list[Waiting]:
    return [
        Waiting(
            job=f"job-{n}",
            chip=draw(CHIPS),
            board_kind=draw(KINDS),
            configuration=draw(st.sampled_from(["x", "y"])),
            board_pin=draw(st.sampled_from(["", "", *BOARDS])),
            avoid=frozenset(draw(st.sets(st.sampled_from(BOARDS), max_size=2))),
        )
        for n in range(draw(st.integers(0, 6)))
    ]


@st.composite
def farms(draw: st.DrawFn) -> list[Seat]:
    return [
        Seat(
            board=board,
            chip=draw(CHIPS),
            board_kind=draw(KINDS),
            is_idle=draw(st.booleans()),
            in_service=draw(st.booleans()),
            configuration=draw(st.sampled_from(["", "x", "y"])),
            idle_since=draw(st.floats(0, 10)),
        )
        for board in BOARDS[: draw(st.integers(0, 4))]
    ]


@given(queues(), farms())
def test_a_job_only_gets_an_idle_board_in_service_of_its_chip_and_kind(
    queue: list[Waiting], seats: list[Seat]
) -> None:
    decisions = pick(queue, seats)

    jobs = {job.job: job for job in queue}
    boards = {seat.board: seat for seat in seats}
    for decision in decisions:
        job, seat = jobs[decision.job], boards[decision.board]
        assert seat.is_idle
        assert seat.in_service
        assert (seat.chip, seat.board_kind) == (job.chip, job.board_kind)
        assert job.board_pin in ("", seat.board)
    assert len({decision.job for decision in decisions}) == len(decisions)
    assert len({decision.board for decision in decisions}) == len(decisions)


@given(queues(), farms())
def test_no_board_stays_idle_while_a_job_waits_that_it_could_run(
    queue: list[Waiting], seats: list[Seat]
) -> None:
    decisions = pick(queue, seats)

    taken = {decision.board for decision in decisions}
    served = {decision.job for decision in decisions}
    idle = [seat for seat in seats if seat.board not in taken]
    waiting = [job for job in queue if job.job not in served]
    assert pick(waiting, idle) == []
    assert pick([replace(job, avoid=frozenset()) for job in waiting if not job.avoid], idle) == []


@given(queues(), farms())
def test_the_schedule_does_not_depend_on_the_order_in_which_boards_are_listed(
    queue: list[Waiting], seats: list[Seat]
) -> None:
    forward = pick(queue, seats)
    backward = pick(queue, seats[::-1])

    assert forward == backward


def seat(board: str, **changes: object) -> Seat:
    plain = Seat(
        board=board,
        chip="speck2f",
        board_kind=BoardKind.SIMULATED,
        is_idle=True,
        in_service=True,
        configuration="",
        idle_since=0.0,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def waiting(job: str, **changes: object) -> Waiting:
    plain = Waiting(job=job, chip="speck2f", board_kind=BoardKind.SIMULATED, configuration="x")
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_job_prefers_the_board_that_holds_its_configuration() -> None:
    seats = [seat("a", idle_since=0.0), seat("b", configuration="x", idle_since=5.0)]

    [decision] = pick([waiting("job-0")], seats)

    assert (decision.board, decision.why) == ("b", "b holds this configuration")


def test_a_board_that_spoiled_an_attempt_is_used_again_only_if_there_is_no_other() -> None:
    job = waiting("job-0", avoid=frozenset({"a"}))

    alone = pick([job], [seat("a")])
    beside_a_busy_one = pick([job], [seat("a"), seat("b", is_idle=False)])

    assert [decision.board for decision in alone] == ["a"]
    assert beside_a_busy_one == []


def test_waiting_is_explained_by_what_is_missing() -> None:
    job = waiting("job-0")

    assert "the farm has no simulated speck2f board" in explain(job, 0, [])
    assert "a drained or bad" in explain(job, 0, [seat("a", in_service=False)])
    assert explain(job, 3, [seat("a", is_idle=False)]) == "3 jobs ahead; 1 fitting boards at work"
