"""Where clients reach the server: port and certificate."""

from __future__ import annotations

import json
import socket
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from speckfarm_server.config import TlsConfig
from speckfarm_server.doctor.line import Line, note, ok, wrong

CONNECT_S = 2.0
SOON = timedelta(days=30)
_NEVER = datetime.max.replace(tzinfo=timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Port:
    """What is known about the address to listen on."""

    listen: str
    is_answering: bool
    problem: str = ""  # why it cannot be listened on; empty if it can
    server: str = ""  # address in local.json: of the server that started last on this data


@dataclass(frozen=True, kw_only=True)
class CertificateFile:
    """The server's certificate and key on disk."""

    path: Path
    exists: bool
    is_own: bool  # of the operator, by [tls]; else made by the server
    problem: str = ""  # why the pair cannot be used
    begins: datetime = _NEVER
    ends: datetime = _NEVER
    has_names: bool = False  # subject alternative names
    is_key_private: bool = True  # no other OS user may read it


def find_port(host: str, port: int, folder: Path) -> Port:
    """Call the address; if nobody answers, listen there for a moment."""
    listen = f"{host}:{port}"
    server = _started_last(folder / "local.json")
    dialled = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    try:
        if port:
            socket.create_connection((dialled, port), CONNECT_S).close()
            return Port(listen=listen, is_answering=True, server=server)
    except OSError:  # nobody there: see below whether one could be
        pass
    return Port(
        listen=listen, is_answering=False, problem=_try_to_listen(host, port), server=server
    )


def find_certificate(config: TlsConfig, folder: Path) -> CertificateFile:
    """Read the pair that the server would use; makes none. Needs `cryptography`."""
    is_own = bool(config.certificate or config.key)
    path = Path(config.certificate) if is_own else folder / "certificate.pem"
    key = Path(config.key) if is_own else folder / "key.pem"
    if not is_own and not path.exists():
        return CertificateFile(path=path, exists=False, is_own=False)
    try:
        return _read_pair(path, key, is_own=is_own)
    except (OSError, ValueError, TypeError) as error:  # TypeError: the key has a password
        return CertificateFile(path=path, exists=True, is_own=is_own, problem=str(error))


def judge_port(found: Port, *, is_held: bool) -> Line:
    """Free, or held by the server of this data folder (`is_held`: one runs on it)."""
    if not found.is_answering and found.problem:
        advice = "Set listen in farm.toml to an address of this host and a free port above 1023"
        return wrong("port", f"{found.listen} cannot be listened on: {found.problem}", advice)
    if not found.is_answering:
        if is_held:
            text = f"{found.listen} is free, and the server of this data folder is at "
            return note("port", text + (found.server or "an unknown address"))
        return ok("port", f"{found.listen} is free")
    if is_held and _port_of(found.server) == _port_of(found.listen):
        return ok("port", f"{found.listen} is this farm's server")
    advice = "Stop it, or set another port with listen in farm.toml"
    return wrong("port", f"{found.listen} is taken by another program", advice)


def judge_certificate(found: CertificateFile | None, now: datetime) -> Line:
    """Whether clients can trust it now and in a month; None: the farm listens without TLS."""
    if found is None:
        return ok("tls", "not used: the farm listens on loopback only")
    if not found.exists:
        return note("tls", "no certificate yet; the first start makes a self-signed one")
    if found.problem:
        advice = "See [tls] in docs/reference/configuration.md"
        return wrong("tls", f"{found.path} and its key cannot be used: {found.problem}", advice)
    return _judge_dates(found, now)


def _judge_dates(found: CertificateFile, now: datetime) -> Line:
    renew = "Get a new one" if found.is_own else f"Remove {found.path.parent}, start the server"
    again = f"{renew}; every client has to log in again"
    if not found.begins <= now <= found.ends:
        text = f"{found.path} is valid from {found.begins:%Y-%m-%d} to {found.ends:%Y-%m-%d}"
        return wrong("tls", text, again)
    shown = f"{found.path}, valid until {found.ends:%Y-%m-%d}"
    if not found.has_names:
        text = f"{found.path} has no subject alternative name, which clients need"
        return wrong("tls", text, again)
    if not found.is_key_private:
        return wrong("tls", f"the key of {found.path} can be read by others", "chmod 600 the key")
    if found.ends - now < SOON:
        return note("tls", shown, again)
    return ok("tls", shown)


def _read_pair(path: Path, key_path: Path, *, is_own: bool) -> CertificateFile:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    key = load_pem_private_key(key_path.read_bytes(), password=None)
    kind = x509.SubjectAlternativeName
    return CertificateFile(
        path=path,
        exists=True,
        is_own=is_own,
        problem=""
        if certificate.public_key() == key.public_key()
        else f"{key_path} is not the key of this certificate",
        begins=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
        has_names=any(isinstance(each.value, kind) for each in certificate.extensions),
        is_key_private=not stat.S_IMODE(key_path.stat().st_mode) & 0o077,
    )


def _try_to_listen(host: str, port: int) -> str:
    bare = host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            bare, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _started_last(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["server"])
    except (OSError, ValueError, KeyError):
        return ""


def _port_of(address: str) -> str:
    return address.rpartition(":")[2]
