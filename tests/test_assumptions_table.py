"""The table of assumptions is made of the fields that it describes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from tools.assumptions_table import BEGIN, END, HEAD, PAGE, table, with_table

from speckfarm_server.twin.assumptions import OF_CHIPS, Assumptions


def told(**more: object) -> dict[str, object]:
    return {"what": "what it means", "source": "a page", "confidence": "guess", **more}


@dataclass(frozen=True)
class Some:
    depth: int = field(default=16, metadata=told())
    fires: str = field(default=">=", metadata=told(others=(">",)))
    factors: tuple[float, ...] = field(default=(1.0,) * 9, metadata=told())
    seed: int | None = field(default=None, metadata=told(what="either a|b"))


@dataclass(frozen=True)
class Untold:
    depth: int = field(default=16, metadata={"what": "x", "source": "y"})


def test_a_field_becomes_a_row_with_value_source_and_confidence() -> None:
    made = table(Some, {"synops_per_s": told(confidence="likely")})

    assert made == HEAD + (
        "| `depth` | 16: what it means | a page | guess |\n"
        "| `fires` | >= (or >): what it means | a page | guess |\n"
        "| `factors` | 9 x 1.0: what it means | a page | guess |\n"
        "| `seed` | off: either a\\|b | a page | guess |\n"
        "| `synops_per_s` | what it means | a page | likely |\n"
    )


def test_a_field_that_does_not_say_how_sure_it_is_is_named() -> None:
    with pytest.raises(ValueError, match="depth says no confidence"):
        table(Untold, {})


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    page = f"before\n{BEGIN}\n\nold\n{END}\nafter\n"

    assert with_table(page, "new\n") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        with_table(page, "new\n")


def test_the_page_has_the_table_of_the_fields() -> None:
    page = PAGE.read_text("utf-8")

    assert with_table(page, table(Assumptions, OF_CHIPS)) == page
