"""IF nodes, and LIF nodes that are IF: thresholds, current factor and reset, checked.

NIR 1.0.4, IF: dv/dt = R I; LIF: tau dv/dt = (v_leak - v) + R I. So a LIF with tau = inf is an IF
whose factor is R / tau; any other leaks. Both subtract the threshold when they fire. From NIR
1.0.6 on (1.0.8 was read) they have a field v_reset and are set to it instead.
"""

from __future__ import annotations

import math

import numpy as np

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.nir.fields import Fields
from speckfarm_server.nir.parts import DoubleArray, Neurons

RESETS = ("subtract", "zero")
NO_LEAK = "Speck's neurons have no leak or synaptic time constant"
_TIME_CONSTANTS = ("tau", "tau_mem", "tau_syn")


def read_if(fields: Fields) -> Neurons | None:
    """Read IF."""
    return _read_neurons(fields, fields.numbers("r"))


def read_lif(fields: Fields) -> Neurons | None:
    """Read a LIF without leak as IF; refuse any other.

    snnTorch 1.0 writes Leaky(beta=1) with tau = dt / (1 - beta) = inf and r = tau / dt = inf, so
    that R / tau is its 1 / dt, of which it says nothing: its neuron adds each step's input once,
    as r = 1 does. A finite R over an infinite tau would be 0.
    """
    tau, r = fields.node.fields.get("tau"), fields.node.fields.get("r")
    if not isinstance(tau, np.ndarray) or not np.isposinf(tau).all() or not tau.size:
        refuse_leak(fields)
        return None
    if not isinstance(r, np.ndarray) or not np.isposinf(r).all() or not r.size:
        text = (
            "has tau = inf but a finite r, so NIR's equation gives its input the factor r / tau = "
            "0 and it never fires: write it as IF with r = 1"
        )
        fields.refuse("UNSUPPORTED_NODE", text)
        return None
    fields.findings.append(_lif_is_if(fields))
    return _read_neurons(fields, np.ones(r.shape))


def refuse_leak(fields: Fields) -> None:
    """Refuse LIF, LI, CubaLIF and CubaLI, naming their time constants."""
    node = fields.node
    found = [(name, node.fields.get(name)) for name in _TIME_CONSTANTS]
    known = {name: value for name, value in found if isinstance(value, np.ndarray) and value.size}
    seconds = {name: _span(value) for name, value in known.items()}
    leak = "".join(f"{', ' if n else ' with '}{k} = {v} s" for n, (k, v) in
                   enumerate(seconds.items()))  # fmt: skip
    fires = node.kind in ("LIF", "CubaLIF")
    advice = "train with IF neurons" if fires else "end with IF neurons and read out their spikes"
    text = f"leaks{leak}; {NO_LEAK}: {advice}"
    fields.refuse("UNSUPPORTED_NODE", text, **{k: f"{v} s" for k, v in seconds.items()})


def _read_neurons(fields: Fields, r: DoubleArray | None) -> Neurons | None:
    thresholds = fields.numbers("v_threshold")
    resets = fields.numbers("v_reset") if fields.has("v_reset") else np.zeros(1)
    if resets is not None and np.any(resets):
        found = float(resets[resets != 0].flat[0])
        text = f"resets to {found:g}; Speck resets to 0 or subtracts the threshold: use v_reset 0"
        fields.refuse("V_RESET", text, found=found, allowed=0)
    elif resets is not None and fields.has("v_reset") and not fields.has("speckfarm_reset"):
        fields.findings.append(_reset_from_v_reset(fields))
    reset, lower_clip = _read_reset(fields), _read_lower_clip(fields)
    if thresholds is None or r is None or resets is None:
        return None
    return Neurons(
        thresholds=thresholds.astype(np.float64),
        r=r.astype(np.float64),
        # sinabs 3.1.3 `from_nir` keeps the file's type; only float64 is wider than its own.
        threshold_bits=64 if thresholds.dtype == np.float64 else 32,
        reset=reset or ("zero" if fields.has("v_reset") else None),
        lower_clip=lower_clip,
        shapes=tuple(array.shape for array in (thresholds, r, resets) if array.size > 1),
    )


def _read_reset(fields: Fields) -> str | None:
    name = "speckfarm_reset"
    value = fields.node.fields.get(name)
    if value is None or (isinstance(value, str) and value in RESETS):
        return value
    shown = repr(value[:40]) if isinstance(value, str) else "numbers"
    text = f"has metadata {name} = {shown}; allowed: {', '.join(RESETS)}"
    fields.refuse("VALUE_OUT_OF_RANGE", text, field=name, found=shown, allowed=", ".join(RESETS))
    return None


def _read_lower_clip(fields: Fields) -> float | None:
    name = "speckfarm_lower_clip"
    value = fields.node.fields.get(name)
    if value is None:
        return None
    number = float(value.flat[0]) if isinstance(value, np.ndarray) and value.size == 1 else None
    if number is not None and math.isfinite(number) and number < 0:
        return number
    shown = f"{value[:40]!r}" if isinstance(value, str) else number
    shown = f"{value.size} numbers" if shown is None and isinstance(value, np.ndarray) else shown
    text = f"has metadata {name} = {shown}; a number below 0, times the threshold, is wanted"
    fields.refuse("VALUE_OUT_OF_RANGE", text, field=name, found=shown, allowed="< 0")
    return None


def _lif_is_if(fields: Fields) -> Finding:
    node = fields.node
    return Finding(
        reason="LIF_WITHOUT_LEAK",
        severity=Severity.INFO,
        message=f"Node {node.name!r} (LIF) has tau = inf, so it never leaks: it runs as IF",
        metadata={"node": node.name, "kind": node.kind, "tau": "inf"},
    )


def _reset_from_v_reset(fields: Fields) -> Finding:
    node = fields.node
    return Finding(
        reason="RESET_FROM_V_RESET",
        severity=Severity.INFO,
        message=f"Node {node.name!r} ({node.kind}) has v_reset 0, to which NIR from 1.0.6 on sets "
        "a neuron that fires, so it was taken as trained with reset 'zero'. snnTorch writes that "
        "field for reset_mechanism='subtract' too: then set reset='subtract'",
        metadata={"node": node.name, "kind": node.kind, "v_reset": "0", "reset": "zero"},
    )


def _span(values: DoubleArray) -> str:
    low, high = float(np.min(values)), float(np.max(values))
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
