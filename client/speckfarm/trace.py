"""What one forward pass of a torch network does: which layer's output feeds which layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from speckfarm.errors import BadRequest

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

T = TypeVar("T")
OnCall: TypeAlias = "Callable[[str, nn.Module, tuple[Tensor, ...], Tensor], None]"

EXTRA = ("torch", "sinabs", "nir")  # what the extra [sinabs] brings
INPUT = ""  # the network's input among the sources of a step; no layer has this name


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One layer's turn in a forward pass. Shapes are of one sample at one time step."""

    name: str  # as `named_modules` has it
    module: nn.Module
    sources: tuple[str, ...]  # names of steps, or INPUT
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    leading_axes: int  # that the layer sees: 1 for batch * time, 2 for batch and time


class Marks(Generic[T]):
    """Values attached to tensors. Holds the tensors, so that no other gets their identity."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[Tensor, T]] = {}

    def put(self, tensor: Tensor, value: T) -> None:
        """Attach a value; it replaces an earlier one."""
        self._held[id(tensor)] = (tensor, value)

    def get(self, tensor: Tensor) -> T | None:
        """Return the tensor's value; None if it has none, as after arithmetic outside a layer."""
        held = self._held.get(id(tensor))
        return None if held is None else held[1]

    def drop(self, tensor: Tensor) -> None:
        """Take a tensor's value away, if it has one."""
        self._held.pop(id(tensor), None)

    def clear(self) -> None:
        """Let go of all tensors."""
        self._held.clear()


def require_extra() -> None:
    """Raise BadRequest EXTRA_MISSING, which names the package, if torch or sinabs is not here."""
    for name in EXTRA:
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            text = (
                f"This needs {name}, which is not installed here. Exporting and training run on "
                "your machine, with torch and sinabs: `pip install '.[sinabs]'` in a checkout"
            )
            metadata = {"package": name, "extra": "sinabs"}
            raise BadRequest("EXTRA_MISSING", text, metadata=metadata) from error


