"""The keeper of a board: brings it up, has it tested, watches it while it is idle.

docs/explanation/supervision.md has the states and what moves them as a table.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timezone

from speckfarm_server.boards import check_up, child
from speckfarm_server.boards.absence import is_missing, is_unavailable, unplugged
from speckfarm_server.boards.child import Child, fault_of
from speckfarm_server.boards.fault_budget import back_off_s
from speckfarm_server.boards.heartbeat import Heartbeat
from speckfarm_server.boards.identity import Recognition
from speckfarm_server.boards.kinds import is_pinged, is_tested, options_of
from speckfarm_server.boards.news import BoardNews
from speckfarm_server.boards.proof import proof_of
from speckfarm_server.boards.state import BoardState, Health, RuntimeState
from speckfarm_server.config import BoardConfig, FarmConfig
from speckfarm_server.errors import BoardFault, ErrorClass
from speckfarm_server.job_result import device_from_plain

logger = logging.getLogger(__name__)

CLOSE_S = 2.0  # for a devkit to be closed when the server stops; then its process is killed


class Keeper:
    """Leads one board through its states, but for IDLE -> BUSY -> IDLE of its jobs.

    `tell` is given what must be stored. Raises BadInput CONFIG_PROOF_UNREADABLE.
    """

    def __init__(
        self,
        state: BoardState,
        config: BoardConfig,
        farm: FarmConfig,
        *,
        tell: Callable[[BoardNews], None],
    ) -> None:
        self.child: Child | None = None  # None: there is no process
        self.recognition = Recognition(proof_of(config))
        self._state = state
        self._config = config
        self._limits = farm.limits
        self._options = options_of(config, farm.usb)
        self._cache = farm.data_folder / "cache"
        self._tell = tell
        self._work: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._pause_s = 0.0  # before the next try
        self._is_absent = False  # the last try found no devkit that it may use
        self._looks = 0  # such tries in a row, since a device was plugged in
        self._is_away = False  # its device was pulled since the last try began
        self._trouble = ""  # words on a quarantine or an absence, while it lasts
        self._swap = ""  # words on a swap, until an operator accepts it
        self._doubt = ""  # words on a wrong known answer that is only told
        self._heartbeat = Heartbeat(
            farm.limits.heartbeat_s, lambda wrong: self.replace(f"failed ping: {wrong}")
        )
        self._is_closing = False

    def start(self) -> None:
        """Bring the board up in the background."""
        self._begin(RuntimeState.STARTING)

    def replace(self, why: str) -> None:
        """Count a fault, kill the process and bring the board up again, or quarantine it."""
        if self._is_closing or self._is_working:
            return  # it is being brought up already
        self._drop()
        logger.warning("board %s: %s", self._state.id, why)
        self._pause_s = 0.0  # after a first fault the next job need not wait
        if self._count(why):
            self._begin(RuntimeState.OFFLINE, self._trouble)
        else:
            self._begin(RuntimeState.RECOVERING, f"after a fault: {why}")

    def unplug(self) -> None:
        """Its device is gone: whoever waits for the process gets BOARD_UNPLUGGED."""
        if self._is_closing or self.child is None:
            return
        self._is_away = True
        self.child.close(unplugged(self._state.id))
        if not self._is_working:
            self._drop()
            self._absent("it was unplugged")
            self._begin(RuntimeState.OFFLINE, self._trouble)

    def plug(self) -> None:
        """A device came that may be this board's: do not wait for the next try."""
        if self._is_working:
            self._looks = 0
            self._wake.set()

    def accept(self) -> None:
        """An operator takes the devkit that is there for this board's."""
        identity = self.recognition.accept()
        if self._swap and self._state.message == self._swap:
            self._state.message = ""
        self._swap = self._state.swap_hint = ""
        if identity is not None:
            self._tell(BoardNews(identity=identity))

    def watch(self) -> None:
        """Ping the idle board from now on, if it is of a kind that can get lost."""
        if self.child is not None and is_pinged(self._config):
            self._heartbeat.start(self.child)

    def stop_watch(self) -> None:
        """The board gets a job."""
        self._heartbeat.stop()

    async def close(self) -> None:
        """End the process."""
        self._is_closing = True
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        self.stop_watch()
        if self.child is not None:
            await self.child.end(CLOSE_S)
        self._drop()
        self._state.turn(RuntimeState.OFFLINE)

    @property
    def _is_working(self) -> bool:
        return self._work is not None and not self._work.done()

    def _begin(self, state: RuntimeState, message: str = "") -> None:
        self._work = asyncio.create_task(self._bring_up())
        self._state.turn(state, message)

    async def _bring_up(self) -> None:
        """From no process to IDLE: the one loop of a board that takes no jobs."""
        while True:
            await self._rest()
            try:
                await self._open()
                await self._test()
            except (BoardFault, OSError) as error:
                self._drop()
                self._failed(error)
            except Exception as error:  # the one catch-all: a board must not be lost to a bug
                logger.exception("board %s could not be brought up", self._state.id)
                self._drop()
                self._failed(OSError(f"{type(error).__name__}: {error}"))
            else:
                self._ready()
                return

    async def _rest(self) -> None:
        if self._pause_s > 0:
            timer = asyncio.get_running_loop().call_later(self._pause_s, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()
        self._wake.clear()
        self._is_away = False

    async def _open(self) -> None:
        if self._state.runtime_state is RuntimeState.OFFLINE:
            self._state.turn(RuntimeState.RECOVERING, self._trouble)
        config = self._config
        self.child = await child.start(config.id, config.kind, self._options, self._lost)
        self.child.expect(self._limits.start_s)
        while (message := await self.child.receive())["op"] != "ready":
            if message["op"] == "failed":
                raise fault_of(message)
            self.child.expect(message.get("limit_s", self._limits.start_s))
            self._state.turn(self._state.runtime_state, message.get("message", ""))
        self.child.relax()
        self._state.device = device_from_plain(message["device"])
        self.recognition.meet(self._state.device)

    async def _test(self) -> None:
        """The known-answer check, where one is due; BoardFault KNOWN_ANSWER_WRONG."""
        was_bad = self._state.health is Health.BAD
        if self.child is None or not is_tested(self._config, after_quarantine=was_bad):
            return
        self._state.turn(self._state.runtime_state, "known-answer check")
        counts = await check_up.ask(
            self.child, self._config.chip, cache=self._cache, lease_s=self._limits.lease_s
        )
        wrong = self.recognition.judge(counts)
        text = f"The known answer is wrong: {'; '.join(wrong)}" if wrong else ""
        if wrong and self._config.known_answer == "required":
            raise BoardFault("KNOWN_ANSWER_WRONG", text, ErrorClass.DEVICE_STALL)
        self._doubt = text and f"{text}. It gets jobs, as farm.toml has known_answer = 'told'"

    def _ready(self) -> None:
        state = self._state
        if state.health is Health.BAD:
            self._news("board.returned", "it passed its known-answer check after a quarantine")
        state.health = Health.UNKNOWN if self._doubt else Health.GOOD
        state.budget.ready()
        self._trouble, self._looks, self._is_absent = "", 0, False
        if self.recognition.is_new:
            self.accept()
        state.swap_hint = self.recognition.hint
        self._note_swap()
        state.turn(RuntimeState.IDLE, self._swap or self._doubt)
        if state.device is not None:
            where = f"{state.device.type} at USB {state.device.usb_path}"
            logger.info("board %s is ready: %s, health %s", state.id, where, state.health.value)
        self.watch()

    def _failed(self, error: BoardFault | OSError) -> None:
        if self._is_away or is_unavailable(error):
            self._state.budget.excuse()
            why = "it was unplugged" if self._is_away else str(error)
            self._absent(why, gone=self._is_away or is_missing(error))
            self._state.turn(RuntimeState.OFFLINE, self._trouble)
            return
        logger.warning("board %s does not start: %s", self._state.id, error)
        if isinstance(error, BoardFault) and error.is_the_hosts:
            self._pause_s = back_off_s(1)
            self._state.turn(self._state.runtime_state, f"does not start: {error}")
        elif self._count(str(error)):
            self._state.turn(RuntimeState.OFFLINE, self._trouble)
        else:
            self._pause_s = self._state.budget.rest_s(self._limits.quarantine_s)
            self._state.turn(self._state.runtime_state, f"does not start: {error}")

    def _count(self, why: str) -> bool:
        """Count a fault; True if the board is in quarantine now."""
        state = self._state
        state.budget.count()
        if state.health is not Health.BAD:
            state.health = Health.UNKNOWN
        if not state.budget.is_spent:
            return False
        self._pause_s = state.budget.rest_s(self._limits.quarantine_s)
        if state.health is not Health.BAD:
            state.health = Health.BAD
            faults = f"{state.faults} faults in a row, the last: {why}"
            self._trouble = f"in quarantine since {_now()} after {faults}"
            self._news("board.quarantined", faults)
        return True

    def _absent(self, why: str, *, gone: bool = True) -> None:
        """There is no devkit to use; look again after a while, or when one is plugged in."""
        if not self._is_absent:
            self._is_absent = True
            what = "no devkit" if gone else "not to be used"
            self._trouble = f"{what} since {_now()}: {why}"
            self._news("board.unplugged" if gone else "board.unavailable", why)
        self._looks += 1
        self.recognition.meet(None)
        self._state.health = Health.UNKNOWN
        self._pause_s = back_off_s(self._looks)

    def _note_swap(self) -> None:
        """Take a board that is another devkit out of service, until an operator accepts it."""
        difference = self.recognition.swap
        if not difference:
            self._swap = ""
        if not difference or self._swap:
            return
        self._swap = (
            f"another devkit is in this place ({difference}). It is drained: `speckfarm undrain "
            f"{self._state.id}` accepts it; a proof of the former one counts no more"
        )
        if self._state.enabled:  # else it was drained before the server was started
            self._state.enabled = False
            self._news("board.swapped", difference, is_drained=True)

    def _news(self, event: str, message: str, *, is_drained: bool = False) -> None:
        logger.warning("%s %s: %s", event, self._state.id, message)
        self._tell(BoardNews(event=event, message=message, is_drained=is_drained))

    def _lost(self, process: Child) -> None:
        """A process is gone. While it starts or works `receive` tells that, here it is idle."""
        is_idle = self._state.runtime_state is RuntimeState.IDLE
        if process is self.child and is_idle and not self._is_working:
            self.replace(f"while it was idle: {process.fault.message}")

    def _drop(self) -> None:
        self.stop_watch()
        if self.child is not None:
            self.child.close()
            self.child = None


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
