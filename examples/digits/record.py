"""Turn scikit-learn's handwritten digits into event recordings, in the way N-MNIST was made."""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FIRST_HELD_OUT = 1400  # digits from here on are never used for training or any choice
SENSOR_PIXELS = 34  # as N-MNIST
PIXELS_PER_SAMPLE = 3.5  # the 8x8 image becomes 28x28 pixels
SACCADE_US = 100_000
STEP_US = 1_000
CONTRAST_THRESHOLD = 0.19  # change of brightness, 0 to 1, that makes one event
CORNERS_XY = ((-3.0, -1.5), (0.0, 1.5), (3.0, -1.5), (-3.0, -1.5))  # of the path, in pixels
BRIGHTNESS_UNITS = 4096  # interpolation weights are multiples of 1/4096, so all sums are exact


class Recordings(NamedTuple):
    """Events of n recordings, one after the other, each sorted by time and starting at 0."""

    t: npt.NDArray[np.uint32]  # (events,), us since the start of its recording
    x: npt.NDArray[np.uint8]  # (events,), 0 to 33
    y: npt.NDArray[np.uint8]  # (events,), 0 to 33
    p: npt.NDArray[np.uint8]  # (events,), 0 OFF, 1 ON
    offsets: npt.NDArray[np.int64]  # (n + 1,), recording i is events offsets[i]:offsets[i + 1]
    labels: npt.NDArray[np.uint8]  # (n,), the digit
    names: npt.NDArray[np.str_]  # (n,), "digit-1400" is image 1400 of scikit-learn


def record_digits(first: int, count: int) -> Recordings:
    """Record `count` of scikit-learn's 1,797 digits, beginning with number `first`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    if first < 0 or count < 1 or first + count > len(digits.images):
        raise ValueError(f"digits {first} to {first + count - 1}: only 0 to 1796 exist")
    chosen = slice(first, first + count)
    t, x, y, p, offsets = record_images(digits.images[chosen])
    names = np.array([f"digit-{number}" for number in range(first, first + count)])
    return Recordings(t, x, y, p, offsets, digits.target[chosen].astype(np.uint8), names)


def record_images(
    images: npt.NDArray[np.float64],  # (n, 8, 8), brightness 0 to 16
) -> tuple[npt.NDArray[np.generic], ...]:
    """Move each image in front of the sensor and return t, x, y, p and offsets of its events."""
    steps = [np.stack(step) for step in _events_of_steps(images)]
    image, t, y, x, p = np.concatenate(steps, axis=1)
    order = np.lexsort((p, x, y, t, image))
    offsets = np.searchsorted(image[order], np.arange(len(images) + 1)).astype(np.int64)
    small = [column[order].astype(np.uint8) for column in (x, y, p)]
    return t[order].astype(np.uint32), *small, offsets


def _events_of_steps(
    images: npt.NDArray[np.float64],
) -> Iterator[tuple[npt.NDArray[np.int64], ...]]:
    """Yield image, time in us, y, x and polarity of the events of each millisecond.

    A pixel remembers the brightness of its last event and makes the next one when the brightness
    has moved past the threshold; it is taken to change linearly within a step. The image moves
    less than 0.1 pixels per step, so a pixel cannot pass the threshold twice in one.
    """
    shifts_xy = _path()
    threshold = round(CONTRAST_THRESHOLD * 16 * BRIGHTNESS_UNITS**2)
    before = _brightness(images, shifts_xy[0])
    remembered = before.copy()
    for step, shift_xy in enumerate(shifts_xy[1:]):
        now = _brightness(images, shift_xy)
        fired = np.nonzero(np.abs(now - remembered) > threshold)
        sign = np.sign(now - remembered)[fired]
        remembered[fired] += sign * threshold
        fraction = (remembered[fired] - before[fired]) / (now - before)[fired]
        time_us = (STEP_US * (step + fraction)).astype(np.int64)
        image, y, x = fired
        yield image, time_us, y, x, (sign > 0).astype(np.int64)
        before = now


def _path() -> npt.NDArray[np.float64]:
    """Return the image's shift (x, y) in pixels after every step: three eased saccades."""
    progress = np.arange(1, SACCADE_US // STEP_US + 1) / (SACCADE_US // STEP_US)
    eased = ((1 - np.cos(np.pi * progress)) / 2)[:, None]
    corners = np.array(CORNERS_XY)
    legs = [start + eased * (end - start) for start, end in pairwise(corners)]
    return np.concatenate([corners[:1], *legs])


def _brightness(
    images: npt.NDArray[np.float64], shift_xy: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the bilinearly enlarged, shifted images as whole numbers, (n, 34, 34)."""
    across, down = (_interpolation(shift) for shift in shift_xy)
    return down @ images @ across.T


def _interpolation(shift: float) -> npt.NDArray[np.float64]:
    """Return how much each image sample weighs at each sensor pixel of one axis, (34, 8)."""
    centred = np.arange(SENSOR_PIXELS) - (SENSOR_PIXELS - 1) / 2 - shift
    samples = np.arange(8) - 3.5
    distance = np.abs(centred[:, None] / PIXELS_PER_SAMPLE - samples)
    return np.round(BRIGHTNESS_UNITS * np.maximum(0, 1 - distance))


def main() -> None:
    """Write one recordings file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    parser.add_argument("--first", type=int, default=FIRST_HELD_OUT, metavar="N")
    parser.add_argument("--count", type=int, default=100, metavar="M")
    arguments = parser.parse_args()
    recordings = record_digits(arguments.first, arguments.count)
    np.savez_compressed(arguments.out, **recordings._asdict())
    print(f"{arguments.count} recordings, {len(recordings.t) / arguments.count:.0f} events each")


if __name__ == "__main__":
    main()
