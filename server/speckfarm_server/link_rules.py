"""Rules between cores: destinations, sizes and feature ranges that meet at a target.

Source: the vendor's validator in samna 0.7.1 (chip speck2b), probed. It accepts self loops and
rings, and links to cores that run nothing if the shapes fit; sinabs refuses loops because a chip
can deadlock on them, and so does the farm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration, CoreConfiguration, Destination
from speckfarm_server.core_rules import Problem

LinkProblem: TypeAlias = tuple[int | None, Problem]  # layer it is about
LinkRule: TypeAlias = Callable[[Configuration, Chip], Iterator[LinkProblem]]
_Range = tuple[int, int]  # first feature, one past the last


def core_used_twice(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """A core runs one layer."""
    first: dict[int, int] = {}
    for core in configuration.cores:
        if core.core in first:
            text = (
                f"Core {core.core} already runs layer {first[core.core]}; a core runs one layer. "
                "Pin one of them elsewhere, or neither."
            )
            yield core.layer, (text, {"core": core.core, "other_layer": first[core.core]})
        first.setdefault(core.core, core.layer)


def input_shape(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """The layers that recorded events reach take what the recordings bring."""
    features, *size = configuration.input_shape
    for way in configuration.inputs:
        core = configuration.core_of(way.core)
        if core is None:
            continue  # DESTINATION_NOT_CONFIGURED says it
        fed = any(to.core == way.core for _, to in _slots(configuration, enabled=True))
        # Features of a core that others feed too are FAN_IN_COUNT's.
        wanted = core.input_shape[1:] if fed else core.input_shape
        if (tuple(size) if fed else (features, *size)) != wanted:
            text = (
                f"The network's input is {configuration.input_shape} (c, h, w), but its first "
                f"layer takes {core.input_shape}. Make them equal."
            )
            figures = {"input_shape": configuration.input_shape, "layer_input": core.input_shape}
            yield core.layer, (text, dict(figures))


def destination_count(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """At most two destinations."""
    for core in configuration.cores:
        found = len(core.destinations)
        if found > chip.destinations:
            text = (
                f"Feeds {found} destinations; a core has {chip.destinations}. "
                "Repeat the layer on another core for the others."
            )
            yield core.layer, (text, {"destinations": found, "largest": chip.destinations})


def destination_core(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """A destination is a core, in slots that are off too."""
    last = len(chip.cores) - 1
    for core, to in _slots(configuration):
        if not 0 <= to.core <= last:
            text = f"Destination is core {to.core}; {chip.name} has cores 0 to {last}."
            yield core.layer, (text, {"destination": to.core, "largest_core": last})


def destination_configured(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """An enabled destination runs a layer."""
    used = {core.core for core in configuration.cores}
    for core, to in _slots(configuration, enabled=True):
        if 0 <= to.core < len(chip.cores) and to.core not in used:
            text = f"Feeds core {to.core}, which runs no layer. Configure it or turn the slot off."
            yield core.layer, (text, {"destination": to.core})


def pooling(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """1, 2 or 4 on the way to another core, in slots that are off too."""
    allowed = ", ".join(map(str, chip.poolings))
    for core, to in _slots(configuration):
        if to.pooling not in chip.poolings:
            text = (
                f"Pooling by {to.pooling} in all after this layer; a core can pool by {allowed} "
                "(chained poolings multiply). Use one of these, or a larger stride."
            )
            yield core.layer, (text, {"pooling": to.pooling, "allowed": allowed})


def exit_pooling(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """Pooling after the last layer is done by the host, by any whole number."""
    for core in configuration.cores:
        if core.exit_pooling < 1:
            text = f"Pooling by {core.exit_pooling} after the last layer; it must be 1 or more."
            yield core.layer, (text, {"pooling": core.exit_pooling, "smallest": 1})


def feature_shift(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """0 to 1023, and the shifted features end at 1023 too."""
    low, high = chip.feature_shift
    for core, to in _slots(configuration):
        last = to.feature_shift + core.output_shape[0] - 1
        # More features than exist without any shift are OUTPUT_FEATURES_OUT_OF_RANGE.
        runs_over = to.enable and last > high and core.output_shape[0] <= chip.features[1]
        if not low <= to.feature_shift <= high or runs_over:
            text = (
                f"Feature shift {to.feature_shift} sends features {to.feature_shift} to {last}; "
                f"{low} to {high} exist. Use a smaller shift or fewer features."
            )
            figures = {"feature_shift": to.feature_shift, "last_feature": last}
            yield core.layer, (text, {**figures, "largest_feature": high})


def link_size(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """Target's input size = source's output size // pooling, per axis."""
    for core, to, target in _links(configuration):
        if to.pooling < 1:
            continue  # POOLING_UNSUPPORTED says it
        height, width = (size // to.pooling for size in core.output_shape[1:])
        if (height, width) != target.input_shape[1:]:
            wanted_height, wanted_width = target.input_shape[1:]
            text = (
                f"Sends a map of {height} x {width} (h, w) after pooling by {to.pooling}, but "
                f"layer {target.layer} takes {wanted_height} x {wanted_width}. Make them equal."
            )
            figures = {"height": height, "width": width, "pooling": to.pooling}
            wanted = {"expected_height": wanted_height, "expected_width": wanted_width}
            yield core.layer, (text, {**figures, **wanted, "target_layer": target.layer})


def fan_in_start(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """Features that arrive at a target start at 0."""
    for target, ranges in _fan_in(configuration):
        if ranges[0][0] != 0:
            text = f"Input features start at {ranges[0][0]}, not 0. Shift one source to 0."
            yield target.layer, (text, {"first_feature": ranges[0][0]})


def fan_in_gap(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """No feature between two sources is left out."""
    for target, ranges in _fan_in(configuration):
        end = ranges[0][1]
        for first, stop in ranges[1:]:
            if first > end:
                text = f"No source feeds input features {end} to {first - 1}. Close the gap."
                yield target.layer, (text, {"first_missing": end, "last_missing": first - 1})
            end = max(end, stop)


def fan_in_overlap(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """No two sources feed the same feature, where the chip cannot add."""
    if chip.fan_in_overlap:
        return
    for target, ranges in _fan_in(configuration):
        end = ranges[0][1]
        for first, stop in ranges[1:]:
            if first < end:
                last = min(end, stop) - 1
                text = (
                    f"Two sources feed input features {first} to {last}; {chip.name} cannot add "
                    "them. Shift one source, or choose another chip."
                )
                yield target.layer, (text, {"first_shared": first, "last_shared": last})
            end = max(end, stop)


def fan_in_count(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """Features that arrive at a target are as many as it takes."""
    for target, ranges in _fan_in(configuration):
        found, end = 0, 0
        for first, stop in ranges:
            found += max(0, stop - max(first, end))
            end = max(end, stop)
        if found != target.input_shape[0]:
            text = (
                f"Receives {found} input features in all, but takes {target.input_shape[0]}. "
                "Make them equal."
            )
            yield target.layer, (text, {"features": found, "expected": target.input_shape[0]})


def self_loop(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """No core feeds itself."""
    for core, to in _slots(configuration, enabled=True):
        if to.core == core.core:
            text = f"Core {core.core} feeds itself, which can deadlock the chip. Unroll the loop."
            yield core.layer, (text, {"core": core.core})


def ring(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """No ring of cores."""
    layers = {core.core: core.layer for core in configuration.cores}
    links = {(c.core, to.core) for c, to, _ in _links(configuration) if c.core != to.core}
    while True:
        on_path = {source for source, _ in links} & {target for _, target in links}
        inner = {link for link in links if on_path.issuperset(link)}
        if inner == links:
            break
        links = inner
    members = sorted({source for source, _ in links})
    if members:
        named = ", ".join(map(str, members))
        text = f"Cores {named} feed each other in a ring, which can deadlock the chip. Unroll it."
        yield min(layers[number] for number in members), (text, {"cores": named})


LINK_RULES: Mapping[str, LinkRule] = {
    "CORE_USED_TWICE": core_used_twice,
    "INPUT_SHAPE_MISMATCH": input_shape,
    "TOO_MANY_DESTINATIONS": destination_count,
    "DESTINATION_OUT_OF_RANGE": destination_core,
    "DESTINATION_NOT_CONFIGURED": destination_configured,
    "POOLING_UNSUPPORTED": pooling,
    "EXIT_POOLING_OUT_OF_RANGE": exit_pooling,
    "FEATURE_SHIFT_OUT_OF_RANGE": feature_shift,
    "LINK_SIZE_MISMATCH": link_size,
    "FAN_IN_START": fan_in_start,
    "FAN_IN_GAP": fan_in_gap,
    "FAN_IN_OVERLAP": fan_in_overlap,
    "FAN_IN_COUNT": fan_in_count,
    "SELF_LOOP": self_loop,
    "RING": ring,
}


def _slots(
    configuration: Configuration, *, enabled: bool = False
) -> Iterator[tuple[CoreConfiguration, Destination]]:
    for core in configuration.cores:
        for to in core.destinations:
            if to.enable or not enabled:
                yield core, to


def _links(
    configuration: Configuration,
) -> Iterator[tuple[CoreConfiguration, Destination, CoreConfiguration]]:
    """Enabled destinations that reach a configured core."""
    for core, to in _slots(configuration, enabled=True):
        target = configuration.core_of(to.core)
        if target is not None:
            yield core, to, target


def _fan_in(configuration: Configuration) -> Iterator[tuple[CoreConfiguration, list[_Range]]]:
    """Each fed core with the feature ranges of its sources, sorted."""
    ranges: dict[int, list[_Range]] = {}
    for core, to, _ in _links(configuration):
        end = to.feature_shift + core.output_shape[0]
        ranges.setdefault(to.core, []).append((to.feature_shift, end))
    for way in configuration.inputs:
        if way.core in ranges:
            end = way.feature_shift + configuration.input_shape[0]
            ranges[way.core].append((way.feature_shift, end))
    for core in configuration.cores:
        if core.core in ranges:
            yield core, sorted(ranges[core.core])
