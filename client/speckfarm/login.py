"""`speckfarm login`: accept a farm's certificate once, check the token, keep both."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable

from speckfarm.certificate import Certificate, fetch_certificate
from speckfarm.connection import Connection
from speckfarm.errors import NotAllowed, Unauthenticated
from speckfarm.farm import Farm
from speckfarm.profile import (
    certificate_changed,
    is_loopback,
    make_endpoint,
    save_login,
    saved_certificate,
)
from speckfarm.rows import ServerInfo

Ask = Callable[[str], str]  # shows a question, returns the answer


def login(
    server: str, *, token: str | None, fingerprint: str | None, accept_any: bool, ask: Ask = input
) -> ServerInfo:
    """Log in to HOST:PORT and make it the default.

    The certificate is accepted if its SHA-256 is `fingerprint`, if it was accepted before, if
    `accept_any`, or if the user says yes. Raises NotAllowed, FarmUnavailable, Unauthenticated.
    """
    shown = fetch_certificate(server)
    if shown is None and not is_loopback(server):
        text = f"{server} does not speak TLS; a token is not sent in clear text over a network"
        raise NotAllowed("NO_TLS", text, metadata={"server": server})
    if shown is not None and not accept_any:
        _accept(server, shown, fingerprint, ask)
    endpoint = make_endpoint(server, token or _read_token(server), shown)
    with Farm(Connection(endpoint)) as farm:
        info = farm.info()
    save_login(endpoint)
    return info


def _accept(server: str, shown: Certificate, fingerprint: str | None, ask: Ask) -> None:
    if fingerprint is not None:
        expected = fingerprint.replace(":", "").lower()
        if expected != shown.fingerprint:
            raise certificate_changed(server, expected=expected, found=shown.fingerprint)
        return
    known = saved_certificate(server)
    if known is not None and known.fingerprint == shown.fingerprint:
        return
    if not sys.stdin.isatty():
        text = (
            f"Nobody is here to accept the certificate of {server}. Its SHA-256 is "
            f"{shown.fingerprint}; compare it with what the server printed at its start and give "
            "it with --fingerprint"
        )
        raise NotAllowed("FINGERPRINT_UNKNOWN", text, metadata={"found": shown.fingerprint})
    change = "" if known is None else f"\nIt CHANGED; accepted before: {known.fingerprint}"
    question = (
        f"The certificate of {server} has the SHA-256\n  {shown.fingerprint}{change}\n"
        "The server printed it at its start. Is it the same? [y/N] "
    )
    if ask(question).strip().lower() not in ("y", "yes"):
        text = f"The certificate of {server} was not accepted; nothing was sent or saved"
        raise NotAllowed("FINGERPRINT_REFUSED", text, metadata={"found": shown.fingerprint})


def _read_token(server: str) -> str:
    is_typed = sys.stdin.isatty()
    token = getpass.getpass(f"Token for {server}: ") if is_typed else sys.stdin.readline()
    if not token.strip():
        text = "No token was given. An operator makes one with `speckfarm-server user add NAME`"
        raise Unauthenticated("NO_TOKEN", text, metadata={"server": server})
    return token.strip()
