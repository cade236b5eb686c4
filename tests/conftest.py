"""Fixtures: one shared server for tests that only use it, and servers of one's own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.double_world import World
from tests.farm_process import TWINS, FarmProcess

# How long an example takes says something about the machine, not about the code.
settings.register_profile("farm", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("farm")

SHARED = Path(__file__).parents[2] / "shared"
EXAMPLES = Path(__file__).parents[1] / "examples" / "digits"

# Tests named test_shared_* use files that are beside the checkout on the project's own machines
# and not at users'; CI fails on them, users never collect them.
collect_ignore_glob = [] if SHARED.is_dir() else ["test_shared_*"]


def _can_make_networks() -> bool:
    """Whether this is root, with iproute2, on a kernel that makes networks of one's own."""
    tools = ("ip", "unshare", "nsenter")
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in tools):
        return False
    probe = "unshare --net ip link add lab0 type veth peer name lab1"  # gone when it ends
    return subprocess.run(probe.split(), capture_output=True, check=False).returncode == 0


collect_ignore = [] if _can_make_networks() else ["test_network_namespace.py"]
if not shutil.which("systemd-analyze"):
    collect_ignore.append("test_systemd_verify.py")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the developer's own farm reaches a test."""
    for name in ("SPECKFARM_SERVER", "SPECKFARM_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg-data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    """One server with two boards for all tests that leave it as it was.

    They are simulated; with SPECKFARM_TEST_BOARDS=double they are devkits on the double of samna.
    """
    toml = TWINS
    with pytest.MonkeyPatch.context() as patched:
        if os.environ.get("SPECKFARM_TEST_BOARDS") == "double":
            toml = _devkits(World(tmp_path_factory.mktemp("usb")), patched)
        process = FarmProcess(tmp_path_factory.mktemp("shared-server") / "data", toml).start()
        yield process
        process.stop()


def _devkits(world: World, patched: pytest.MonkeyPatch) -> str:
    ports = {"twin-0": "2-1.3", "twin-1": "2-1.4"}
    for number, port in enumerate(ports.values()):
        world.plug(port, address=9 + number)
    for name, value in world.env.items():
        patched.setenv(name, value)
    return world.farm_toml(ports)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A devkit on the double of samna, for this process and all that are started after this."""
    made = World(tmp_path / "world")
    made.plug()
    with made.entered():
        yield made


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., FarmProcess]]:
    """Servers of the test's own: `make_server(toml)`, started."""
    made: list[FarmProcess] = []

    def make(toml: str = TWINS, *, listen: str = "127.0.0.1:0") -> FarmProcess:
        process = FarmProcess(tmp_path / f"data{len(made)}", toml, listen=listen)
        made.append(process)
        return process.start()

    yield make
    for process in made:
        process.stop()


@pytest.fixture(scope="session")
def digits_model() -> Path:
    """The example network."""
    return EXAMPLES / "digits.nir"


@pytest.fixture(scope="session")
def digits_recordings() -> Path:
    """The example recordings."""
    return EXAMPLES / "digits.npz"


@pytest.fixture(scope="session")
def one_digit(tmp_path_factory: pytest.TempPathFactory, digits_recordings: Path) -> Path:
    """The first of the example recordings alone."""
    path = tmp_path_factory.mktemp("recordings") / "one_digit.npz"
    with np.load(digits_recordings) as file:
        stop = file["offsets"][1]
        columns = {name: file[name][:stop] for name in "txyp"}
        np.savez(path, **columns, offsets=[0, stop], labels=file["labels"][:1])
    return path
