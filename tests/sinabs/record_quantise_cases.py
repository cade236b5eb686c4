"""Record what sinabs' own discretisation makes of chosen and random layers.

Run `python tests/sinabs/record_quantise_cases.py tests/data/quantise_cases.npz` where sinabs and
torch are installed. The file holds, for n layers numbered i = 000, 001, ...:

* `names` (n,): what is particular about the layer.
* `weights_i` float32 (f, c, ky, kx); `bias_i` float32 (f,), absent if the layer has no bias.
* `threshold`, `threshold_low` float64 (n,): the values given to sinabs. -32768 as `threshold_low`
  is what sinabs puts in the place of min_v_mem = None.
* `threshold_bits` int64 (n,): 32 where sinabs held the thresholds in float32, as it does unless a
  float64 tensor or NIR node is given; 64 where it held them in float64.
* `expected_weights_i` int16 (f, c, ky, kx); `expected_bias_i` int16 (f,), zeros without a bias.
* `expected_threshold_high`, `expected_threshold_low` int64 (n,).
* `expected_scale` float64 (n,): the common factor; a float32 value unless `threshold_bits` is 64.

A linear layer is recorded as the convolution that sinabs makes of it. Nothing is clipped to the
chip's word lengths; sinabs does not do so either.
"""

import argparse
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import sinabs
import torch
from sinabs.layers import IAFSqueeze
from torch import nn

