"""What the vendor's validator says, in our reasons, and when it stops looking."""

from collections.abc import Iterable
from typing import Any

from speckfarm_server.chip import find_chip
from speckfarm_server.errors import BadInput
from speckfarm_server.rules.tables import apply_rules
from tests.vendor_description import configuration_of

REFUSED = "VALUE_OUT_OF_RANGE"  # by the setter of a field, before any rule
_AXES = ("x", "y")

# What the validator's messages are about -> our reason.
REASONS: dict[str, str] = {
    "kernel_size": "KERNEL_SIZE_OUT_OF_RANGE",
    **{f"stride_{axis}": "STRIDE_UNSUPPORTED" for axis in _AXES},
    **{f"padding_{axis}": "PADDING_OUT_OF_RANGE" for axis in _AXES},
    "in_features": "INPUT_FEATURES_OUT_OF_RANGE",
    "out_features": "OUTPUT_FEATURES_OUT_OF_RANGE",
    **{f"in_size_{axis}": "INPUT_SIZE_OUT_OF_RANGE" for axis in _AXES},
    **{f"out_size_{axis}": "OUTPUT_SIZE_OUT_OF_RANGE" for axis in _AXES},
    **{f"out_formula_{axis}": "OUTPUT_SIZE_MISMATCH" for axis in _AXES},
    "kernel_memory": "KERNEL_MEMORY_EXCEEDED",
    "neuron_memory": "NEURON_MEMORY_EXCEEDED",
    "threshold_high": "THRESHOLD_HIGH_OUT_OF_RANGE",
    "threshold_low": "THRESHOLD_LOW_OUT_OF_RANGE",
    "shape_weights": "WEIGHTS_SHAPE_MISMATCH",
    "shape_biases": "BIASES_SHAPE_MISMATCH",
    "shape_neurons_initial_value": "INITIAL_STATE_SHAPE_MISMATCH",
    "shape_weights_kill_bit": "KILL_BITS_SHAPE_MISMATCH",
    "shape_biases_kill_bit": "KILL_BITS_SHAPE_MISMATCH",
    "shape_neurons_value_kill_bit": "KILL_BITS_SHAPE_MISMATCH",
    "dest_core": "DESTINATION_OUT_OF_RANGE",
    "dest_shift": "FEATURE_SHIFT_OUT_OF_RANGE",
    "dest_pooling": "POOLING_UNSUPPORTED",
    **{f"link_size_{axis}": "LINK_SIZE_MISMATCH" for axis in _AXES},
    "fan_in_start": "FAN_IN_START",
    "fan_in_gap": "FAN_IN_GAP",
    "fan_in_overlap": "FAN_IN_OVERLAP",
    "fan_in_count": "FAN_IN_COUNT",
    "fan_in_top": "FAN_IN_TOP",
    **{f"dvs_origin_{axis}": "DVS_ORIGIN_OUT_OF_RANGE" for axis in _AXES},
    **{f"dvs_cut_{axis}": "DVS_CUT_OUT_OF_RANGE" for axis in _AXES},
    **{f"dvs_pooling_{axis}": "DVS_POOLING_UNSUPPORTED" for axis in _AXES},
    **{f"dvs_in_size_{axis}": "DVS_INPUT_SIZE_MISMATCH" for axis in _AXES},
    **{f"dvs_filter_size_{axis}": "VENDOR_VALUE_OUT_OF_RANGE" for axis in _AXES},
    "readout_address": "VENDOR_VALUE_OUT_OF_RANGE",
    "readout_p2s": "VENDOR_VALUE_OUT_OF_RANGE",
}

# A third slot cannot even be offered to the vendor's library; to us it is a rule.
TOO_MANY = "TOO_MANY_DESTINATIONS"

# The validator looks at these rules of a core only if none of SIZES is broken on the same core.
SIZES = frozenset({
    "KERNEL_SIZE_OUT_OF_RANGE",
    "STRIDE_UNSUPPORTED",
    "PADDING_OUT_OF_RANGE",
    "INPUT_FEATURES_OUT_OF_RANGE",
    "OUTPUT_FEATURES_OUT_OF_RANGE",
    "INPUT_SIZE_OUT_OF_RANGE",
    "OUTPUT_SIZE_OUT_OF_RANGE",
})  # fmt: skip
AFTER_SIZES = frozenset({
    "OUTPUT_SIZE_MISMATCH",
    "KERNEL_MEMORY_EXCEEDED",
    "NEURON_MEMORY_EXCEEDED",
    "THRESHOLD_HIGH_OUT_OF_RANGE",
    "THRESHOLD_LOW_OUT_OF_RANGE",
    # Not the vendor's: 1,024 features are its limit, which is the same.
    "BIAS_MEMORY_EXCEEDED",
})  # fmt: skip


def our_findings(description: Any) -> list[tuple[int | None, str]]:
    """Layer and reason of everything that the chip's rules, or the fields' ranges, refuse."""
    try:
        made = configuration_of(description)
    except BadInput as error:
        return [(None, error.reason)]
    found = apply_rules(made, find_chip(made.chip))
    return [(finding.layer, finding.reason) for finding in found]


def unlooked(found: Iterable[tuple[int | None, str]]) -> set[str]:
    """Which of our findings the validator's order keeps it from making, by reason."""
    pairs = set(found)
    stopped = {layer for layer, reason in pairs if reason in SIZES}
    seen = {r for layer, r in pairs if not (r in AFTER_SIZES and layer in stopped)}
    return {reason for _, reason in pairs} - seen


def disagreement(description: Any, verdict: dict[str, Any]) -> str:
    """What differs between the vendor's verdict and ours, in words; "" if nothing does."""
    found = our_findings(description)
    ours = {reason for _, reason in found}
    if bool(ours) is verdict["valid"]:
        vendors = "accepts" if verdict["valid"] else f"refuses: {', '.join(verdict['rules'])}"
        return f"vendor {vendors}; we say {sorted(ours) or 'nothing'}"
    if verdict["stage"] != "validate":
        # The vendor's side ends at the first field that refuses, so nothing else is known.
        return "" if ours & {REFUSED, TOO_MANY} else f"{verdict}; we say {sorted(ours)}"
    theirs = {REASONS.get(rule, rule) for rule in verdict["rules"]}
    missing = theirs - ours
    if missing:
        return f"vendor says {sorted(missing)}, we do not; we say {sorted(ours)}"
    extra = ours - theirs - unlooked(found)
    return f"we say {sorted(extra)}, the vendor does not" if extra else ""
