"""Streams that outlive their connection: a watch is taken up again where it broke."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from speckfarm.errors import FarmUnavailable, WaitTimeout

Message = TypeVar("Message")
Opener = Callable[["float | None"], Iterator[Message]]  # takes what is left of the time in seconds

PATIENCE_S = 300.0  # without any message; a server restarts in seconds, a laptop's net in minutes
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0

logger = logging.getLogger(__name__)


def reattached(
    open_stream: Opener[Message],
    is_last: Callable[[Message], bool],
    *,
    what: str,
    timeout_s: float | None = None,
) -> Iterator[Message]:
    """Messages of a stream until its last one; a broken stream is opened again.

    Raises WaitTimeout after `timeout_s`, FarmUnavailable after PATIENCE_S without any answer.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    broken_since, pause_s = None, FIRST_PAUSE_S
    while True:
        left_s = _left(deadline, what)
        lost = FarmUnavailable("STREAM_ENDED", f"The farm ended the stream of {what} early")
        try:
            for message in open_stream(left_s):
                broken_since, pause_s = None, FIRST_PAUSE_S
                yield message
                if is_last(message):
                    return
        except FarmUnavailable as error:
            lost = error
        left_s = _left(deadline, what)
        broken_since = broken_since or time.monotonic()
        if _is_hopeless(lost) or time.monotonic() - broken_since > PATIENCE_S:
            raise lost
        logger.info("lost %s (%s); attaching again", what, lost.message)
        time.sleep(pause_s if left_s is None else min(pause_s, left_s))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _left(deadline: float | None, what: str) -> float | None:
    if deadline is None:
        return None
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        text = f"Stopped waiting for {what}. It was not touched and goes on."
        raise WaitTimeout("WAIT_TIMEOUT", text, metadata={"waited_for": what})
    return left_s


def _is_hopeless(error: FarmUnavailable) -> bool:
    return error.reason == "CERTIFICATE_CHANGED"
