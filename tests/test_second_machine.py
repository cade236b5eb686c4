"""Two users on machines of their own: TLS, login, jobs, usage. 127.0.0.2 stands for the other host.

`test_network_namespace.py` does it over a network; this needs no root.
"""

from __future__ import annotations

import json
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import speckfarm
from tests.farm_process import TWINS, FarmProcess
from tests.laptop import Laptop, fingerprint

pytestmark = pytest.mark.system

UNREACHABLE = 7  # exit code: unreachable or not allowed


def free_port() -> int:
    """A port that nobody uses now, so that the server can come back to it."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FarmProcess]:
    """A server that listens on all addresses."""
    folder = tmp_path_factory.mktemp("host")
    process = FarmProcess(folder / "data", TWINS, listen=f"0.0.0.0:{free_port()}").start()
    yield process
    process.stop()


@pytest.fixture(scope="module")
def address(own: FarmProcess) -> str:
    """The server as another machine sees it."""
    return f"127.0.0.2:{own.address.rpartition(':')[2]}"


@pytest.fixture(scope="module")
def tokens(own: FarmProcess) -> dict[str, str]:
    return {name: own.server_command("user", "add", name) for name in ("ada", "bob")}


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(home=tmp_path / "laptop")


def log_in(laptop: Laptop, server: FarmProcess, address: str, token: str) -> None:
    done = laptop.speckfarm(
        "login", address, "--fingerprint", fingerprint(server), typed=token + "\n"
    )
    assert done.returncode == 0, done.stderr


def test_two_users_run_jobs_and_usage_tells_them_apart(
    own: FarmProcess,
    address: str,
    tokens: dict[str, str],
    tmp_path: Path,
    digits_model: Path,
    one_digit: Path,
) -> None:
    ada, bob = Laptop(home=tmp_path / "ada"), Laptop(home=tmp_path / "bob")
    log_in(ada, own, address, tokens["ada"])
    log_in(bob, own, address, tokens["bob"])

    ran = [laptop.json("run", str(digits_model), str(one_digit)) for laptop in (ada, bob, ada)]

    assert [each["state"] for each in ran] == ["SUCCEEDED"] * 3
    assert ran[0]["recordings"][0]["prediction"] == ran[0]["recordings"][0]["label"]
    assert ada.json("info")["user"] == "ada"
    usage = {row["key"]: row for row in bob.json("usage", "--by", "user")}
    assert (usage["ada"]["succeeded"], usage["bob"]["succeeded"]) == (2, 1)
    assert min(usage[user]["board_seconds"] for user in ("ada", "bob")) > 0
    jobs = {each["job"]: each["user"] for each in ada.json("jobs")}
    assert sorted(jobs[each["job"]] for each in ran) == ["ada", "ada", "bob"]
    refused = bob.speckfarm("cancel", ran[0]["job"])
    assert (refused.returncode, "NOT_OWNER" in refused.stderr) == (UNREACHABLE, True)


def test_what_login_saves_is_for_the_eyes_of_its_user_only(
    own: FarmProcess, address: str, tokens: dict[str, str], laptop: Laptop
) -> None:
    log_in(laptop, own, address, tokens["ada"])

    assert stat.S_IMODE(laptop.profile.stat().st_mode) == 0o600
    saved = json.loads(laptop.profile.read_text())
    assert saved["default"] == address
    assert saved["servers"][address]["fingerprint"] == fingerprint(own)


def test_another_fingerprint_is_refused_and_nothing_is_saved(
    address: str, tokens: dict[str, str], laptop: Laptop
) -> None:
    done = laptop.speckfarm("login", address, "--fingerprint", "00" * 32, typed=tokens["ada"])

    assert done.returncode == UNREACHABLE
    assert "FINGERPRINT_REFUSED" in done.stderr
    assert not laptop.profile.exists()


def test_nobody_is_logged_in_without_having_seen_the_fingerprint(
    own: FarmProcess, address: str, tokens: dict[str, str], laptop: Laptop
) -> None:
    done = laptop.speckfarm("login", address, typed=tokens["ada"])

    assert done.returncode == UNREACHABLE
    assert "FINGERPRINT_UNKNOWN" in done.stderr
    assert fingerprint(own) in done.stderr
    assert not laptop.profile.exists()


def test_a_wrong_token_is_refused_and_nothing_is_saved(
    own: FarmProcess, address: str, laptop: Laptop
) -> None:
    done = laptop.speckfarm("login", address, "--fingerprint", fingerprint(own), typed="sf_wrong\n")

    assert done.returncode == UNREACHABLE
    assert "TOKEN_UNKNOWN" in done.stderr
    assert not laptop.profile.exists()


def test_a_changed_certificate_stops_every_command_until_it_is_accepted(
    own: FarmProcess, address: str, tokens: dict[str, str], laptop: Laptop
) -> None:
    log_in(laptop, own, address, tokens["ada"])
    before = fingerprint(own)
    own.stop()
    assert any(before in line for line in own.log)  # the operator reads it there
    shutil.rmtree(own.data / "tls")
    own.start()

    refused = laptop.speckfarm("info")

    assert refused.returncode == UNREACHABLE
    assert "CERTIFICATE_CHANGED" in refused.stderr
    assert before in refused.stderr
    assert fingerprint(own) in refused.stderr
    log_in(laptop, own, address, tokens["ada"])
    assert laptop.json("info")["user"] == "ada"


def test_a_server_that_comes_back_keeps_its_certificate(
    own: FarmProcess, address: str, tokens: dict[str, str], laptop: Laptop
) -> None:
    log_in(laptop, own, address, tokens["bob"])
    own.stop()
    own.start()

    assert laptop.json("info")["user"] == "bob"


def test_on_the_host_itself_the_local_user_needs_no_login(own: FarmProcess, tmp_path: Path) -> None:
    home = tmp_path / "host"
    (home / "speckfarm").mkdir(parents=True)
    shutil.copy(own.data / "local.json", home / "speckfarm" / "local.json")

    assert Laptop(home=home).json("info")["user"] == "local"


@pytest.mark.parametrize("server", ["10.255.255.1:50051", "farm.example:50051", "[fd00::1]:1"])
def test_a_token_never_leaves_this_machine_in_clear(server: str) -> None:
    with pytest.raises(speckfarm.NotAllowed) as caught:
        speckfarm.connect(server, "sf_secret")

    assert caught.value.reason == "NOT_LOGGED_IN"
    assert "speckfarm login" in caught.value.message


def test_a_server_with_tls_takes_no_call_in_clear(own: FarmProcess, tokens: dict[str, str]) -> None:
    with (
        speckfarm.connect(own.address, tokens["ada"]) as farm,
        pytest.raises(speckfarm.NotAllowed, match="speckfarm login"),
    ):
        farm.info()
