"""Write tests/data/nir/sinabs_*.nir.gz with sinabs 3.1.3's own `to_nir` (see requirements.txt).

    python -m tests.frameworks.record_sinabs

What its exporter cannot do, so that there is no file for it: AvgPool2d and sl.Merge raise
NotImplementedError; an addition written as `+` loses edges (both branches end in Output, the layer
behind them hangs loose). A layer without bias gets one of zeros. What it hands back for a Conv2d
cannot be written (nir.write fails on input_shape None) before `infer_types`.
"""

from __future__ import annotations

import nir
import sinabs.layers as sl
import sinabs.nir
import torch
from torch import nn

from tests.frameworks import patterns

SAMPLE = torch.zeros(1, *patterns.INPUT_SHAPE)


def neurons(threshold: float = patterns.THRESHOLD) -> sl.IAFSqueeze:
    return sl.IAFSqueeze(batch_size=1, spike_threshold=threshold, min_v_mem=-threshold)


def conv(weight: object, **how: object) -> nn.Conv2d:
    values = torch.as_tensor(weight)
    made = nn.Conv2d(values.shape[1], values.shape[0], values.shape[2], bias=False, **how)
    made.weight.data = values
    return made


def chain() -> nn.Sequential:
    return nn.Sequential(
        conv(patterns.relay(polarity=0), padding=0),
        neurons(),
        conv(patterns.weights(3, 1, 3, 3, seed=1), padding=1, stride=2),
        neurons(),
    )


def classifier() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        sl.IAFSqueeze(batch_size=1, min_v_mem=-1.0),
        sl.SumPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 5),
        sl.IAFSqueeze(batch_size=1, min_v_mem=-1.0),
    )


def leaky() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 5), sl.LIFSqueeze(tau_mem=20.0, batch_size=1))


def exported(network: nn.Module) -> nir.NIRGraph:
    graph = sinabs.nir.to_nir(network, SAMPLE)
    graph.infer_types()
    return graph


def main() -> None:
    recorder = patterns.Recorder("sinabs")
    seen = patterns.events()
    with torch.no_grad():
        network = chain()
        outputs = network(torch.as_tensor(patterns.frames(seen)))
        recorder.count("chain", seen, outputs.numpy())
        recorder.write("chain", exported(network))
        for what, made in (("classifier", classifier()), ("leaky", leaky())):
            made(SAMPLE)
            recorder.write(what, exported(made))
    recorder.close()


if __name__ == "__main__":
    main()
