"""Waiting on the command line: lines instead of a bar in a pipe, and Ctrl-C that only detaches."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from speckfarm.cli_output import Screen
from speckfarm.errors import JobCancelled
from speckfarm.job import Job, JobEvent

SECOND_INTERRUPT_S = 3.0


class Detached(Exception):
    """Ctrl-C was pressed once; the job goes on."""


class JobLines:
    """One line on stderr for every new state; nothing when a program reads the output."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._last = ""

    def __enter__(self) -> JobLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def started(self, job: Job) -> None:
        """Print the job's id."""
        if self._screen.is_for_people:
            self._screen.note(f"job {job.id}")

    def happened(self, event: JobEvent) -> None:
        """Print a state that is new."""
        if self._screen.is_for_people and event.state != self._last:
            self._screen.note(f"{event.state} {event.message}".rstrip())
        self._last = event.state


class Notes(logging.Handler):
    """Shows people what the client logs: uploads, lost connections."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write to stderr as it is now: a bar that is shown puts itself in its place."""
        sys.stderr.write(record.getMessage() + "\n")


@contextmanager
def interruptible(
    what: str, again: str, cancel: Callable[[], object], screen: Screen
) -> Iterator[None]:
    """The first Ctrl-C detaches (raises Detached), a second within 3 s cancels (JobCancelled)."""
    try:
        yield
    except KeyboardInterrupt:
        try:
            screen.note(
                f"\n{what} goes on without you. Attach again: {again}\n"
                f"Press Ctrl-C again within {SECOND_INTERRUPT_S:.0f} s to cancel it; "
                "the prompt comes back after that."
            )
            time.sleep(SECOND_INTERRUPT_S)
        except KeyboardInterrupt:
            cancel()
            raise JobCancelled("JOB_CANCELLED", f"{what} was cancelled by you") from None
        raise Detached from None
