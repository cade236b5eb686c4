"""sinabs' chip backend, imported without samna: placeholders stand where it would be imported.

samna on the public registry is a loader that starts an installation when it is imported, so it must
never be. sinabs 3.1.3 converts, discretises and maps without it; only `make_config` and boards need
it.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nir
import sinabs.nir
from sinabs.layers import IAFSqueeze
from torch import nn

Shape = tuple[int, int, int]


def _stand_in_for_samna() -> None:
    names = ["samna", "samnagui", "samna.device"]
    for chip in ("samna.speck2e", "samna.speck2f"):
        names += [chip, f"{chip}.configuration", f"{chip}.event"]
    for name in names:
        module = sys.modules.setdefault(name, ModuleType(name))
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
        if name.endswith("configuration"):
            module.__dict__["SpeckConfiguration"] = type("SpeckConfiguration", (), {})
    sys.modules["samna.device"].__dict__["DeviceInfo"] = type("DeviceInfo", (), {})


_stand_in_for_samna()

from sinabs.backend.dynapcnn import DynapcnnNetwork  # noqa: E402
from sinabs.backend.dynapcnn.chips import Speck2FConfigBuilder  # noqa: E402

__all__ = ["DynapcnnNetwork", "configuration_of", "convert", "map_to_cores", "read_by_sinabs"]


def convert(module: nn.Module, input_shape: Shape, **options: Any) -> DynapcnnNetwork:
    """sinabs' whole conversion but for writing samna's configuration object."""
    return DynapcnnNetwork(module, input_shape=input_shape, **options)


def map_to_cores(network: DynapcnnNetwork) -> dict[int, int] | None:
    """sinabs' layer -> core with its own table of limits; None if it finds no mapping."""
    try:
        return dict(Speck2FConfigBuilder.map_layers_to_cores(network.dynapcnn_layers))
    except ValueError as error:
        if "No valid mapping" not in str(error):
            raise
        return None


def configuration_of(network: DynapcnnNetwork, layer: int) -> dict[str, Any]:
    """What sinabs would write to samna for one layer; destinations name layers, not cores."""
    itself = {number: number for number in network.dynapcnn_layers}
    written: dict[str, Any] = Speck2FConfigBuilder.get_dynapcnn_layer_config_dict(
        layer=network.dynapcnn_layers[layer],
        layer2core_map=itself,
        destination_indices=network.layer_destination_map[layer],
    )
    return written


def read_by_sinabs(file: Path) -> nn.Sequential:
    """A chain as the vendor's tutorial reads it: modules in order, one threshold per layer."""
    graph = nir.read(file)
    modules = dict(sinabs.nir.from_nir(graph, batch_size=1).named_children())
    following = dict(graph.edges)
    names = ["input"]
    while names[-1] in following:
        names.append(following[names[-1]])
    for layer in modules.values():
        if isinstance(layer, IAFSqueeze):
            layer.spike_threshold = nn.Parameter(layer.spike_threshold.flatten()[0], False)
            layer.min_v_mem = nn.Parameter(layer.min_v_mem.flatten()[0], False)
    return nn.Sequential(*(modules[name] for name in names))
