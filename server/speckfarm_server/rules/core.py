"""Rules on the numbers of one core, whatever the other cores do.

Sources: the vendor's validator in samna 0.7.1 (chip speck2b), the Speck Dev Kit Datasheet of August
2023 sections 2.4 and T1-T4, sinabs 3.1.3 `get_constraints`. docs/reference/checks.md lists all.
Values may be hostile (stride 0, padding 2^62): a rule guards before it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from speckfarm_server.chip import DECIMATOR_CODES, Chip, CoreLimits, neuron_entries, output_size
from speckfarm_server.configuration import CoreConfiguration

Problem: TypeAlias = tuple[str, dict[str, object]]  # message, every number of it
CoreRule: TypeAlias = Callable[[CoreConfiguration, Chip], Iterator[Problem]]
AXES = ("y", "x")


def core_number(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """The core exists."""
    last = len(chip.cores) - 1
    if not 0 <= core.core <= last:
        text = f"There is no core {core.core}; {chip.name} has cores 0 to {last}."
        yield text, {"core": core.core, "largest_core": last}


def input_size(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """1 to 128 pixels per axis."""
    advice = "Crop or pool the recordings, or choose another input size."
    yield from _sizes("Input map", core.input_shape[1:], chip.input_size, advice)


def output_map_size(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """1 to 64 pixels per axis, before pooling."""
    advice = "A larger stride or a smaller input map makes it smaller."
    if min(core.output_shape[1:]) < 1:
        advice = "The kernel does not fit into the padded input: use a smaller kernel or padding."
    yield from _sizes("Output map before pooling", core.output_shape[1:], chip.output_size, advice)


def input_features(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """1 to 1024."""
    yield from _in_range("input features", core.input_shape[0], chip.features, "")


def output_features(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """1 to 1024."""
    advice = " Use fewer output features, or split the layer."
    yield from _in_range("output features", core.output_shape[0], chip.features, advice)


def kernel_size(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """1 to 16, square."""
    advice = " Use a smaller kernel, or two layers with smaller ones."
    yield from _in_range("kernel size", core.kernel_size, chip.kernel_size, advice)


def stride(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """1, 2, 4 or 8, each axis by itself."""
    allowed = ", ".join(map(str, chip.strides))
    if any(step not in chip.strides for step in core.stride):
        y, x = core.stride
        text = f"Stride {y} x {x} (y, x); each must be one of {allowed}. Choose the nearest of them"
        text += ", or stride 1 and sum pooling."
        yield text, {"stride_y": y, "stride_x": x, "allowed": allowed}


def padding(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """0 to 7, each axis by itself."""
    low, high = chip.padding
    y, x = core.padding
    if not (low <= y <= high and low <= x <= high):
        text = f"Padding {y} x {x} (y, x); {low} to {high} is allowed. Use less padding."
        yield text, {"padding_y": y, "padding_x": x, "smallest": low, "largest": high}


def output_size_formula(core: CoreConfiguration, _: Chip) -> Iterator[Problem]:
    """The declared output size equals floor((in - k + 2p) / s) + 1."""
    axes = zip(AXES, core.input_shape[1:], core.output_shape[1:], strict=True)
    for index, (axis, in_size, out_size) in enumerate(axes):
        step, pad = core.stride[index], core.padding[index]
        if step < 1:
            continue  # STRIDE_UNSUPPORTED says it
        expected = output_size(in_size, core.kernel_size, step, pad)
        if out_size != expected:
            text = (
                f"Output size {out_size} along {axis} is declared, but floor((in - k + 2p) / s) "
                f"+ 1 = {expected} with in = {in_size}, k = {core.kernel_size}, p = {pad}, "
                f"s = {step}. Declare {expected}."
            )
            yield text, {"axis": axis, "output_size": out_size, "expected_output_size": expected}


def kernel_memory(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """c * 2^(ceil(log2 k^2) + ceil(log2 f)) 8-bit words."""
    if not _is_sized(core):
        return
    in_features, features = core.input_shape[0], core.output_shape[0]
    need, per_feature = core.kernel_entries, core.kernel_entries // _power(features)
    figures = f"c = {in_features}, k = {core.kernel_size}, f = {features}"

    def advice(limit: int) -> str:
        most = _power_below(limit // per_feature)
        less = "a smaller kernel or fewer input features"
        return f"Use at most {most} output features, {less}" if most else f"Use {less}"

    yield from _memory("kernel", (need, figures), core, chip, advice)


def neuron_memory(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """f * 2^(ceil(log2 h) + ceil(log2 w)) 16-bit words, before pooling; h, w from the formula."""
    sizes = _formula_sizes(core)
    if not _is_sized(core) or min(sizes) < 1:
        return
    features, (height, width) = core.output_shape[0], sizes
    need = neuron_entries(features, height, width)
    per_feature = need // features
    figures = f"f = {features}, h = {height}, w = {width} before pooling"

    def advice(limit: int) -> str:
        less = "a larger stride or a smaller input map"
        most = limit // per_feature
        return f"Use at most {most} output features, {less}" if most else f"Use {less}"

    yield from _memory("neuron", (need, figures), core, chip, advice)


def bias_memory(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """One 16-bit word per bias; none if no bias is used."""
    need = bias_entries(core)

    def advice(limit: int) -> str:
        return f"Use at most {limit} output features, or no bias"

    yield from _memory("bias", (need, f"f = {need}"), core, chip, advice)


def threshold_high(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """0 to 32767."""
    yield from _in_range("threshold_high", core.threshold_high, chip.threshold_high, "")


def threshold_low(core: CoreConfiguration, chip: Chip) -> Iterator[Problem]:
    """-32768 to 0."""
    yield from _in_range("threshold_low", core.threshold_low, chip.threshold_low, "")


def decimator(core: CoreConfiguration, _: Chip) -> Iterator[Problem]:
    """Off, or one of the eight ratios the register knows."""
    if core.decimator is not None and core.decimator not in DECIMATOR_CODES:
        allowed = ", ".join(map(str, DECIMATOR_CODES))
        text = f"Decimator passes 1 spike in {core.decimator}; N can be {allowed}, or off."
        yield text, {"decimator": core.decimator, "allowed": allowed}


CORE_RULES: Mapping[str, CoreRule] = {
    "CORE_OUT_OF_RANGE": core_number,
    "INPUT_SIZE_OUT_OF_RANGE": input_size,
    "OUTPUT_SIZE_OUT_OF_RANGE": output_map_size,
    "INPUT_FEATURES_OUT_OF_RANGE": input_features,
    "OUTPUT_FEATURES_OUT_OF_RANGE": output_features,
    "KERNEL_SIZE_OUT_OF_RANGE": kernel_size,
    "STRIDE_UNSUPPORTED": stride,
    "PADDING_OUT_OF_RANGE": padding,
    "OUTPUT_SIZE_MISMATCH": output_size_formula,
    "KERNEL_MEMORY_EXCEEDED": kernel_memory,
    "NEURON_MEMORY_EXCEEDED": neuron_memory,
    "BIAS_MEMORY_EXCEEDED": bias_memory,
    "THRESHOLD_HIGH_OUT_OF_RANGE": threshold_high,
    "THRESHOLD_LOW_OUT_OF_RANGE": threshold_low,
    "DECIMATOR_UNSUPPORTED": decimator,
}


def bias_entries(core: CoreConfiguration) -> int:
    """Bias memory in 16-bit words, from the declared sizes as the other memories."""
    return core.output_shape[0] if core.leak_enable or core.biases.any() else 0


def _in_range(what: str, value: int, allowed: tuple[int, int], advice: str) -> Iterator[Problem]:
    low, high = allowed
    if not low <= value <= high:
        text = f"Found {what} {value}; {low} to {high} is allowed.{advice}"
        yield text, {what.replace(" ", "_"): value, "smallest": low, "largest": high}


def _sizes(
    what: str, sizes: tuple[int, int], allowed: tuple[int, int], advice: str
) -> Iterator[Problem]:
    low, high = allowed
    height, width = sizes
    if not (low <= height <= high and low <= width <= high):
        text = f"{what} is {height} x {width} (h, w); {low} to {high} per axis is allowed. {advice}"
        yield text, {"height": height, "width": width, "smallest": low, "largest": high}


def _memory(
    kind: str,
    need: tuple[int, str],
    core: CoreConfiguration,
    chip: Chip,
    advice: Callable[[int], str],
) -> Iterator[Problem]:
    entries, figures = need
    limits = [getattr(limit, f"{kind}_entries") for limit in chip.cores]
    if not 0 <= core.core < len(limits) or entries <= limits[core.core]:
        return
    limit, largest = limits[core.core], max(limits)
    others = [number for number, limits_of in enumerate(chip.cores) if _holds(limits_of, core)]
    if others:
        fix = f"core {core.core} holds {limit:,}. Core {_listed(others)} would hold the layer"
    elif entries <= largest:
        roomy = _listed(number for number, size in enumerate(limits) if size >= entries)
        fix = f"core {roomy} would hold them, but not the layer's other memory. Use fewer features"
    else:
        fix = f"the largest core of {chip.name} holds {largest:,}. {advice(largest)}"
    yield (
        f"Needs {entries:,} {kind} entries ({figures}, rounded up as the chip does); {fix}.",
        {
            "core": core.core,
            f"{kind}_entries": entries,
            f"{kind}_entries_limit": limit,
            f"largest_{kind}_entries_limit": largest,
            "fitting_cores": _listed(others),
        },
    )


def _holds(limits: CoreLimits, core: CoreConfiguration) -> bool:
    return (
        core.kernel_entries <= limits.kernel_entries
        and core.neuron_entries <= limits.neuron_entries
        and bias_entries(core) <= limits.bias_entries
    )


def _formula_sizes(core: CoreConfiguration) -> tuple[int, int]:
    """What the chip makes of the input map, whatever is declared; 0 without a stride."""
    axes = zip(core.input_shape[1:], core.stride, core.padding, strict=True)
    height, width = (
        output_size(size, core.kernel_size, step, pad) if step >= 1 else 0
        for size, step, pad in axes
    )
    return height, width


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _is_sized(core: CoreConfiguration) -> bool:
    """Sizes below 1 have rules of their own; memory of such a core means nothing."""
    return min(*core.input_shape, *core.output_shape, core.kernel_size) >= 1


def _power(value: int) -> int:
    """The next power of two."""
    return 1 << (value - 1).bit_length()


def _power_below(value: int) -> int:
    """The largest power of two that is not larger, 0 for 0."""
    return 1 << (value.bit_length() - 1) if value > 0 else 0
