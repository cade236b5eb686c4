"""Two users over a network: server and laptops are in network namespaces joined by a veth pair.

Needs root and the command `ip`; conftest.py does not collect this file elsewhere. Nothing outside
the namespaces made here is touched: both ends of the pair are born in them.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.farm_process import TWINS, FarmProcess
from tests.laptop import Laptop, fingerprint

pytestmark = pytest.mark.system

SERVER, CLIENT, NETWORK_BITS = "10.77.0.1", "10.77.0.2", 24
UNREACHABLE = 7  # exit code: unreachable or not allowed
LISTEN_IN_CLEAR = f"""
import socket
with socket.create_server(("{SERVER}", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    heard = b""
    while b"stop" not in heard:
        connection, _ = listener.accept()
        with connection:
            heard += connection.recv(65536)
    print(heard.hex(), flush=True)
"""


class Namespace:
    """A network of its own, which ends with the process that holds it."""

    def __init__(self) -> None:
        command = ["unshare", "--net", "sh", "-c", "echo ready; exec cat"]
        self._holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self.ip("link", "set", "lo", "up")

    @property
    def process_id(self) -> int:
        return self._holder.pid

    @property
    def prefix(self) -> tuple[str, ...]:
        """What starts a process in it."""
        return ("nsenter", f"--net=/proc/{self.process_id}/ns/net")

    def ip(self, *words: str) -> None:
        subprocess.run([*self.prefix, "ip", *words], check=True)

    def close(self) -> None:
        self._holder.communicate()


@contextmanager
def joined() -> Iterator[tuple[Namespace, Namespace]]:
    """Two networks with a cable between them."""
    host, laptops = Namespace(), Namespace()
    try:
        there = ("peer", "name", "lab1", "netns", str(laptops.process_id))
        host.ip("link", "add", "name", "lab0", "type", "veth", *there)
        for space, name, address in ((host, "lab0", SERVER), (laptops, "lab1", CLIENT)):
            space.ip("address", "add", f"{address}/{NETWORK_BITS}", "dev", name)
            space.ip("link", "set", name, "up")
        yield host, laptops
    finally:
        laptops.close()
        host.close()


@pytest.fixture(scope="module")
def spaces() -> Iterator[tuple[Namespace, Namespace]]:
    with joined() as both:
        yield both


@pytest.fixture(scope="module")
def own(
    spaces: tuple[Namespace, Namespace], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FarmProcess]:
    """A server in the first network."""
    data = tmp_path_factory.mktemp("host") / "data"
    process = FarmProcess(data, TWINS, listen=f"{SERVER}:0", prefix=spaces[0].prefix).start()
    yield process
    process.stop()


def laptop_of(spaces: tuple[Namespace, Namespace], home: Path) -> Laptop:
    return Laptop(home=home, prefix=spaces[1].prefix)


def log_in(laptop: Laptop, own: FarmProcess, token: str) -> None:
    done = laptop.speckfarm(
        "login", own.address, "--fingerprint", fingerprint(own), typed=token + "\n"
    )
    assert done.returncode == 0, done.stderr


def test_two_users_on_another_machine_run_jobs_and_usage_tells_them_apart(
    spaces: tuple[Namespace, Namespace],
    own: FarmProcess,
    tmp_path: Path,
    digits_model: Path,
    digits_recordings: Path,
) -> None:
    ada, bob = (laptop_of(spaces, tmp_path / name) for name in ("ada", "bob"))
    log_in(ada, own, own.server_command("user", "add", "ada"))
    log_in(bob, own, own.server_command("user", "add", "bob"))

    ran = [laptop.json("run", str(digits_model), str(digits_recordings)) for laptop in (ada, bob)]

    assert own.address.startswith(f"{SERVER}:")
    assert min(each["accuracy"] for each in ran) > 0.9
    usage = {row["key"]: row for row in ada.json("usage", "--by", "user")}
    assert (usage["ada"]["succeeded"], usage["bob"]["succeeded"]) == (1, 1)


def test_the_server_is_reached_over_that_network_only(own: FarmProcess) -> None:
    host, port = own.address.split(":")

    for address in ("127.0.0.1", host):
        with socket.socket() as outside:
            outside.settimeout(0.2)
            assert outside.connect_ex((address, int(port))) != 0


def test_another_fingerprint_is_refused(
    spaces: tuple[Namespace, Namespace], own: FarmProcess, tmp_path: Path
) -> None:
    laptop = laptop_of(spaces, tmp_path / "eve")

    done = laptop.speckfarm("login", own.address, "--fingerprint", "00" * 32, typed="sf_x\n")

    assert done.returncode == UNREACHABLE
    assert "FINGERPRINT_REFUSED" in done.stderr
    assert not laptop.profile.exists()


def test_a_server_in_clear_never_hears_the_token(
    spaces: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    host, laptops = spaces
    laptop = laptop_of(spaces, tmp_path / "max")
    listener = subprocess.Popen(
        [*host.prefix, sys.executable, "-c", LISTEN_IN_CLEAR], stdout=subprocess.PIPE, text=True
    )
    assert listener.stdout is not None
    address = f"{SERVER}:{listener.stdout.readline().strip()}"

    logged_in = laptop.speckfarm("login", address, "--yes", typed="sf_secret\n")
    asked = laptop.speckfarm("info", "--server", address, "--token", "sf_secret")
    stop = f"import socket; socket.create_connection(('{SERVER}', {address.split(':')[1]}))"
    stop += ".sendall(b'stop')"
    subprocess.run([*laptops.prefix, sys.executable, "-c", stop], check=True)
    heard = bytes.fromhex(listener.communicate(timeout=20)[0])

    assert (logged_in.returncode, "NO_TLS" in logged_in.stderr) == (UNREACHABLE, True)
    assert (asked.returncode, "NOT_LOGGED_IN" in asked.stderr) == (UNREACHABLE, True)
    assert heard.endswith(b"stop")
    assert b"sf_secret" not in heard
