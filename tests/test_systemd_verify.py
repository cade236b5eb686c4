"""systemd's own judgement of the units; collected where systemd-analyze is installed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.test_deploy import COMMAND, DEPLOY, SERVICES, UNITS

WORST_EXPOSURE = {"speckfarm.service": 2.5, "speckfarm-backup.service": 1.5}  # of 10


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units with a command that is there on any machine."""
    for name in UNITS:
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace(COMMAND, "/bin/true"))
    return tmp_path


def analyze(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_systemd_has_nothing_to_say_against_the_units(units: Path) -> None:
    done = analyze("verify", *(f"./{name}" for name in UNITS), folder=units)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", SERVICES)
def test_a_misspelt_key_would_be_seen(name: str, units: Path) -> None:
    text = (units / name).read_text()
    (units / name).write_text(text.replace("ProtectHome=", "ProtectHomme="))

    done = analyze("verify", f"./{name}", folder=units)

    assert "ProtectHomme" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_the_services_are_exposed_little(name: str, units: Path) -> None:
    done = analyze("security", "--offline=yes", f"./{name}", folder=units)

    exposure = re.search(r"Overall exposure level.*: ([\d.]+)", done.stdout)
    assert exposure is not None, done.stderr
    assert float(exposure[1]) <= WORST_EXPOSURE[name]
