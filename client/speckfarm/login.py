"""`speckfarm login`: accept a farm's certificate once, check the token, keep both."""

from __future__ import annotations

import getpass
import re
import sys
from collections.abc import Callable

from speckfarm.certificate import Certificate, fetch_certificate
from speckfarm.connection import Connection
from speckfarm.errors import BadRequest, FarmUnavailable, NotAllowed, Unauthenticated
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
    try:
        with Farm(Connection(endpoint)) as farm:
            info = farm.info()
    except Unauthenticated as error:
        error.advice = "ask the farm's operator, who runs `speckfarm-server user add NAME`"
        raise
    save_login(endpoint)
    return info


def _accept(server: str, shown: Certificate, fingerprint: str | None, ask: Ask) -> None:
    if fingerprint is not None:
        _compare(server, shown, _sha256(fingerprint))
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
        unknown = NotAllowed("FINGERPRINT_UNKNOWN", text, metadata={"found": shown.fingerprint})
        unknown.advice = f"`speckfarm login {server} --fingerprint SHA256`"
        raise unknown
    change = "" if known is None else f"\nIt CHANGED; accepted before: {known.fingerprint}"
    question = (
        f"The certificate of {server} has the SHA-256\n  {shown.fingerprint}{change}\n"
        "The server printed it at its start. Is it the same? [y/N] "
    )
    if ask(question).strip().lower() not in ("y", "yes"):
        text = f"The certificate of {server} was not accepted; nothing was sent or saved"
        refused = NotAllowed("FINGERPRINT_REFUSED", text, metadata={"found": shown.fingerprint})
        refused.advice = "ask whoever runs the farm for the fingerprint, then log in again"
        raise refused


def _sha256(fingerprint: str) -> str:
    digits = fingerprint.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        text = (
            f"--fingerprint {fingerprint} is not understood; the whole SHA-256 is wanted, 64 hex "
            "digits (colons may stand between them), as the server printed it at its start"
        )
        metadata = {"argument": "--fingerprint", "found": fingerprint}
        raise BadRequest("BAD_ARGUMENT", text, metadata=metadata)
    return digits


def _compare(server: str, shown: Certificate, expected: str) -> None:
    if shown.fingerprint == expected:
        return
    known = saved_certificate(server)
    if known is not None and known.fingerprint == expected:
        raise certificate_changed(server, expected=expected, found=shown.fingerprint)
    text = (
        f"The certificate of {server} has another SHA-256 than the one you gave. Given: "
        f"{expected}; found: {shown.fingerprint}. Nothing was sent."
    )
    metadata = {"server": server, "accepted": expected, "found": shown.fingerprint}
    refused = FarmUnavailable("FINGERPRINT_REFUSED", text, metadata=metadata)
    refused.advice = "compare it with what the server printed at its start; ask whoever runs it"
    raise refused


def _read_token(server: str) -> str:
    is_typed = sys.stdin.isatty()
    token = getpass.getpass(f"Token for {server}: ") if is_typed else sys.stdin.readline()
    if not token.strip():
        text = "No token was given. An operator makes one with `speckfarm-server user add NAME`"
        raise Unauthenticated("NO_TOKEN", text, metadata={"server": server})
    return token.strip()
