"""Which devkit a board was and is: over restarts, re-plugs and swaps.

Most devkits have no serial number, so two of one type cannot be told apart. A swap is certain only
if something differs that a devkit keeps; all else is a hint, and is shown as one.
"""

from __future__ import annotations

from dataclasses import dataclass

from speckfarm_server.boards.known_answer import COUNTS, TOLERANCE, Counts, judge
from speckfarm_server.boards.proof import Proof
from speckfarm_server.job_result import Device

# What a devkit keeps, and how it is called in messages.
_KEPT = {"type": "type", "serial": "serial number", "logic_version": "logic version"}
# What changes when a cable is moved.
_MOVED = {"usb_path": "USB path", "usb_address": "USB address"}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What is stored of a devkit when it is accepted as a board."""

    type: str
    serial: str
    logic_version: int
    usb_path: str
    usb_address: int
    disowned_proof: str = ""  # digest of a proof that was another devkit's


class Recognition:
    """Holds the devkit that answers against the one that was accepted last."""

    def __init__(self, proof: Proof | None) -> None:
        self.accepted: Identity | None = None
        self.drift = ""  # how its answer moved since it was proved
        self._found: Device | None = None
        self._proof = proof

    def meet(self, device: Device | None) -> None:
        """A devkit was opened."""
        self._found = device
        self.drift = ""

    @property
    def swap(self) -> str:
        """Why it is another devkit for certain; empty if it need not be one."""
        return self._differences(_KEPT)

    @property
    def hint(self) -> str:
        """Why it may be another one."""
        moved = self._differences(_MOVED)
        words = [f"plugged in anew, or the host was started: {moved}" if moved else "", self.drift]
        return "; ".join(filter(None, words))

    @property
    def is_new(self) -> bool:
        """Whether a devkit was found where none was accepted yet."""
        return self._found is not None and self.accepted is None

    def accept(self) -> Identity | None:
        """Take the devkit that is there for this board's; None if there is none or nothing new."""
        if self._found is None:
            return None
        before, proof = self.accepted, self._proof
        disowned = "" if before is None else before.disowned_proof
        if self.swap and proof is not None:
            disowned = proof.digest
        names = (*_KEPT, *_MOVED)
        values = {name: getattr(self._found, name) for name in names}
        self.accepted = Identity(**values, disowned_proof=disowned)
        self.drift = ""
        return None if self.accepted == before else self.accepted

    def judge(self, found: Counts) -> list[str]:
        """What is wrong with the known answer, [] if it passed; what only moved is a hint.

        A board that was proved is held against its own counts. Beyond the tolerance of its proof it
        has drifted, or is another one; only what would fail an unproved board fails it too.
        """
        proof = self._valid_proof
        if proof is None:
            return judge(found, COUNTS, TOLERANCE)
        words = judge(found, proof.counts, TOLERANCE)
        moved = judge(found, proof.counts, proof.tolerance)
        self.drift = "" if words or not moved else f"since it was proved: {', '.join(moved)}"
        return words

    @property
    def _valid_proof(self) -> Proof | None:
        disowned = "" if self.accepted is None else self.accepted.disowned_proof
        is_own = self._proof is not None and self._proof.digest != disowned and not self.swap
        return self._proof if is_own else None

    def _differences(self, names: dict[str, str]) -> str:
        if self.accepted is None or self._found is None:
            return ""
        return ", ".join(
            f"{noun} {now!r} instead of {before!r}"
            for name, noun in names.items()
            if (now := getattr(self._found, name)) != (before := getattr(self.accepted, name))
        )
