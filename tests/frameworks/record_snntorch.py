"""Write tests/data/nir/snntorch_*.nir.gz with snnTorch 1.0.0's own `export_to_nir`.

    python -m tests.frameworks.record_snntorch     in an environment of requirements.txt

snnTorch has no IF neuron: Leaky(beta=1) is one, written as LIF with tau = r = inf. Its neurons fire
above the threshold. `v_reset` is 0 whatever the reset_mechanism. It needs nir >= 1.0.6 (a LIF with
v_reset), whose type check refuses what the exporter makes of one beta or threshold per layer
("type mismatch: ... -> []"): here they are arrays, one value per neuron.
"""

from __future__ import annotations

import nir
import snntorch as snn
import torch
from snntorch.export_nir import export_to_nir
from torch import nn

from tests.frameworks import patterns

SAMPLE = torch.zeros(1, *patterns.INPUT_SHAPE)


def neurons(*shape: int, beta: float = 1.0, threshold: object = patterns.THRESHOLD) -> snn.Leaky:
    return snn.Leaky(
        beta=torch.full(shape, beta),
        threshold=torch.ones(shape) * threshold,
        init_hidden=True,
        reset_mechanism="zero",
        reset_delay=False,
    )


def conv(weight: object, **how: object) -> nn.Conv2d:
    values = torch.as_tensor(weight)
    made = nn.Conv2d(values.shape[1], values.shape[0], values.shape[2], bias=False, **how)
    made.weight.data = values
    return made


def chain() -> nn.Sequential:
    return nn.Sequential(
        conv(patterns.relay(polarity=1)),
        neurons(1, 6, 6),
        conv(patterns.weights(3, 1, 3, 3, seed=2), padding="same"),
        neurons(3, 6, 6),
    )


def classifier(beta: float) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        neurons(4, 6, 6, beta=beta),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 5, bias=False),
        neurons(5, beta=beta),
    )


def thresholds() -> nn.Sequential:
    """One threshold per output of a linear layer."""
    torch.manual_seed(0)
    values = torch.tensor([0.5, 1.0, 2.0])
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 3, bias=False), neurons(3, threshold=values))


def exported(network: nn.Module) -> nir.NIRGraph:
    return export_to_nir(network, SAMPLE, ignore_dims=[0])


def main() -> None:
    recorder = patterns.Recorder("snntorch")
    seen = patterns.events()
    with torch.no_grad():
        network = chain()
        outputs = [network(torch.as_tensor(frame)[None]) for frame in patterns.frames(seen)]
        recorder.count("chain", seen, torch.cat(outputs).numpy())
        recorder.write("chain", exported(chain()))
        recorder.write("classifier", exported(classifier(1.0)))
        recorder.write("leaky", exported(classifier(0.9)))
        recorder.write("thresholds", exported(thresholds()))
    recorder.close()


if __name__ == "__main__":
    main()
