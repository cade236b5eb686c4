"""Write a sinabs or torch network as a NIR file that says what NIR has no field for.

NIR knows neither how a neuron resets nor where its state is clipped from below. Both are put into
`metadata` of every IF node, where the farm looks for them: `/node/nodes/<name>/metadata/` has
`speckfarm_reset`, `speckfarm_lower_clip` and `speckfarm_spike_fn`.
"""

from __future__ import annotations

import math
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speckfarm.errors import BadRequest
from speckfarm.torch_nodes import (
    LOWER_CLIP_KEY,
    RESET_KEY,
    SPIKE_FN_KEY,
    fold,
    lower_clip_of,
    node_of,
    passes_on,
    refuse,
    reset_of,
)
from speckfarm.trace import INPUT, Step, refuse_graph, require_extra, spiking_part, trace

if TYPE_CHECKING:
    import nir
    from torch import nn

RESETS = ("subtract", "zero")


class ExportWarning(UserWarning):
    """The file was written, but the network will not run as it was trained."""


@dataclass(frozen=True, kw_only=True)
class ExportedNeurons:
    """What the file says of one layer's neurons besides NIR's own fields."""

    name: str  # of the IF node
    reset: str  # "subtract" or "zero"
    lower_clip: float | None  # times the threshold; None: the file has none
    spike_fn: str  # sinabs' name, e.g. "MultiSpike"; the chip has one kind


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    path: Path
    neurons: tuple[ExportedNeurons, ...]  # in order of execution
    dropped: tuple[str, ...]  # layers without a node: Dropout, Identity, folded BatchNorm, Merge
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """For `-o json`."""
        return {
            "path": str(self.path),
            "neurons": [asdict(each) for each in self.neurons],
            "dropped": list(self.dropped),
            "warnings": list(self.warnings),
        }


def export(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    input_shape: Sequence[int],
    reset: str | None = None,
    lower_clip: float | None = None,
) -> Exported:
    """Write a network of IAF neurons as a NIR file. Needs the extra `[sinabs]`; no pickle.

    `input_shape` is (features, height, width) or (features,), without batch and time. `reset` and
    `lower_clip` (times the threshold) are recorded for all layers instead of what the layers say.
    Average pooling stays AvgPool2d: its divisor is not put into weights here.

    Raises BadRequest EXTRA_MISSING, LAYER_NOT_EXPORTABLE, GRAPH_NOT_EXPORTABLE or BAD_ARGUMENT.
    Warns with ExportWarning for each layer without a lower clip.
    """
    require_extra()
    _check_arguments(input_shape, reset, lower_clip)
    builder = _Builder(reset, lower_clip)
    builder.build(*trace(spiking_part(network), tuple(int(axis) for axis in input_shape)))
    _write(builder.graph(), Path(path))
    for text in builder.warnings:
        warnings.warn(text, ExportWarning, stacklevel=2)
    return Exported(
        path=Path(path),
        neurons=tuple(builder.neurons),
        dropped=tuple(builder.dropped),
        warnings=tuple(builder.warnings),
    )


def node_name(layer_name: str) -> str:
    """The node that a layer becomes: nested names have _ for the dot, which graphs give a meaning.

    A layer that is called as one of NIR's ends gets a _ behind its name.
    """
    name = layer_name.replace(".", "_")
    return f"{name}_" if name in ("input", "output") else name


