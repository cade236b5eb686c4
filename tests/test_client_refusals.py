"""How the farm's refusals arrive: real gRPC statuses become speckfarm's errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.rpc import code_pb2, error_details_pb2

import speckfarm
from speckfarm.v1 import findings_pb2
from tests.small_farm import SmallFarm, serving, status


@pytest.fixture
def small() -> Iterator[SmallFarm]:
    farm = SmallFarm()
    with serving(farm):
        yield farm


@pytest.fixture
def farm(small: SmallFarm) -> Iterator[speckfarm.Farm]:
    with speckfarm.connect(small.address, "secret") as connected:
        yield connected


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.nir"
    path.write_bytes(b"model")
    return path


def test_the_findings_of_a_rejected_model_arrive_whole(
    small: SmallFarm, farm: speckfarm.Farm, model: Path
) -> None:
    finding = findings_pb2.Finding(
        reason="TOO_MANY_LAYERS",
        severity=findings_pb2.SEVERITY_ERROR,
        message="10 layers",
        metadata={"found": "10"},
    )
    small.refusal = status(
        code_pb2.FAILED_PRECONDITION, "MODEL_REJECTED", "cannot run", finding, errors="1"
    )

    with pytest.raises(speckfarm.ModelRejected, match="cannot run") as caught:
        farm.flash(model)

    assert caught.value.metadata == {"errors": "1"}
    assert [(each.reason, each.layer) for each in caught.value.findings] == [
        ("TOO_MANY_LAYERS", None)
    ]
    assert caught.value.__suppress_context__  # gRPC's own traceback adds nothing


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (code_pb2.INVALID_ARGUMENT, speckfarm.BadRequest),
        (code_pb2.NOT_FOUND, speckfarm.NotFound),
        (code_pb2.FAILED_PRECONDITION, speckfarm.WrongState),
        (code_pb2.ALREADY_EXISTS, speckfarm.AlreadyExists),
        (code_pb2.UNAUTHENTICATED, speckfarm.Unauthenticated),
        (code_pb2.PERMISSION_DENIED, speckfarm.NotAllowed),
        (code_pb2.RESOURCE_EXHAUSTED, speckfarm.Exhausted),
        (code_pb2.UNAVAILABLE, speckfarm.FarmUnavailable),
        (code_pb2.INTERNAL, speckfarm.FarmFault),
        (code_pb2.UNIMPLEMENTED, speckfarm.FarmFault),
    ],
)
def test_every_status_has_its_error(
    small: SmallFarm,
    farm: speckfarm.Farm,
    model: Path,
    code: int,
    kind: type[speckfarm.SpeckfarmError],
) -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="settings.decimator", description="found 3")
    small.refusal = status(code, "SOME_REASON", "words", bad, found="3")

    with pytest.raises(kind) as caught:
        farm.flash(model)

    assert type(caught.value) is kind
    assert caught.value.reason == "SOME_REASON"
    assert caught.value.metadata == {"found": "3"}
    assert caught.value.fields == (("settings.decimator", "found 3"),)


def test_findings_that_a_status_has_no_room_for_are_fetched(
    small: SmallFarm, farm: speckfarm.Farm, model: Path
) -> None:
    small.refuse_once = True
    small.refusal = status(code_pb2.FAILED_PRECONDITION, "MODEL_REJECTED", "words", errors="1")

    with pytest.raises(speckfarm.ModelRejected) as caught:
        farm.flash(model)

    assert [each.reason for each in caught.value.findings] == ["KERNEL_MEMORY_EXCEEDED"]
