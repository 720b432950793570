"""A private CA that vouches for the venue's host names and for nothing else.

Its key is thrown away as soon as it has signed the server's certificate, and name constraints
(RFC 5280, 4.2.1.10) hold it to the venue's names: a host that trusts it can be deceived about
nothing else, even by whoever steals the state directory.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cryptography import x509

HOST_NAMES = (
    "fapi.binance.com",
    "fstream.binance.com",
    "ws-fapi.binance.com",
    "api.binance.com",
    "stream.binance.com",
    "ws-api.binance.com",
    "dapi.binance.com",
    "dstream.binance.com",
    "eapi.binance.com",
    "papi.binance.com",
    "futures.kraken.com",
    "demo-futures.kraken.com",
)
VALID_DAYS = 397

_BACKDATED = datetime.timedelta(days=30)  # a guest whose clock is slow still trusts it


class Certificates(NamedTuple):
    """Paths of PEM files; ``key`` is readable by its owner alone."""

    ca: Path
    server: Path
    key: Path


def ensure(directory: Path) -> Certificates:
    """The certificates in ``directory``, made on first use and when they no longer do.

    That is when they are about to end, or were made for other names than today's.
    """
    files = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    if not all(path.exists() for path in files) or _is_worn(files.server):
        _make(files)
    return files


def server_context(files: Certificates) -> ssl.SSLContext:
    """The venue's side of TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.server, files.key)
    return context


def _is_worn(path: Path) -> bool:
    from cryptography import x509  # noqa: PLC0415 -- slow to import, seldom needed

    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    named = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    names = tuple(named.get_values_for_type(x509.DNSName))
    return left < datetime.timedelta(days=7) or names != HOST_NAMES


def _make(files: Certificates) -> None:
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415

    now = datetime.datetime.now(datetime.UTC)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    server_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Watchkeeper paper venue CA")])

    def builder(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(
            x509.NameConstraints(
                permitted_subtrees=[x509.DNSName(name) for name in HOST_NAMES],
                excluded_subtrees=[
                    x509.IPAddress(ipaddress.ip_network("0.0.0.0/0")),
                    x509.IPAddress(ipaddress.ip_network("::/0")),
                ],
            ),
            critical=True,
        )
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        builder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST_NAMES[0])]),
            server_key.public_key(),
        )
        .add_extension(authority, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in HOST_NAMES]),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    files.key.parent.mkdir(parents=True, exist_ok=True)
    files.key.parent.chmod(0o755)
    _write(
        files.key,
        server_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        mode=0o600,
    )
    _write(files.server, server.public_bytes(serialization.Encoding.PEM), mode=0o644)
    _write(files.ca, ca.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    from cryptography.x509 import KeyUsage  # noqa: PLC0415

    return KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Replace ``path`` whole; it never exists with a wider mode than ``mode``."""
    fresh = path.with_suffix(path.suffix + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.rename(path)
