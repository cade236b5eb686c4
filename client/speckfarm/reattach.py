"""Streams that outlive their connection: a watch is taken up again where it broke."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from speckfarm.errors import FarmUnavailable, WaitTimeout
from speckfarm.patience import Patience

Message = TypeVar("Message")
Opener = Callable[["float | None"], Iterator[Message]]  # takes what is left of the time in seconds

CLOCKS_DIFFER_S = 0.05  # gRPC may end a call at its deadline a little before ours
PATIENCE_S = 300.0  # without any message; a server restarts in seconds, a laptop's net in minutes

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
    patience, told = Patience(PATIENCE_S), ""
    while True:
        left_s = _left(deadline, what)
        lost = FarmUnavailable("STREAM_ENDED", f"The farm ended the stream of {what} early")
        try:
            for message in open_stream(left_s):
                patience.renew()
                told = ""
                yield message
                if is_last(message):
                    return
        except FarmUnavailable as error:
            lost = error
        left_s = _left(deadline, what, spare_s=CLOCKS_DIFFER_S)
        if lost.message != told:  # once, not at every try
            logger.info("%s; still trying to follow %s", lost.message, what)
            told = lost.message
        patience.pause(lost, at_most_s=left_s)


def _left(deadline: float | None, what: str, *, spare_s: float = 0.0) -> float | None:
    if deadline is None:
        return None
    left_s = deadline - time.monotonic()
    if left_s <= spare_s:
        text = f"Stopped waiting for {what}. It was not touched and goes on."
        raise WaitTimeout("WAIT_TIMEOUT", text, metadata={"waited_for": what}) from None
    return left_s
