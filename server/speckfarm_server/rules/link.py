"""Rules between cores: destinations, sizes and feature ranges that meet at a target.

Source: the vendor's validator in samna 0.7.1 (chip speck2b), probed. It accepts self loops, rings
and links to cores that run nothing if the shapes fit; `farm_rules` does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration, Destination
from speckfarm_server.rules.fan_in import LinkProblem, LinkRule, fan_in, links, slots


def destination_count(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """At most two destinations."""
    for layer, found, largest in _counts(configuration, chip):
        if found > largest:
            who, fix = "a core", "Repeat the layer on another core for the others."
            if layer is None:
                who, fix = "the camera layer", "Let a core pass events on to the others."
            text = f"Feeds {found} destinations; {who} has {largest}. {fix}"
            yield layer, (text, {"destinations": found, "largest": largest})


def destination_core(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """A destination is a core or the readout, in slots that are off too."""
    last = len(chip.cores) - 1
    for layer, to in _named(configuration):
        # Camera events cannot enter the readout.
        if not 0 <= to.core <= last and (layer is None or to.core != chip.readout):
            text = f"Destination is core {to.core}; {chip.name} has cores 0 to {last}"
            figures: dict[str, object] = {"destination": to.core, "largest_core": last}
            if layer is not None and chip.readout is not None:
                text += f", and {chip.readout} is the readout"
                figures["readout"] = chip.readout
            yield layer, (f"{text}. Name one of them.", figures)


def pooling(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """1, 2 or 4 on the way to another core, in slots that are off too."""
    allowed = ", ".join(map(str, chip.poolings))
    for core, to in slots(configuration):
        if to.pooling not in chip.poolings:
            text = (
                f"Pooling by {to.pooling} in all after this layer; a core can pool by {allowed} "
                "(chained poolings multiply). Use one of these, or a larger stride."
            )
            yield core.layer, (text, {"pooling": to.pooling, "allowed": allowed})


def feature_shift(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """0 to 1023, in slots that are off too."""
    low, high = chip.feature_shift
    for core, to in slots(configuration):
        if not low <= to.feature_shift <= high:
            text = f"Feature shift {to.feature_shift}; {low} to {high} is allowed. Use another."
            figures = {"feature_shift": to.feature_shift, "smallest": low, "largest": high}
            yield core.layer, (text, dict(figures))


def link_size(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """Target's input size = source's output size // pooling, per axis."""
    for core, to, target in links(configuration, chip):
        height, width = (size // to.pooling for size in core.output_shape[1:])
        if (height, width) != target.input_shape[1:]:
            wanted_height, wanted_width = target.input_shape[1:]
            text = (
                f"Sends a map of {height} x {width} (h, w) after pooling by {to.pooling}, but "
                f"{target.name} takes {wanted_height} x {wanted_width}. Make them equal."
            )
            figures = {"height": height, "width": width, "pooling": to.pooling}
            wanted = {"expected_height": wanted_height, "expected_width": wanted_width}
            named = {"target_core": target.core}
            if target.layer is not None:
                named["target_layer"] = target.layer
            yield core.layer, (text, {**figures, **wanted, **named})


def fan_in_start(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """Features that arrive at a target start at 0."""
    for found in fan_in(configuration, chip):
        first = found.ranges[0][0]
        if first != 0:
            text = f"Input features start at {first}, not 0. Shift one source to 0."
            yield found.target.layer, (text, {"first_feature": first})


def fan_in_gap(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """No feature between two sources is left out."""
    for found in fan_in(configuration, chip):
        end = found.ranges[0][1]
        for first, stop in found.ranges[1:]:
            if first > end:
                text = f"No source feeds input features {end} to {first - 1}. Close the gap."
                figures = {"first_missing": end, "last_missing": first - 1}
                yield found.target.layer, (text, dict(figures))
            # The vendor's validator looks at neighbours only.
            end = max(end, stop) if chip.fan_in_overlap else stop


def fan_in_overlap(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """No two sources feed the same feature, where the chip cannot add."""
    if chip.fan_in_overlap:
        return
    for found in fan_in(configuration, chip):
        end = found.ranges[0][1]
        for first, stop in found.ranges[1:]:
            if first < end:
                last = min(end, stop) - 1
                text = (
                    f"Two sources feed input features {first} to {last}; {chip.name} cannot add "
                    "them. Shift one source, or choose another chip."
                )
                figures = {"first_shared": first, "last_shared": last}
                yield found.target.layer, (text, dict(figures))
            end = max(end, stop)


def fan_in_count(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """Features that arrive are as many as the target takes; shared ones count once if added."""
    for found in fan_in(configuration, chip):
        count, end = 0, 0
        for first, stop in found.ranges:
            count += max(0, stop - max(first, end)) if chip.fan_in_overlap else stop - first
            end = max(end, stop)
        wanted = found.target.input_shape[0]
        if count != wanted:
            text = f"Receives {count} input features in all, but takes {wanted}. Make them equal."
            yield found.target.layer, (text, {"features": count, "expected": wanted})


def fan_in_top(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """The last feature that arrives is at most 1023."""
    largest = chip.feature_shift[1]
    for found in fan_in(configuration, chip):
        # The vendor's validator looks at the source that begins last only.
        ends = [stop for _, stop in found.ranges]
        last = (max(ends) if chip.fan_in_overlap else ends[-1]) - 1
        if last > largest:
            text = (
                f"Input features up to {last} arrive; {largest} is the last there is. "
                "Use a smaller feature shift or fewer features in the layer before."
            )
            yield found.target.layer, (text, {"last_feature": last, "largest": largest})


LINK_RULES: Mapping[str, LinkRule] = {
    "TOO_MANY_DESTINATIONS": destination_count,
    "DESTINATION_OUT_OF_RANGE": destination_core,
    "POOLING_UNSUPPORTED": pooling,
    "FEATURE_SHIFT_OUT_OF_RANGE": feature_shift,
    "LINK_SIZE_MISMATCH": link_size,
    "FAN_IN_START": fan_in_start,
    "FAN_IN_GAP": fan_in_gap,
    "FAN_IN_OVERLAP": fan_in_overlap,
    "FAN_IN_COUNT": fan_in_count,
    "FAN_IN_TOP": fan_in_top,
}


def _counts(configuration: Configuration, chip: Chip) -> Iterator[tuple[int | None, int, int]]:
    """Layer, its destinations and how many it may have; layer None is the camera layer."""
    for core in configuration.cores:
        yield core.layer, len(core.destinations), chip.destinations
    if configuration.dvs is not None:
        yield None, len(configuration.dvs.destinations), chip.dvs_destinations


def _named(configuration: Configuration) -> Iterator[tuple[int | None, Destination]]:
    """Every destination with its source's layer; layer None is the camera layer."""
    for core, to in slots(configuration):
        yield core.layer, to
    for to in configuration.dvs.destinations if configuration.dvs else ():
        yield None, to
