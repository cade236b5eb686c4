"""Write tests/data/nir/spikingjelly_*.nir.gz with SpikingJelly 2.0.0's own `export_to_nir`.

    python -m tests.frameworks.record_spikingjelly     in an environment of requirements.txt

IFNode is written as IF with r = 1 / dt and v_reset; its exporter refuses soft reset (v_reset None)
and grouped convolutions. It follows additions. Needs nir >= 1.0.6
and nirtorch 2.6.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.nir_exchange import export_to_nir
from torch import nn

from tests.frameworks import patterns

SAMPLE = torch.zeros(1, *patterns.INPUT_SHAPE)


def neurons(threshold: float = patterns.THRESHOLD) -> neuron.IFNode:
    return neuron.IFNode(v_threshold=threshold, v_reset=0.0)


def conv(weight: object, **how: object) -> layer.Conv2d:
    values = torch.as_tensor(weight)
    made = layer.Conv2d(values.shape[1], values.shape[0], values.shape[2], bias=False, **how)
    made.weight.data = values
    return made


class Residual(nn.Module):
    """A relay per polarity, added: never do both fire at the same event."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(patterns.relay(polarity=0)), neurons())
        self.second = nn.Sequential(conv(patterns.relay(polarity=1)), neurons())
        self.last = nn.Sequential(conv(patterns.weights(3, 1, 3, 3, seed=4), padding=1), neurons())

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(data) + self.second(data))


def chain() -> nn.Sequential:
    return nn.Sequential(
        conv(patterns.relay(polarity=0)),
        neurons(),
        conv(patterns.weights(3, 1, 3, 3, seed=5), stride=2),
        neurons(),
    )


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=True),
        neurons(1.0),
        layer.AvgPool2d(2),
        layer.Flatten(),
        layer.Linear(36, 5, bias=False),
        neurons(1.0),
    )


def leaky() -> nn.Sequential:
    return nn.Sequential(layer.Conv2d(2, 4, 3), neuron.LIFNode(tau=20.0, v_reset=0.0))


def main() -> None:
    recorder = patterns.Recorder("spikingjelly")
    seen = patterns.events()
    with torch.no_grad():
        for what, network in (("chain", chain()), ("residual", Residual())):
            outputs = [network(torch.as_tensor(frame)[None]) for frame in patterns.frames(seen)]
            recorder.count(what, seen, torch.cat(outputs).numpy())
            functional.reset_net(network)
            recorder.write(what, export_to_nir(network, SAMPLE))
        recorder.write("classifier", export_to_nir(classifier(), SAMPLE))
        recorder.write("leaky", export_to_nir(leaky(), SAMPLE))
    recorder.close()


if __name__ == "__main__":
    main()
