"""Job states: who may follow whom."""

from __future__ import annotations

import pytest

from speckfarm_server.job import ACTIVE, FINAL, MAY_FOLLOW, BoardKind, JobState, run_time_us
from tests.test_store import live, spec


def test_every_state_says_which_states_it_may_follow() -> None:
    assert set(MAY_FOLLOW) == set(JobState)


def test_nothing_follows_a_final_state() -> None:
    followed = {old for olds in MAY_FOLLOW.values() for old in olds}

    assert followed.isdisjoint(FINAL)


@pytest.mark.parametrize("final", FINAL)
def test_a_job_that_ended_cannot_move(final: JobState) -> None:
    job = live(spec())
    job.state = final

    for state in JobState:
        with pytest.raises(RuntimeError, match="cannot go from"):
            job.move(state)


@pytest.mark.parametrize("state", [JobState.QUEUED, *ACTIVE, JobState.CANCELLING])
def test_every_state_that_is_not_final_can_end_as_cancelled(state: JobState) -> None:
    assert state in MAY_FOLLOW[JobState.CANCELLED]


def test_what_is_not_published_is_not_seen() -> None:
    job = live(spec())

    job.lease("twin-0", "idle")

    assert job.status.state is JobState.QUEUED
    assert [event.state for event in job.events] == [JobState.QUEUED]

    job.publish()

    assert job.status.state is JobState.ASSIGNED
    assert [event.sequence for event in job.events] == [1, 2]


def test_many_short_recordings_have_time_on_a_real_board() -> None:
    seconds = {kind: run_time_us(kind, 10_000, 1_000_000) / 1e6 for kind in BoardKind}

    assert seconds == {BoardKind.REAL: 150_033, BoardKind.SIMULATED: 330}
