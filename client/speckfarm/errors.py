"""Everything that can go wrong on the client's side, and what to catch.

    SpeckfarmError           has reason, message, metadata, fields
    ├── BadRequest           an argument or a file is wrong; nothing was queued
    ├── NotFound             no such file, job, model, recording, board, benchmark
    ├── WrongState           right request, wrong moment, e.g. the result is not there yet
    │   └── ModelRejected    the check found errors; has findings
    ├── AlreadyExists        the request id was used with another body
    ├── Unauthenticated      no token, or one that the farm does not know
    ├── NotAllowed           somebody else's job, or not an operator
    ├── Exhausted            too large or too many
    ├── FarmUnavailable      nobody answers there, or the answer cannot be trusted
    ├── FarmFault            a bug of the farm
    ├── WaitTimeout          the client stopped waiting; the job goes on (also a TimeoutError)
    └── JobEnded             the job has no result; has job_id
        ├── JobFailed        has error_class
        ├── JobCancelled
        └── JobExpired       it never ran within its queue time

`reason` is a stable UPPER_SNAKE code (docs/reference/errors.md), `metadata` has every number of
the message, `fields` lists (path in the request, what is wrong with it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speckfarm.findings import Finding


class SpeckfarmError(Exception):
    """The root; catch it to catch everything."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.fields = tuple(fields)
        self.advice = ""  # what to do, where whoever raised it knows better than the class

    def __str__(self) -> str:
        return f"{self.message} [{self.reason}]"

    def to_dict(self) -> dict[str, object]:
        """For `-o json` on stderr."""
        return {"reason": self.reason, "message": self.message, "metadata": self.metadata}


class BadRequest(SpeckfarmError):
    """An argument or a file is wrong, whatever the farm's state."""


class NotFound(SpeckfarmError):
    """No such thing."""


class WrongState(SpeckfarmError):
    """A precondition does not hold."""


class ModelRejected(WrongState):
    """The check found errors; `findings` has all of them, warnings too."""

    findings: tuple[Finding, ...] = ()


class AlreadyExists(SpeckfarmError):
    """The request id was used with another body."""


class Unauthenticated(SpeckfarmError):
    """No token, or one that the farm does not know."""


class NotAllowed(SpeckfarmError):
    """A known user, but not theirs to do."""


class Exhausted(SpeckfarmError):
    """Too large or too many."""


class FarmUnavailable(SpeckfarmError):
    """Nobody answers at that address, or the answer cannot be trusted."""


class FarmFault(SpeckfarmError):
    """A bug of the farm; the server's log has more."""


class WaitTimeout(SpeckfarmError, TimeoutError):
    """The client stopped waiting. The job was not touched and goes on."""


@contextmanager
def about(name: str) -> Iterator[None]:
    """Says which of several files a refusal within the block is about."""
    try:
        yield
    except (BadRequest, WrongState, Exhausted) as error:
        name_in(error, name)
        raise


def name_in(error: SpeckfarmError, name: str) -> None:
    """Put the name of a file before an error's message, unless it is there."""
    if name not in error.message:
        error.message = f"{name}: {error.message}"
        error.args = (error.message,)


class JobEnded(SpeckfarmError):
    """The job ended without a result."""

    job_id: str = ""


class JobFailed(JobEnded):
    """The job failed; `error_class` says whose fault it was, e.g. "LIMIT"."""

    error_class: str | None = None


class JobCancelled(JobEnded):
    """Its user ended the job."""


class JobExpired(JobEnded):
    """The job never ran within its queue time."""
