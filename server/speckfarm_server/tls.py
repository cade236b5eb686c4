"""Certificates: a self-signed one is made when the farm listens beyond loopback without its own.

`cryptography` is imported when it is used: a farm on loopback never does, and it takes 8 MiB.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from speckfarm_server.config import TlsConfig
from speckfarm_server.errors import BadInput

# Clients pin the certificate and ask for this name, whatever address they dial.
NAME = "speckfarm"
VALID_DAYS = 3650


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """A server's certificate and key, as PEM."""

    certificate: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in hex."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        return x509.load_pem_x509_certificate(self.certificate).fingerprint(hashes.SHA256()).hex()


def load_certificate(config: TlsConfig, folder: Path) -> Certificate:
    """The operator's certificate, or the self-signed one in `folder`, made at the first start.

    Raises BadInput TLS_UNREADABLE.
    """
    if not (config.certificate or config.key):
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        if not certificate.exists():
            _make(certificate, key)
    else:
        certificate, key = Path(config.certificate), Path(config.key)
    try:
        pair = Certificate(certificate=certificate.read_bytes(), key=key.read_bytes())
        _ = pair.fingerprint
    except (OSError, ValueError) as error:
        text = f"The certificate or its key cannot be read: {error}; see [tls] in farm.toml"
        raise BadInput("TLS_UNREADABLE", text) from error
    return pair


def _make(certificate_path: Path, key_path: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    names: list[x509.GeneralName] = [x509.DNSName(NAME), x509.DNSName("localhost")]
    names += [x509.DNSName(socket.gethostname()), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509
        .CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_path.parent.mkdir(parents=True, exist_ok=True)
    plain = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with os.fdopen(os.open(key_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(plain)
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
