"""`speckfarm-server doctor --board B --prove`: every experiment, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

from speckfarm.errors import SpeckfarmError
from speckfarm_server.errors import BadInput, WrongState
from speckfarm_server.prove.answer import Answer, not_told
from speckfarm_server.prove.bench import Bench, NotRun, Refused, open_bench
from speckfarm_server.prove.catalogue import EXPERIMENTS
from speckfarm_server.prove.experiment import Experiment
from speckfarm_server.prove.proof import (
    NOT_RUN,
    Done,
    Proof,
    as_json,
    file_names,
    tally,
    write_whole,
)
from speckfarm_server.prove.report import as_page
from speckfarm_server.prove.senses import STAMPS, offset_us
from speckfarm_server.prove.trial import set_back


def prove(folder: Path, board: str, *, out: Path, say: Callable[[str], None]) -> bool:
    """Prove a board of the server on a data folder; whether every experiment ran.

    Writes report and proof file into `out`. Raises FarmError: what `open_bench` raises,
    OUT_FOLDER_UNUSABLE, and FARM_LOST for whatever the farm says in the middle of it.
    """
    _check_folder(out)
    try:
        bench = open_bench(folder, board)
        say(
            f"board {board} ({bench.board.kind} {bench.board.chip}), {len(EXPERIMENTS)} experiments"
        )
        proof = _proof(bench, tuple(_run_all(bench, say)))
    except SpeckfarmError as error:
        text = f"The farm did not go on: {error.message} [{error.reason}]. Nothing was written"
        raise WrongState("FARM_LOST", text, board=board) from error
    for name, text in zip(file_names(proof), (as_page(proof), as_json(proof)), strict=True):
        write_whole(out / name, text)
        say(f"written: {out / name}")
    say(", ".join(f"{count} {word}" for word, count in tally(proof.done).items()))
    return proof.is_whole


def _run_all(bench: Bench, say: Callable[[str], None]) -> Iterator[Done]:
    behind_us = 0  # the board's stamps, once they were asked for
    for experiment in EXPERIMENTS:
        done = _try(bench, experiment, behind_us)
        if experiment.name == STAMPS and done.answer is not None:
            behind_us = offset_us(done.answer)
        yield _told(done, say)


def _try(bench: Bench, experiment: Experiment, behind_us: int) -> Done:
    began_s = time.monotonic()
    jobs: tuple[str, ...] = ()
    answer: Answer | None
    try:
        run = bench.run(experiment.trials(bench.board.chip))
        outcomes = [set_back(each, behind_us) for each in run.outcomes]
        jobs, answer, problem = run.jobs, experiment.judge(outcomes), ""
    except Refused as refusal:
        answer, problem = not_told(f"refused before it ran: {refusal}"), ""
    except NotRun as failure:
        risky = not_told(f"its job failed: {failure}") if experiment.is_risky else None
        answer, problem = risky, str(failure)
    return Done(
        experiment=experiment,
        answer=answer,
        problem=problem,
        jobs=jobs,
        took_s=time.monotonic() - began_s,
    )


def _told(done: Done, say: Callable[[str], None]) -> Done:
    verdict = NOT_RUN if done.answer is None else done.answer.verdict.value
    found = done.problem if done.answer is None else done.answer.found
    say(f"{verdict:<13}  {done.experiment.name:<13}  {found}")
    return done


def _proof(bench: Bench, done: tuple[Done, ...]) -> Proof:
    board = bench.board_now()
    return Proof(
        board=board.board,
        chip=board.chip,
        kind=board.kind or "",
        device=None if board.device is None else board.device.to_dict(),
        date=datetime.now(timezone.utc),
        version=version("speckfarm"),
        done=done,
    )


def _check_folder(out: Path) -> None:
    """Before ten minutes are spent in vain."""
    try:
        scratch = out / ".speckfarm-proof"
        scratch.write_text("")
        scratch.unlink()
    except OSError as error:
        text = f"Nothing can be written into {out}: {error.strerror}; give another --out"
        raise BadInput("OUT_FOLDER_UNUSABLE", text, found=out) from error
