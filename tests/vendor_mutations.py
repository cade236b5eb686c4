"""Changes that break a description, most of them one step beyond a limit; some break nothing."""

import random
from collections.abc import Callable
from typing import Any

Plain = dict[str, Any]
Mutation = Callable[[Plain, random.Random], None]
BYTE, WORD, SIGNED = (0, 255), (0, 65535), (-32768, 32767)
_ARRAYS = {
    "weights": ((-128, 127), 4),
    "biases": (SIGNED, 1),
    "neurons_initial_value": (SIGNED, 3),
    "weights_kill_bit": ((0, 1), 4),
    "biases_kill_bit": ((0, 1), 1),
    "neurons_value_kill_bit": ((0, 1), 3),
}
# Not {}: the vendor's fields take it for "as it was".
_WRONG_TYPES = (1.5, "1", None, [1])


def pick_array(name: str, draw: random.Random) -> Any:
    """A legal array of the shape that the sizes ask for, small numbers or the largest."""
    (low, high), _ = _ARRAYS[name]
    if name.endswith("kill_bit"):
        return {"fill": draw.random() < 0.5}
    if draw.random() < 0.7:
        return {"fill": draw.choice((0, 1, low, high))}
    edges = draw.choice(((low, high), (-3, 3), (0, high)))
    return {"seed": draw.randrange(1 << 16), "lo": edges[0], "hi": edges[1]}


def sizes(made: Plain, draw: random.Random) -> None:
    """A size, kernel, stride or padding at or beyond its limit."""
    core = _any_core(made, draw)
    name, beyond = draw.choice((
        ("kernel", (0, 17, 16, 15, 255)),
        ("stride", (0, 3, 5, 16, 8)),
        ("padding", (7, 8, 9, 255)),
        ("input", (0, 1, 128, 129, 255)),
        ("output", (0, 1, 64, 65, 255)),
    ))  # fmt: skip
    value = draw.choice(beyond)
    if name == "kernel":
        core[name] = value
    else:
        core[name][draw.randrange(-2, 0)] = value


def off_by_one(made: Plain, draw: random.Random) -> None:
    """A declared size that the formula or the neighbour does not give."""
    core = _any_core(made, draw)
    shape = core[draw.choice(("input", "output"))]
    shape[draw.randrange(-2, 0)] += draw.choice((-1, 1))


def features(made: Plain, draw: random.Random) -> None:
    """Feature counts beyond the limits, or one more than fits."""
    core = _any_core(made, draw)
    shape = core[draw.choice(("input", "output"))]
    shape[0] = draw.choice((0, 1023, 1024, 1025, shape[0] + 1, shape[0] * 2, shape[0] - 1))


def move(made: Plain, draw: random.Random) -> None:
    """Two cores exchange their layers: memories and targets change."""
    first, second = str(draw.randrange(9)), str(draw.randrange(9))
    cores = made["cores"]
    held = {number: cores.pop(number) for number in {first, second} & cores.keys()}
    for number, core in held.items():
        cores[second if number == first else first] = core


def thresholds(made: Plain, draw: random.Random) -> None:
    """Thresholds on the wrong side of 0, or beyond 16 bits."""
    core = _any_core(made, draw)
    core["threshold_high"] = draw.choice((-1, -32768, 32767, 32768, 0))
    core["threshold_low"] = draw.choice((1, 32767, -32768, -32769, 0))


def shapes(made: Plain, draw: random.Random) -> None:
    """An array of another shape than the sizes ask for."""
    core, name = _any_core(made, draw), draw.choice(sorted(_ARRAYS))
    _, axes = _ARRAYS[name]
    count, channels, kernel = core["output"][0], core["input"][0], core.get("kernel", 1)
    wanted = {4: [count, channels, kernel, kernel], 1: [count], 3: list(core["output"])}[axes]
    axis = draw.randrange(axes)
    wanted[axis] = max(1, wanted[axis] + draw.choice((-1, 1, 0)))
    if axes > 1 and draw.random() < 0.3:
        wanted[-2:] = wanted[:-3:-1]  # x before y
    spec = pick_array(name, draw)
    core[name] = {**spec, "shape": wanted if draw.random() < 0.95 else wanted[1:] or [1, 1]}


def values(made: Plain, draw: random.Random) -> None:
    """An array whose values no field takes."""
    core, name = _any_core(made, draw), draw.choice(sorted(_ARRAYS))
    (low, high), _ = _ARRAYS[name]
    worst = draw.choice((low, high, low - 1, high + 1, 1.5, "1", True))
    core[name] = {"fill": worst}


