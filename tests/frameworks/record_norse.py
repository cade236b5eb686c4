"""Write tests/data/nir/norse_*.nir.gz with Norse 1.1.0's own `to_nir`.

    python -m tests.frameworks.record_norse     in an environment of requirements.txt

What its exporter cannot do: a Conv2d without bias ('NoneType' object has no attribute 'detach'), so
these have one of zeros; poolings and Flatten, for which it puts None into the graph. Thresholds are
one number, so nir.write needs `infer_types`, which makes an empty `input_shape` of them. A batch
axis of the sample would end up in Input. IAF neurons reset to v_reset = 0, of which the file says
nothing.
"""

from __future__ import annotations

import nir
import norse.torch as norse
import torch
from norse.torch.functional.iaf import IAFParameters
from norse.torch.utils.export_nir import to_nir
from torch import nn

from tests.frameworks import patterns

SAMPLE = torch.zeros(patterns.INPUT_SHAPE)


def neurons(threshold: float = patterns.THRESHOLD) -> norse.IAFCell:
    return norse.IAFCell(p=IAFParameters(v_th=torch.as_tensor(threshold)))


def conv(weight: object, **how: object) -> nn.Conv2d:
    values = torch.as_tensor(weight)
    made = nn.Conv2d(values.shape[1], values.shape[0], values.shape[2], **how)
    made.weight.data = values
    made.bias.data.zero_()
    return made


def chain() -> norse.SequentialState:
    return norse.SequentialState(
        conv(patterns.relay(polarity=0)),
        neurons(),
        conv(patterns.weights(2, 1, 5, 5, seed=3), padding=2),
        neurons(),
    )


def nested() -> norse.SequentialState:
    torch.manual_seed(0)
    block = norse.SequentialState(nn.Conv2d(2, 4, 3), neurons())
    return norse.SequentialState(block, nn.Conv2d(4, 3, 4), neurons())


def leaky() -> norse.SequentialState:
    return norse.SequentialState(
        nn.Conv2d(2, 4, 3), norse.LIFBoxCell(), nn.Conv2d(4, 3, 4), norse.LIFCell()
    )


def main() -> None:
    recorder = patterns.Recorder("norse")
    seen = patterns.events()
    network, state, outputs = chain(), None, []
    for frame in patterns.frames(seen):
        spikes, state = network(torch.as_tensor(frame)[None], state)
        outputs.append(spikes.detach())
    recorder.count("chain", seen, torch.cat(outputs).numpy())
    for what, made in (("chain", network), ("nested", nested()), ("leaky", leaky())):
        recorder.write(what, exported(made))
    recorder.close()


def exported(network: nn.Module) -> nir.NIRGraph:
    graph = to_nir(network, SAMPLE)
    graph.infer_types()
    return graph


if __name__ == "__main__":
    main()
