"""Certificates are accepted once and pinned; tokens go nowhere else. Real TLS throughout."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import speckfarm
from speckfarm.certificate import fetch_certificate
from speckfarm.cli import main
from speckfarm.login import login
from speckfarm.profile import local_path, profile_path
from tests.small_farm import SmallFarm, serving

FIVE_MINUTES = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class MadeCertificate:
    pem: bytes
    key: bytes
    fingerprint: str

    @property
    def credentials(self) -> grpc.ServerCredentials:
        return grpc.ssl_server_credentials([(self.key, self.pem)])


def _make_certificate(
    name: str = "speckfarm", *, authority: bool = False, alternative: bool = True
) -> MadeCertificate:
    """A self-signed certificate, or one signed by an authority that nobody here knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = ec.generate_private_key(ec.SECP256R1()) if authority else key
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")]) if authority else subject
    now = datetime.now(timezone.utc)
    builder = (
        x509
        .CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - FIVE_MINUTES)
        .not_valid_after(now + timedelta(days=1))
    )
    if alternative:
        names = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(names, critical=False)
    made = builder.sign(signer, hashes.SHA256())
    return MadeCertificate(
        pem=made.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        fingerprint=made.fingerprint(hashes.SHA256()).hex(),
    )


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))


@pytest.fixture
def certificate() -> MadeCertificate:
    return _make_certificate()


@pytest.fixture
def address(certificate: MadeCertificate) -> Iterator[str]:
    with serving(SmallFarm(), certificate.credentials) as served:
        yield served


def _log_in(address: str, fingerprint: str | None = None, *, accept_any: bool = False) -> None:
    login(address, token="secret", fingerprint=fingerprint, accept_any=accept_any)


def test_the_fingerprint_is_the_one_the_server_prints(
    address: str, certificate: MadeCertificate
) -> None:
    shown = fetch_certificate(address)

    assert shown is not None
    assert shown.fingerprint == certificate.fingerprint
    assert shown.name == "speckfarm"


def test_after_a_login_every_call_goes_over_the_pinned_certificate(
    address: str, certificate: MadeCertificate
) -> None:
    _log_in(address, certificate.fingerprint.upper())

    with speckfarm.connect() as farm:
        assert farm.info().user == "ada"


def test_another_fingerprint_is_refused_and_both_are_named(
    address: str, certificate: MadeCertificate
) -> None:
    with pytest.raises(speckfarm.FarmUnavailable) as caught:
        _log_in(address, "00" * 32)

    assert caught.value.metadata["accepted"] == "00" * 32
    assert caught.value.metadata["found"] == certificate.fingerprint
    assert caught.value.reason == "FINGERPRINT_REFUSED"  # nothing was accepted that could change
    assert not profile_path().exists()


def test_without_a_terminal_an_unknown_certificate_is_refused(
    address: str, certificate: MadeCertificate
) -> None:
    with pytest.raises(speckfarm.NotAllowed, match=certificate.fingerprint):
        _log_in(address)


def test_a_certificate_accepted_before_is_not_asked_about_again(address: str) -> None:
    _log_in(address, accept_any=True)

    _log_in(address)

    assert profile_path().exists()


