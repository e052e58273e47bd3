"""Who asks, by certificate, by nothing, by another's name."""

import ssl

import pytest

from tests.unit.vkcri.apiserver.house import House
from vkcri import certs
from vkcri.apiserver import tokens
from vkcri.apiserver.authn import Authenticator, User
from vkcri.apiserver.status import StatusError


@pytest.fixture(scope="module")
def authority() -> certs.CertificateAuthority:
    return certs.CertificateAuthority.create("test")


@pytest.fixture
def authenticator(house: House) -> Authenticator:
    return Authenticator(house.store, tokens.signer_of(tokens.new_key()))


def der(authority: certs.CertificateAuthority, name: str, *groups: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(authority.issue_client(name, groups)[0].decode())


def test_a_certificate_names_user_and_groups(
    authenticator: Authenticator, authority: certs.CertificateAuthority
) -> None:
    user = authenticator.authenticate({}, der(authority, "joe", "a", "system:masters"))
    assert user.username == "joe"
    assert set(user.groups) == {"a", "system:masters", "system:authenticated"}
    assert user.is_master
    assert user.node is None
    assert user.extra["authentication.kubernetes.io/credential-id"][0].startswith("X509SHA256=")


@pytest.mark.parametrize(
    ("name", "group", "node"),
    [("system:node:n1", "system:nodes", "n1"), ("system:node:n1", "other", None), ("n1", "system:nodes", None)],
)
def test_a_node_needs_name_and_group(
    authenticator: Authenticator, authority: certs.CertificateAuthority, name: str, group: str, node: str | None
) -> None:
    assert authenticator.authenticate({}, der(authority, name, group)).node == node


def test_nobody_is_anonymous(authenticator: Authenticator) -> None:
    assert authenticator.authenticate({}, None) == User.anonymous()
    assert User.anonymous().groups == ("system:unauthenticated",)


@pytest.mark.parametrize("header", ["Bearer x", "Bearer a.b.c", "Basic YTpi", "Bearer "])
def test_credentials_that_are_wrong_are_401_and_never_anonymous(authenticator: Authenticator, header: str) -> None:
    with pytest.raises(StatusError) as caught:
        authenticator.authenticate({"Authorization": header}, None)
    assert caught.value.code == 401


def test_masters_may_be_taken_for_others(authenticator: Authenticator, authority: certs.CertificateAuthority) -> None:
    master = der(authority, "admin", "system:masters")
    as_joe = authenticator.authenticate({"Impersonate-User": "joe", "Impersonate-Group": "a,b"}, master)
    assert (as_joe.username, as_joe.groups) == ("joe", ("a", "b", "system:authenticated"))
    account = authenticator.authenticate({"Impersonate-User": "system:serviceaccount:ns:x"}, master)
    assert "system:serviceaccounts:ns" in account.groups
    nobody = authenticator.authenticate({"Impersonate-User": "system:anonymous"}, master)
    assert nobody.groups == ("system:unauthenticated",)


def test_others_may_not(authenticator: Authenticator, authority: certs.CertificateAuthority) -> None:
    with pytest.raises(StatusError) as caught:
        authenticator.authenticate({"Impersonate-User": "admin"}, der(authority, "joe", "a"))
    assert caught.value.code == 403
    assert 'User "joe" cannot impersonate resource "users"' in caught.value.message
