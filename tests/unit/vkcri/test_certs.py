"""Certificates are judged by OpenSSL, not by the library that made them."""

import datetime
import os
import ssl
import stat
from pathlib import Path

import pytest

from vkcri import certs
from vkcri.errors import ConfigError, Invalid

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(scope="module")
def authority() -> certs.CertificateAuthority:
    return certs.CertificateAuthority.create("vkcri-ca")


def _handshake(
    server: tuple[bytes, bytes], client: tuple[bytes, bytes] | None, ca: bytes, folder: Path, name: str
) -> bytes | None:
    """Shake hands in memory, strictly; the client's certificate as the server sees it."""
    contexts = []
    for side, pair in ((ssl.PROTOCOL_TLS_SERVER, server), (ssl.PROTOCOL_TLS_CLIENT, client)):
        context = ssl.SSLContext(side)
        context.load_verify_locations(cadata=ca.decode())
        context.verify_mode = ssl.CERT_OPTIONAL if side == ssl.PROTOCOL_TLS_SERVER else ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        if pair:
            (folder / "pair").write_bytes(b"".join(pair))
            context.load_cert_chain(folder / "pair")
        contexts.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = contexts[0].wrap_bio(to_server, to_client, server_side=True)
    ours = contexts[1].wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(3):
        for end in (ours, theirs):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return theirs.getpeercert(binary_form=True)


def test_issued_pair_is_accepted_strictly(authority: certs.CertificateAuthority, tmp_path: Path) -> None:
    server = authority.issue_server(["node", "localhost"], ["10.0.0.1", "::1"])
    client = authority.issue_client("system:node:n", ["system:nodes", "second"])
    for name in ("node", "10.0.0.1", "::1"):
        der = _handshake(server, client, authority.certificate, tmp_path, name)
        assert der is not None
        assert certs.peer_identity(der) == ("system:node:n", ["system:nodes", "second"])
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(server, None, authority.certificate, tmp_path, "elsewhere")


def test_client_pair_does_not_serve(authority: certs.CertificateAuthority, tmp_path: Path) -> None:
    client = authority.issue_client("n")
    assert not certs.serves(client[0])
    assert certs.serves(authority.issue_server(["n"], [])[0])
    with pytest.raises(ssl.SSLCertVerificationError):
        _handshake(client, None, authority.certificate, tmp_path, "n")


def test_self_signed_vouches_for_itself(tmp_path: Path) -> None:
    pair = certs.self_signed("node", ["node"], ["127.0.0.1"])
    assert certs.serves(pair[0])
    assert _handshake(pair, None, pair[0], tmp_path, "127.0.0.1") is None


def test_kept_certificate_is_good_until_a_month_before_its_end() -> None:
    pem, _ = certs.self_signed("node", ["node"], ["127.0.0.1", "::1"])
    assert certs.covers(pem, ["node"], ["::1"], NOW)
    assert not certs.covers(pem, ["node"], ["10.0.0.1"], NOW)
    assert not certs.covers(pem, ["other"], [], NOW)
    assert not certs.covers(pem, ["node"], [], NOW + datetime.timedelta(days=certs.LEAF_DAYS - certs.RENEW_DAYS + 1))


def test_authority_is_loaded_again(authority: certs.CertificateAuthority, tmp_path: Path) -> None:
    paths = tmp_path / "ca.crt", tmp_path / "ca.key"
    certs.write_private(paths[0], authority.certificate)
    certs.write_private(paths[1], authority.key)
    again = certs.CertificateAuthority.load(*paths)
    assert _handshake(again.issue_server(["n"], []), None, authority.certificate, tmp_path, "n") is None


def test_wrong_files_name_themselves(authority: certs.CertificateAuthority, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.crt"):
        certs.CertificateAuthority.load(tmp_path / "absent.crt", tmp_path / "absent.key")
    (tmp_path / "ca.crt").write_bytes(authority.certificate)
    (tmp_path / "ca.key").write_bytes(certs.CertificateAuthority.create("other").key)
    with pytest.raises(ConfigError, match="does not belong"):
        certs.CertificateAuthority.load(tmp_path / "ca.crt", tmp_path / "ca.key")
    for call in (certs.peer_identity, certs.serves):
        with pytest.raises(Invalid):
            call(b"rubbish")


def test_private_file_is_private_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "key"
    certs.write_private(path, b"one")
    before = os.stat(path).st_ino
    certs.write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.stat(path).st_ino != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]
