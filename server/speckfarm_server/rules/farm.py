"""Rules of the farm itself: what a chip would take, but the farm cannot run or answer for.

The vendor's validator accepts self loops, rings and links to cores that run nothing if the shapes
fit. sinabs refuses loops because a chip can deadlock on them, and so does the farm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from speckfarm_server.chip import Chip
from speckfarm_server.configuration import Configuration
from speckfarm_server.rules.fan_in import LinkProblem, LinkRule, dvs_targets, links, slots
from speckfarm_server.rules.vendor import field_of

# Whether the camera's noise filter is on: 2e/2f `enable`, 2b `filter_bypass` (on unless set).
_FILTER_ON = {"dvs_filter.enable": True, "dvs_filter.filter_bypass": False}


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


def input_shape(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """The layers that recorded events reach take what the recordings bring."""
    features, *size = configuration.input_shape
    fed = {target.core for _, _, target in links(configuration, chip)}
    for way in configuration.inputs:
        core = configuration.core_of(way.core)
        if core is None:
            continue  # DESTINATION_NOT_CONFIGURED says it
        # Features of a core that others feed too are FAN_IN_COUNT's.
        is_fed = way.core in fed
        wanted = core.input_shape[1:] if is_fed else core.input_shape
        if (tuple(size) if is_fed else (features, *size)) != wanted:
            text = (
                f"The network's input is {configuration.input_shape} (c, h, w), but its first "
                f"layer takes {core.input_shape}. Make them equal."
            )
            figures = {"input_shape": configuration.input_shape, "layer_input": core.input_shape}
            yield core.layer, (text, dict(figures))


def destination_configured(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """An enabled destination runs a layer."""
    used = {core.core for core in configuration.cores}
    feeding: list[tuple[int | None, int]] = [
        (core.layer, to.core) for core, to in slots(configuration, enabled=True)
    ]
    feeding += [(None, to.core) for to in configuration.inputs if to.enable]
    feeding += [(None, target.core) for target in dvs_targets(configuration, chip)]
    for layer, number in feeding:
        if 0 <= number < len(chip.cores) and number not in used:
            text = f"Feeds core {number}, which runs no layer. Configure it or turn the slot off."
            yield layer, (text, {"destination": number})


def exit_pooling(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """Pooling after the last layer is done by the host, by any whole number."""
    for core in configuration.cores:
        if core.exit_pooling < 1:
            text = f"Pooling by {core.exit_pooling} after the last layer; it must be 1 or more."
            yield core.layer, (text, {"pooling": core.exit_pooling, "smallest": 1})


def self_loop(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """No core feeds itself."""
    for core, to in slots(configuration, enabled=True):
        if to.core == core.core:
            text = f"Core {core.core} feeds itself, which can deadlock the chip. Unroll the loop."
            yield core.layer, (text, {"core": core.core})


def ring(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """No ring of cores."""
    layers = {core.core: core.layer for core in configuration.cores}
    pairs = {(core.core, to.core) for core, to in slots(configuration, enabled=True)}
    found = {(source, to) for source, to in pairs if source != to and to in layers}
    while True:
        on_path = {source for source, _ in found} & {target for _, target in found}
        inner = {link for link in found if on_path.issuperset(link)}
        if inner == found:
            break
        found = inner
    members = sorted({source for source, _ in found})
    if members:
        named = ", ".join(map(str, members))
        text = f"Cores {named} feed each other in a ring, which can deadlock the chip. Unroll it."
        yield min(layers[number] for number in members), (text, {"cores": named})


def kill_bits(configuration: Configuration, _: Chip) -> Iterator[LinkProblem]:
    """No kill bit is set: nobody has published what a killed weight, bias or neuron does."""
    for core in configuration.cores:
        for name in ("weights", "biases", "neurons"):
            bits = getattr(core, f"{name}_kill")
            killed = 0 if bits is None else int(bits.sum())
            if killed:
                text = (
                    f"{killed} kill bits of {name} are set; the farm cannot tell what they do. "
                    "Clear them, and set weights to 0 instead."
                )
                yield core.layer, (text, {"array": name, "killed": killed})


def dvs_filter(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """The noise filter is off where camera events reach a core: the simulator has none."""
    if not any(dvs_targets(configuration, chip)):
        return
    for key, value in configuration.vendor.items():
        if _FILTER_ON.get(field_of(key)) is bool(value):
            text = f"Found {key} = {value}: the noise filter is on; the simulator has none. "
            yield None, (f"{text}Turn it off.", {"key": key, "value": value})


def dvs_swap(configuration: Configuration, chip: Chip) -> Iterator[LinkProblem]:
    """Only square camera maps swap x and y: the chip declares a map as it is before the swap."""
    for target in dvs_targets(configuration, chip):
        _, height, width = target.input_shape
        if configuration.dvs is not None and configuration.dvs.mirror_diagonal and height != width:
            text = (
                f"Camera events swap x and y on the way to {target.name} with a map of "
                f"{height} x {width} (h, w). Crop to a square, or do not swap."
            )
            yield target.layer, (text, {"height": height, "width": width, "core": target.core})


FARM_RULES: Mapping[str, LinkRule] = {
    "CORE_USED_TWICE": core_used_twice,
    "INPUT_SHAPE_MISMATCH": input_shape,
    "DESTINATION_NOT_CONFIGURED": destination_configured,
    "EXIT_POOLING_OUT_OF_RANGE": exit_pooling,
    "SELF_LOOP": self_loop,
    "RING": ring,
    "KILL_BITS_UNSUPPORTED": kill_bits,
    "DVS_FILTER_UNSUPPORTED": dvs_filter,
    "DVS_SWAP_NOT_SQUARE": dvs_swap,
}
