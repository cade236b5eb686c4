"""Parsed models come back from disk as they went there, and damage only costs another parse."""

from __future__ import annotations

from pathlib import Path

import pytest

from speckfarm_server.errors import Finding, Severity
from speckfarm_server.parsed import Parsed
from speckfarm_server.parsed_cache import FORMAT, read_parsed, write_parsed
from tests.configurations import configuration, core
from tests.networks import conv, network

NOTE = Finding(reason="UNKNOWN_KEY", severity=Severity.WARNING, message="m", metadata={"n": "1"})


def test_a_network_comes_back(tmp_path: Path) -> None:
    made = network((1, 4, 4), conv(2, 3))

    write_parsed(tmp_path, "d", Parsed(network=made, findings=(NOTE,)))

    back = read_parsed(tmp_path, "d")
    assert back is not None
    assert back.network is not None
    assert back.network.input_shape == (1, 4, 4)
    assert (back.configuration, back.findings) == (None, (NOTE,))


def test_a_configuration_comes_back(tmp_path: Path) -> None:
    made = configuration(core(), vendor={"readout.threshold": 1})

    write_parsed(tmp_path, "d", Parsed(network=None, configuration=made, findings=(NOTE,)))

    back = read_parsed(tmp_path, "d")
    assert back is not None
    assert back.configuration is not None
    assert back.configuration.digest == made.digest
    assert (back.network, back.findings) == (None, (NOTE,))


def test_what_is_neither_is_not_kept(tmp_path: Path) -> None:
    write_parsed(tmp_path, "d", Parsed(network=None, findings=(NOTE,)))

    assert read_parsed(tmp_path, "d") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [f"d.{FORMAT}.json", f"d.{FORMAT}.configuration.npz"])
@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b"PK\x03\x04"])
def test_damage_is_as_good_as_nothing(
    tmp_path: Path, name: str, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write_parsed(tmp_path, "d", Parsed(network=None, configuration=configuration(core())))

    (tmp_path / name).write_bytes(content)

    assert read_parsed(tmp_path, "d") is None
    assert "damaged" in caplog.text
