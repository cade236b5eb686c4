"""`speckfarm-server doctor` as operators run it: beside a server, before one, and on a bad file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.farm_process import FarmProcess


def doctor(*arguments: str, python_path: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "speckfarm_server", "doctor", *arguments]
    environment = dict(os.environ)
    if python_path:
        environment["PYTHONPATH"] = os.pathsep.join([python_path, *sys.path])
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, str]]:
    return {line["check"]: line for line in json.loads(done.stdout)["lines"]}


def test_beside_a_running_server_the_lock_and_the_port_are_its_own(server: FarmProcess) -> None:
    done = doctor("--data", str(server.data), "--listen", server.address, "-o", "json")

    found = lines(done)
    assert done.returncode == 0, done.stdout
    assert found["lock"]["found"] == "a server runs on this data folder"
    assert found["port"]["found"] == f"{server.address} is this farm's server"
    assert found["database"]["state"] == "ok"
    assert set(found) == {
        "python", "packages", "config", "samna", "usb", "udev", "clock", "data", "disk", "fsync",
        "lock", "database", "tls", "port",
    }  # fmt: skip
    with server.connect() as farm:
        assert farm.info().user == "local"


def test_the_reference_names_every_check(server: FarmProcess) -> None:
    text = (Path(__file__).parents[1] / "docs" / "reference" / "server.md").read_text()

    checks = lines(doctor("--data", str(server.data), "-o", "json"))

    assert [check for check in checks if f"| `{check}` |" not in text] == []


def test_the_port_of_another_server_is_taken(server: FarmProcess, tmp_path: Path) -> None:
    done = doctor("--data", str(tmp_path / "other"), "--listen", server.address)

    assert done.returncode == 1
    assert f"{server.address} is taken by another program" in done.stdout
    assert not (tmp_path / "other").exists()


def test_an_unknown_key_is_told_with_the_nearest_and_the_host_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "farm.toml"
    path.write_text("[limits]\nleese_s = 1\n")

    done = doctor("--config", str(path), "-o", "json")

    found = lines(done)
    assert done.returncode == 1
    assert "did you mean lease_s?" in found["config"]["found"]
    assert found["config"]["state"] == "wrong"
    assert {"clock", "usb"} < set(found)
    assert "data" not in found


def test_an_address_that_makes_no_sense_is_told(tmp_path: Path) -> None:
    done = doctor("--data", str(tmp_path), "--listen", "nowhere")

    assert done.returncode == 1
    assert "[CONFIG_LISTEN_INVALID]" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_stub_of_the_vendors_library_is_recognised_and_does_not_run(tmp_path: Path) -> None:
    package = tmp_path / "packages" / "samna"
    package.mkdir(parents=True)
    mark = tmp_path / "imported"
    (package / "__init__.py").write_text(f"PYPI_SAMNA = open({str(mark)!r}, 'w')\n")

    done = doctor("--data", str(tmp_path), "-o", "json", python_path=str(tmp_path / "packages"))

    assert done.returncode == 1
    assert "PyPI's stub" in lines(done)["samna"]["found"]
    assert "pip uninstall samna" in lines(done)["samna"]["advice"]
    assert not mark.exists()


def test_a_missing_package_is_reported_and_does_not_stop_the_report(tmp_path: Path) -> None:
    package = tmp_path / "packages" / "sqlalchemy"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ModuleNotFoundError('broken', name='sqlalchemy')\n")
    (tmp_path / "data").mkdir(mode=0o700)

    done = doctor("--data", str(tmp_path / "data"), python_path=str(tmp_path / "packages"))

    assert done.returncode == 1
    assert "sqlalchemy cannot be imported" in done.stdout
    assert "port" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_server_beyond_loopback_has_its_certificate_looked_at(
    make_server: Callable[..., FarmProcess],
) -> None:
    server = make_server(listen="0.0.0.0:0")

    done = doctor("--data", str(server.data), "--listen", server.address, "-o", "json")

    # local.json has loopback's address, for which no certificate would be needed.
    port = server.address.rpartition(":")[2]
    beyond = doctor("--data", str(server.data), "--listen", f"0.0.0.0:{port}", "-o", "json")
    assert done.returncode == beyond.returncode == 0
    assert "loopback only" in lines(done)["tls"]["found"]
    assert "certificate.pem, valid until" in lines(beyond)["tls"]["found"]
    assert lines(beyond)["port"]["found"] == f"0.0.0.0:{port} is this farm's server"
