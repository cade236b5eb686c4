"""Without torch and sinabs, export and training say what to install."""

from __future__ import annotations

import sys

import pytest

from speckfarm.cli_export import add_export, run_export
from speckfarm.cli_output import Screen
from speckfarm.cli_parser import Parser
from speckfarm.errors import BadRequest
from speckfarm.export import export
from speckfarm.trace import require_extra
from speckfarm.training import SynopsLoss, synops_per_layer

INSTALL = "pip install '.[sinabs]'"


def parse_export(*words: str) -> object:
    parser = Parser("speckfarm")
    add_export(parser.add_subparsers(dest="command"))
    return parser.parse_args(["export", *words])


@pytest.fixture(autouse=True)
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a developer has torch it is hidden: an import of None is an import that fails."""
    monkeypatch.setitem(sys.modules, "torch", None)


@pytest.mark.parametrize(
    "use",
    [
        require_extra,
        lambda: export(object(), "a.nir", input_shape=(2, 34, 34)),
        lambda: SynopsLoss(object(), [1e6], step_s=0.01),
        lambda: synops_per_layer(object(), object(), step_s=0.01),
    ],
    ids=["require_extra", "export", "SynopsLoss", "synops_per_layer"],
)
def test_what_is_missing_and_how_to_get_it_is_said(use: object) -> None:
    with pytest.raises(BadRequest) as caught:
        use()  # type: ignore[operator]

    assert caught.value.reason == "EXTRA_MISSING"
    assert caught.value.metadata == {"package": "torch", "extra": "sinabs"}
    assert "needs torch" in caught.value.message
    assert INSTALL in caught.value.message


def test_the_command_says_so_before_it_imports_the_users_module() -> None:
    args = parse_export("no_such_module:network", "a.nir", "--input-shape", "2,34,34")

    with pytest.raises(BadRequest, match="EXTRA_MISSING"):
        run_export(args, Screen())  # type: ignore[arg-type]
