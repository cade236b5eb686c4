"""Where the client looks for a farm, and what it never sends where."""

from __future__ import annotations

import stat

import pytest

import speckfarm
from speckfarm.certificate import Certificate
from speckfarm.profile import (
    Endpoint,
    find_endpoint,
    local_path,
    make_endpoint,
    profile_path,
    save_login,
)


def test_without_any_farm_the_error_says_how_to_get_one() -> None:
    with pytest.raises(speckfarm.FarmUnavailable, match="speckfarm-server serve"):
        find_endpoint()


def test_the_local_server_is_found_without_arguments() -> None:
    local_path().parent.mkdir(parents=True)
    local_path().write_text('{"server": "127.0.0.1:50051", "token": "t", "fingerprint": null}')

    assert find_endpoint() == Endpoint(server="127.0.0.1:50051", token="t")


def test_arguments_come_before_environment_before_login(monkeypatch: pytest.MonkeyPatch) -> None:
    save_login(Endpoint(server="127.0.0.1:1", token="saved"))
    monkeypatch.setenv("SPECKFARM_SERVER", "127.0.0.1:2")
    monkeypatch.setenv("SPECKFARM_TOKEN", "environment")

    assert find_endpoint("127.0.0.1:3", "argument").token == "argument"
    assert find_endpoint() == Endpoint(server="127.0.0.1:2", token="environment")
    monkeypatch.delenv("SPECKFARM_SERVER")
    monkeypatch.delenv("SPECKFARM_TOKEN")
    assert find_endpoint() == Endpoint(server="127.0.0.1:1", token="saved")


def test_a_saved_token_is_never_shown_to_another_server() -> None:
    save_login(Endpoint(server="127.0.0.1:1", token="saved"))

    with pytest.raises(speckfarm.Unauthenticated, match=r"No token is known for 127\.0\.0\.1:2"):
        find_endpoint("127.0.0.1:2")


def test_saved_logins_are_readable_by_their_owner_only() -> None:
    save_login(Endpoint(server="127.0.0.1:1", token="saved"))

    assert stat.S_IMODE(profile_path().stat().st_mode) == 0o600


@pytest.mark.parametrize("server", ["speck.lab:50051", "192.168.0.7:50051", "0.0.0.0:50051"])
def test_a_token_is_not_sent_in_clear_text_over_a_network(server: str) -> None:
    with pytest.raises(speckfarm.NotAllowed, match="speckfarm login"):
        find_endpoint(server, "secret")


@pytest.mark.parametrize("server", ["localhost:1", "127.0.0.1:1", "[::1]:1"])
def test_loopback_needs_no_certificate(server: str) -> None:
    assert make_endpoint(server, "secret", None).certificate is None


def test_a_login_brings_its_certificate_back() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    endpoint = Endpoint(
        server="speck.lab:1", token="t", certificate=Certificate(pem=pem, name="speckfarm")
    )
    save_login(endpoint)

    assert find_endpoint() == endpoint


@pytest.mark.parametrize("server", ["speck.lab", "speck.lab:", ":50051", "speck.lab:99999"])
def test_an_address_without_host_or_port_is_refused(server: str) -> None:
    with pytest.raises(speckfarm.BadRequest, match="HOST:PORT is wanted"):
        find_endpoint(server, "t")
