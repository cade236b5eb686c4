"""What could be changed about a finding, before anyone has tried it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from speckfarm_server.changes import memory, shapes
from speckfarm_server.changes.case import Case, Generate
from speckfarm_server.errors import Change


def candidates(case: Case) -> Iterator[Sequence[Change]]:
    """Lists of alternatives, each of one kind; none if the farm knows nothing about the reason."""
    if case.layer < 0 and case.finding.reason not in _OF_NETWORK:
        return
    for generate in _CANDIDATES.get(case.finding.reason, ()):
        try:
            yield list(generate(case))
        except ValueError:
            continue  # sizes of a hostile file: nothing can be said


_OF_NETWORK = frozenset({"TOO_MANY_LAYERS", "LAYER_NOT_FOUND", "NO_PLACEMENT"})
_CANDIDATES: Mapping[str, tuple[Generate, ...]] = {
    "KERNEL_MEMORY_EXCEEDED": (
        memory.other_core,
        memory.fewer_features,
        memory.smaller_kernel,
        memory.fewer_input_features,
        shapes.smaller_map,
        shapes.stride_of_source,
        memory.split_layer,
        memory.fewer_outputs,
    ),
    "NEURON_MEMORY_EXCEEDED": (
        memory.other_core,
        memory.fewer_features,
        shapes.larger_stride,
        shapes.smaller_map,
        memory.split_layer,
        memory.fewer_outputs,
    ),
    "BIAS_MEMORY_EXCEEDED": (
        memory.no_bias,
        memory.fewer_features,
        memory.split_layer,
        memory.fewer_outputs,
    ),
    "INPUT_SIZE_OUT_OF_RANGE": (shapes.smaller_input, shapes.smaller_map, shapes.stride_of_source),
    "OUTPUT_SIZE_OUT_OF_RANGE": (
        shapes.less_padding,
        shapes.larger_stride,
        shapes.smaller_map,
        shapes.smaller_input,
        shapes.kernel_within_map,
    ),
    "INPUT_FEATURES_OUT_OF_RANGE": (memory.fewer_input_features,),
    "FAN_IN_TOP": (memory.fewer_input_features,),
    "OUTPUT_FEATURES_OUT_OF_RANGE": (
        memory.fewer_features,
        memory.split_layer,
        memory.fewer_outputs,
    ),
    "KERNEL_SIZE_OUT_OF_RANGE": (shapes.kernel_in_range, memory.smaller_kernel),
    "STRIDE_UNSUPPORTED": (shapes.nearest_strides,),
    "PADDING_OUT_OF_RANGE": (shapes.kernel_for_padding, shapes.less_padding),
    "NON_SQUARE_KERNEL": (shapes.zeros_in_kernel, shapes.square_from_smaller),
    "DILATION_UNSUPPORTED": (shapes.zeros_in_kernel, shapes.no_dilation),
    "GROUPS_UNSUPPORTED": (shapes.one_group,),
    "LINEAR_INPUT_TOO_LARGE": (
        shapes.zeros_in_kernel,
        shapes.smaller_map,
        shapes.stride_of_source,
        shapes.squaring_stride_of_source,
    ),
    "POOLING_UNSUPPORTED": (shapes.poolings,),
    "POOLING_STRIDE_MISMATCH": (shapes.poolings,),
    "POOLING_PADDING": (shapes.poolings,),
    "NON_SQUARE_POOLING": (shapes.poolings,),
    "TOO_MANY_DESTINATIONS": (memory.copies,),
    "TOO_MANY_LAYERS": (memory.fewer_layers,),
    "LAYER_NOT_FOUND": (memory.drop_setting,),
    "NO_PLACEMENT": (
        memory.no_pin,
        memory.fewer_features_of_one,
        memory.larger_stride_of_one,
        memory.smaller_kernel_of_one,
        shapes.camera_pooling,
    ),
}
