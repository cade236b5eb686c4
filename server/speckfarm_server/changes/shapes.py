"""Candidates that change maps and kernels: strides, paddings, poolings, kernel sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from speckfarm_server.changes import wording
from speckfarm_server.changes.case import Case
from speckfarm_server.changes.change import camera_crop
from speckfarm_server.changes.reshape import reach
from speckfarm_server.chip import output_size
from speckfarm_server.errors import Change
from speckfarm_server.network import INPUT
from speckfarm_server.settings import INPUT_POOLINGS


def larger_stride(case: Case) -> Iterator[Change]:
    """On the axes whose output map is too large; on both for memory."""
    high = case.chip.output_size[1]
    sides = [int(side) for side in case.at.output_shape[1:]]
    is_about_memory = max(sides) <= high
    for factor in (2, 4, 8):
        steps = [
            step * factor if is_about_memory or side > high else step
            for step, side in zip(case.at.stride, sides, strict=True)
        ]
        if not case.at.is_linear and all(step in case.chip.strides for step in steps):
            yield wording.stride(case.at, case.layer, (steps[0], steps[1]))


def less_padding(case: Case) -> Iterator[Change]:
    """What makes the map as large as allowed, or what is in range."""
    high = case.chip.output_size[1]
    wanted = []
    for side, pad, step in zip(
        case.at.output_shape[1:], case.at.padding, case.at.stride, strict=True
    ):
        less = max(0, -(-(int(side) - high) * int(step) // 2))
        wanted.append(min(max(int(pad) - less, case.chip.padding[0]), case.chip.padding[1]))
    if tuple(wanted) != tuple(case.at.padding):
        yield wording.padding(case.at, case.layer, (wanted[0], wanted[1]))


def smaller_map(case: Case) -> Iterator[Change]:
    """Pooling before the layer: by the camera if nothing else is there."""
    layer = case.at
    if all(source.layer == INPUT for source in layer.sources):
        yield from camera_pooling(case)
        return
    totals = {source.pooling for source in layer.sources}
    for size in case.chip.poolings:
        if len(totals) == 1 and size > min(totals):
            yield wording.pooling_before(case.layer, size, min(totals))


def camera_pooling(case: Case) -> Iterator[Change]:
    """The camera layer pools before any core."""
    old = case.settings.input_pooling
    for size in INPUT_POOLINGS:
        crop = camera_crop(case.network, case.settings, (size, size))
        if size > max(old):
            is_new = crop != case.settings.crop
            yield wording.input_pooling((size, size), old, crop if is_new else None)


def smaller_input(case: Case) -> Iterator[Change]:
    """An input as large as a core can read."""
    high = case.chip.input_size[1]
    _, height, width = case.network.input_shape
    if any(source.layer == INPUT for source in case.at.sources) and max(height, width) > high:
        size = (min(int(height), high), min(int(width), high))
        yield wording.input_size(size, (int(height), int(width)))


def stride_of_source(case: Case) -> Iterator[Change]:
    """A convolution before the layer takes larger steps."""
    for number in dict.fromkeys(source.layer for source in case.at.sources):
        if number != INPUT:
            yield from strides(case, number, (2, 4, 8))


def squaring_stride_of_source(case: Case) -> Iterator[Change]:
    """Steps of the convolution before a linear layer that leave it a small square map."""
    if len(case.at.sources) != 1 or case.at.sources[0].layer == INPUT:
        return
    source = case.at.sources[0]
    before = case.network.layers[source.layer]
    if before.is_linear or source.pooling < 1:
        return
    for y, x in sorted(
        ((y, x) for y in case.chip.strides for x in case.chip.strides), key=lambda s: s[0] * s[1]
    ):
        sides = {
            output_size(int(size), span, step, int(pad)) // source.pooling
            for size, span, step, pad in zip(
                before.input_shape[1:], reach(before), (y, x), before.padding, strict=True
            )
        }
        if len(sides) == 1 and 1 <= max(sides) <= case.chip.kernel_size[1]:
            yield wording.stride(before, source.layer, (y, x))


def kernel_in_range(case: Case) -> Iterator[Change]:
    """The largest kernel allowed; first of those that leave the output map as it is."""
    high, old = case.chip.kernel_size[1], max(reach(case.at))
    for side in sorted((high, high - 1), key=lambda side: ((old - side) % 2, -side)):
        if side < old and not case.at.is_linear:
            yield wording.kernel_size(case.at, case.layer, side)


def kernel_within_map(case: Case) -> Iterator[Change]:
    """A kernel that fits into the padded input."""
    largest = min(
        int(size) + 2 * int(pad)
        for size, pad in zip(case.at.input_shape[1:], case.at.padding, strict=True)
    )
    if 1 <= largest < max(reach(case.at)) and not case.at.is_linear:
        yield wording.kernel_size(case.at, case.layer, min(largest, case.chip.kernel_size[1]))


def kernel_for_padding(case: Case) -> Iterator[Change]:
    """Less padding and a kernel smaller by as much leave the map as it is."""
    excess = max(int(pad) for pad in case.at.padding) - case.chip.padding[1]
    side = max(reach(case.at)) - 2 * excess
    if excess > 0 and side >= 1 and not case.at.is_linear:
        yield wording.kernel_size(case.at, case.layer, side)


def zeros_in_kernel(case: Case) -> Iterator[Change]:
    """The square kernel that spans the same pixels."""
    high = case.chip.kernel_size[1]
    for side in range(max(reach(case.at)), min(max(reach(case.at)) + 2, high + 1)):
        yield wording.kernel_size(case.at, case.layer, side)


def square_from_smaller(case: Case) -> Iterator[Change]:
    """A square kernel as wide as the narrower side."""
    if not case.at.is_linear and 1 <= min(reach(case.at)) <= case.chip.kernel_size[1]:
        yield wording.kernel_size(case.at, case.layer, min(reach(case.at)))


def no_dilation(case: Case) -> Iterator[Change]:
    """The weights side by side."""
    yield wording.dilation(case.layer, (int(case.at.dilation[0]), int(case.at.dilation[1])))


def one_group(case: Case) -> Iterator[Change]:
    """One group."""
    yield wording.groups(case.layer, case.at.groups)


def nearest_strides(case: Case) -> Iterator[Change]:
    """The next smaller one on each axis, then the next larger one."""
    allowed = case.chip.strides
    lower = [max((s for s in allowed if s <= step), default=allowed[0]) for step in case.at.stride]
    upper = [min((s for s in allowed if s >= step), default=allowed[-1]) for step in case.at.stride]
    for y, x in (upper, lower):
        yield wording.stride(case.at, case.layer, (y, x))


def poolings(case: Case) -> Iterator[Change]:
    """What is nearest to the sizes of the poolings after the layer."""
    sizes = [
        side
        for _, link in case.network.targets(case.layer)
        for pool in link.poolings
        for side in (*pool.kernel_size, *pool.stride)
    ] + [link.pooling for _, link in case.network.targets(case.layer)]
    is_exit = case.layer == len(case.network.layers) - 1
    if is_exit:
        sizes += [side for pool in case.network.exit_poolings for side in pool.kernel_size]
    wanted = [size for size in dict.fromkeys(sizes) if size > 1]
    old = max(wanted, default=1)
    allowed = set(case.chip.poolings) | (set(wanted) if is_exit else set())
    for size in sorted(allowed, key=lambda size: (min(abs(size - w) for w in wanted or [1]), size)):
        yield wording.pooling_after(case.layer, size, old)


def strides(case: Case, number: int, factors: Iterable[int]) -> Iterator[Change]:
    """The stride of a layer times each factor, where a core has it."""
    layer = case.network.layers[number]
    for factor in factors:
        y, x = (int(step) * factor for step in layer.stride)
        if not layer.is_linear and y in case.chip.strides and x in case.chip.strides:
            yield wording.stride(layer, number, (y, x))
