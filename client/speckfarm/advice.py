"""Advice on an overrun: which decimators remove it, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speckfarm.decimation import Overrun, Verdict
from speckfarm.findings import Finding
from speckfarm.latency import rounded
from speckfarm.result import LayerActivity, Result

# What else brings a first layer below its limit; `input_pooling` does not: every event stays one.
FIRST_LAYER = (
    "What helps: fewer events (`crop`, `polarity` on or off instead of keep or merge, a recording "
    "of fewer events per second), a smaller kernel, a larger stride or fewer features in this "
    "layer, or core 0 for it (--core {layer}=0), which is believed to do more than the others"
)
UNSURE = (
    "The run is inconclusive: its recordings are too short or too quiet to rule an overrun out; "
    "longer or busier ones would tell"
)


@dataclass(frozen=True, kw_only=True)
class AdviceStep:
    """One run of the search."""

    job: str
    decimator: Mapping[int, int]  # layer -> N; {}: off
    reset: str | None  # asked for; None: as the file says, or a mode for each layer
    is_search: bool  # False: a comparison of reset modes
    overrun: bool
    suspect: int | None  # layer that the suspected core runs
    excess: float | None  # its demanded / sustainable synaptic operations per second
    inconclusive: bool  # no overrun was found, but recordings too short or quiet to tell
    accuracy: float | None
    output_spikes: int  # of the exit layer
    p99_us: float | None  # of the lags
    drain_us: float | None  # the longest one
    drift_us_per_s: float | None  # the largest one of any recording
    busiest_layer: int | None  # the one closest to its limit, or furthest above; None on a board
    synops_per_s: float | None  # its own, in the busiest recording
    synops_limit: float | None  # per second, what its core is believed to sustain

    def to_dict(self) -> dict[str, object]:
        """For JSON; null when there is no value."""
        plain = {name: rounded(getattr(self, name)) for name in self.__dataclass_fields__}
        return plain | {"decimator": {str(layer): n for layer, n in self.decimator.items()}}


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What the search found. `print(advice)` says it in words.

    >>> advice = farm.advise("model.nir", "digits.npz")
    >>> job = farm.run("model.nir", "digits.npz", decimator=advice.decimator)
    """

    # healthy, removed, first_layer, not_removed, unknown or stopped
    verdict: Verdict
    decimator: Mapping[int, int]  # the least without overrun, as `run` takes it; {} if none
    is_least: bool  # no decimator can be lowered by one step
    suspect: int | None  # layer that is, or was, overrun
    excess: float | None  # its demanded / sustainable synaptic operations per second; estimated
    board_kind: str | None
    steps: tuple[AdviceStep, ...]  # every run, in order; the first is undecimated
    max_runs: int  # of the search; the comparison of reset modes comes on top

    @property
    def before(self) -> AdviceStep:
        """The run without decimators."""
        return self.steps[0]

    @property
    def after(self) -> AdviceStep | None:
        """The run with the recommended decimators; None if there are none."""
        same = [each for each in self.steps if each.is_search and each.decimator == self.decimator]
        return same[-1] if self.verdict == "removed" else None

    @property
    def flags(self) -> str:
        """The recommendation for the command line."""
        return " ".join(f"--decimator {layer}={n}" for layer, n in self.decimator.items())

    @property
    def keywords(self) -> str:
        """The recommendation as a keyword argument of Python."""
        return f"decimator={dict(self.decimator)}" if self.decimator else ""

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "verdict": self.verdict,
            "decimator": {str(layer): n for layer, n in self.decimator.items()},
            "is_least": self.is_least,
            "suspect": self.suspect,
            "excess": rounded(self.excess),
            "board_kind": self.board_kind,
            "flags": self.flags,
            "keywords": self.keywords,
            "max_runs": self.max_runs,
            "steps": [each.to_dict() for each in self.steps],
            "text": str(self),
        }

    def __str__(self) -> str:
        return _TEXTS[self.verdict](self)


def overrun_of(
    findings: Sequence[Finding], layers: Sequence[LayerActivity], *, is_judged: bool
) -> Overrun | None:
    """What a run says of its cores: the verdict on bandwidth; not judged, a rate above a limit.

    Of several suspects the one with the largest excess; without a layer, the busiest.
    """
    found = [each for each in findings if each.reason == "BANDWIDTH_EXCEEDED"]
    if not found and not is_judged:  # limits are beliefs, a verdict is measured
        found = [each for each in findings if each.reason == "SYNOPS_ABOVE_LIMIT"]
    if not found:
        return None
    excess, layer = max(
        ((_excess(each), each.layer) for each in found), key=lambda pair: pair[0] or 0.0
    )
    return Overrun(layer=_busiest(layers) if layer is None else layer, excess=excess)


