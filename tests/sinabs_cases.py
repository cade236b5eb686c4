"""Chosen networks for the comparison with sinabs: what binds the scale, what just fits, traps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tests.sinabs_networks import LayerPlan, Link, NetworkPlan, Pools, Shape


def conv(features: int, kernel: int, link: Link | None = None, **changes: object) -> LayerPlan:
    """A convolution that keeps the size of its map if its kernel is odd; input from the network."""
    values: dict[str, object] = {"padding": (kernel // 2, kernel // 2), **changes}
    plan = LayerPlan(features=features, kernel=kernel, links=(link or Link(),))
    return replace(plan, **values)  # type: ignore[arg-type]


def linear(features: int, link: Link, **changes: object) -> LayerPlan:
    """A linear layer over all that arrives."""
    plan = LayerPlan(features=features, kernel=None, links=(link,))
    return replace(plan, **changes)  # type: ignore[arg-type]


def after(layer: int, *pools: tuple[str, int]) -> Link:
    """The output of a layer, pooled."""
    return Link(layer=layer, pools=pools)


def network(name: str, shape: Shape, *layers: LayerPlan, exit_pools: Pools = ()) -> NetworkPlan:
    """The name's letters are the seed."""
    seed = sum(ord(letter) * (place + 1) for place, letter in enumerate(name))
    return NetworkPlan(
        name=name, seed=seed, input_shape=shape, layers=layers, exit_pools=exit_pools
    )


def cases() -> Iterator[NetworkPlan]:
    """All of them."""
    yield from scales()
    yield from poolings()
    yield from graphs()
    yield from placements()
    yield from beyond_the_chip()


def scales() -> Iterator[NetworkPlan]:
    """What limits the common factor, and what becomes of the rest."""
    layers: dict[str, dict[str, object]] = {
        "weights bind": {},
        "one weight binds": {"weights": "one"},
        "bias binds": {"bias": "any", "bias_power": -20},
        "one bias binds": {"bias": "one", "bias_power": -19},
        "threshold binds": {"weight_power": -36},
        "lower clip binds": {"weight_power": -36, "low": -3.7},
        "large threshold binds": {"threshold": 300.7, "low": -300.7},
        "threshold rounds to 0": {"threshold": 2.0**-12, "low": -(2.0**-12)},
        "all weights negative": {"weights": "negative"},
        "all weights positive": {"weights": "positive"},
        "all weights zero": {"weights": "zero"},
        "all weights zero, bias": {"weights": "zero", "bias": "any"},
        "all weights and biases zero": {"weights": "zero", "bias": "zero"},
        "biases zero": {"bias": "zero"},
        "min_v_mem None": {"low": None},
        "min_v_mem None, large weights": {"low": None, "weight_power": -18},
        "min_v_mem None, float64": {"low": None, "threshold_bits": 64},
        "min_v_mem -0.3": {"low": -0.3},
        "min_v_mem -0.3, float64": {"low": -0.3, "threshold_bits": 64},
        "min_v_mem 0": {"low": 0.0},
        "threshold 1/3, float64": {"threshold": 1 / 3, "low": -1 / 3, "threshold_bits": 64},
    }
    for name, changes in layers.items():
        yield network(name, (2, 8, 8), conv(5, 3, **changes))
        yield network(f"{name}, linear", (2, 3, 3), linear(7, Link(), **changes))
    for number in range(6):
        yield next_to_a_tie(f"threshold next to a tie {number}", bits=32)
        yield next_to_a_tie(f"threshold next to a tie {number}", bits=64)


def next_to_a_tie(name: str, *, bits: int) -> NetworkPlan:
    """A threshold that becomes 16,000.5 and a little: float32 rounds it to the tie or past it."""
    plan = network(name, (2, 8, 8), conv(5, 3, weights="positive"))
    scale = np.float32(127) * (np.float32(1) / plan.floats(0)[0].max())
    threshold = 16000.50002 / float(scale)
    layer = replace(plan.layers[0], threshold=threshold, low=-threshold, threshold_bits=bits)
    return replace(plan, name=f"{name}, float{bits}", layers=(layer,))


def poolings() -> Iterator[NetworkPlan]:
    """Average pooling scales what follows; the sizes of a chain multiply."""
    chains: dict[str, Pools] = {
        "average 2": (("average", 2),),
        "average 4": (("average", 4),),
        "average 2 twice": (("average", 2), ("average", 2)),
        "average 2, sum 2": (("average", 2), ("sum", 2)),
        "sum 2, average 2": (("sum", 2), ("average", 2)),
        "sum 4": (("sum", 4),),
        "sum 1": (("sum", 1),),
    }
    for name, pools in chains.items():
        yield network(name, (2, 17, 16), conv(4, 3), conv(5, 3, after(0, *pools), bias="any"))
        yield network(f"{name}, linear", (1, 16, 16), conv(4, 3), linear(9, after(0, *pools)))
        yield network(f"{name} at the exit", (2, 16, 17), conv(4, 3), exit_pools=pools)
    yield network(
        "average 4 after average 2",
        (2, 32, 32),
        conv(4, 3),
        conv(4, 3, after(0, ("average", 2))),
        linear(6, after(1, ("average", 4))),
    )


