"""Usage: every accepted job, attempt and refusal leaves an event, and the sums agree with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import speckfarm
from speckfarm.rows import UsageRow
from speckfarm.v1 import usage_pb2
from tests.farm_follow import end_of, raw_calls
from tests.farm_process import FarmProcess
from tests.nir_files import chain_bytes, conv, neurons

BOARDS = {"sound": {"run_ms": 20}, "faulty": {"fail": {"*": "fault"}}, "slow": {"run_ms": 60_000}}
TOML = "[limits]\nquarantine_s = 0.1\n" + "".join(
    f"[[boards]]\nid = '{name}'\nkind = 'scripted'\nscript = '{json.dumps(script)}'\n"
    for name, script in BOARDS.items()
)
REFUSALS = (
    "UNKNOWN_SETTING", "SETTING_OUT_OF_RANGE", "MODEL_REJECTED", "MODEL_UNREADABLE",
    "RECORDING_UNREADABLE", "NO_MATCHING_BOARD", "REQUEST_ID_REUSED", "GRID_EMPTY",
)  # fmt: skip
FINAL = ("SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


@pytest.fixture(scope="module")
def own(
    tmp_path_factory: pytest.TempPathFactory, digits_model: Path, one_digit: Path
) -> Iterator[FarmProcess]:
    """A server on which two users have done everything that leaves a trace."""
    folder = tmp_path_factory.mktemp("usage")
    process = FarmProcess(folder / "data", TOML).start()
    token = process.server_command("user", "add", "ada")
    with process.connect() as local, speckfarm.connect(process.address, token) as ada:
        _work(local, digits_model, one_digit)
        _work(ada, digits_model, one_digit)
        _be_refused(ada, digits_model, one_digit, folder)
    yield process
    process.stop()


def _work(farm: speckfarm.Farm, model: Path, recording: Path) -> None:
    other = chain_bytes(conv((2, 2, 1, 1)), neurons(), input_shape=(2, 34, 34))
    jobs = [farm.run(model, recording, board="sound", request_id=str(n)) for n in range(3)]
    jobs += [farm.run(model, recording, board="sound", request_id="0")]  # the first once more
    jobs += [farm.run(other, recording, board="sound"), farm.flash(model, board="sound")]
    jobs += [farm.run(model, recording, board="faulty")]
    slow = farm.run(model, recording, board="slow")
    jobs += [slow, farm.run(model, recording, board="slow").cancel()]
    jobs += [farm.run(model, recording, board="slow", queue_timeout_s=0.1)]
    assert end_of(jobs[-1]) == "EXPIRED"
    slow.cancel()
    assert Counter(end_of(job) for job in jobs) == {
        "SUCCEEDED": 6, "FAILED": 1, "CANCELLED": 2, "EXPIRED": 1,
    }  # fmt: skip


def _be_refused(farm: speckfarm.Farm, model: Path, recording: Path, folder: Path) -> None:
    empty, text = folder / "empty.npz", folder / "text.nir"
    empty.write_bytes(b"")
    text.write_text("no network")
    attempts = [
        lambda: farm.benchmark(model, recording, sweep={"decimater.0": [1]}),
        lambda: farm.run(model, recording, decimator={0: 64}),
        lambda: farm.run(model, recording, decimator={7: 4}),
        lambda: farm.run(text, recording),
        lambda: farm.run(model, empty),
        lambda: farm.run(model, recording, kind="real"),
        lambda: farm.run(model, recording, request_id="0", reset="zero"),
        lambda: farm.benchmark(model, recording, sweep={"reset": []}),
    ]
    for attempt in attempts:
        with pytest.raises(speckfarm.SpeckfarmError):
            attempt()


@pytest.fixture(scope="module")
def farm(own: FarmProcess) -> Iterator[speckfarm.Farm]:
    with own.connect() as connected:
        yield connected


@pytest.fixture(scope="module")
def events(own: FarmProcess) -> list[usage_pb2.UsageEvent]:
    """The whole log, in pages of seven."""
    found: list[usage_pb2.UsageEvent] = []
    request = usage_pb2.ListUsageEventsRequest(page_size=7)
    with raw_calls(own) as calls:
        while True:
            page = calls.call(calls.usage.ListUsageEvents, request)
            found += page.events
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token


@pytest.fixture(scope="module")
def jobs(farm: speckfarm.Farm) -> list[dict[str, object]]:
    return [job.to_dict() for job in farm.jobs(limit=1000)]


def totals(rows: list[UsageRow]) -> dict[str, float]:
    names = ("jobs", "succeeded", "failed", "cancelled", "expired", "refused", "attempts")
    return {name: sum(getattr(row, name) for row in rows) for name in names}


def test_pages_of_the_log_are_in_order_without_gap_or_repeat(
    events: list[usage_pb2.UsageEvent],
) -> None:
    ids = [event.id for event in events]

    assert len(ids) > 50
    assert ids == list(range(1, len(ids) + 1))


def test_every_accepted_job_leaves_its_beginning_and_one_end(
    events: list[usage_pb2.UsageEvent], jobs: list[dict[str, object]]
) -> None:
    begun = Counter(e.job for e in events if e.event == "job.queued" and e.attempt == 0)
    ended = {e.job: e.event for e in events if e.event.partition(".")[2].upper() in FINAL}
    ends = Counter(e.job for e in events if e.event.partition(".")[2].upper() in FINAL)

    assert len(jobs) == 18
    assert set(begun.values()) == set(ends.values()) == {1}
    assert ended == {str(job["job"]): f"job.{str(job['state']).lower()}" for job in jobs}


def test_every_attempt_leaves_an_event_with_its_board_seconds(
    events: list[usage_pb2.UsageEvent], jobs: list[dict[str, object]]
) -> None:
    attempts = [event for event in events if event.event == "attempt.ended"]

    tried = Counter(event.job for event in attempts)
    assert tried == {str(job["job"]): job["attempt"] for job in jobs if job["attempt"]}
    assert {event.board for event in attempts} == set(BOARDS)
    assert all(event.board_seconds > 0 for event in attempts)
    faulty = [event for event in attempts if event.board == "faulty"]
    assert [event.attempt for event in faulty] == [1, 2, 3] * 2
    assert {event.reason for event in faulty} == {"SCRIPTED_FAULT"}


def test_every_refusal_leaves_an_event_with_its_user_and_reason(
    events: list[usage_pb2.UsageEvent],
) -> None:
    refused = [event for event in events if event.event == "job.refused"]

    assert [event.reason for event in refused] == list(REFUSALS)
    assert {event.user for event in refused} == {"ada"}
    assert {event.job for event in refused} == {""}


@pytest.mark.parametrize("by", ["user", "board", "model", "day"])
def test_sums_agree_with_the_log_however_they_are_grouped(
    farm: speckfarm.Farm, events: list[usage_pb2.UsageEvent], by: str
) -> None:
    found = totals(farm.usage(by=by))

    counted = Counter(event.event for event in events)
    assert found == {
        "jobs": 18,
        "succeeded": counted["job.succeeded"],
        "failed": counted["job.failed"],
        "cancelled": counted["job.cancelled"],
        "expired": counted["job.expired"],
        "refused": counted["job.refused"],
        "attempts": counted["attempt.ended"],
    }


def test_two_users_are_told_apart(farm: speckfarm.Farm, jobs: list[dict[str, object]]) -> None:
    rows = farm.usage(by="user")

    for user in ("ada", "local"):
        mine = totals([row for row in rows if row.key == user])
        assert mine["jobs"] == sum(job["user"] == user for job in jobs) == 9
        assert mine["succeeded"] == 5
        assert mine["refused"] == (len(REFUSALS) if user == "ada" else 0)


def test_board_seconds_agree_with_the_attempts(
    farm: speckfarm.Farm, events: list[usage_pb2.UsageEvent]
) -> None:
    rows = {row.key: row.board_seconds for row in farm.usage(by="board") if row.key}

    for board in BOARDS:
        leased = sum(e.board_seconds for e in events if e.board == board)
        assert rows[board] == pytest.approx(leased)


def test_models_carry_their_names(farm: speckfarm.Farm) -> None:
    names = {row.name for row in farm.usage(by="model") if row.jobs}

    assert "digits.nir" in names


def test_days_are_those_of_the_events(
    farm: speckfarm.Farm, events: list[usage_pb2.UsageEvent]
) -> None:
    days = {event.time.ToDatetime().date().isoformat() for event in events}

    assert {row.key for row in farm.usage(by="day")} == days


def test_sums_may_begin_and_end_anywhere(
    own: FarmProcess, farm: speckfarm.Farm, events: list[usage_pb2.UsageEvent]
) -> None:
    half = events[len(events) // 2].time
    with raw_calls(own) as calls:
        before = calls.call(calls.usage.QueryUsage, usage_pb2.QueryUsageRequest(until=half))
        after = calls.call(calls.usage.QueryUsage, usage_pb2.QueryUsageRequest(since=half))

    assert sum(row.jobs for row in [*before.rows, *after.rows]) == 18
    assert 0 < sum(row.jobs for row in before.rows) < 18
    assert farm.usage(since=datetime.now(timezone.utc) + timedelta(days=1)) == []


@pytest.mark.parametrize("by", ["model", "board", "week"])
def test_latency_is_merged_over_all_jobs_that_have_one(
    farm: speckfarm.Farm, jobs: list[dict[str, object]], by: str
) -> None:
    rows = farm.latency(by=by)

    measured = [job for job in jobs if job["state"] == "SUCCEEDED" and job["recordings"]]
    assert sum(row.jobs for row in rows) == len(measured) == 8
    assert sum(row.latency.n for row in rows) == 8  # a scripted board answers with one spike
    assert {row.board_kind for row in rows} == {"simulated"}
    if by == "board":
        assert [row.key for row in rows] == ["sound"]
    if by == "week":
        assert rows[0].key == datetime.now(timezone.utc).strftime("%G-W%V")
    if by == "model":
        assert sorted(row.jobs for row in rows) == [2, 6]


def test_drain_and_undrain_are_logged_with_who_did_it(
    own: FarmProcess, farm: speckfarm.Farm
) -> None:
    farm.drain("sound")
    farm.undrain("sound")

    with raw_calls(own) as calls:
        page = calls.call(
            calls.usage.ListUsageEvents, usage_pb2.ListUsageEventsRequest(page_size=1000)
        )
    told = [(e.event, e.user, e.board) for e in page.events if e.board == "sound" and not e.job]
    assert told == [("board.drained", "local", "sound"), ("board.undrained", "local", "sound")]