class _Builder:
    """Steps of a forward pass to a NIR graph."""

    def __init__(self, reset: str | None, lower_clip: float | None) -> None:
        self._reset = reset
        self._lower_clip = lower_clip
        self._nodes: dict[str, nir.NIRNode] = {}
        self._edges: list[tuple[str, str]] = []
        self._feeding: dict[str, tuple[str, ...]] = {
            INPUT: ("input",)
        }  # step -> nodes it stands for
        self.neurons: list[ExportedNeurons] = []
        self.dropped: list[str] = []
        self.warnings: list[str] = []

    def build(self, steps: Sequence[Step], exit_name: str) -> None:
        """Convert every step."""
        import nir

        _check_names(steps)
        uses = Counter(source for step in steps for source in step.sources)
        shape = next(step.input_shape for step in steps if INPUT in step.sources)
        self._nodes["input"] = nir.Input(input_type={"input": np.array(shape)})
        for step in steps:
            self._add(step, uses)
        shape = next(step.output_shape for step in steps if step.name == exit_name)
        self._nodes["output"] = nir.Output(output_type={"output": np.array(shape)})
        self._edges += [(name, "output") for name in self._feeding[exit_name]]

    def graph(self) -> nir.NIRGraph:
        """The finished graph."""
        import nir

        return nir.NIRGraph(nodes=self._nodes, edges=self._edges)

    def _add(self, step: Step, uses: Counter[str]) -> None:
        from torch import nn

        is_norm = isinstance(step.module, (nn.BatchNorm1d, nn.BatchNorm2d))
        arriving = tuple(name for source in step.sources for name in self._feeding[source])
        if len(set(arriving)) < len(arriving):
            text = "adds one layer's output twice; double the weights instead"
            raise refuse(step, text, found=", ".join(arriving))
        if is_norm:
            self._fold(step, uses)
        if passes_on(step) or is_norm:
            self._feeding[step.name] = arriving
            self.dropped.append(step.name)
            return
        name = node_name(step.name)
        self._nodes[name] = node = node_of(step)
        self._edges += [(source, name) for source in arriving]
        self._feeding[step.name] = (name,)
        if type(node).__name__ == "IF":
            self._describe(node, step)

    def _fold(self, step: Step, uses: Counter[str]) -> None:
        (source,) = step.sources
        before = self._nodes.get(node_name(source))
        if type(before).__name__ not in ("Conv2d", "Affine") or uses[source] != 1:
            text = (
                "does not follow a Conv2d or Linear that feeds it alone, so it cannot be folded "
                "into weights: put it right after its Conv2d or Linear"
            )
            raise refuse(step, text)
        fold(before, step)

    def _describe(self, node: nir.NIRNode, step: Step) -> None:
        """Put into metadata what NIR has no field for."""
        reset = self._reset or reset_of(step)
        clip = lower_clip_of(step) if self._lower_clip is None else self._lower_clip
        spike_fn = step.module.spike_fn
        kind = getattr(spike_fn, "__name__", type(spike_fn).__name__)
        node.metadata |= {RESET_KEY: reset, SPIKE_FN_KEY: kind}
        if clip is None:
            self.warnings.append(_without_clip(step.name))
        else:
            node.metadata[LOWER_CLIP_KEY] = np.float64(clip)
        name = node_name(step.name)
        self.neurons.append(ExportedNeurons(name=name, reset=reset, lower_clip=clip, spike_fn=kind))


def _check_arguments(
    input_shape: Sequence[int], reset: str | None, lower_clip: float | None
) -> None:
    if len(input_shape) not in (1, 3) or not all(int(axis) == axis >= 1 for axis in input_shape):
        text = (
            f"input_shape is {tuple(input_shape)}; (features, height, width) or (features,) is "
            "wanted, whole numbers from 1, without batch and time"
        )
        raise _bad_argument("input_shape", text, input_shape)
    if reset is not None and reset not in RESETS:
        text = f"reset is {reset!r}; allowed: {', '.join(RESETS)}"
        raise _bad_argument("reset", text, reset)
    if lower_clip is not None and not (math.isfinite(lower_clip) and lower_clip < 0):
        text = (
            f"lower_clip is {lower_clip}; a finite number below 0, times the threshold, is wanted"
        )
        raise _bad_argument("lower_clip", text, lower_clip)


def _bad_argument(name: str, text: str, found: object) -> BadRequest:
    return BadRequest("BAD_ARGUMENT", text, metadata={"argument": name, "found": str(found)})


def _check_names(steps: Sequence[Step]) -> None:
    if not steps or steps[0].name == "":
        text = "The network is a single layer or none; put the layers into nn.Sequential"
        raise refuse_graph(text, found=str(len(steps)))
    for name, count in Counter(step.name for step in steps).items():
        if count > 1:
            text = f"Layer {name!r} is used {count} times in a forward pass; a core runs once: "
            raise refuse_graph(text + "repeat the layer", layer=name, found=str(count))
    names = Counter(node_name(step.name) for step in steps)
    if twice := [name for name, count in names.items() if count > 1]:
        text = f"Two layers would both become the node {twice[0]!r}; rename one of them"
        raise refuse_graph(text, node=twice[0])


def _without_clip(name: str) -> str:
    return (
        f"Layer {name!r} has min_v_mem = None, which is sinabs' default: no lower clip. A chip "
        "always clips, and the farm will do so at -1 x threshold, unless the setting lower_clip "
        "says otherwise; sinabs' own quantisation would round all weights below 0.5 to "
        "0. Train with min_v_mem = -spike_threshold"
    )


def _write(graph: nir.NIRGraph, path: Path) -> None:
    import nir

    try:
        nir.write(path, graph)
    except OSError as error:
        why = f"there is no folder {path.parent}" if not path.parent.is_dir() else str(error)
        text = f"{path} cannot be written: {why}"
        raise _bad_argument("path", text, path) from error
