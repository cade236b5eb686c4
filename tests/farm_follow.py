"""What tests of a real farm share: follow jobs, look into its database, make the raw calls."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import speckfarm
from speckfarm.connection import Connection
from speckfarm.job import Job
from speckfarm.profile import find_endpoint
from speckfarm.rows import Board, read_board
from speckfarm.v1 import boards_pb2, jobs_pb2
from tests.farm_process import FarmProcess


def follow_to(job: Job, state: str) -> None:
    """Follow a job up to a state; an error if it ends without."""
    seen = []
    for event in job.watch(timeout=40):
        seen.append(event.state)
        if event.state == state:
            return
    raise AssertionError(f"{job.id} ended without {state}: {seen}")


def end_of(job: Job) -> str:
    """The final state of a job."""
    return [event.state for event in job.watch(timeout=40)][-1]


def failure_of(job: Job) -> speckfarm.JobEnded:
    """The error of a job that ends without a result."""
    assert end_of(job) != "SUCCEEDED"
    try:
        job.result()
    except speckfarm.JobEnded as error:
        return error
    raise AssertionError(f"{job.id} ended without a result and without an error")


@contextmanager
def raw_calls(server: FarmProcess, token: str = "") -> Iterator[Connection]:
    """The generated stubs with a token; `call` and `stream` turn statuses into our errors."""
    connection = Connection(find_endpoint(server.address, token or server.token))
    try:
        yield connection
    finally:
        connection.close()


def watch_messages(
    connection: Connection, job_id: str, *, after: int = 0, with_result: bool = False
) -> list[jobs_pb2.WatchJobResponse]:
    """All messages of one WatchJob stream, up to its end."""
    request = jobs_pb2.WatchJobRequest(job=job_id, after_sequence=after, with_result=with_result)
    return list(connection.stream(connection.jobs.WatchJob, request, timeout_s=40))


def wait_until_idle(connection: Connection, board_id: str, *, since: float = 0) -> float:
    """Follow the boards until one is idle, since a later time than this; returns that time."""
    request = boards_pb2.WatchBoardsRequest()
    for message in connection.stream(connection.boards.WatchBoards, request, timeout_s=40):
        board = message.board
        began = board.since.ToMicroseconds() / 1e6
        is_idle = board.runtime_state == boards_pb2.BOARD_RUNTIME_STATE_IDLE
        if board.id == board_id and is_idle and began > since:
            return began
    raise AssertionError(f"{board_id} never was idle")


def follow_board(farm: speckfarm.Farm, board_id: str, is_so: Callable[[Board], object]) -> Board:
    """Follow the boards until one is so."""
    request = boards_pb2.WatchBoardsRequest()
    connection = farm._connection
    for message in connection.stream(connection.boards.WatchBoards, request, timeout_s=60):
        board = read_board(message.board)
        if board.board == board_id and is_so(board):
            return board
    raise AssertionError(f"{board_id} never was so")


def child_processes(server: FarmProcess, word: str) -> list[int]:
    """Ids of the server's children that were started with a word in their command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it ended meanwhile
            continue
        if parent == server.process_id and word.encode() in command:
            found.append(int(folder.name))
    return found


def faults(server: FarmProcess) -> list[str]:
    """What the server logged as its own fault; gRPC logs bytes that are no message as one too."""
    return [line for line in server.log if " ERROR " in line and "[DecodeError]" not in line]


def rows(server: FarmProcess, query: str, *values: object) -> list[tuple[object, ...]]:
    """What the database says."""
    with closing(sqlite3.connect(server.data / "farm.db")) as database:
        return database.execute(query, values).fetchall()
