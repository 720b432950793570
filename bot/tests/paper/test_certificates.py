"""The private CA: good for the venue's names, for nothing else, and without a key to steal."""

from __future__ import annotations

import datetime
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from watchkeeper.paper import certificates


def handshake(ca: Path, context: ssl.SSLContext, name: str) -> None:
    """A TLS handshake in memory; raises what a client would raise."""
    client = ssl.create_default_context(cafile=str(ca))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = client.wrap_bio(to_client, to_server, server_hostname=name)
    right = context.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (left, right):
            if side not in done:
                try:
                    side.do_handshake()
                    done.add(side)
                except ssl.SSLWantReadError:
                    continue


@pytest.mark.parametrize("name", certificates.HOST_NAMES)
def test_every_host_name_is_served(tmp_path: Path, name: str) -> None:
    files = certificates.ensure(tmp_path)
    handshake(files.ca, certificates.server_context(files), name)


def test_no_other_name_is_served(tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(files.ca, certificates.server_context(files), "www.example.org")


def test_keys_are_for_their_owner_and_the_cas_is_gone(tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ca.pem",
        "server.key",
        "server.pem",
    ]


def test_certificates_are_kept(tmp_path: Path) -> None:
    first = certificates.ensure(tmp_path).ca.read_bytes()
    assert certificates.ensure(tmp_path).ca.read_bytes() == first


def test_certificates_about_to_end_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "VALID_DAYS", 3)
    first = certificates.ensure(tmp_path).ca.read_bytes()
    monkeypatch.undo()
    assert certificates.ensure(tmp_path).ca.read_bytes() != first


def test_certificates_for_other_names_are_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state directory of an older release goes on, with the names of today."""
    monkeypatch.setattr(certificates, "HOST_NAMES", certificates.HOST_NAMES[:-1])
    first = certificates.ensure(tmp_path).ca.read_bytes()
    assert certificates.ensure(tmp_path).ca.read_bytes() == first
    monkeypatch.undo()
    files = certificates.ensure(tmp_path)
    assert files.ca.read_bytes() != first
    handshake(files.ca, certificates.server_context(files), certificates.HOST_NAMES[-1])


def test_the_name_constraints_hold_even_for_whoever_had_the_key(tmp_path: Path) -> None:
    """The same constraints with a key we keep: a certificate for another name is refused."""
    constraints = (
        x509.load_pem_x509_certificate(certificates.ensure(tmp_path / "real").ca.read_bytes())
        .extensions.get_extension_for_class(x509.NameConstraints)
        .value
    )
    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())

    def base(name: str) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stolen")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False
            )
        )

    ca = base("stolen").add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    ca = ca.add_extension(constraints, True)
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    ca = ca.add_extension(usage, True)
    leaf = base("bank").add_extension(
        x509.SubjectAlternativeName([x509.DNSName("bank.example.org")]), False
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.pem").write_bytes(ca.sign(key, hashes.SHA256()).public_bytes(pem))
    (tmp_path / "leaf.pem").write_bytes(leaf.sign(key, hashes.SHA256()).public_bytes(pem))
    (tmp_path / "leaf.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "leaf.pem", tmp_path / "leaf.key")
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        handshake(tmp_path / "ca.pem", context, "bank.example.org")
