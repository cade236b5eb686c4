"""Random descriptions of speck2b configurations: legal ones at the edges of the limits, or broken.

The format is that of `vendor_description`. Limits and formulas are written here once more, so that
a fault in ours cannot hide.
"""

import random
from collections.abc import Callable
from typing import Any

from tests.vendor_mutations import MUTATIONS, overflow, pick_array

Plain = dict[str, Any]
KERNEL_WORDS = (16384, 16384, 16384, 32768, 32768, 65536, 65536, 16384, 16384)
NEURON_WORDS = (65536, 65536, 65536, 32768, 32768, 16384, 16384, 16384, 16384)
STRIDES, POOLINGS, CAMERA_POOLINGS = (1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4)
CROWDED = 0.1  # share of descriptions of many small cores with links at random
BROKEN = 0.4  # share of descriptions that one to three changes were made to


def describe(seed: int | str) -> Plain:
    """One description; the same seed gives the same one."""
    draw = random.Random(seed)
    if draw.random() < CROWDED:
        return _crowded(draw)
    made = _legal(draw)
    if draw.random() < BROKEN:
        chosen = [draw.choice(MUTATIONS) for _ in range(draw.choice((1, 1, 1, 2, 3)))]
        # What is no number any more cannot be changed by one.
        for change in sorted(chosen, key=lambda change: change is overflow):
            change(made, draw)
    return made


def _legal(draw: random.Random) -> Plain:
    """Layers in order of links; each takes from earlier ones, the camera, or nobody."""
    made: Plain = {"chip": "speck2b", "cores": {}}
    camera = _camera(draw) if draw.random() < 0.4 else None
    for number in draw.sample(range(9), draw.choice((1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 9))):
        sources = _sources(made["cores"], camera, draw)
        core = _core(number, sources[0], draw)
        for way in sources[1]:
            way["core"] = number
        made["cores"][str(number)] = core
        if draw.random() < 0.04:
            _feed_itself(number, core)
    if camera is not None:
        made["dvs"] = camera
    for core in made["cores"].values():
        _fill_slots(core, draw)
    _add_registers(made, draw)
    return made


def _crowded(draw: random.Random) -> Plain:
    """One pixel, few features, many links: some fit, most meet in every wrong way."""
    numbers = draw.sample(range(9), draw.randint(2, 9))
    cores: Plain = {}
    for number in numbers:
        ways = [
            {
                "core": draw.randrange(9),
                "feature_shift": draw.choice((0, 0, 1, 2, 3, 4, 1020, 1023)),
                "pooling": draw.choice((1, 1, 1, 1, 1, 1, 1, 2)),
                "enable": draw.random() < 0.9,
            }
            for _ in range(draw.randint(0, 2))
        ]
        shapes: Plain = {"input": [draw.randint(1, 8), 1, 1], "output": [draw.randint(1, 4), 1, 1]}
        cores[str(number)] = {**shapes, "kernel": 1, "destinations": ways}
    made: Plain = {"chip": "speck2b", "cores": cores}
    if draw.random() < 0.4:
        flags = {n: draw.random() < 0.6 for n in ("merge", "on_channel", "off_channel")}
        ways = [{"core": draw.randrange(9)} for _ in range(draw.randint(0, 2))]
        made["dvs"] = {"cut": [0, 0], "destinations": ways, **flags}
    if draw.random() < 0.7:
        _line_up(cores, draw)
    return made


def _line_up(cores: Plain, draw: random.Random) -> None:
    """Most links get the next free features of their target, which takes as many."""
    taken: dict[int, int] = {}
    for core in cores.values():
        for way in core["destinations"]:
            if way["enable"] and draw.random() < 0.95:
                way |= {"feature_shift": taken.get(way["core"], 0), "pooling": 1}
                taken[way["core"]] = way["feature_shift"] + core["output"][0]
    for number, features in taken.items():
        if str(number) in cores:
            cores[str(number)]["input"][0] = features


