"""The state of a board on its three axes, with words for people."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum

from speckfarm_server.boards.fault_budget import FaultBudget
from speckfarm_server.job import BoardKind
from speckfarm_server.job_result import Device


class RuntimeState(str, Enum):
    """What a board is doing."""

    OFFLINE = "OFFLINE"
    STARTING = "STARTING"
    IDLE = "IDLE"
    BUSY = "BUSY"
    RECOVERING = "RECOVERING"


class Health(str, Enum):
    """Whether a board can be trusted."""

    UNKNOWN = "UNKNOWN"
    GOOD = "GOOD"
    BAD = "BAD"


class BoardState:
    """One board as others see it. `on_change` is called after every change."""

    def __init__(
        self, board_id: str, *, chip: str, kind: BoardKind, on_change: Callable[[], None]
    ) -> None:
        self.id = board_id
        self.chip = chip
        self.kind = kind
        self.device: Device | None = None  # which devkit it is, once one was found
        self.swap_hint = ""  # why it may be another devkit than before
        self.budget = FaultBudget()
        self.runtime_state = RuntimeState.OFFLINE
        self.health = Health.UNKNOWN
        self.enabled = True
        self.message = ""
        self.since = time.time()
        self._on_change = on_change

    @property
    def faults(self) -> int:
        """Faults in a row."""
        return self.budget.faults

    @property
    def in_service(self) -> bool:
        """Whether jobs can count on it: it is there, or comes in a moment."""
        is_near = self.runtime_state is not RuntimeState.OFFLINE
        return self.enabled and is_near and self.health is not Health.BAD

    def turn(self, state: RuntimeState, message: str = "") -> None:
        """Enter a runtime state."""
        self.runtime_state = state
        self.message = message
        self.since = time.time()
        self._on_change()

    def tell(self) -> None:
        """Something else than the runtime state changed."""
        self._on_change()
