"""Networks for tests, built without files: `network((2, 34, 34), conv(8, 3), linear(10))`."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from speckfarm_server.chip import output_size
from speckfarm_server.network import Layer, Network, Pooling, Source

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A layer before its input shape is known. `kernel` None: linear."""

    features: int
    kernel: int | None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    poolings: tuple[Pooling, ...] = ()
    weights: float | NDArray[np.float32] | None = None  # None: random
    bias: float | NDArray[np.float32] | None = None
    changes: dict[str, object] = field(default_factory=dict)  # any other field of Layer


def conv(
    features: int,
    kernel: int,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    pool: int = 1,
    average: bool = False,
    weights: float | NDArray[np.float32] | None = None,
    bias: float | NDArray[np.float32] | None = None,
    **changes: object,
) -> Plan:
    """A convolution with IF neurons and one pooling by `pool`; `changes` are fields of Layer."""
    poolings = (pooling(pool, kind="average" if average else "sum"),) if pool > 1 else ()
    return Plan(
        features=features, kernel=kernel, stride=_pair(stride), padding=_pair(padding),
        poolings=poolings, weights=weights, bias=bias, changes=changes,
    )  # fmt: skip


def linear(
    features: int,
    *,
    weights: float | NDArray[np.float32] | None = None,
    bias: float | NDArray[np.float32] | None = None,
    **changes: object,
) -> Plan:
    """A linear map over its whole input, as a convolution."""
    return Plan(features=features, kernel=None, weights=weights, bias=bias, changes=changes)


def pooling(size: int, *, kind: str = "sum", **changes: object) -> Pooling:
    """A legal pooling node, or with `changes` an illegal one."""
    pool = Pooling(name="pool", kind=kind, kernel_size=(size, size), stride=(size, size))
    return replace(pool, **changes)  # type: ignore[arg-type]


def network(input_shape: Shape, *plans: Plan, seed: int = 0) -> Network:
    """A chain of layers with the shapes the chip's formula gives; the same for the same seed."""
    rng = np.random.default_rng(seed)
    shape, source, layers = input_shape, Source(), []
    for number, plan in enumerate(plans):
        layer = replace(_layer(plan, number, shape, rng), sources=(source,))
        source = Source(layer=number, poolings=plan.poolings)
        features, height, width = layer.output_shape
        shape = (features, height // source.pooling, width // source.pooling)
        layers.append(replace(layer, **plan.changes))  # type: ignore[arg-type]
    return Network(input_shape=input_shape, layers=tuple(layers), exit_poolings=source.poolings)


def digits_network(seed: int = 0) -> Network:
    """Four layers on 2 x 34 x 34 events, 33,568 weights."""
    return network(
        (2, 34, 34),
        conv(16, 3, padding=1, pool=2),
        conv(32, 3, padding=1, pool=2),
        conv(64, 3, padding=1, pool=2),
        linear(10),
        seed=seed,
    )


def gesture_network(seed: int = 0) -> Network:
    """Nine layers on 2 x 128 x 128 events: every core is used."""
    return network(
        (2, 128, 128),
        conv(16, 2, stride=2),
        conv(16, 3, padding=1, pool=2),
        conv(32, 3, padding=1, pool=2),
        conv(32, 3, padding=1, pool=2),
        conv(64, 3, padding=1, pool=2),
        conv(64, 3, padding=1, pool=2),
        conv(128, 1, pool=2),
        linear(128),
        linear(11),
        seed=seed,
    )


def _layer(plan: Plan, number: int, shape: Shape, rng: np.random.Generator) -> Layer:
    channels, height, width = shape
    sides = (height, width) if plan.kernel is None else (plan.kernel, plan.kernel)
    weights = _filled(plan.weights, (plan.features, channels, *sides), rng)
    return Layer(
        name=f"conv{number}" if plan.kernel else f"linear{number}",
        neuron_name=f"if{number}",
        weights=weights,
        bias=None if plan.bias is None else _filled(plan.bias, (plan.features,), rng),
        stride=plan.stride,
        padding=plan.padding,
        is_linear=plan.kernel is None,
        input_shape=shape,
        output_shape=(
            plan.features,
            output_size(height, sides[0], plan.stride[0], plan.padding[0]),
            output_size(width, sides[1], plan.stride[1], plan.padding[1]),
        ),
    )


def _filled(
    values: float | NDArray[np.float32] | None, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.float32]:
    if values is None:
        return rng.normal(0, 0.1, shape).astype(np.float32)
    return np.broadcast_to(np.asarray(values, np.float32), shape).copy()


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
