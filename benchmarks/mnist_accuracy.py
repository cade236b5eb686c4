"""Accuracy on MNIST beside sinabs' discretised network: `python benchmarks/mnist_accuracy.py`.

    python benchmarks/mnist_accuracy.py NETWORK.nir IMAGES.gz LABELS.gz [--images 500]

The first test images become events by a Bernoulli rate code: in each millisecond a pixel sends an
event with probability pixel / 255, at a random microsecond of it. The twin takes the events as they
are, sinabs (the same integers, checked) in steps of 1 ms. Runs in the environment of
`make test-sinabs`.
"""

from __future__ import annotations

import argparse
import gzip
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sinabs_model import DiscretisedModel, steps_of
from twin_cases import Model, load_model
from twin_vs_sinabs import predict, run_twin

from speckfarm.events import EVENT_DTYPE, PackedEvents, pack

STEP_US = 1000
BATCH = 10  # images that sinabs runs side by side
GOAL_POINTS = 1.5


def main() -> None:
    """Print a row per length of the recordings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path, metavar="NETWORK.nir")
    parser.add_argument("images", type=Path, metavar="IMAGES.gz", help="IDX, 28 x 28")
    parser.add_argument("labels", type=Path, metavar="LABELS.gz", help="IDX")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--lengths", nargs="+", type=int, default=[100, 400], help="in ms")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(1)
    model = load_model(options.network)
    images = read_idx(options.images)[: options.count]
    labels = read_idx(options.labels)[: options.count]
    print(f"{model.name}, {len(images)} images, seed {options.seed}; goal: {GOAL_POINTS} points\n")
    print("| length | events | twin | sinabs | difference, points | same class | met |")
    print("|---|---|---|---|---|---|---|")
    for length_ms in options.lengths:
        rng = np.random.default_rng(options.seed)
        recordings = [rate_code(image, length_ms, rng) for image in images]
        print(_row(length_ms, model, recordings, labels), flush=True)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format, gzipped: the header names the sizes, big-endian."""
    data = gzip.decompress(path.read_bytes())
    sizes = np.frombuffer(data, ">i4", data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)


def rate_code(image: NDArray[np.uint8], length_ms: int, rng: np.random.Generator) -> PackedEvents:
    """Events of one feature, (y, x) as in the image."""
    ms, y, x = np.nonzero(rng.random((length_ms, *image.shape)) < image / 255)
    events = np.zeros(len(ms), EVENT_DTYPE)
    events["t"] = ms * STEP_US + rng.integers(0, STEP_US, len(ms))
    events["y"], events["x"] = y, x
    return pack(events[np.argsort(events["t"], kind="stable")])


def _row(
    length_ms: int, model: Model, recordings: list[PackedEvents], labels: NDArray[np.uint8]
) -> str:
    ours = np.array(run_twin(model.configuration, recordings).predictions)
    theirs = np.array(_sinabs_predictions(model, recordings))
    accuracy, reference = (float((found == labels).mean()) for found in (ours, theirs))
    points = 100 * (accuracy - reference)
    same = int((ours == theirs).sum())
    cells = [f"{length_ms} ms", f"{sum(map(len, recordings)):,}", f"{accuracy:.3f}"]
    cells += [f"{reference:.3f}", f"{points:+.1f}", f"{same} of {len(labels)}"]
    return "| " + " | ".join([*cells, "yes" if abs(points) <= GOAL_POINTS else "no"]) + " |"


def _sinabs_predictions(model: Model, recordings: list[PackedEvents]) -> list[int]:
    sinabs = DiscretisedModel(model.network, model.configuration)
    predictions: list[int] = []
    for first in range(0, len(recordings), BATCH):
        batch = recordings[first : first + BATCH]
        spikes = sinabs.run([steps_of(events, STEP_US) for events in batch], batch)
        predictions += [predict(row) for row in spikes[:, -1]]
    return predictions


if __name__ == "__main__":
    main()
