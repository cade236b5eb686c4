"""Findings with changes: on the wire, as stored, in JSON and on the screen."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

import speckfarm
from speckfarm import errors
from speckfarm.cli_answers import report_answer
from speckfarm.cli_output import Screen
from speckfarm.findings import read_finding
from speckfarm.report import Report
from speckfarm.v1 import findings_pb2
from speckfarm_server.convert import finding_message
from speckfarm_server.errors import Change, Finding, Severity
from speckfarm_server.job_result import finding_from_plain
from tests.farm_process import FarmProcess
from tests.nir_files import chain_nir, conv, neurons

SHRINK = Change(
    layer=0, what="features", value="16", keeps_function=False, text="Layer 0: 16 instead of 17."
)
MOVE = Change(layer=0, what="core", value="2", keeps_function=True, text="Setting cores.0=2.")
CROP = Change(layer=None, what="input_size", value="9x9", keeps_function=False, text="Crop.")
FINDING = Finding(
    reason="NEURON_MEMORY_EXCEEDED", severity=Severity.ERROR, message="Too large.", layer=0,
    metadata={"core": "8"}, changes=(SHRINK, MOVE, CROP),
)  # fmt: skip


def _received() -> Report:
    sent = finding_message(FINDING).SerializeToString()
    finding = read_finding(findings_pb2.Finding.FromString(sent))
    return Report(model="0" * 64, chip="speck2f", deployable=False, findings=(finding,), layers=())


def test_changes_cross_the_wire_whole() -> None:
    (finding,) = _received().findings

    assert [asdict(change) for change in finding.changes] == [
        asdict(change) for change in FINDING.changes
    ]


def test_a_server_that_sends_no_changes_has_none() -> None:
    assert read_finding(findings_pb2.Finding(reason="NO_LAYERS")).changes == ()


def test_stored_findings_come_back_with_their_changes() -> None:
    text = json.dumps(asdict(FINDING))

    assert finding_from_plain(json.loads(text)) == FINDING


def test_findings_stored_by_an_earlier_version_have_no_changes() -> None:
    plain = asdict(FINDING)
    del plain["changes"]

    assert finding_from_plain(plain).changes == ()


def test_the_json_of_a_check_lists_the_changes_of_each_finding() -> None:
    plain = json.loads(json.dumps(_received().to_dict()))

    assert plain["findings"][0]["changes"][1:] == [
        {
            "layer": 0, "what": "core", "value": "2", "keeps_function": True,
            "text": "Setting cores.0=2.",
        },
        {
            "layer": None, "what": "input_size", "value": "9x9", "keeps_function": False,
            "text": "Crop.",
        },
    ]  # fmt: skip


def test_people_see_changes_below_the_message_those_that_keep_the_function_first() -> None:
    out = io.StringIO()

    Screen(stdout=out).show(report_answer(_received(), "m.nir", as_csv=False))

    assert out.getvalue().splitlines()[1:] == [
        "error: layer 0: Too large. [NEURON_MEMORY_EXCEEDED]",
        "  - Setting cores.0=2. (keeps the function)",
        "  - Layer 0: 16 instead of 17.",
        "  - Crop.",
    ]


def test_csv_has_the_changes_as_sentences() -> None:
    out = io.StringIO()

    Screen("csv", stdout=out).show(report_answer(_received(), "m.nir", as_csv=True))

    (row,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert row["changes"] == (
        "Layer 0: 16 instead of 17. Setting cores.0=2. (keeps the function) Crop."
    )


def test_a_refused_job_shows_the_changes() -> None:
    rejected = errors.ModelRejected("MODEL_REJECTED", "m.nir cannot run: Too large.")
    rejected.findings = _received().findings
    err = io.StringIO()

    Screen(stderr=err).error(rejected, "")

    assert "    - Setting cores.0=2. (keeps the function)" in err.getvalue().splitlines()


def test_a_pin_changed_as_advised_is_deployable(server: FarmProcess, tmp_path: Path) -> None:
    first = conv((16, 2, 3, 3), padding=np.array([1, 1]), input_shape=np.array([34, 34]))
    model = chain_nir(
        tmp_path / "m.nir", first, neurons(), conv((2, 16, 3, 3)), neurons(),
        input_shape=(2, 34, 34),
    )  # fmt: skip

    with speckfarm.connect(server.address, server.token) as farm:
        refused = farm.check(model, chip="speck2f", cores={0: 8})
        (finding,) = [each for each in refused.findings if each.severity == "error"]
        change = finding.changes[0]
        accepted = farm.check(model, chip="speck2f", cores={0: int(change.value)})

    assert (change.layer, change.what, change.keeps_function) == (0, "core", True)
    assert accepted.deployable
