"""What to change about each error: every change is tried on the rules before it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

import numpy as np

from speckfarm_server.changes.candidates import candidates
from speckfarm_server.changes.case import Case
from speckfarm_server.changes.change import apply_change, origins_of
from speckfarm_server.changes.kept import keeps_spikes
from speckfarm_server.chip import Chip
from speckfarm_server.errors import BadInput, Change, Finding, Severity
from speckfarm_server.network import Network
from speckfarm_server.quantise import QuantisedLayer
from speckfarm_server.settings import Settings

# Every error about the structure of a network, arithmetic aside.
Judge: TypeAlias = Callable[[Network, Settings], Sequence[Finding]]
MOST_CHANGES = 4  # of one finding
# A trial takes up to 1 ms on a chip-sized network; these bound what a check with errors takes.
MOST_ADVISED = 12  # errors, the first ones
MOST_TRIALS = 16  # of one finding, fewer with more weights than these
USUAL_WEIGHTS = 1 << 21  # copied by a trial at worst
MOST_LAYERS = 32  # no chip is near
# Shown by `keeps_spikes`; the others that keep the function only move or copy a layer.
_ARITHMETIC = ("kernel_size", "groups", "bias", "stride")


class _Outcome(Enum):
    """What a change does to a finding."""

    USELESS = "it stays, or its layer has another error instead"
    ELSEWHERE = "it is gone, but another layer has a new error"
    CURED = "it is gone and nothing new has come"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Trial:
    """A finding, and how to find out what a change does to it."""

    finding: Finding
    network: Network
    settings: Settings
    judge: Judge
    known: frozenset[tuple[int | None, str]]  # errors before any change

    def outcome(self, change: Change) -> _Outcome:
        """Carry it out and look again."""
        try:
            network, settings = apply_change(self.network, self.settings, change)
            origins = origins_of(self.network, change)
        except (ValueError, OverflowError, BadInput):
            return _Outcome.USELESS  # it does not fit this network
        after = [
            (found if found.layer is None else replace(found, layer=origins[found.layer]))
            for found in self.judge(network, settings)
        ]
        if any(_is_same(found, self.finding) for found in after):
            return _Outcome.USELESS
        new = {(found.layer, found.reason) for found in after} - self.known
        if any(layer == self.finding.layer for layer, _ in new):
            return _Outcome.USELESS
        return _Outcome.ELSEWHERE if new else _Outcome.CURED

    def keeps_function(self, change: Change) -> bool:
        """Whether every neuron spikes as before."""
        if not change.keeps_function or change.what not in _ARITHMETIC:
            return change.keeps_function
        return keeps_spikes(self.network, self.settings, change)


def with_changes(
    findings: Sequence[Finding], network: Network, *, chip: Chip, settings: Settings, judge: Judge
) -> tuple[Finding, ...]:
    """The findings, the first errors with what to change; up to about 1 ms for each trial."""
    errors = [found for found in findings if found.severity is Severity.ERROR][:MOST_ADVISED]
    return tuple(
        replace(found, changes=propose(found, network, chip=chip, settings=settings, judge=judge))
        if found in errors
        else found
        for found in findings
    )


def propose(
    finding: Finding, network: Network, *, chip: Chip, settings: Settings, judge: Judge
) -> tuple[Change, ...]:
    """At most four changes, each of which alone makes the finding go away: those that keep
    the function first, then the smallest.

    Those that bring no new error at all, or if there are none, none at the layer of the finding.
    """
    number = -1 if finding.layer is None else finding.layer
    trials = _affordable(network)
    if not -1 <= number < len(network.layers) or trials == 0:
        return ()
    case = Case(finding=finding, network=network, chip=chip, settings=settings, layer=number)
    known = frozenset((found.layer, found.reason) for found in judge(network, settings))
    trial = _Trial(finding=finding, network=network, settings=settings, judge=judge, known=known)
    found = {
        (tried.layer, tried.what, tried.value): (tried, outcome)
        for tried, outcome in _tried(case, trial, trials)
    }.values()
    cured = [change for change, outcome in found if outcome is _Outcome.CURED]
    kept = cured or [change for change, _ in found]
    return tuple(sorted(kept, key=lambda change: not change.keeps_function)[:MOST_CHANGES])


def stand_ins(network: Network) -> list[QuantisedLayer | None]:
    """Integers of the right shapes that take no memory: trials are about structure."""
    return [
        QuantisedLayer(
            weights=np.broadcast_to(np.int8(0), layer.weights.shape),
            biases=np.full(
                layer.weights.shape[0], layer.bias is not None and layer.bias.any(), np.int16
            ),
            threshold_high=1,
            threshold_low=-1,
            scale=1.0,
            bound_by="weights",
        )
        for layer in network.layers
    ]


def kernels_only(network: Network) -> Network:
    """The network for rules that look at a layer's kernel size but not at what is in it."""
    layers = tuple(
        replace(layer, weights=np.zeros((1, 1, *layer.weights.shape[2:]), np.float32), bias=None)
        for layer in network.layers
    )
    return replace(network, layers=layers)


def _affordable(network: Network) -> int:
    """Trials that a network far too large for a chip may cost; 0: it is left without advice."""
    if len(network.layers) > MOST_LAYERS:
        return 0
    weights = sum(layer.weights.size for layer in network.layers)
    return MOST_TRIALS * USUAL_WEIGHTS // max(weights, USUAL_WEIGHTS)


def _tried(case: Case, trial: _Trial, trials: int) -> Iterator[tuple[Change, _Outcome]]:
    """Of each list of alternatives the first that helps; rather one that keeps the function."""
    left = iter(range(trials))
    enough = 0
    for alternatives in candidates(case):
        best: tuple[Change, _Outcome] | None = None
        for change, _ in zip(alternatives, left, strict=False):
            outcome = trial.outcome(change)
            if outcome is _Outcome.USELESS:
                continue
            tried = replace(change, keeps_function=trial.keeps_function(change))
            if best is None or _rank(tried, outcome) < _rank(*best):
                best = tried, outcome
            # One that only might have kept the function leaves that to the next.
            if outcome is _Outcome.CURED and tried.keeps_function == change.keeps_function:
                break
        if best is not None:
            yield best
            enough += best[1] is _Outcome.CURED
        if enough == MOST_CHANGES:
            return


def _rank(change: Change, outcome: _Outcome) -> tuple[bool, bool]:
    return outcome is not _Outcome.CURED, not change.keeps_function


def _is_same(found: Finding, other: Finding) -> bool:
    """The same reason at the same layer; of settings, about the same one."""
    return (
        found.reason == other.reason
        and found.layer == other.layer
        and found.metadata.get("setting") == other.metadata.get("setting")
    )
