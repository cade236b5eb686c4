"""Trials become ordinary jobs of a running farm, pinned to one board; the one module that calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speckfarm.certificate import Certificate
from speckfarm.connection import Connection
from speckfarm.errors import JobEnded, ModelRejected, SpeckfarmError
from speckfarm.farm import Farm
from speckfarm.job import Job
from speckfarm.profile import make_endpoint
from speckfarm.progress import Silent
from speckfarm.result import Result
from speckfarm.rows import Board
from speckfarm_server.errors import BadInput, NotFound, WrongState
from speckfarm_server.prove.trial import Outcome, Trial

QUEUE_TIMEOUT_S = 1800.0  # others' jobs run in between
AWAY = ("offline", "recovering")


class NotRun(Exception):
    """An experiment gave no outcomes: what the farm said."""


class Refused(NotRun):
    """The check or the writer of configurations refused it, as it would anybody's."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """What an experiment's jobs gave."""

    outcomes: tuple[Outcome, ...]
    jobs: tuple[str, ...]


class Bench:
    """One board of a running farm."""

    def __init__(self, farm: Farm, board: Board) -> None:
        self._farm = farm
        self.board = board

    def run(self, trials: Sequence[Trial]) -> Run:
        """Queue all trials, wait for all; raises NotRun, Refused. Jobs left over are cancelled."""
        self._check_service()
        jobs: list[Job] = []
        try:
            with _cancelled_on_error(jobs):
                for trial in trials:
                    jobs.append(self._queue(trial))
                results = [job.wait(observer=Silent()) for job in jobs]
                outcomes = tuple(_outcome(result) for result in results)
            return Run(outcomes=outcomes, jobs=tuple(job.id for job in jobs))
        except ModelRejected as error:
            found = [each.message for each in error.findings if each.severity == "error"]
            raise Refused(" ".join(found) or error.message) from error
        except BadInput as error:  # of the writer: a chip whose files cannot say it
            raise Refused(error.message) from error
        except JobEnded as error:
            raise NotRun(f"{error.message} [{error.reason}]") from error

    def board_now(self) -> Board:
        """As the farm knows it after the jobs: its device may have been found since."""
        return next(each for each in self._farm.boards() if each.board == self.board.board)

    def _check_service(self) -> None:
        """A job for a board that is out of service would wait for nothing."""
        board = self.board_now()
        if not board.enabled:
            raise NotRun(f"board {board.board} was drained meanwhile")
        if board.health == "bad":
            words = board.message or f"{board.faults} faults in a row"
            raise NotRun(f"board {board.board} is in quarantine: {words}")

    def _queue(self, trial: Trial) -> Job:
        return self._farm.run(
            trial.model,
            *trial.recordings,
            chip=self.board.chip,
            kind=self.board.kind,
            board=self.board.board,
            queue_timeout_s=QUEUE_TIMEOUT_S,
        )


@contextmanager
def _cancelled_on_error(jobs: list[Job]) -> Iterator[None]:
    """Leave no job behind that nobody waits for, also on Ctrl-C."""
    try:
        yield
    except BaseException:
        for job in jobs:
            with suppress(SpeckfarmError):  # those that have ended
                job.cancel()
        raise


def open_bench(folder: Path, board: str) -> Bench:
    """The board of the server that runs on a data folder.

    Raises WrongState NO_LOCAL_SERVER, BOARD_DRAINED, BOARD_OFFLINE (also in quarantine), NotFound
    BOARD_NOT_FOUND, SpeckfarmError.
    """
    farm = Farm(_connect(folder / "local.json"))
    boards = {each.board: each for each in farm.boards()}
    if board not in boards:
        known = ", ".join(boards)
        text = f"The farm has no board called {board!r}; it has {known}"
        raise NotFound("BOARD_NOT_FOUND", text, found=board, allowed=known)
    if not boards[board].enabled:
        text = f"Board {board} is drained; put it back with `speckfarm undrain {board}` first"
        raise WrongState("BOARD_DRAINED", text, board=board)
    _check_present(boards[board])
    return Bench(farm, boards[board])


def _check_present(board: Board) -> None:
    """Jobs for it would wait; a board that is away also recovers for a moment at each look."""
    if board.state not in AWAY and board.health != "bad":
        return
    words = board.message.rstrip(".") or f"{board.faults} faults in a row"
    text = (
        f"Board {board.board} is {board.state}: {words}. Mend that, wait until `speckfarm boards` "
        "shows it idle, and prove it then; `speckfarm-server doctor` tells more"
    )
    raise WrongState("BOARD_OFFLINE", text, board=board.board, state=board.state)


def _connect(path: Path) -> Connection:
    try:
        local: dict[str, Any] = json.loads(path.read_text())
        server, token = str(local["server"]), str(local["token"])
    except (OSError, ValueError, KeyError) as error:
        text = (
            f"{path} cannot be read, so no server has been started on this data folder. Start "
            "`speckfarm-server serve` with the same --data and --config, as the same OS user"
        )
        raise WrongState("NO_LOCAL_SERVER", text, path=path) from error
    certificate = None
    if local.get("certificate") and local.get("name"):
        certificate = Certificate(pem=local["certificate"], name=local["name"])
    return Connection(make_endpoint(server, token, certificate))


def _outcome(result: Result) -> Outcome:
    return Outcome(
        spikes=tuple(result.spikes_of(number) for number in range(len(result.recordings))),
        was_configured=result.timings_ms["configure"] > 0,
        power_w=dict(result.power_w),
        first_event="keep" if result.device is None else result.device.first_event,
    )