def hook_layers(network: nn.Module, on_call: OnCall) -> list[RemovableHandle]:
    """Call `on_call(name, layer, inputs, output)` after each layer of every forward pass."""

    def hook_of(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda layer, inputs, output: on_call(name, layer, inputs, output)

    return [layer.register_forward_hook(hook_of(name)) for name, layer in layers_of(network)]


def layers_of(network: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Find the layers, which have no layers inside that matter, and their names."""
    import sinabs.layers as sl
    from torch import nn

    whole = (sl.StatefulLayer, sl.Repeat, nn.Conv2d, nn.Linear)  # e.g. with parametrised weights
    children = [] if isinstance(network, whole) else list(network.named_children())
    if not children:
        yield name, network
    for child_name, child in children:
        yield from layers_of(child, f"{name}.{child_name}".lstrip("."))


def trace(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[list[Step], str]:
    """Run one sample of zeros for one time step; returns the steps and the exit's name.

    Mode and state of the network are put back. Raises BadRequest GRAPH_NOT_EXPORTABLE if a tensor
    is computed outside of a layer, and BAD_ARGUMENT if the shape does not pass through.
    """
    import torch

    steps: list[Step] = []
    origins: Marks[tuple[str, int]] = Marks()  # name of the step, leading axes

    def on_call(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found = _known(name, layer, [origins.get(each) for each in inputs])
        after = _axes_after(layer, found[0][1])
        steps.append(_step(name, layer, found, inputs[0], output[(0,) * after]))
        origins.put(output, (name, after))

    sample, axes = _sample(network, input_shape)
    origins.put(sample, (INPUT, axes))
    handles = hook_layers(network, on_call)
    try:
        with torch.no_grad(), _as_it_was(network):
            output = network(sample)
    except (RuntimeError, ValueError) as error:  # torch's words for shapes that do not fit
        text = f"input_shape {input_shape} does not pass through the network: {error}"
        raise BadRequest("BAD_ARGUMENT", text, metadata={"found": str(input_shape)}) from error
    finally:
        for handle in handles:
            handle.remove()
    return steps, _exit(output, origins)


def spiking_part(network: nn.Module) -> nn.Module:
    """Of a sinabs Network the spiking model, else the network itself."""
    from sinabs.network import Network

    if not isinstance(network, Network):
        return network
    if network.spiking_model is None:
        raise refuse_graph("This sinabs Network has no spiking_model; convert it with from_model")
    spiking: nn.Module = network.spiking_model
    return spiking


def unwrapped(layer: nn.Module) -> nn.Module:
    """The layer that sinabs' Repeat repeats, or the layer itself."""
    import sinabs.layers as sl

    return layer.module if isinstance(layer, sl.Repeat) else layer


def refuse_graph(text: str, **metadata: str) -> BadRequest:
    """GRAPH_NOT_EXPORTABLE, in words."""
    return BadRequest("GRAPH_NOT_EXPORTABLE", text, metadata=metadata)


def _sample(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[Tensor, int]:
    import sinabs.layers as sl
    import torch

    has_two = any(
        isinstance(layer, (sl.FlattenTime, sl.Repeat))
        or (isinstance(layer, sl.StatefulLayer) and not isinstance(layer, sl.SqueezeMixin))
        for _, layer in layers_of(network)
    )
    axes = 2 if has_two else 1
    first = next(network.parameters(), torch.zeros(()))
    return torch.zeros((1,) * axes + input_shape, device=first.device, dtype=first.dtype), axes


@contextmanager
def _as_it_was(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, no state, one time step of one sample; everything put back after."""
    import sinabs.layers as sl
    import torch

    modes = [(module, module.training) for module in network.modules()]
    stateful = [module for module in network.modules() if isinstance(module, sl.StatefulLayer)]
    states = [(layer, dict(layer.named_buffers(recurse=False))) for layer in stateful]
    squeezed = [layer for layer in stateful if isinstance(layer, sl.SqueezeMixin)]
    sizes = [(layer, layer.batch_size, layer.num_timesteps) for layer in squeezed]
    for layer in squeezed:
        layer.batch_size, layer.num_timesteps = 1, 1
    for layer, buffers in states:  # sinabs would fit a state of another batch size by chance
        for name, buffer in buffers.items():
            layer.register_buffer(name, torch.zeros(0, device=buffer.device))
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for layer, batch_size, num_timesteps in sizes:
            layer.batch_size, layer.num_timesteps = batch_size, num_timesteps
        for layer, buffers in states:
            for name, buffer in buffers.items():
                layer.register_buffer(name, buffer)


def _known(
    name: str, layer: nn.Module, origins: list[tuple[str, int] | None]
) -> list[tuple[str, int]]:
    known = [origin for origin in origins if origin is not None]
    if known and len(known) == len(origins):
        return known
    kind = type(layer).__name__
    text = (
        f"What arrives at layer {name!r} ({kind}) is computed outside of a layer, where it cannot "
        "be seen. Use layers for everything on the way: nn.Flatten to flatten, "
        "sinabs.layers.Merge to add, pooling layers to pool"
    )
    raise refuse_graph(text, layer=name, kind=kind)


def _axes_after(layer: nn.Module, before: int) -> int:
    import sinabs.layers as sl

    if isinstance(layer, sl.FlattenTime):
        return 1
    return 2 if isinstance(layer, sl.UnflattenTime) else before


def _step(
    name: str, layer: nn.Module, found: list[tuple[str, int]], arriving: Tensor, leaving: Tensor
) -> Step:
    """Build a step; `leaving` is one sample at one time step."""
    inner, axes = unwrapped(layer), found[0][1]
    return Step(
        name=name,
        module=inner,
        sources=tuple(origin for origin, _ in found),
        input_shape=tuple(arriving.shape[axes:]),
        output_shape=tuple(leaving.shape),
        leading_axes=axes if inner is layer else 1,
    )


def _exit(output: object, origins: Marks[tuple[str, int]]) -> str:
    import torch

    origin = origins.get(output) if isinstance(output, torch.Tensor) else None
    if origin is None:
        text = (
            "What the network returns is not the output of a layer. Return the spikes of the last "
            "layer as they are, and count or add them outside of the network"
        )
        raise refuse_graph(text, found=type(output).__name__)
    return origin[0]