def _camera(draw: random.Random) -> Plain:
    origin = [draw.choice((0, 0, 1, draw.randrange(128), 127)) for _ in "yx"]
    cut = [draw.choice((127, first, draw.randrange(first, 128))) for first in origin]
    pooling = [draw.choice(CAMERA_POOLINGS) for _ in "yx"]
    made: Plain = {"origin": origin, "cut": cut, "pooling": pooling, "destinations": []}
    for name in ("merge", "on_channel", "off_channel", "mirror_diagonal", "pass_sensor_events"):
        if draw.random() < 0.3:
            made[name] = draw.random() < 0.5
    if draw.random() < 0.3:
        made["mirror"] = [draw.random() < 0.5, draw.random() < 0.5]
    return made


def _camera_map(camera: Plain) -> list[int]:

    edges = zip(camera["origin"], camera["cut"], camera["pooling"], strict=True)
    height, width = ((cut - origin + 1) // pool for origin, cut, pool in edges)
    return [1 if camera.get("merge") else 2, height, width]


def _sources(
    cores: Plain, camera: Plain | None, draw: random.Random
) -> tuple[list[int], list[Plain]]:
    """What the next layer takes, and the slots that will feed it."""
    offers = [
        (way, core["output"], core)
        for core in cores.values()
        if len(core["destinations"]) < 2
        for way in [{"pooling": draw.choice(POOLINGS[: draw.choice((1, 2, 4))])}]
    ]
    draw.shuffle(offers)
    fitting = [(way, _pooled(shape, way), core) for way, shape, core in offers]
    fitting = [offer for offer in fitting if min(offer[1]) > 0]
    if camera is not None and len(camera["destinations"]) < 2 and min(_camera_map(camera)) > 0:
        place = 0 if draw.random() < 0.6 else len(fitting)
        fitting.insert(place, ({}, _camera_map(camera), camera))
    if not fitting or draw.random() < 0.15:
        return _fresh_input(draw), []
    size = fitting[0][1][1:]
    joined = [offer for offer in fitting if offer[1][1:] == size]
    joined = joined[: draw.choice((1, 2, 3, 4))]
    return _joined(joined, draw)


def _joined(
    offers: list[tuple[Plain, list[int], Plain]], draw: random.Random
) -> tuple[list[int], list[Plain]]:
    """Ranges that touch, from feature 0 to 1023 at most; the camera's is the first."""
    offers = sorted(offers, key=lambda offer: "origin" not in offer[2])
    if draw.random() < 0.2 and "pooling" in offers[-1][0]:
        way, shape, source = offers[-1]
        if len(source["destinations"]) == 0:
            offers.append((dict(way), shape, source))  # the same source once more, shifted
    start, ways = 0, []
    for way, (features, *_), source in offers:
        if start + features > 1024:
            break
        if start or ("pooling" in way and draw.random() < 0.3):
            way["feature_shift"] = start
        start += features
        source["destinations"].append(way)
        ways.append(way)
    return [start, *offers[0][1][1:]], ways


def _pooled(shape: list[int], way: Plain) -> list[int]:
    return [shape[0], shape[1] // way["pooling"], shape[2] // way["pooling"]]


def _fresh_input(draw: random.Random) -> list[int]:
    features = draw.choice((1, 2, 3, 16, 1024, draw.randint(1, 1024), draw.randint(1, 64)))
    sizes = (draw.choice((1, 2, 127, 128, 64, 65, draw.randint(1, 128))) for _ in "yx")
    return [features, *sizes]


def _core(number: int, source: list[int], draw: random.Random) -> Plain:
    kernel, stride, padding, size = _geometry(source, draw)
    channels = source[0]
    while channels << _rounded(kernel * kernel) > KERNEL_WORDS[number]:
        kernel, stride, padding, size = _smaller(source, kernel, draw)
    features = _features(number, channels, kernel, size, draw)
    core: Plain = {
        "input": source, "output": [features, *size], "kernel": kernel, "stride": stride,
        "padding": padding, "destinations": [],
        "threshold_high": draw.choice((0, 1, 32767, draw.randint(0, 32767))),
        "threshold_low": draw.choice((0, -1, -32768, draw.randint(-32768, 0))),
    }  # fmt: skip
    for name in ("weights", "biases", "neurons_initial_value", "weights_kill_bit",
                 "biases_kill_bit", "neurons_value_kill_bit"):  # fmt: skip
        if draw.random() < 0.4:
            core[name] = pick_array(name, draw)
    for name in ("return_to_zero", "leak_enable", "monitor_enable"):
        if draw.random() < 0.5:
            core[name] = draw.random() < 0.5
    return core


def _geometry(
    source: list[int], draw: random.Random, kernels: tuple[int, ...] = tuple(range(1, 17))
) -> tuple[int, list[int], list[int], list[int]]:
    """Kernel, stride, padding and the map of 1 to 64 pixels per axis that they give."""
    while True:
        kernel = draw.choice((kernels[0], kernels[-1], draw.choice(kernels)))
        stride = [draw.choice(STRIDES) for _ in "yx"]
        padding = [draw.choice((0, 0, 7, draw.randint(0, 7))) for _ in "yx"]
        size = [
            (source[axis + 1] - kernel + 2 * padding[axis]) // stride[axis] + 1 for axis in (0, 1)
        ]
        if min(size) >= 1 and max(size) <= 64:
            return kernel, stride, padding, size


def _smaller(
    source: list[int], kernel: int, draw: random.Random
) -> tuple[int, list[int], list[int], list[int]]:
    return _geometry(source, draw, tuple(range(1, kernel)) if kernel > 1 else (1,))


def _features(number: int, channels: int, kernel: int, size: list[int], draw: random.Random) -> int:
    """As many output features as fit, or fewer."""
    pixels = 1 << (_rounded(size[0]) + _rounded(size[1]))
    by_neurons = NEURON_WORDS[number] // pixels
    per_feature = channels << _rounded(kernel * kernel)
    by_kernel = 1 << (max(1, KERNEL_WORDS[number] // per_feature).bit_length() - 1)
    largest = min(1024, by_neurons, by_kernel)
    return draw.choice((largest, largest, max(1, largest // 2), 1, draw.randint(1, largest)))


def _feed_itself(number: int, core: Plain) -> None:
    """The vendor accepts a core that feeds itself if the shapes fit: by concatenation."""
    (channels, height, width), (features, *size) = core["input"], core["output"]
    words = (channels + features) << (_rounded(core["kernel"] ** 2) + _rounded(features))
    fits = words <= KERNEL_WORDS[number] and channels + features <= 1024
    if [height, width] == size and fits:
        core["input"] = [channels + features, height, width]
        core["destinations"].append({"core": number, "feature_shift": channels})


def _fill_slots(core: Plain, draw: random.Random) -> None:
    """Slots that are off may name anything in range, in front of the others too."""
    while len(core["destinations"]) < 2 and draw.random() < 0.2:
        off = {
            "core": draw.randrange(9), "pooling": draw.choice(POOLINGS), "enable": False,
            "feature_shift": draw.choice((0, 1023, draw.randint(0, 1023))),
        }  # fmt: skip
        core["destinations"].insert(draw.randint(0, len(core["destinations"])), off)


def _add_registers(made: Plain, draw: random.Random) -> None:
    """Sometimes the readout and the camera's noise filter, at the edges of their ranges."""
    choices: dict[str, dict[str, Callable[[], Any]]] = {
        "readout": {
            "input_address_interpretation": lambda: draw.randint(0, 3),
            "p2s_input_selection": lambda: draw.randint(0, 3),
            "threshold": lambda: draw.choice((0, 65535)),
            "bypass_enable": lambda: draw.random() < 0.5,
        },
        "dvs_filter": {
            "filter_size": lambda: [draw.choice((0, 1, 7)), draw.choice((0, 1, 7))],
            "threashold": lambda: draw.choice((0, 5, 65535)),
            "filter_bypass": lambda: draw.random() < 0.5,
        },
    }
    for group, fields in choices.items():
        if draw.random() < 0.15:
            names = draw.sample(sorted(fields), draw.randint(1, len(fields)))
            made[group] = {name: fields[name]() for name in names}


def _rounded(value: int) -> int:
    """Bits that count up to `value` things: ceil(log2)."""
    bits = 0
    while 1 << bits < value:
        bits += 1
    return bits
