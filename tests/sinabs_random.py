"""Random networks that sinabs can convert and whose every number a chip can hold."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from speckfarm_server.chip import output_size
from tests.sinabs_networks import LayerPlan, Link, NetworkPlan, Pools, Shape


def random_plan(seed: int) -> NetworkPlan:
    """A network of 1 to 9 layers that sinabs can convert and whose every number a chip can hold."""
    random = Random(seed)
    side = random.choice([5, 8, 9, 12, 16, 17, 24, 33, 48, 64])
    width = random.choice([side, side, random.randint(5, 64)])
    shape = (random.choice([1, 2, 2, 3, 5]), side, width)
    drawing = _Drawing(random, shape, wide=random.random() < 0.35)
    count = random.choice([1, 2, 3, 4, 5, 6, 7, 8, 9, 9])
    while len(drawing.layers) < count:
        left = count - len(drawing.layers)
        block = random.choice(["chain", "chain", "branches", "residual"]) if left > 2 else "chain"
        drawing.add(block)
    pools = drawing.pools() if random.random() < 0.3 else ()
    return NetworkPlan(
        name=f"random {seed}",
        seed=seed,
        input_shape=shape,
        layers=tuple(drawing.layers),
        exit_pools=pools,
    )


class _Drawing:
    """Layers drawn so far; `links` lead into the next one, `shape` arrives there."""

    def __init__(self, random: Random, shape: Shape, *, wide: bool) -> None:
        self.random = random
        self.wide = wide
        self.shape = shape
        self.links: tuple[Link, ...] = (Link(),)
        self.layers: list[LayerPlan] = []

    def add(self, block: str) -> None:
        """A layer; or a fork of two branches, or of a branch and none, that are added again."""
        feeding = [link.layer for layer in self.layers for link in layer.links]
        is_full = any(link.layer in feeding for link in self.links)  # a core has two destinations
        if block == "chain" or self.is_flat or is_full:
            self._layer(self.links)
            return
        forked, features = self.links, self.shape[0]
        first = len(self.layers) - 1
        if block == "residual" and first >= 0 and forked == (Link(layer=first),):
            self.layers.append(self._same_size(forked, features))
            self._merge((first, first + 1), pools=())
        else:
            features = self._features()
            self.layers += [self._same_size(forked, features) for _ in range(2)]
            self.shape = (features, *self.shape[1:])
            self._merge((first + 1, first + 2), pools=self.pools())

    @property
    def is_flat(self) -> bool:
        """Whether a linear layer came: only linear ones follow it."""
        return bool(self.layers) and self.layers[-1].kernel is None

    def pools(self) -> Pools:
        """Sum or average pooling, perhaps two in a row, of a map that is large enough."""
        side = 0 if self.is_flat else min(self.shape[1:])
        sizes = self.random.choice([(2,), (2,), (4,), (2, 2), (1,), ()])
        if int(np.prod(sizes)) > side:
            return ()
        return tuple((self.random.choice(["sum", "average"]), size) for size in sizes)

    def _merge(self, ends: tuple[int, int], *, pools: Pools) -> None:
        """Two branches come together, with the same factor but perhaps other poolings.

        sinabs 3.1.3 fails on a layer with both pooled and direct destinations, so none has both.
        """
        others = tuple(reversed(pools))
        if pools == (("average", 2), ("average", 2)):
            others = (("average", 4),)
        self.links = tuple(
            Link(layer=end, pools=way) for end, way in zip(ends, (pools, others), strict=True)
        )
        factor = self.links[0].factor
        features, height, width = self.shape
        self.shape = (features, height // factor, width // factor)

    def _layer(self, links: tuple[Link, ...]) -> None:
        random, (_, height, width) = self.random, self.shape
        linear = 0.4 if height < 5 else 0.1  # of layers that can be
        if self.is_flat or (height == width <= 16 and random.random() < linear):
            values = self._values()
            self._end(LayerPlan(features=self._features(), kernel=None, links=links, **values))
            return
        padding = (random.choice([0, 0, 1, 1, 2]), random.choice([0, 1]))
        if max(height, width) > 60:  # an output of more than 64 pixels would not run
            padding = (0, 0)
        plan = LayerPlan(
            features=self._features(),
            kernel=min(random.choice([1, 2, 3, 3, 3, 5, 9]), height, width),
            links=links,
            stride=(random.choice([1, 1, 2, 4]), random.choice([1, 1, 2])),
            padding=padding,
            **self._values(),
        )
        self._end(plan)

    def _end(self, plan: LayerPlan) -> None:
        self.layers.append(plan)
        sides = (1, 1)
        if plan.kernel is not None:
            sides = tuple(
                output_size(side, plan.kernel, stride, padding)
                for side, stride, padding in zip(
                    self.shape[1:], plan.stride, plan.padding, strict=True
                )
            )
        self.shape = (plan.features, *sides)
        pools = self.pools() if self.random.random() < 0.5 else ()
        link = Link(layer=len(self.layers) - 1, pools=pools)
        self.links = (link,)
        self.shape = (plan.features, sides[0] // link.factor, sides[1] // link.factor)

    def _same_size(self, links: tuple[Link, ...], features: int) -> LayerPlan:
        padding = self.random.choice([0, 1])
        return LayerPlan(
            features=features, kernel=2 * padding + 1, links=links,
            padding=(padding, padding), **self._values(),
        )  # fmt: skip

    def _features(self) -> int:
        wide = (16, 32, 40, 64, 64, 128, 200)
        return self.random.choice(wide if self.wide else (1, 2, 3, 4, 5, 8, 10, 16))

    def _values(self) -> dict[str, Any]:
        """Weights, bias and thresholds; in about half of the layers something else binds."""
        random = self.random
        threshold = random.randint(1, 2**20) * 2.0 ** random.choice([-20, -20, -18, -15, -26])
        ratio = random.choice([-1.0, -1.0, -1.0, -0.3, -random.uniform(0.05, 3.0), 0.0, None])
        return {
            "weights": random.choice(["any"] * 9 + ["negative", "positive", "zero"]),
            "weight_power": random.choice([-25, -25, -25, -24, -23, -28, -34]),
            "bias": random.choice([None, None, "any", "one", "zero"]),
            "bias_power": random.choice([-25, -28, -22]),
            "threshold": threshold,
            "low": None if ratio is None else ratio * threshold,
            "threshold_bits": random.choice([32, 32, 32, 64]),
        }
