"""The server's TLS certificate: fetched, named by its SHA-256, pinned. There is no authority.

A farm's certificate is self-signed: a lab has no certificate authority, and a laptop that accepted
a fingerprint once (as with SSH) needs none. Pinning is then exact: this certificate or no call.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from speckfarm.errors import BadRequest, FarmUnavailable

FARM_NAME = "speckfarm"  # the DNS name in every certificate that a server made for itself
TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A certificate that a server showed."""

    pem: str
    name: str  # a name in it, for gRPC to expect; empty if it has none

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the DER bytes in lower-case hex."""
        return fingerprint_of(self.pem)


def fetch_certificate(server: str) -> Certificate | None:
    """The certificate that HOST:PORT shows now; None if it does not speak TLS.

    Nothing about it is believed yet. Raises FarmUnavailable if nobody listens.
    """
    try:
        with _secured(server, _trusting_anyone()) as secured:
            der = secured.getpeercert(binary_form=True)
    except (ssl.SSLError, ConnectionResetError):
        return None
    except OSError as error:
        text = f"Nobody answers at {server} ({(error.strerror or str(error)).lower()})"
        raise FarmUnavailable("UNREACHABLE", text, metadata={"server": server}) from None
    if der is None:
        return None
    pem = ssl.DER_cert_to_PEM_cert(der)
    return Certificate(pem=pem, name=_name(server, pem))


def fingerprint_of(pem: str) -> str:
    """SHA-256 of the DER bytes in lower-case hex."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def split_address(server: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [IPV6]:PORT; BadRequest if it is not written so."""
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        text = f"{server!r} is no address; HOST:PORT is wanted, e.g. speck.lab:50051"
        raise BadRequest("BAD_ADDRESS", text, metadata={"server": server})
    return host.strip("[]"), int(port)


def _name(server: str, pem: str) -> str:
    """A name in the certificate: its own for a farm, else the first one; empty if it has none."""
    context = ssl.create_default_context(cadata=pem)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is the anchor
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # 3.13's default wants what few labs write
    try:
        with _secured(server, context) as secured:
            decoded = secured.getpeercert() or {}
    except OSError:  # includes SSLError: expired, or another certificate already
        return FARM_NAME
    alternatives = decoded.get("subjectAltName", ())
    names = [str(entry[1]) for entry in alternatives if entry[0] == "DNS"]
    names += [str(entry[1]) for entry in alternatives if entry[0] == "IP Address"]
    return FARM_NAME if FARM_NAME in names else next(iter(names), "")


@contextmanager
def _secured(server: str, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    host, port = split_address(server)
    context.set_alpn_protocols(["h2"])  # gRPC servers refuse clients without it
    with (
        socket.create_connection((host, port), timeout=TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        yield secured


def _trusting_anyone() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
