"""docs/how-to/train-for-speck.md does what it says, against a real server."""

import re
from pathlib import Path

import pytest
import torch
from tests.farm_process import FarmProcess

from speckfarm.report import Report
from speckfarm.result import Result

torch.set_num_threads(1)  # on a busy machine, threads wait for each other longer than they work

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "train-for-speck.md"
# "python torch" is coloured as Python, and tests/test_docs.py, which has no torch, passes it by.
_BLOCK = re.compile(r"^```python torch\n(.*?)^```", re.MULTILINE | re.DOTALL)
_REASON = re.compile(r"`([A-Z]+(?:_[A-Z0-9]+)+)`")


def test_examples_of_the_page_run_one_after_the_other(
    server: FarmProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECKFARM_SERVER", server.address)
    monkeypatch.setenv("SPECKFARM_TOKEN", server.token)
    names: dict[str, object] = {"__name__": "__main__"}
    blocks = _BLOCK.findall(PAGE.read_text())
    assert len(blocks) > 5

    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, example {number}", "exec"), names)

    names["farm"].close()  # type: ignore[attr-defined]
    report, result = names["report"], names["result"]
    assert isinstance(report, Report)
    assert isinstance(result, Result)
    assert report.deployable
    assert result.accuracy is not None
    assert result.accuracy > 0.5  # of ten classes
    reasons = {finding.reason for finding in result.findings}
    assert reasons.isdisjoint({"WEIGHT_REACHES_THRESHOLD", "LAYER_SILENT", "BIAS_IS_LEAK"})
    simulated, seconds = names["simulated"], names["seconds"]
    assert isinstance(simulated, dict)
    counted = [rate * seconds for rate in simulated.values()]
    run = [layer.synops for layer in result.layers]
    assert run[0] == pytest.approx(counted[0], rel=1e-6)  # the very same input events
    assert run[1:] == pytest.approx(counted[1:], rel=0.6)  # event by event, not step by step


def test_every_example_of_the_page_is_run_here() -> None:
    assert "```python\n" not in PAGE.read_text()


def test_every_finding_that_the_page_names_is_in_the_reference() -> None:
    pages = [ROOT / "docs" / "reference" / name for name in ("checks.md", "errors.md")]
    reference = set(_REASON.findall("\n".join(page.read_text() for page in pages)))

    named = set(_REASON.findall(PAGE.read_text()))

    assert len(named) > 15
    assert sorted(named - reference) == []
