"""What the vendor's validator prints, as names of rules; for `ask_vendor`, on Python 3.10."""

import re

# Line of the validator -> rule; {} is the axis. None: says where, not what.
LINES = [
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r"Weights array must have dim", "shape_weights"),
        (r"Weights kill bit array must have dim", "shape_weights_kill_bit"),
        (r"Biases array must have dim", "shape_biases"),
        (r"Biases kill bit array must have dim", "shape_biases_kill_bit"),
        (r"Neuron values must have dim", "shape_neurons_initial_value"),
        (r"Neuron values kill bit must have dim", "shape_neurons_value_kill_bit"),
        (r"Kernel size must be", "kernel_size"),
        (r"Stride ([xy]) must be", "stride_{}"),
        (r"Padding ([xy]) must be", "padding_{}"),
        (r"Input feature number must be", "in_features"),
        (r"Output feature number must be", "out_features"),
        (r"Input feature size ([xy]) must be", "in_size_{}"),
        (r"Output feature size ([xy]) must be", "out_size_{}"),
        (r"On ([xy]) floor\(", "out_formula_{}"),
        (r"Weight memory requirements", "kernel_memory"),
        (r"Neuron memory requirements", "neuron_memory"),
        (r"Threshold high must be", "threshold_high"),
        (r"Threshold low must be", "threshold_low"),
        (r"Destination Layer must be", "dest_core"),
        (r"Feature shift must be", "dest_shift"),
        (r"Pooling must be", "dest_pooling"),
        (r"Overlap between", "fan_in_overlap"),
        (r"Gap between", "fan_in_gap"),
        (r"Input range does not start", "fan_in_start"),
        (r"Input space feature count does not match", "fan_in_count"),
        (r"input feature space top is out of bounds", "fan_in_top"),
        (r"input size ([xy]): \d+ different than DVS", "dvs_in_size_{}"),
        (r"input size ([xy]): \d+ different than Layer", "link_size_{}"),
        (r"Origin ([xy]) must be", "dvs_origin_{}"),
        (r"Cut ([xy]) must be", "dvs_cut_{}"),
        (r"Pooling ([xy]) must be", "dvs_pooling_{}"),
        (r"Dvs filter size ([xy]) must be", "dvs_filter_size_{}"),
        (r"Input address interpretation", "readout_address"),
        (r"P2S input mode", "readout_p2s"),
        (r"is configured incorrectly", None),
        (r"(Layer|DVS|Dvs)\S* ?destination\[\d+\] bottom:", None),
        (r"Layer\[\d+\]$", None),
    )
]


def rules_of(text, left_out):
    """The rules that a text is about, but for the shapes of arrays that were left out."""
    found, of_core = set(), set()
    for line in filter(None, map(str.strip, text.splitlines())):
        matches = ((pattern.search(line), rule) for pattern, rule in LINES)
        match, rule = next(((m, r) for m, r in matches if m), (None, f"unknown: {line}"))
        if rule is not None:
            of_core.add(rule.format(*match.groups()) if match else rule)
        closing = re.match(r"Layer\[(\d+)\] is configured incorrectly", line)
        if closing:  # the shapes of a core come before this line
            found |= {rule for rule in of_core if (int(closing[1]), rule) not in left_out}
            of_core = set()
    return found | of_core
