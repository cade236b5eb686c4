"""What is shown while somebody waits: a bar on a terminal or in a notebook, else nothing."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress

    from speckfarm.job import Job, JobEvent


class JobObserver(Protocol):
    """Is told what happens to a job that somebody waits for."""

    def __enter__(self) -> JobObserver: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def started(self, job: Job) -> None:
        """The waiting begins."""

    def happened(self, event: JobEvent) -> None:
        """The job moved on."""


class Silent:
    """Shows nothing."""

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, job: Job) -> None:
        """Shows nothing."""

    def happened(self, event: JobEvent) -> None:
        """Shows nothing."""


class Bar:
    """A bar of recordings on stderr, gone when the job has ended."""

    def __init__(self) -> None:
        self._progress = make_progress()

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, job: Job) -> None:
        """Show the job with an empty bar."""
        self._job = job
        self._task = self._progress.add_task(f"{job.id} {job.last_state}", total=None)

    def happened(self, event: JobEvent) -> None:
        """Move the bar."""
        words = f"{self._job.id} {event.state} {event.message}".strip()
        total = self._job.recordings_total or None
        done = event.recordings_done
        self._progress.update(self._task, description=words, completed=done, total=total)


def bar() -> JobObserver:
    """A bar if somebody is looking."""
    return Bar() if is_watched() else Silent()


def is_watched() -> bool:
    """Whether stderr is a terminal, or this is a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def make_progress() -> Progress:
    """A bar with counts on stderr that leaves no trace."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),  # one long recording stays at 0 of 1
        console=Console(stderr=True),
        transient=True,
    )
