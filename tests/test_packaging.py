"""What stands in more than one place is the same there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from speckfarm_server import config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("tool", ["grpcio-tools", "mypy-protobuf"])
def test_the_stub_generators_are_pinned_alike_for_the_build_and_for_developers(tool: str) -> None:
    build = PROJECT["tool"]["hatch"]["build"]["hooks"]["custom"]["dependencies"]
    development = PROJECT["project"]["optional-dependencies"]["dev"]

    def pin(requirements: list[str]) -> list[str]:
        return [item for item in requirements if item.startswith(f"{tool}==")]

    assert len(pin(build)) == 1
    assert pin(build) == pin(development)


def test_the_changelog_names_the_version() -> None:
    assert f"## [{PROJECT['project']['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_key_of_farm_toml_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    sections = (config.FarmConfig, config.TlsConfig, config.LimitsConfig, config.BoardConfig)

    missing = [
        name
        for section in sections
        for name in section.__dataclass_fields__
        if f"`{name}`" not in text and f"[{name}]" not in text
    ]

    assert missing == []


def test_every_reason_that_the_code_gives_is_documented() -> None:
    reference = "\n".join(
        (ROOT / "docs" / "reference" / name).read_text() for name in ("errors.md", "checks.md")
    )
    raised = re.compile(
        r"(?:BadInput|NotFound|WrongState|AlreadyExists|Unauthenticated|NotAllowed|"
        r'Exhausted|Unavailable|BoardFault|InternalError)\(\s*"([A-Z_]+)"'
    )
    reasons = {
        reason
        for path in (ROOT / "server").rglob("*.py")
        for reason in raised.findall(path.read_text())
    }

    assert sorted(reason for reason in reasons if f"`{reason}`" not in reference) == []
