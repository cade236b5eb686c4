"""Where the farm is and who is asking: arguments, environment, saved logins, the local server."""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import platformdirs

from speckfarm.certificate import Certificate, fetch_certificate, fingerprint_of, split_address
from speckfarm.errors import FarmUnavailable, NotAllowed, Unauthenticated

HOW_TO_START = (
    "Start one on this machine with `speckfarm-server serve`, or log in to your lab's with "
    "`speckfarm login HOST:PORT`"
)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A farm, and what to show it."""

    server: str  # HOST:PORT
    token: str
    certificate: Certificate | None = None  # None: plaintext, loopback only
    token_source: str = field(default="", compare=False)  # where it stood, for messages


def find_endpoint(server: str | None = None, token: str | None = None) -> Endpoint:
    """Arguments, then SPECKFARM_SERVER and SPECKFARM_TOKEN, then the saved login, then local.

    A token that was saved for one server is never shown to another. Raises FarmUnavailable,
    Unauthenticated (no token), NotAllowed (a token in clear text over a network).
    """
    saved, local = _read(profile_path()), _local_login()
    logins = _logins(saved)
    chosen = server or os.environ.get("SPECKFARM_SERVER") or saved.get("default")
    chosen = _as_local(str(chosen), local) if chosen else local.get("server", "")
    if not chosen:
        raise FarmUnavailable("NO_SERVER", f"No farm is known. {HOW_TO_START}.")
    split_address(chosen)  # refuses what is no address before anything is advised about it
    login = logins.get(chosen) or (local if local.get("server") == chosen else {})
    from_environment = os.environ.get("SPECKFARM_TOKEN")
    found = token or from_environment or login.get("token")
    if not found:
        text = f"No token is known for {chosen}. Log in with `speckfarm login {chosen}`."
        raise Unauthenticated("NO_TOKEN", text, metadata={"server": chosen})
    endpoint = make_endpoint(chosen, found, _certificate(chosen, login))
    is_variable = not token and bool(from_environment)
    return replace(endpoint, token_source="SPECKFARM_TOKEN" if is_variable else "")


def make_endpoint(server: str, token: str, certificate: Certificate | None) -> Endpoint:
    """An endpoint, unless it would send the token in clear text over a network."""
    if certificate is None and not is_loopback(server):
        text = (
            f"The certificate of {server} is not known, and a token is not sent in clear text over "
            f"a network. Accept its fingerprint once with `speckfarm login {server}`."
        )
        raise NotAllowed("NOT_LOGGED_IN", text, metadata={"server": server})
    if certificate is not None and not certificate.name:
        text = (
            f"The certificate of {server} names no host: it has no subjectAltName (SAN), and TLS "
            "ignores its common name. Whoever runs the farm must make one with a SAN, e.g. "
            "DNS:speckfarm, or let the server make its own."
        )
        raise NotAllowed("CERTIFICATE_NAMELESS", text, metadata={"server": server})
    return Endpoint(server=server, token=token, certificate=certificate)


def save_login(endpoint: Endpoint) -> Path:
    """Keep a login and make it the default; only this OS user can read the file."""
    path = profile_path()
    logins = _logins(_read(path))
    login = {"token": endpoint.token}
    if endpoint.certificate:
        pinned = endpoint.certificate
        login |= {"certificate": pinned.pem, "name": pinned.name, "fingerprint": pinned.fingerprint}
    logins[endpoint.server] = login
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"default": endpoint.server, "servers": logins}, file, indent=2)
    scratch.replace(path)
    return path


def saved_certificate(server: str) -> Certificate | None:
    """The certificate that was accepted for a server at an earlier login."""
    return _pinned(_logins(_read(profile_path())).get(server, {}))


def is_loopback(server: str) -> bool:
    """Whether an address cannot leave this machine."""
    host, _ = split_address(server)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def profile_path() -> Path:
    """Where logins are saved."""
    return Path(platformdirs.user_config_dir("speckfarm")) / "profile.json"


def local_path() -> Path:
    """Where the server of this machine and OS user says how to reach it."""
    return Path(platformdirs.user_data_dir("speckfarm")) / "local.json"


def certificate_changed(server: str, *, expected: str, found: str) -> FarmUnavailable:
    """The error for a server that shows another certificate than the one accepted."""
    text = (
        f"{server} shows another certificate than the one you accepted. Accepted: {expected}; "
        f"found: {found}. Ask whoever runs the farm whether it changed; only then accept the new "
        f"one with `speckfarm login {server}`. Nothing was sent."
    )
    metadata = {"server": server, "accepted": expected, "found": found}
    return FarmUnavailable("CERTIFICATE_CHANGED", text, metadata=metadata)


def certificate_unknown(server: str, *, found: str) -> NotAllowed:
    """The error for a server that speaks TLS where no certificate was accepted."""
    text = (
        f"{server} speaks TLS, and its certificate was not accepted yet. Accept its fingerprint "
        f"once with `speckfarm login {server}`."
    )
    return NotAllowed("NOT_LOGGED_IN", text, metadata={"server": server, "found": found})


def _as_local(server: str, local: Mapping[str, str]) -> str:
    """The local server's own address if it is called localhost: its token goes nowhere else."""
    known = local.get("server", "")
    host, _, port = server.rpartition(":")
    is_known = bool(known) and is_loopback(known) and known.rpartition(":")[2] == port
    return known if host == "localhost" and is_known else server


def _certificate(server: str, login: Mapping[str, str]) -> Certificate | None:
    pinned = _pinned(login)
    if pinned or not (login.get("certificate") or login.get("fingerprint")):
        return pinned
    expected = login.get("fingerprint") or fingerprint_of(login["certificate"])
    shown = fetch_certificate(server)  # the local server does not tell the name in it
    if shown is None or shown.fingerprint != expected.lower():
        found = shown.fingerprint if shown else "none (no TLS)"
        raise certificate_changed(server, expected=expected, found=found)
    return shown


def _pinned(login: Mapping[str, str]) -> Certificate | None:
    if not (login.get("certificate") and login.get("name")):
        return None
    return Certificate(pem=login["certificate"], name=login["name"])


def _logins(profile: Mapping[str, object]) -> dict[str, dict[str, str]]:
    servers = profile.get("servers")
    return {str(k): v for k, v in servers.items()} if isinstance(servers, dict) else {}


def _local_login() -> dict[str, str]:
    return {key: str(value) for key, value in _read(local_path()).items() if value is not None}


def _read(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        content = json.loads(text)
    except ValueError as error:
        raise FarmUnavailable("BAD_PROFILE", f"{path} is no JSON ({error}); remove it") from error
    return content if isinstance(content, dict) else {}