@pytest.mark.parametrize("answer", ["n", "", "no"])
def test_on_a_terminal_only_yes_accepts(
    address: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    with pytest.raises(speckfarm.NotAllowed, match="not accepted"):
        login(address, token="secret", fingerprint=None, accept_any=False, ask=lambda _: answer)


def test_on_a_terminal_the_question_shows_the_fingerprint(
    address: str, certificate: MadeCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    questions: list[str] = []

    def ask(question: str) -> str:
        questions.append(question)
        return "yes"

    info = login(address, token="secret", fingerprint=None, accept_any=False, ask=ask)

    assert certificate.fingerprint in questions[0]
    assert info.user == "ada"


def test_a_wrong_token_saves_nothing(address: str) -> None:
    with pytest.raises(speckfarm.Unauthenticated, match="who are you"):
        login(address, token="wrong", fingerprint=None, accept_any=True)

    assert not profile_path().exists()


def test_the_token_may_come_from_stdin(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("secret\n"))

    login(address, token=None, fingerprint=None, accept_any=True)

    assert json.loads(profile_path().read_text())["servers"][address]["token"] == "secret"


def test_a_changed_certificate_stops_every_call_and_names_both(
    address: str, certificate: MadeCertificate
) -> None:
    _log_in(address, accept_any=True)
    profile = json.loads(profile_path().read_text())
    other, small = _make_certificate(), SmallFarm()

    with serving(small, other.credentials) as elsewhere:
        profile["servers"][elsewhere] = profile["servers"][address]
        profile_path().write_text(json.dumps(profile))
        with (
            speckfarm.connect(elsewhere) as farm,
            pytest.raises(speckfarm.FarmUnavailable) as caught,
        ):
            farm.info()

    assert caught.value.reason == "CERTIFICATE_CHANGED"
    assert certificate.fingerprint in caught.value.message
    assert other.fingerprint in caught.value.message
    assert small.tokens == []


@pytest.mark.parametrize("authority", [False, True])
def test_a_lab_may_bring_its_own_certificate(authority: bool) -> None:
    own = _make_certificate("speck.lab.example", authority=authority)

    with serving(SmallFarm(), own.credentials) as address:
        _log_in(address, own.fingerprint)

        with speckfarm.connect() as farm:
            assert farm.info().user == "ada"


def test_a_loopback_server_without_tls_needs_no_fingerprint() -> None:
    with serving(SmallFarm()) as address:
        _log_in(address)

        with speckfarm.connect() as farm:
            assert farm.info().user == "ada"


@pytest.mark.parametrize("key", ["fingerprint", "certificate"])
def test_the_local_server_with_tls_is_found_and_pinned(
    address: str, certificate: MadeCertificate, key: str
) -> None:
    shown = {"fingerprint": certificate.fingerprint, "certificate": certificate.pem.decode()}
    local = {"server": address, "token": "secret", key: shown[key]}
    local_path().parent.mkdir(parents=True)
    local_path().write_text(json.dumps(local))

    with speckfarm.connect() as farm:
        assert farm.info().user == "ada"

    local_path().write_text(json.dumps(local | {"fingerprint": "00" * 32}))
    with pytest.raises(speckfarm.FarmUnavailable, match="another certificate"):
        speckfarm.connect()


def test_tls_without_a_login_says_to_log_in(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECKFARM_TOKEN", "secret")

    with (
        speckfarm.connect(address) as farm,
        pytest.raises(speckfarm.NotAllowed, match=f"speckfarm login {address}") as caught,
    ):
        farm.info()

    assert caught.value.reason == "NOT_LOGGED_IN"


@pytest.mark.parametrize("fingerprint", ["4ef6a8ec", "x" * 64, ""])
def test_half_a_fingerprint_is_a_usage_error(address: str, fingerprint: str) -> None:
    with pytest.raises(speckfarm.BadRequest, match="64 hex digits"):
        _log_in(address, fingerprint)


def test_a_certificate_without_a_host_name_says_that_it_needs_one() -> None:
    nameless = _make_certificate(alternative=False)

    with (
        serving(SmallFarm(), nameless.credentials) as served,
        pytest.raises(speckfarm.NotAllowed, match="subjectAltName"),
    ):
        _log_in(served, nameless.fingerprint)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["login", "--yes", "--token", "wrong"], "speckfarm-server user add NAME"),
        (["info", "--server"], "SPECKFARM_TOKEN is set and comes before a login"),
    ],
)
def test_a_wrong_token_says_where_it_came_from(
    address: str,
    words: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _log_in(address, accept_any=True)
    monkeypatch.setenv("SPECKFARM_TOKEN", "wrong")

    assert main([*words, address]) == 7

    assert told in capsys.readouterr().err


def test_a_refused_certificate_sends_nobody_to_a_jobs_owner(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["login", address, "--token", "secret"])

    err = capsys.readouterr().err
    assert "owner" not in err
    assert "--fingerprint" in err
