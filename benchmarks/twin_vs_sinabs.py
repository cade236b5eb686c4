"""How far the twin agrees with sinabs' discretised network: `python benchmarks/twin_vs_sinabs.py`.

    python benchmarks/twin_vs_sinabs.py [NETWORK.nir | NETWORK.nir=RECORDING ...]

A network runs on the recordings given with it, or on blobs that circle over the input map; without
a network, the digits example runs on its own recordings. Both have the same integers (checked). A
row compares the spikes of each layer, before pooling: sinabs' count over the twin's, less 1, and on
how many recordings both predict the same class. sinabs adds up all that comes within a time step
before it clips, compares and fires, so rows differ in the length of the step and in the rules:

* *as they are*: both clip at the model's lower clip, sinabs fires as often per step as fits
* *low clip*: both clip at -32768, the lowest that a chip can hold, so the clip hardly matters
* *one spike*: sinabs' neurons fire once per step at most, as the twin's do per arriving spike

A step for *each event* leaves nothing to add up in the first layer. `left` is what the twin's
neurons still hold above their threshold when a recording ends, in spikes per spike fired. Runs in
the environment of `make test-sinabs`.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sinabs_model import DiscretisedModel, steps_of
from twin_cases import DIGITS, Model, circling_blob, load_model, load_recordings

from speckfarm.events import PackedEvents
from speckfarm_server.configuration import Configuration
from speckfarm_server.twin.twin import Twin

EACH_EVENT = 0
STEPS_US = (100, 1000, 10_000)
LOWEST_CLIP = -32768


@dataclass(frozen=True, eq=False)
class Row:
    """How sinabs runs, and with which clips both do."""

    rule: str
    configuration: Configuration
    step_us: int
    many_spikes: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """What a network fired on some recordings."""

    spikes: NDArray[np.int64]  # by layer, before pooling
    left: NDArray[np.float64]  # spikes that the neurons still hold, by layer
    predictions: list[int]


def main() -> None:
    """Print a table per network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK.nir[=RECORDING]")
    parser.add_argument("--rate", type=float, default=93_000, help="of blobs, events per second")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each blob")
    parser.add_argument("--recordings", type=int, default=10, help="at most, of each network")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(1)
    for case in options.networks or [f"{DIGITS / 'digits.nir'}={DIGITS / 'digits.npz'}"]:
        network, _, recording = case.partition("=")
        model = load_model(Path(network))
        if recording:
            name, recordings = Path(recording).name, load_recordings(Path(recording))
        else:
            name = f"blobs, {options.rate:,.0f} events/s, {options.seconds} s"
            shape, seeds = model.network.input_shape, range(options.recordings)
            recordings = [circling_blob(shape, options.rate, options.seconds, n) for n in seeds]
        compare(f"{model.name}, {name}", model, recordings[: options.recordings])


def compare(name: str, model: Model, recordings: list[PackedEvents]) -> None:
    """Print a row for each rule and length of the step, the twin's own counts above them."""
    as_is = model.configuration
    low = tuple(replace(core, threshold_low=LOWEST_CLIP) for core in as_is.cores)
    rows = [Row("as they are", as_is, step_us) for step_us in (EACH_EVENT, *STEPS_US)]
    rows += [Row("low clip", replace(as_is, cores=low), step_us) for step_us in STEPS_US]
    rows += [Row("one spike", as_is, step_us, many_spikes=False) for step_us in STEPS_US]
    layers = range(len(as_is.cores))
    print(f"\n{name}: {len(recordings)} recordings, {sum(map(len, recordings)):,} events\n")
    print("| run | step |", " | ".join(f"layer {layer}" for layer in layers), "| same class |")
    print("|---|---|" + "---|" * len(layers) + "---|")
    sinabs = DiscretisedModel(model.network, as_is)
    twins: dict[str, Counts] = {}
    for row in rows:
        key = row.configuration.digest
        if key not in twins:
            twins[key] = run_twin(row.configuration, recordings)
            _print_twin(row.rule, twins[key])
        found = run_sinabs(sinabs, row, recordings)
        print(_cells(row, found, twins[key]), flush=True)


def run_twin(configuration: Configuration, recordings: list[PackedEvents]) -> Counts:
    """Run all recordings from rest."""
    twin = Twin(configuration)
    cores = configuration.cores
    spikes = np.zeros(len(cores), np.int64)
    left = np.zeros(len(cores))
    predictions = []
    for events in recordings:
        twin.reset_state()
        twin.start_recording()
        output = twin.run(events)
        spikes += twin.activity.output_spikes
        for layer, core in enumerate(cores):
            left[layer] += (np.maximum(twin.neurons(layer), 0) // core.threshold_high).sum()
        fired = output["feature"][output["layer"] == cores[-1].layer]
        predictions.append(predict(np.bincount(fired, minlength=1)))
    return Counts(spikes=spikes, left=left, predictions=predictions)


def run_sinabs(model: DiscretisedModel, row: Row, recordings: list[PackedEvents]) -> Counts:
    """The same in steps, one recording after the other."""
    model.set_rules(row.configuration, many_spikes=row.many_spikes)
    fired = np.concatenate([
        model.run([steps_of(events, row.step_us)], [events]) for events in recordings
    ])
    spikes = fired.sum((0, 2))
    predictions = [predict(counts) for counts in fired[:, -1]]
    return Counts(spikes=spikes, left=np.zeros(len(spikes)), predictions=predictions)


def predict(spikes: NDArray[np.int64]) -> int:
    """The feature that fired most, the lowest of equals; -1 if none did."""
    return int(spikes.argmax()) if spikes.any() else -1


def _print_twin(rule: str, twin: Counts) -> None:
    print(f"| twin, {rule}: spikes | |", " | ".join(f"{n:,}" for n in twin.spikes), "| |")
    parts = twin.left / np.maximum(twin.spikes, 1)
    print("| left | |", " | ".join(f"{part:.1%}" for part in parts), "| |")


def _cells(row: Row, found: Counts, twin: Counts) -> str:
    step = "each event" if row.step_us == EACH_EVENT else f"{row.step_us / 1000:g} ms"
    differences = [
        f"{theirs / ours - 1:+.1%}" if ours else f"{theirs} more"
        for theirs, ours in zip(found.spikes.tolist(), twin.spikes.tolist(), strict=True)
    ]
    same = sum(a == b for a, b in zip(found.predictions, twin.predictions, strict=True))
    cells = [row.rule, step, *differences]
    return "| " + " | ".join([*cells, f"{same} of {len(twin.predictions)}"]) + " |"


if __name__ == "__main__":
    main()