def overrun_in(result: Result) -> Overrun | None:
    """The same of a whole result."""
    is_judged = any(each.overrun is not None for each in result.recordings)
    return overrun_of(result.findings, result.layers, is_judged=is_judged)


def step_of(
    result: Result, *, decimator: Mapping[int, int], reset: str | None, is_search: bool
) -> AdviceStep:
    """A run as a step of the search."""
    overrun = overrun_in(result)
    busiest = _busiest(result.layers)
    layer = None if busiest is None else next(x for x in result.layers if x.layer == busiest)
    drifts = [each.latency.drift_us_per_s for each in result.recordings]
    return AdviceStep(
        job=result.job_id,
        decimator=dict(decimator),
        reset=reset,
        is_search=is_search,
        overrun=overrun is not None,
        suspect=None if overrun is None else overrun.layer,
        excess=None if overrun is None else overrun.excess,
        inconclusive=overrun is None and any("INCONCLUSIVE" in x.reason for x in result.findings),
        accuracy=result.accuracy,
        output_spikes=sum(each.output_spikes for each in result.recordings),
        p99_us=result.latency.p99_us,
        drain_us=result.latency.drain_us,
        drift_us_per_s=max((drift for drift in drifts if drift is not None), default=None),
        busiest_layer=busiest,
        synops_per_s=None if layer is None else _rate(layer),
        synops_limit=None if layer is None else layer.synops_limit,
    )


def _excess(finding: Finding) -> float | None:
    figures = finding.metadata
    demanded = figures.get("synops_per_s") or figures.get("peak_synops_per_s")
    try:
        return float(demanded or "") / float(figures.get("synops_limit_per_s", ""))
    except (ValueError, ZeroDivisionError):
        return None


def _busiest(layers: Sequence[LayerActivity]) -> int | None:
    rates = {
        each.layer: rate / each.synops_limit
        for each in layers
        if (rate := _rate(each)) is not None and each.synops_limit
    }
    return max(rates, key=lambda layer: rates[layer], default=None)


def _rate(layer: LayerActivity) -> float | None:
    return layer.synops_per_s if layer.peak_synops_per_s is None else layer.peak_synops_per_s


def _healthy(found: Advice) -> str:
    step = found.before
    if step.inconclusive:
        return f"No overrun was found, so no decimator is recommended. {UNSURE}"
    load = ""
    if step.synops_per_s is not None and step.synops_limit:
        load = (
            f"; the busiest is layer {step.busiest_layer} with {step.synops_per_s / 1e6:.3g} M of "
            f"about {step.synops_limit / 1e6:.3g} M SynOps/s"
        )
    return f"Nothing is needed: no core is asked for more than it can do{load}"


def _removed(found: Advice) -> str:
    least = "The least decimation without overrun" if found.is_least else "A decimation that helps"
    rest = "" if found.is_least else "; the runs ended before it was shown to be the least"
    unsure = f". {UNSURE}" if found.after is not None and found.after.inconclusive else ""
    return f"{_suspected(found)}. {least}: {found.flags}{rest}{unsure}"


def _first_layer(found: Advice) -> str:
    return (
        f"{_suspected(found)}. Only recorded events enter this layer, so no decimator stands "
        f"before it. {FIRST_LAYER.format(layer=found.suspect)}"
    )


def _not_removed(found: Advice) -> str:
    return (
        f"{_suspected(found)}, and stays so with every decimator before it at its highest. Give "
        "the layer a smaller kernel, a larger stride or fewer features, or put in fewer events"
    )


def _unknown(found: Advice) -> str:
    del found
    return (
        "A core is overrun, but nothing tells which one, so no decimator can be chosen. Run it on "
        "a simulated board, or sweep decimators with `speckfarm bench`"
    )


def _stopped(found: Advice) -> str:
    return (
        f"{_suspected(found)}. The search ended after {len(found.steps)} runs without a decimation "
        "that helps; allow more"
    )


def _suspected(found: Advice) -> str:
    times = "" if found.excess is None else f" (asked for {found.excess:.2g} times its limit)"
    return f"Layer {found.suspect} is overrun{times}"


_TEXTS = {
    "healthy": _healthy,
    "removed": _removed,
    "first_layer": _first_layer,
    "not_removed": _not_removed,
    "unknown": _unknown,
    "stopped": _stopped,
}
