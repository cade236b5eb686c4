"""Synaptic operations per second of a network in training, and a loss that keeps them in limits.

The loss is the vendor's (sinabs, "Troubleshooting and Tips"): the sum over layers of
relu((rate - limit) / limit). A rate is the spikes that reach a layer, each times the neurons it
updates, in a second. Spikes are counted exactly, so a spike at the border of a map counts for less
than features * kernel^2 / stride^2, the `synops_per_event` of a report.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from speckfarm.errors import BadRequest, WrongState
from speckfarm.export import node_name
from speckfarm.report import Report
from speckfarm.trace import (
    Marks,
    hook_layers,
    layers_of,
    refuse_graph,
    require_extra,
    spiking_part,
    unwrapped,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


class SynopsLoss:
    """A loss term above 0 as soon as a layer has more SynOps per second than its limit.

    Call it after a forward pass of the network; the result is a tensor () to add to the loss, and
    its gradient goes through the spikes that reach each layer. Limits are SynOps per second: those
    of the cores in a report of `farm.check`, found by the layers' names, else by their order; or
    one number for each Conv2d and Linear, in the order of the network. `step_s` is the length of a
    time step in seconds (sinabs' SNNAnalyzer takes milliseconds).

    Raises BadRequest EXTRA_MISSING or BAD_ARGUMENT.
    """

    def __init__(
        self,
        network: nn.Module,
        limits: Report | Sequence[float],
        *,
        step_s: float,
        weight: float = 1.0,
    ) -> None:
        require_extra()
        self.limits = _limits_of(_weighted(network), limits)  # SynOps per second, by layer
        self._counter = SynopsCounter(network, step_s=step_s)
        self._weight = weight

    def __call__(self) -> Tensor:
        """Return the loss of the latest forward pass: weight * sum of relu((rate - limit) / limit).

        Raises WrongState NO_FORWARD_PASS before the first one.
        """
        import torch

        rates = self._counter.tensors()
        # Not (rate - limit) / limit, which is no number for a layer whose limit is infinite.
        excess = [rates[name] / limit - 1 for name, limit in self.limits.items()]
        return self._weight * torch.relu(torch.stack(excess)).sum()

    @property
    def rates(self) -> dict[str, float]:
        """SynOps per second of the latest forward pass, by layer."""
        return self._counter.rates()

    def close(self) -> None:
        """Take the hooks off the network."""
        self._counter.close()


class SynopsCounter:
    """Counts the synaptic operations of every Conv2d and Linear in each forward pass."""

    def __init__(self, network: nn.Module, *, step_s: float) -> None:
        require_extra()
        if not (math.isfinite(step_s) and step_s > 0):
            text = f"step_s is {step_s}; the length of a time step in seconds, above 0, is wanted"
            raise BadRequest("BAD_ARGUMENT", text, metadata={"argument": "step_s"})
        self.names = _weighted(network)
        self._step_s = step_s
        self._synops: dict[str, Tensor] = {}  # per time step, mean over batch and time
        self._fan_out: dict[str, Tensor] = {}  # neurons that a spike updates: (c, h, w)
        self._divisors: Marks[int] = Marks()  # by which average pooling divided the spikes
        self._called: set[str] = set()
        self._handles = hook_layers(spiking_part(network), self._on_call)

    def tensors(self) -> dict[str, Tensor]:
        """SynOps per second of the latest forward pass as tensors () with gradients."""
        if missing := [name for name in self.names if name not in self._synops]:
            text = f"Layer {missing[0]!r} has not run yet; call the network first"
            raise WrongState("NO_FORWARD_PASS", text, metadata={"layer": missing[0]})
        return {name: self._synops[name] / self._step_s for name in self.names}

    def rates(self) -> dict[str, float]:
        """SynOps per second of the latest forward pass, mean over the batch."""
        return {name: float(rate.detach()) for name, rate in self.tensors().items()}

    def close(self) -> None:
        """Take the hooks off the network."""
        for handle in self._handles:
            handle.remove()
        self._divisors.clear()

    def _on_call(
        self, name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> None:
        if name in self._called:  # a new pass begins: whoever calls layer by layer has no network()
            self._called.clear()
            self._divisors.clear()
        self._called.add(name)
        divisors = {self._divisors.get(each) or 1 for each in inputs}
        if len(divisors) > 1:
            text = f"Layer {name!r} adds averages over {sorted(divisors)} pixels: use SumPool2d"
            raise refuse_graph(text, layer=name, found=str(sorted(divisors)))
        divisor = divisors.pop() if divisors else 1
        if _has_weights(layer):
            self._synops[name] = divisor * self._count(name, unwrapped(layer), inputs[0])
        after = divisor * _window(layer) if _keeps_scale(layer) else 1
        if after == 1:  # not held: a run without gradients must not keep every activation
            self._divisors.drop(output)
        else:
            self._divisors.put(output, after)

    def _count(self, name: str, layer: nn.Conv2d | nn.Linear, spikes: Tensor) -> Tensor:
        from torch import nn

        if isinstance(layer, nn.Linear):
            return spikes.sum() * (layer.out_features / (spikes.numel() // layer.in_features))
        shape = spikes.shape[-3:]
        known = self._fan_out.get(name)
        if known is None or known.shape != shape or known.device != spikes.device:
            self._fan_out[name] = known = _fan_out(layer, spikes)
        return (spikes * known).sum() / spikes.shape[:-3].numel()


def synops_per_layer(network: nn.Module, frames: Tensor, *, step_s: float) -> dict[str, float]:
    """Run frames from rest, without gradients; returns SynOps per second by layer.

    Frames are spike counts as the network takes them, e.g. (batch * time, features, height, width).
    The mean is over batch and time.
    """
    counter = SynopsCounter(network, step_s=step_s)
    import sinabs
    import torch

    try:
        sinabs.reset_states(network)
        with torch.no_grad():
            network(frames)
        return counter.rates()
    finally:
        counter.close()


def _weighted(network: nn.Module) -> list[str]:
    layers = layers_of(spiking_part(network))
    return [name for name, layer in layers if _has_weights(layer)]


def _limits_of(names: Sequence[str], limits: Report | Sequence[float]) -> dict[str, float]:
    if isinstance(limits, Report):
        known = {layer.name: layer.synops_limit for layer in limits.layers}
        if all(node_name(name) in known for name in names):
            return _checked({name: known[node_name(name)] for name in names})
        limits = list(known.values())  # the file was written by something else than `export`
    if len(limits) != len(names):
        text = f"{len(limits)} limits for {len(names)} layers with weights: {', '.join(names)}"
        raise _bad_limits(text, found=len(limits), allowed=len(names))
    return _checked(dict(zip(names, limits, strict=True)))


def _checked(limits: dict[str, float]) -> dict[str, float]:
    if not limits:
        raise _bad_limits("The network has no Conv2d and no Linear", found=0, allowed=1)
    for name, limit in limits.items():
        if not limit > 0:
            text = f"Layer {name!r} has the limit {limit}; SynOps per second above 0 are wanted"
            raise _bad_limits(text, found=limit, allowed="above 0")
    return limits


def _bad_limits(text: str, *, found: object, allowed: object) -> BadRequest:
    metadata = {"argument": "limits", "found": str(found), "allowed": str(allowed)}
    return BadRequest("BAD_ARGUMENT", text, metadata=metadata)


def _has_weights(layer: nn.Module) -> bool:
    from torch import nn

    return isinstance(unwrapped(layer), (nn.Conv2d, nn.Linear))


def _keeps_scale(layer: nn.Module) -> bool:
    """Whether what leaves is still divided as what arrives: not after neurons and weights."""
    import sinabs.layers as sl

    return not (_has_weights(layer) or isinstance(layer, sl.StatefulLayer))


def _window(layer: nn.Module) -> int:
    """By how much average pooling divides: its window's pixels."""
    from torch import nn

    if not isinstance(unwrapped(layer), nn.AvgPool2d):
        return 1
    size = unwrapped(layer).kernel_size
    return int(size**2 if isinstance(size, int) else size[0] * size[1])


def _fan_out(layer: nn.Conv2d, spikes: Tensor) -> Tensor:
    """How many neurons a spike updates, by where it arrives: the gradient of a kernel of ones."""
    import torch
    from torch.nn.functional import conv2d

    with torch.inference_mode(False), torch.enable_grad():
        like = {"device": spikes.device, "dtype": spikes.dtype}
        arriving = torch.zeros((1, *spikes.shape[-3:]), **like, requires_grad=True)
        ones = torch.ones(layer.weight.shape, **like)
        sizes = (layer.stride, layer.padding, layer.dilation, layer.groups)
        (found,) = torch.autograd.grad(conv2d(arriving, ones, None, *sizes).sum(), arriving)
    return found[0]
