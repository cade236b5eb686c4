"""A second server on the same data or the same port is refused, and the first is not disturbed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.farm_process import FarmProcess

pytestmark = pytest.mark.system

SECONDS = 30


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Start a server that is expected to refuse and end."""
    command = [sys.executable, "-m", "speckfarm_server", "serve", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)


def test_a_second_server_on_the_same_data_is_refused(server: FarmProcess) -> None:
    second = serve("--data", str(server.data), "--listen", "127.0.0.1:0")

    assert second.returncode == 1
    assert "[DATA_FOLDER_IN_USE]" in second.stderr
    assert str(server.data) in second.stderr
    assert "Traceback" not in second.stderr
    with server.connect() as farm:
        assert farm.info().user == "local"


def test_a_second_server_on_the_same_port_is_refused(server: FarmProcess, tmp_path: Path) -> None:
    second = serve("--data", str(tmp_path / "other"), "--listen", server.address)

    assert second.returncode == 1
    assert "[ADDRESS_IN_USE]" in second.stderr
    assert server.address in second.stderr
    assert "Traceback" not in second.stderr
    assert not (tmp_path / "other" / "local.json").exists()
    with server.connect() as farm:
        assert farm.info().user == "local"


def test_an_address_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    second = serve("--data", str(tmp_path / "other"), "--listen", "nowhere")

    assert second.returncode == 1
    assert "[CONFIG_LISTEN_INVALID]" in second.stderr
    assert "Traceback" not in second.stderr
