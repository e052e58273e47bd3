"""Requests that another CA signs: the same after a restart, accepted only when they are ours, renewed in time."""

import ssl
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.unit.vkcri.signer import Signer
from vkcri import certs, signing
from vkcri.backoff import Backoff
from vkcri.errors import Invalid
from vkcri.signing import Certificate, Pair, Patience, Subject, approval

ME = Subject.of_node("n1")
SERVER = Subject("system:node:n1", names=frozenset({"n1"}), addresses=frozenset({"192.0.2.7", "2001:db8::7"}))


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer()


@pytest.mark.parametrize(
    ("addresses", "names", "ips"),
    [
        ([("InternalIP", "192.0.2.7"), ("Hostname", "n1")], {"n1"}, {"192.0.2.7"}),
        ([("Hostname", "192.0.2.7")], set(), {"192.0.2.7"}),
        ([("InternalIP", "2001:DB8:0::7"), ("ExternalIP", "198.51.100.1")], set(), {"2001:db8::7", "198.51.100.1"}),
        ([("InternalDNS", "a.b"), ("ExternalDNS", "c.d"), ("InternalIP", "not one")], {"a.b", "c.d"}, set()),
        ([("InternalIP", ""), ("Other", "x")], set(), set()),
        ([], set(), set()),
    ],
)
def test_a_nodes_names_and_addresses_are_sorted_as_the_kubelet_sorts_them(
    addresses: list[tuple[str, str]], names: set[str], ips: set[str]
) -> None:
    found = Subject.of_node("n1", [{"type": kind, "address": text} for kind, text in addresses])
    assert (found.common_name, found.organizations) == ("system:node:n1", ("system:nodes",))
    assert (set(found.names), set(found.addresses)) == (names, ips)


@pytest.mark.parametrize(
    ("fingerprint", "share"), [(b"\0" * 32, 0.7), (b"\x80" + b"\0" * 31, 0.8), (b"\xff" * 32, 0.9)]
)
def test_renewal_is_at_some_moment_from_70_to_90_percent_of_its_life(fingerprint: bytes, share: float) -> None:
    held = Certificate(ME, 1000.0, 2000.0, b"", fingerprint)
    assert held.renewal == pytest.approx(1000.0 + share * 1000.0, abs=0.01)


def test_a_certificate_that_says_more_is_good_and_one_that_says_less_is_not(signer: Signer, tmp_path: Path) -> None:
    held = signing.read(signer.sign(Pair(tmp_path, "a").request(SERVER)))
    assert held.subject == SERVER
    assert held.satisfies(SERVER)
    assert held.satisfies(ME)
    assert not held.satisfies(Subject.of_node("n2"))
    assert not held.satisfies(Subject("system:node:n1", names=frozenset({"other"})))
    assert not held.satisfies(Subject("system:node:n1", addresses=frozenset({"192.0.2.8"})))
    assert not held.satisfies(Subject("system:node:n1", organizations=("system:nodes", "system:masters")))


def test_a_request_is_the_same_until_it_is_answered_or_wants_something_else(signer: Signer, tmp_path: Path) -> None:
    pair = Pair(tmp_path, "kubelet-server")
    request = pair.request(SERVER)
    assert Pair(tmp_path, "kubelet-server").request(SERVER) == request  # after a restart
    assert pair.issued() is None
    other = pair.request(ME)
    assert other != request
    pair.forget()
    pair.forget()
    assert pair.request(ME) != other
    pair.accept(signer.sign(pair.request(ME)), 0.0)
    assert pair.request(ME) != other
    (tmp_path / "kubelet-server-pending.pem").write_bytes(b"-----BEGIN CERTIFICATE REQUEST-----\nrubbish")
    assert pair.request(ME).startswith(b"-----BEGIN CERTIFICATE REQUEST-----")


def test_an_issued_certificate_and_its_key_are_one_private_file_that_openssl_takes(
    signer: Signer, tmp_path: Path
) -> None:
    pair = Pair(tmp_path / "pki", "kubelet-server")
    made = pair.accept(signer.sign(pair.request(SERVER)), 0.0, "client CA 12ab")
    assert pair.issued() == made
    assert pair.note() == "client CA 12ab"
    assert [path.name for path in (tmp_path / "pki").iterdir()] == ["kubelet-server-current.pem"]
    assert stat.S_IMODE(pair.current.stat().st_mode) == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair.current)
    pair.accept(signer.sign(pair.request(ME)), 0.0)
    assert pair.note() == ""


def test_a_certificate_that_is_not_what_was_asked_for_changes_nothing(signer: Signer, tmp_path: Path) -> None:
    pair, other = Pair(tmp_path, "a"), Pair(tmp_path, "b")
    first = pair.accept(signer.sign(pair.request(ME)), 0.0)
    request = pair.request(ME)
    refused: list[tuple[bytes, float]] = [
        (signer.sign(other.request(ME)), 0.0),  # of another key
        (b"no certificate", 0.0),
        (signer.sign(request, seconds=10), 4e12),  # ended
    ]
    for pem, now in refused:
        with pytest.raises(Invalid):
            pair.accept(pem, now)
    assert pair.issued() == first
    assert pair.request(ME) == request


@pytest.mark.parametrize(
    "content", [None, b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes | None) -> None:
    pair = Pair(tmp_path, "a")
    if content is not None:
        pair.current.write_bytes(content)
    assert pair.issued() is None
    assert pair.note() in ("", "rubbish")


def test_a_request_carries_no_names_where_there_are_none() -> None:
    from cryptography import x509

    _, pem = certs.signing_request("system:node:n1", ["system:nodes"], [], [])
    request = x509.load_pem_x509_csr(pem)
    assert request.is_signature_valid
    assert list(request.extensions) == []  # a client's with any is not approved
    assert request.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"


def test_a_refused_request_stands_for_a_while_longer_each_time() -> None:
    patience = Patience(Backoff(first=10.0, factor=2.0, most=40.0))
    assert patience.left("a", 100.0) == 10.0
    assert patience.left("a", 104.0) == 6.0
    assert patience.left("a", 110.0) == 0.0
    assert [patience.left(name, 200.0) for name in "bcd"] == [20.0, 40.0, 40.0]
    patience.reset()
    assert patience.left("e", 200.0) == 10.0


def test_only_a_pem_certificate_is_read(signer: Signer) -> None:
    pem: Any = signer.ca.certificate
    assert signing.read(b"note\n" + pem).subject.common_name == "cluster-ca"
    with pytest.raises(Invalid):
        signing.read(b"")


def test_approval_is_a_line_to_type() -> None:
    assert approval("node-csr-1") == "kubectl certificate approve node-csr-1"