def graphs() -> Iterator[NetworkPlan]:
    """Forks and additions."""
    average, halves = ("average", 4), (("average", 2), ("average", 2))
    for name, one, two in (
        ("no pooling", (), ()),
        ("average 4 and average 4", (average,), (average,)),
        ("average 4 and average 2 twice", (average,), halves),
        ("sum 2 average 2 and average 2 sum 2", (("sum", 2), ("average", 2)),
         (("average", 2), ("sum", 2))),
    ):  # fmt: skip
        joined = LayerPlan(features=6, kernel=3, links=(after(1, *one), after(2, *two)), bias="any")
        fork = (conv(3, 3), conv(4, 3, after(0)), conv(4, 1, after(0)))
        yield network(f"fork and merge, {name}", (2, 16, 16), *fork, joined)
        inputs = (conv(4, 3), conv(4, 1), replace(joined, links=(after(0, *one), after(1, *two))))
        yield network(f"two entries, {name}", (2, 16, 16), *inputs)
        yield network(
            f"linear merge, {name}",
            (2, 16, 16),
            *fork,
            replace(joined, kernel=None, stride=(1, 1), padding=(0, 0)),
        )
    skip = LayerPlan(features=5, kernel=3, links=(after(0), after(1)))
    yield network("residual", (2, 9, 9), conv(4, 3), conv(4, 3, after(0)), skip)


def placements() -> Iterator[NetworkPlan]:
    """Maps that fill memories: 16, 32 and 64 Ki words, nine cores."""
    small = [conv(2, 1) if n == 0 else conv(2, 1, after(n - 1)) for n in range(10)]
    yield network("nine layers", (1, 4, 4), *small[:9])
    for count in (3, 4, 5, 6):
        wide = [conv(16, 1) if n == 0 else conv(16, 1, after(n - 1)) for n in range(count)]
        yield network(f"{count} layers of 64 Ki neurons", (1, 64, 64), *wide)
    for count in (1, 2, 3):
        deep = [conv(64, 1), *(conv(128, 3, after(n)) for n in range(count))]
        deep[1] = conv(64, 4, after(0), padding=(2, 2))
        yield network(f"{count} layers of much kernel memory", (1, 8, 8), *deep)
    half = [conv(8, 1) if n == 0 else conv(8, 1, after(n - 1)) for n in range(6)]
    for count in (5, 6):
        yield network(f"{count} layers of 32 Ki neurons", (1, 64, 64), *half[:count])
    # 33 pixels are addressed as 64; one neuron more than a power of two doubles the need.
    yield network("64 x 32 neurons", (1, 64, 32), conv(32, 1))
    yield network("64 x 33 neurons", (1, 64, 33), conv(32, 1))
    yield nine_full_cores()
    yield network("both memories at the limit", (1, 16, 16), conv(64, 1), conv(64, 2, after(0)))
    yield network("kernel and neurons fit no one core", (128, 32, 32), conv(32, 3))


def nine_full_cores() -> NetworkPlan:
    """Both memories of all nine cores are used to the last word: 209,152 weights."""
    halved = (("sum", 2),)
    return network(
        "nine full cores", (16, 64, 64),
        conv(16, 7), conv(16, 7, after(0)), conv(16, 7, after(1)),
        conv(32, 7, after(2, *halved)), conv(32, 5, after(3)),
        conv(64, 5, after(4, *halved)), conv(64, 3, after(5)),
        conv(64, 2, after(6), padding=(0, 0)), conv(64, 2, after(7), padding=(0, 0)),
    )  # fmt: skip


def beyond_the_chip() -> Iterator[NetworkPlan]:
    """What sinabs 3.1.3 maps although a chip cannot hold it, and what it cannot convert."""
    ten = [conv(2, 1) if n == 0 else conv(2, 1, after(n - 1)) for n in range(10)]
    yield network("ten layers", (1, 4, 4), *ten)
    yield network("output of 65 pixels", (1, 65, 8), conv(1, 1))
    yield network("input of 129 pixels", (1, 129, 8), conv(1, 3, stride=(4, 1)))
    yield network("1,025 features", (1, 2, 2), conv(1025, 1))
    yield network("1,025 features, biases", (1, 2, 2), conv(1025, 1, bias="any"))
    yield network("1,024 features, biases", (1, 2, 2), conv(1024, 1, bias="any"))
    yield network("kernel of 17", (1, 17, 17), conv(1, 17, padding=(0, 0)))
    yield network("linear over 17 pixels", (1, 17, 17), linear(2, Link()))
    yield network("stride 3", (1, 9, 9), conv(2, 3, stride=(3, 1)))
    yield network("padding 8", (1, 9, 9), conv(2, 3, padding=(8, 0)))
    yield network("pooling 3", (1, 9, 9), conv(2, 3), conv(2, 1, after(0, ("average", 3))))
    yield network(
        "average 2, average 4", (1, 16, 16), conv(2, 3),
        conv(2, 1, after(0, ("average", 2), ("average", 4))),
    )  # fmt: skip
    yield network(
        "three destinations", (1, 4, 4), conv(2, 3), *(conv(2, 3, after(0)) for _ in range(3)),
        LayerPlan(features=2, kernel=1, links=(after(1), after(2))),
        LayerPlan(features=2, kernel=1, links=(after(4), after(3))),
    )  # fmt: skip
    unequal = (after(1, ("average", 2)), after(2, ("sum", 2)))
    branches = (conv(3, 3), conv(4, 3, after(0)), conv(4, 1, after(0)))
    merge = LayerPlan(features=6, kernel=3, links=unequal)
    yield network("fork and merge, unequal factors", (2, 8, 8), *branches, merge)
    mixed = LayerPlan(features=2, kernel=1, links=(after(1), after(2)))
    yield network(
        "pooled and direct destinations", (1, 8, 8), conv(2, 3),
        conv(2, 2, after(0), stride=(2, 2), padding=(0, 0)), conv(2, 1, after(0, ("sum", 2))),
        mixed,
    )  # fmt: skip