FloatArray = npt.NDArray[np.float32]
SEED = 20_240_607


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A layer before discretisation; `threshold_low` None is sinabs' default, no lower clip."""

    name: str
    weights: FloatArray  # (f, c, ky, kx)
    bias: FloatArray | None = None  # (f,)
    threshold: float = 1.0
    threshold_low: float | None = -1.0
    threshold_bits: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The same layer as sinabs discretises it."""

    weights: npt.NDArray[np.int16]  # (f, c, ky, kx)
    bias: npt.NDArray[np.int16]  # (f,)
    threshold_high: int
    threshold_low: int
    scale: float


def load_discretize() -> ModuleType:
    """Load sinabs' discretize.py by itself, as its package cannot be imported without samna."""
    path = Path(sinabs.__file__).parent / "backend" / "dynapcnn" / "discretize.py"
    spec = importlib.util.spec_from_file_location("discretize", path)
    if spec is None or spec.loader is None:
        raise ImportError("this sinabs has no backend/dynapcnn/discretize.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def discretise(case: Case, discretize: ModuleType) -> Expected:
    """Run one layer through sinabs."""
    conv, spiking = _sinabs_layers(case)
    scale = _scale(conv, spiking, discretize)
    conv, spiking = discretize.discretize_conv_spike(conv, spiking, to_int=True)
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    return Expected(
        weights=conv.weight.detach().numpy().astype(np.int16),
        bias=bias.numpy().astype(np.int16),
        threshold_high=int(spiking.spike_threshold),
        threshold_low=int(spiking.min_v_mem),
        scale=scale,
    )


def _sinabs_layers(case: Case) -> tuple[nn.Conv2d, IAFSqueeze]:
    features, channels, *kernel = case.weights.shape
    conv = nn.Conv2d(channels, features, tuple(kernel), bias=case.bias is not None)
    conv.weight.data = torch.from_numpy(case.weights.copy())
    if conv.bias is not None and case.bias is not None:
        conv.bias.data = torch.from_numpy(case.bias.copy())
    float_type = torch.float64 if case.threshold_bits == 64 else torch.float32
    low = case.threshold_low
    spiking = IAFSqueeze(
        batch_size=1,
        spike_threshold=torch.tensor(case.threshold, dtype=float_type),
        min_v_mem=None if low is None else torch.tensor(low, dtype=float_type),
    )
    return conv, spiking


def _scale(conv: nn.Conv2d, spiking: IAFSqueeze, discretize: ModuleType) -> float:
    """Return the common factor, from the tensors sinabs takes it from, in the same order."""
    low = -(2**15) if spiking.min_v_mem is None else spiking.min_v_mem
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    thresholds = torch.tensor((low, spiking.spike_threshold))
    tensors = ((conv.weight.detach(), 8), (bias, 8), (thresholds, 16))
    return float(min(discretize.determine_discretization_scale(*pair) for pair in tensors))


def cases() -> Iterator[Case]:
    """Yield every layer to record: chosen corners first, then random ones."""
    generator = np.random.default_rng(SEED)
    yield from _corner_cases(generator)
    yield from _tie_cases(generator)
    for _ in range(6):
        yield _near_tie_case(generator)
    for number in range(40):
        yield random_case(generator, threshold_bits=64 if number % 8 == 7 else 32)


def _corner_cases(generator: np.random.Generator) -> Iterator[Case]:
    weights = _normal(generator, 0.1, (4, 2, 3, 3))
    bias = _normal(generator, 0.1, (4,))
    huge, huge_negative = bias.copy(), bias.copy()
    huge[1], huge_negative[2] = 5.0, -5.0
    zeros = np.zeros_like(weights)
    yield Case(name="no bias", weights=weights)
    yield Case(name="bias", weights=weights, bias=bias)
    yield Case(name="zero bias", weights=weights, bias=np.zeros_like(bias))
    yield Case(name="one huge bias", weights=weights, bias=huge)
    yield Case(name="one huge negative bias", weights=weights, bias=huge_negative)
    yield Case(name="all weights zero", weights=zeros)
    yield Case(name="all weights zero, bias", weights=zeros, bias=bias)
    yield Case(name="all weights and biases zero", weights=zeros, bias=np.zeros_like(bias))
    yield Case(name="all weights negative", weights=-np.abs(weights))
    yield Case(name="all weights positive", weights=np.abs(weights))
    yield Case(name="tiny weights, threshold binds", weights=weights * np.float32(1e-4))
    yield Case(name="tiny weights and bias", weights=weights * np.float32(1e-4), bias=bias)
    yield Case(name="denormal weights", weights=weights * np.float32(1e-39))
    yield Case(name="lower threshold binds", weights=weights, threshold_low=-300.0)
    yield Case(name="small threshold", weights=weights, threshold=1e-3, threshold_low=-1e-3)
    yield Case(name="threshold rounds to 0", weights=weights, threshold=1e-5, threshold_low=-1.0)
    yield Case(name="no lower clip, small weights", weights=weights, threshold_low=None)
    yield Case(name="no lower clip, large weights", weights=40 * weights, threshold_low=None)
    yield Case(
        name="no lower clip, float64", weights=weights, threshold_low=None, threshold_bits=64
    )
    yield Case(name="lower threshold 0", weights=weights, threshold_low=0.0)
    yield Case(name="one weight", weights=np.full((1, 1, 1, 1), 0.3, np.float32))
    yield Case(name="linear 16x16", weights=_normal(generator, 0.05, (2, 1, 16, 16)))


def _tie_cases(generator: np.random.Generator) -> Iterator[Case]:
    """Yield layers whose scale is a power of 2, so that halves stay halves and must go to even."""
    halves = (np.arange(-255, 255, dtype=np.float32) / 2).reshape(2, 1, 15, 17)
    halves[0, 0, 0, 0] = 127
    bias = np.array([0.5, 1.5], np.float32)
    for power, scale in ((0, "1"), (4, "16"), (-3, "1/8")):
        unit = np.float32(2.0**-power)
        yield Case(
            name=f"ties, scale {scale}",
            weights=halves * unit,
            bias=bias * unit,
            threshold=float(100.5 * unit),
            threshold_low=float(-101.5 * unit),
        )
    for largest in generator.uniform(0.01, 3.0, 4).astype(np.float32):
        edge = np.float32(largest * np.float32(128 / 127))
        for name, smallest in (("at", edge), ("past", np.nextafter(edge, np.float32(9)))):
            weights = _normal(generator, float(largest) / 4, (2, 2, 3, 3)).clip(-largest, largest)
            weights[0, 0, 0, :2] = largest, -smallest
            yield Case(name=f"negative side {name} 128/127 of {largest}", weights=weights)


def _near_tie_case(generator: np.random.Generator) -> Case:
    """Return weights next to halves after scaling, where 127 / x is not 127 * (1 / x)."""
    largest, scale = np.float32(1), np.float32(127)
    while scale == np.float32(127) * (np.float32(1) / largest):
        largest = np.float32(generator.uniform(0.05, 2.0))
        scale = np.float32(127) / largest
    nearest = ((np.arange(127) + 0.5) / scale).astype(np.float32)
    above = np.nextafter(nearest, np.float32(9))
    below = np.nextafter(nearest, np.float32(0))
    weights = np.stack([nearest, above, below, -nearest]).reshape(4, 1, 1, 127)
    weights = np.append(weights, np.full((4, 1, 1, 1), largest), axis=3).reshape(4, 2, 8, 8)
    return Case(name=f"near ties, largest {largest}", weights=weights)


def random_case(generator: np.random.Generator, *, threshold_bits: int = 32) -> Case:
    """Return a random convolution or linear layer with random thresholds, with or without bias."""
    features, channels, kernel = generator.integers(1, (7, 5, 5))
    spread = 10.0 ** generator.uniform(-4, 1.5)
    threshold = 10.0 ** generator.uniform(-1.5, 1.5)
    low_ratio = generator.choice([1.0, 0.5, 2.0, generator.uniform(0.1, 3.0)])
    float_type = np.float64 if threshold_bits == 64 else np.float32
    weights = _normal(generator, spread, (features, channels, kernel, kernel))
    bias = _normal(generator, spread * generator.uniform(0, 3), (features,))
    return Case(
        name=f"random, weights about {spread:.1e}, threshold about {threshold:.1e}",
        weights=weights,
        bias=bias if generator.random() < 0.5 else None,
        threshold=float(float_type(threshold)),
        threshold_low=float(float_type(-low_ratio * threshold)),
        threshold_bits=threshold_bits,
    )


def _normal(generator: np.random.Generator, spread: float, shape: tuple[int, ...]) -> FloatArray:
    return generator.normal(0, spread, shape).astype(np.float32)


def record(recorded: list[Case], discretize: ModuleType) -> dict[str, npt.NDArray[np.generic]]:
    """Return the arrays of the file."""
    expected = [discretise(case, discretize) for case in recorded]
    lows = [-32768.0 if case.threshold_low is None else case.threshold_low for case in recorded]
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "names": np.array([case.name for case in recorded]),
        "threshold": np.array([case.threshold for case in recorded]),
        "threshold_low": np.array(lows),
        "threshold_bits": np.array([case.threshold_bits for case in recorded]),
        "expected_threshold_high": np.array([result.threshold_high for result in expected]),
        "expected_threshold_low": np.array([result.threshold_low for result in expected]),
        "expected_scale": np.array([result.scale for result in expected]),
    }
    for number, (case, result) in enumerate(zip(recorded, expected, strict=True)):
        arrays[f"weights_{number:03}"] = case.weights
        if case.bias is not None:
            arrays[f"bias_{number:03}"] = case.bias
        arrays[f"expected_weights_{number:03}"] = result.weights
        arrays[f"expected_bias_{number:03}"] = result.bias
    return arrays


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    arguments = parser.parse_args()
    np.savez_compressed(arguments.out, **record(list(cases()), load_discretize()))


if __name__ == "__main__":
    main()