def lists(made: Plain, draw: random.Random) -> None:
    """A small core whose arrays are written out, rightly, raggedly or with a wrong value."""
    made["cores"]["8"] = core = {
        "input": [1, 1, 2], "output": [2, 1, 2], "kernel": 1, "stride": [1, 1], "padding": [0, 0],
        "weights": [[[[1]]], [[[-128]]]], "biases": [1, -32768],
        "neurons_initial_value": [[[1, 2]], [[3, 4]]],
        "weights_kill_bit": [[[[True]]], [[[False]]]], "destinations": [],
    }  # fmt: skip
    name, value = draw.choice((
        ("weights", [[[[127]]], [[[128]]]]),
        ("weights", [[[1]], [[2]]]),
        ("weights", [[[[1, 2]]], [[[1, 2]]]]),
        ("biases", [1, 32768]),
        ("biases", [1, 2, 3]),
        ("biases", [1, 1.5]),
        ("biases", []),
        ("neurons_initial_value", [[[1], [2]], [[3], [4]]]),
        ("neurons_initial_value", [[[1, 2]], [[3]]]),
        ("weights_kill_bit", [[[[0]]], [[[7]]]]),
        ("threshold_high", 1),
    ))  # fmt: skip
    core[name] = value


def destinations(made: Plain, draw: random.Random) -> None:
    """A slot with other numbers: at a limit, beyond it, or simply wrong for the target."""
    way = _any_slot(_any_core(made, draw), draw)
    shift = way.get("feature_shift", 0)
    name, value = draw.choice((
        ("core", draw.choice((8, 9, 12, 255, draw.randrange(9)))),
        ("pooling", draw.choice((0, 1, 2, 3, 8, 16, 255))),
        ("feature_shift", draw.choice((0, 1023, 1024, 65535, shift + 1, max(0, shift - 1)))),
        ("enable", not way.get("enable", True)),
    ))  # fmt: skip
    way[name] = value


def sharing(made: Plain, draw: random.Random) -> None:
    """One more source for a core that may have some already."""
    way = {"core": draw.randrange(9), "pooling": 1, "feature_shift": draw.choice((0, 1, 8))}
    _any_core(made, draw)["destinations"].append(way)


def dropping(made: Plain, draw: random.Random) -> None:
    """A source less: a slot or a whole core."""
    if draw.random() < 0.5:
        made["cores"].pop(draw.choice(sorted(made["cores"])))
        made["cores"] = made["cores"] or {"0": {"input": [1, 1, 1], "output": [1, 1, 1],
                                                "stride": [1, 1], "padding": [0, 0],
                                                "kernel": 1, "destinations": []}}  # fmt: skip
    else:
        _any_core(made, draw)["destinations"][:1] = []


def camera(made: Plain, draw: random.Random) -> None:
    """The camera layer beyond its limits, or with a map that the target does not take."""
    dvs = made.setdefault("dvs", {})
    for name, default, beyond in (
        ("origin", [0, 0], (0, 127, 128, 255, 1)),
        ("cut", [127, 127], (0, 126, 127, 128, 255)),
        ("pooling", [1, 1], (0, 1, 3, 4, 8)),
    ):
        if draw.random() < 0.4:
            dvs.setdefault(name, default)[draw.randrange(2)] = draw.choice(beyond)
    if draw.random() < 0.3:
        dvs["merge"] = not dvs.get("merge", False)
    ways = dvs.setdefault("destinations", [])
    if draw.random() < 0.4:
        ways.append({"core": draw.choice((0, 8, 9, 255)), "enable": draw.random() < 0.6})


def registers(made: Plain, draw: random.Random) -> None:
    """Readout and noise filter beyond their ranges."""
    group, name, value = draw.choice((
        ("readout", "input_address_interpretation", draw.choice((3, 4, 255, 256))),
        ("readout", "p2s_input_selection", draw.choice((3, 4, -1))),
        ("readout", "threshold", draw.choice((65535, 65536))),
        ("dvs_filter", "threashold", draw.choice((65535, 65536))),
        ("dvs_filter", "filter_size", [draw.choice((0, 7, 8)), draw.choice((7, 8, 256))]),
    ))  # fmt: skip
    made.setdefault(group, {})[name] = value


def overflow(made: Plain, draw: random.Random) -> None:
    """A number that its field cannot hold, or no number at all."""
    core = _any_core(made, draw)
    wrong = draw.choice((-1, 256, 65536, True, *_WRONG_TYPES))
    name = draw.choice(("kernel", "stride", "padding", "input", "output", "threshold_high",
                        "leak_enable", "slot"))  # fmt: skip
    if name == "slot":
        way = _any_slot(core, draw)
        way[draw.choice(("core", "pooling", "feature_shift"))] = wrong
    elif name in {"kernel", "threshold_high", "leak_enable"}:
        core[name] = wrong
    else:
        core[name][draw.randrange(len(core[name]))] = wrong


MUTATIONS: tuple[Mutation, ...] = (
    sizes, sizes, off_by_one, off_by_one, features, features, move, thresholds, shapes, shapes,
    values, lists, destinations, destinations, destinations, sharing, sharing, dropping, camera,
    camera, registers, overflow,
)  # fmt: skip


def _any_core(made: Plain, draw: random.Random) -> Any:
    return made["cores"][draw.choice(sorted(made["cores"]))]


def _any_slot(core: Plain, draw: random.Random) -> Plain:
    if not core["destinations"]:
        core["destinations"].append({"core": draw.randrange(9)})
    way: Plain = draw.choice(core["destinations"])
    return way
