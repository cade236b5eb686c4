"""What the farm makes of a neutral network, in the form that sinabs' results are recorded in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from speckfarm_server.build import build_configuration, integers_of
from speckfarm_server.check import check
from speckfarm_server.chip import find_chip
from speckfarm_server.configuration import CoreConfiguration
from speckfarm_server.errors import Severity
from speckfarm_server.network import Network
from speckfarm_server.settings import Settings
from tests.sinabs_networks import NetworkPlan, digest, to_network

CHIP = find_chip("speck2f")
# What sinabs' mapping looks at: memory of the cores, and how many there are.
MEMORY = frozenset({
    "KERNEL_MEMORY_EXCEEDED",
    "NEURON_MEMORY_EXCEEDED",
    "BIAS_MEMORY_EXCEEDED",
    "NO_PLACEMENT",
    "TOO_MANY_LAYERS",
})


@dataclass(frozen=True, kw_only=True)
class FarmResult:
    """Layers as in the recorded file, and the reasons of all errors."""

    layers: list[dict[str, Any]]
    errors: frozenset[str]

    @property
    def maps(self) -> bool:
        """Whether every layer finds a core that holds it."""
        return not self.errors & MEMORY


def farm_result(plan: NetworkPlan) -> FarmResult:
    """The farm's own road: integers, configuration, check."""
    return result_of_network(to_network(plan))


def result_of_network(network: Network) -> FarmResult:
    """The same for a network that was parsed from a file."""
    settings = Settings()
    integers = integers_of(network, settings)
    # Cores are numbered as layers, so that destinations name layers, as in the file.
    built = build_configuration(
        network, integers, range(len(network.layers)), chip=CHIP, settings=settings
    )
    report = check(network, CHIP, settings)
    return FarmResult(
        layers=[_written(core) for core in built.cores],
        errors=frozenset(f.reason for f in report.findings if f.severity is Severity.ERROR),
    )


def _written(core: CoreConfiguration) -> dict[str, Any]:
    return {
        "weights": {"shape": list(core.weights.shape), **digest(core.weights)},
        "biases": digest(core.biases),
        "threshold_high": core.threshold_high,
        "threshold_low": core.threshold_low,
        "leak_enable": core.leak_enable,
        "kernel_size": core.kernel_size,
        "stride": list(core.stride),
        "padding": list(core.padding),
        "shapes": [list(core.input_shape), list(core.output_shape)],
        "destinations": sorted([way.core, way.pooling] for way in core.destinations),
    }
