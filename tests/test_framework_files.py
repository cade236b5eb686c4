"""Files that the frameworks' own exporters wrote (tests/frameworks): what becomes of each.

Where neurons mean the same, one event at a time must make the spikes that the framework counted.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speckfarm_server.check import Report, check
from speckfarm_server.chip import find_chip
from speckfarm_server.errors import Severity
from speckfarm_server.network import Network, to_bytes
from speckfarm_server.parse import parse_network
from speckfarm_server.parse_host import ParseHost
from speckfarm_server.parsed import Parsed
from speckfarm_server.settings import Settings
from speckfarm_server.twin.twin import Twin
from tests.reference_twin import Event
from tests.twin_builders import run_recording

DATA = Path(__file__).parent / "data" / "nir"
NO_CLIP = -250.0  # times the threshold: as low as 16 bits hold beside these weights
SPIKINGJELLY_DT_US = 100.0  # its exporter's default


def parsed(name: str) -> Parsed:
    return parse_network(gzip.decompress((DATA / f"{name}.nir.gz").read_bytes()))


def network_of(name: str) -> Network:
    network = parsed(name).network
    assert network is not None
    return network


def checked(name: str, **settings: Any) -> Report:
    return check(network_of(name), find_chip("speck2f"), Settings(**settings))


def recorded(name: str) -> dict[str, Any]:
    framework, what = name.split("_", 1)
    found: dict[str, dict[str, Any]] = json.loads((DATA / f"{framework}.json").read_text())
    return found[what]


def test_every_file_is_in_a_table_below() -> None:
    found = {path.name.removesuffix(".nir.gz") for path in DATA.glob("*.nir.gz")}

    assert found == {*DEPLOYABLE, *REFUSED}


# Of each layer: output shape, sum of weights in float, layers that feed it (-1 is the input).
DEPLOYABLE: dict[str, list[tuple[tuple[int, int, int], float, list[int]]]] = {
    "nir_0.2.0": [((2, 6, 6), 11.09375, [-1]), ((3, 1, 1), 78.03125, [0])],
    "nir_1.0.1": [((2, 6, 6), 11.09375, [-1]), ((3, 1, 1), 17.20312, [0])],
    "nir_1.0.6": [((2, 6, 6), 11.09375, [-1]), ((3, 1, 1), 17.20312, [0])],
    "nir_depthwise": [((2, 6, 6), 3.79688, [-1]), ((3, 6, 6), 1.81250, [0])],
    "nir_described": [((2, 6, 6), -0.12500, [-1])],
    "nir_two_paths": [
        ((1, 6, 6), -0.25000, [-1]),
        ((1, 6, 6), -0.25000, [-1]),
        ((2, 6, 6), 2.75000, [0, 1]),
    ],
    "norse_chain": [((1, 6, 6), -0.25000, [-1]), ((2, 6, 6), 12.93750, [0])],
    "norse_nested": [((4, 4, 4), -0.62942, [-1]), ((3, 1, 1), -1.52276, [0])],
    "sinabs_chain": [((1, 6, 6), -0.25000, [-1]), ((3, 3, 3), 8.20312, [0])],
    "sinabs_classifier": [((4, 6, 6), -0.62942, [-1]), ((5, 1, 1), -1.40540, [0])],
    "snntorch_chain": [((1, 6, 6), -0.25000, [-1]), ((3, 6, 6), 5.87500, [0])],
    "snntorch_classifier": [((4, 6, 6), -0.62942, [-1]), ((5, 1, 1), -1.97257, [0])],
    "snntorch_thresholds": [((3, 1, 1), -2.22103, [-1])],
    "spikingjelly_chain": [((1, 6, 6), -0.25000, [-1]), ((3, 2, 2), 3.98438, [0])],
    "spikingjelly_classifier": [((4, 6, 6), -0.62942, [-1]), ((5, 1, 1), -1.97257, [0])],
    "spikingjelly_residual": [
        ((1, 6, 6), -0.25000, [-1]),
        ((1, 6, 6), -0.25000, [-1]),
        ((3, 6, 6), 9.59375, [0, 1]),
    ],
}
INPUT_DT = {name: {"input_dt_us": SPIKINGJELLY_DT_US} for name in DEPLOYABLE if "jelly" in name}


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_a_file_of_the_framework_becomes_these_layers(name: str) -> None:
    network = network_of(name)

    found = [(layer.output_shape, [source.layer for source in layer.sources])
             for layer in network.layers]  # fmt: skip
    assert found == [(shape, sources) for shape, _, sources in DEPLOYABLE[name]]
    sums = [float(layer.weights.sum(dtype=np.float64)) for layer in network.layers]
    assert sums == pytest.approx([total for _, total, _ in DEPLOYABLE[name]], abs=1e-4)


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_a_file_of_the_framework_is_deployable(name: str) -> None:
    report = checked(name, **INPUT_DT.get(name, {}))

    assert [f.message for f in report.findings if f.severity is Severity.ERROR] == []
    assert report.configuration is not None


@pytest.fixture(scope="module")
def host() -> Iterator[ParseHost]:
    made = ParseHost(processes=1)
    yield made
    made.close()


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_the_parsing_process_makes_the_same_network(
    name: str, host: ParseHost, tmp_path: Path
) -> None:
    path = tmp_path / "network.nir"
    path.write_bytes(gzip.decompress((DATA / f"{name}.nir.gz").read_bytes()))

    found = asyncio.run(host.parse_model(path))

    assert found.network is not None
    assert to_bytes(found.network) == to_bytes(network_of(name))
    assert found.findings == parsed(name).findings


REMARKS = {
    "snntorch_chain": {"LIF_WITHOUT_LEAK": 2, "RESET_FROM_V_RESET": 2},
    "snntorch_classifier": {"LIF_WITHOUT_LEAK": 2, "RESET_FROM_V_RESET": 2},
    "snntorch_thresholds": {
        "LIF_WITHOUT_LEAK": 1, "RESET_FROM_V_RESET": 1, "THRESHOLDS_FOLDED": 1,
    },
    "spikingjelly_chain": {"RESET_FROM_V_RESET": 2},
    "spikingjelly_classifier": {"RESET_FROM_V_RESET": 2},
    "spikingjelly_residual": {"RESET_FROM_V_RESET": 3},
    "nir_depthwise": {"GROUPS_EXPANDED": 1, "SCALE_FOLDED": 1, "THRESHOLDS_FOLDED": 1},
    "nir_two_paths": {"SOURCES_STACKED": 1},
    "nir_1.0.6": {"RESET_FROM_V_RESET": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", DEPLOYABLE)
def test_what_was_done_to_a_file_is_said(name: str) -> None:
    findings = parsed(name).findings

    assert {finding.severity for finding in findings} <= {Severity.INFO}
    assert Counter(finding.reason for finding in findings) == REMARKS.get(name, {})


REFUSED = {
    "sinabs_leaky": [("UNSUPPORTED_NODE", "2", "tau = 20 s")],
    "snntorch_leaky": [
        ("UNSUPPORTED_NODE", "1", "tau = 0.001 s"), ("UNSUPPORTED_NODE", "5", "tau = 0.001 s"),
    ],
    "norse_leaky": [
        ("UNSUPPORTED_NODE", "1", "tau = 1e-05 s"),
        ("UNSUPPORTED_NODE", "3", "tau_mem = 1e-05 s, tau_syn = 5e-06 s"),
    ],
    "spikingjelly_leaky": [("UNSUPPORTED_NODE", "_1", "tau = 0.002 s")],
    "nir_foreign": [
        ("UNSUPPORTED_NODE", "cuba", "train with IF neurons"),
        ("UNSUPPORTED_NODE", "integrator", "use IF"),
        ("UNSUPPORTED_NODE", "late", "0.003 s"),
        ("UNSUPPORTED_NODE", "leaky", "read out their spikes"),
        ("UNSUPPORTED_NODE", "threshold", "use IF"),
        ("WRONG_ORDER", "cuba", "no weight node"),
        ("WRONG_ORDER", "threshold", "no weight node"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_speck_runs_is_refused_node_by_node(name: str) -> None:
    result = parsed(name)

    assert result.network is None
    found = sorted(
        (f.reason, f.metadata["node"], f.message)
        for f in result.findings
        if f.severity is Severity.ERROR
    )
    assert [key[:2] for key in found] == [key[:2] for key in REFUSED[name]]
    for (_, _, message), (_, _, words) in zip(found, REFUSED[name], strict=True):
        assert words in message


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sinabs_chain", {}),
        ("snntorch_chain", {"lower_clip": NO_CLIP}),
        ("norse_chain", {"lower_clip": NO_CLIP, "reset": "zero"}),
        ("spikingjelly_chain", {"lower_clip": NO_CLIP, "input_dt_us": SPIKINGJELLY_DT_US}),
        ("spikingjelly_residual", {"lower_clip": NO_CLIP, "input_dt_us": SPIKINGJELLY_DT_US}),
    ],
)
def test_the_twin_spikes_as_the_framework_did(name: str, settings: dict[str, Any]) -> None:
    wanted = recorded(name)
    configuration = checked(name, **settings).configuration
    assert configuration is not None

    events = [Event(1000 * step, *event) for step, event in enumerate(wanted["events"])]
    spikes = run_recording(Twin(configuration), events)

    counts = np.zeros_like(wanted["counts"])
    for _, _, _, feature, y, x in spikes:
        counts[feature, y, x] += 1
    assert counts.sum() > 10
    assert counts.tolist() == wanted["counts"]


def test_the_other_reset_gives_other_spikes() -> None:
    """So the comparison above tells the reset modes apart."""
    wanted = recorded("norse_chain")
    configuration = checked("norse_chain", lower_clip=NO_CLIP, reset="subtract").configuration
    assert configuration is not None

    events = [Event(1000 * step, *event) for step, event in enumerate(wanted["events"])]
    spikes = run_recording(Twin(configuration), events)

    assert len(spikes) != int(np.sum(wanted["counts"]))


def test_neurons_that_say_how_they_were_trained_are_believed() -> None:
    layer = network_of("nir_described").layers[0]

    assert (layer.name, layer.trained_reset, layer.trained_lower_clip) == (
        "block.conv",
        "zero",
        -0.5,
    )
