"""Which pull secrets fit an image."""

import base64
import json
from typing import Any

import pytest

from bridge.spec import keyring
from vkcri.errors import Invalid


def auth(username: str, password: str = "p") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def secret(entries: dict[str, Any], kind: str = "kubernetes.io/dockerconfigjson", name: str = "s") -> dict[str, Any]:
    modern = kind.endswith("json")
    text = json.dumps({"auths": entries} if modern else entries)
    key = ".dockerconfigjson" if modern else ".dockercfg"
    data = {key: base64.b64encode(text.encode()).decode()}
    return {"metadata": {"name": name, "namespace": "shop"}, "type": kind, "data": data}


def users(repository: str, *secrets: dict[str, Any]) -> list[str]:
    return [login.username for login in keyring.lookup(secrets, repository)]


@pytest.mark.parametrize(
    ("registry", "repository", "fits"),
    [
        ("example.com", "example.com/a", True),
        ("https://example.com", "example.com/a", True),
        ("https://example.com/v1/", "example.com/a", True),
        ("https://example.com/v2/", "example.com/a", True),
        ("http://example.com:5000", "example.com:5000/a", True),
        ("example.com", "example.com:5000/a", False),
        ("example.com:5000", "example.com/a", False),
        ("example.com/team", "example.com/team/a", True),
        ("example.com/team", "example.com/other/a", False),
        ("*.example.com", "x.example.com/a", True),
        ("*.example.com", "x.y.example.com/a", False),
        ("*.example.com", "example.com/a", False),
        ("evil.com", "example.com/a", False),
        ("https://index.docker.io/v1/", "docker.io/library/busybox", True),
        ("docker.io", "docker.io/library/busybox", True),
    ],
)
def test_an_entry_fits_by_host_port_and_path(registry: str, repository: str, fits: bool) -> None:
    assert users(repository, secret({registry: auth("me")})) == (["me"] if fits else [])


def test_the_most_specific_entry_comes_first() -> None:
    entries = {"example.com": auth("host"), "example.com/a/b": auth("deep"), "example.com/a": auth("path")}
    assert users("example.com/a/b/c", secret(entries)) == ["deep", "path", "host"]


def test_several_secrets_are_all_tried_in_order() -> None:
    first, second = secret({"example.com": auth("one")}), secret({"example.com": auth("two")}, name="t")
    assert users("example.com/a", first, second) == ["one", "two"]


def test_the_old_type_and_plain_fields_count() -> None:
    old = secret({"example.com": {"username": "u", "password": "p"}}, "kubernetes.io/dockercfg")
    (login,) = keyring.lookup([old], "example.com/a")
    assert (login.username, login.password, login.secret) == ("u", "p", "shop/s")


def test_a_password_may_hold_a_colon() -> None:
    (login,) = keyring.lookup([secret({"example.com": auth("u", "a:b")})], "example.com/a")
    assert login.password == "a:b"


def test_a_secret_of_another_type_is_no_login() -> None:
    assert users("example.com/a", secret({"example.com": auth("me")}) | {"type": "Opaque"}) == []


@pytest.mark.parametrize("value", ["!!", base64.b64encode(b"no json").decode(), base64.b64encode(b"[]").decode()])
def test_a_broken_secret_is_named_but_not_shown(value: str) -> None:
    broken = secret({}) | {"data": {".dockerconfigjson": value}}
    with pytest.raises(Invalid, match="image pull secret shop/s is not a docker configuration"):
        keyring.lookup([broken], "example.com/a")


def test_a_login_never_shows_itself() -> None:
    (login,) = keyring.lookup([secret({"example.com": auth("user", "hunter2")})], "example.com/a")
    assert "hunter2" not in f"{login!r} {login.fingerprint}"
    assert "user" not in repr(login).replace("username", "")
