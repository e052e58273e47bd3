"""Tokens, reviews and the client CA, asked over the queue as log-server and cri-bridge ask."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.unit.vkcri.kube.scripted import Call
from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.waiting import PATIENCE
from vkcri.errors import Invalid, NotFound, Refused
from vkcri.queue import request
from vkcri.watcher.requests import Requests

TOKEN = {
    "namespace": "shop",
    "serviceAccount": "default",
    "audiences": ["a"],
    "expirationSeconds": 3607,
    "podName": "web",
    "podUID": "u1",
}


@pytest.fixture
def ask(around: Surroundings) -> Any:
    Requests(around.client, wait=lambda _: None).serve(around.publisher)
    socket: Path = around.publisher.path
    return lambda name, body: request(socket, name, body, timeout=PATIENCE)


def test_a_token_is_bound_to_its_pod(around: Surroundings, ask: Any) -> None:
    assert ask("token", TOKEN) == {"token": "t0ken", "expirationTimestamp": "2026-11-23T13:00:00Z"}
    [call] = around.api.calls("POST", "/api/v1/namespaces/shop/serviceaccounts/default/token")
    assert call.body["spec"] == {
        "audiences": ["a"],
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "u1"},
        "expirationSeconds": 3607,
    }


def test_a_tokens_refusals_reach_the_asker(around: Surroundings, ask: Any) -> None:
    path = "/api/v1/namespaces/shop/serviceaccounts/default/token"
    around.api.refuse("POST", path, 404)
    with pytest.raises(NotFound):
        ask("token", TOKEN)
    around.api.refuse("POST", path, 403, times=5)
    with pytest.raises(Refused):
        ask("token", TOKEN)
    assert len(around.api.calls("POST", path)) == 6
    with pytest.raises(Invalid, match="podUID"):
        ask("token", {**TOKEN, "podUID": ""})
    with pytest.raises(Invalid, match="namespace"):
        ask("token", {**TOKEN, "namespace": "../nodes"})


def test_a_token_is_asked_for_again_where_the_authorizer_does_not_know_the_binding_yet(
    around: Surroundings, ask: Any
) -> None:
    path = "/api/v1/namespaces/shop/serviceaccounts/default/token"
    around.api.refuse("POST", path, 403, times=2)
    assert ask("token", TOKEN)["token"] == "t0ken"
    assert len(around.api.calls("POST", path)) == 3


def answer(around: Surroundings, status: dict[str, Any]) -> None:
    def script(call: Call) -> None:
        call.send(201, {**call.body, "status": status})

    around.api.server.script = script


def test_a_token_is_reviewed(around: Surroundings, ask: Any) -> None:
    answer(around, {"authenticated": True, "user": {"username": "eve", "groups": ["g"]}})
    assert ask("token-review", {"token": "x", "audiences": []}) == {
        "authenticated": True,
        "user": {"username": "eve", "uid": "", "groups": ["g"], "extra": {}},
    }
    answer(around, {"error": "no"})
    assert ask("token-review", {"token": "x"})["authenticated"] is False


def test_an_access_is_reviewed_and_silence_is_no_permission(around: Surroundings, ask: Any) -> None:
    spec = {"user": "eve", "groups": [], "resourceAttributes": {"resource": "nodes", "subresource": "proxy"}}
    answer(around, {"allowed": True, "reason": "because"})
    assert ask("access-review", spec) == {"allowed": True, "denied": False, "reason": "because"}
    assert around.api.server.calls[-1].body["spec"] == spec
    answer(around, {})
    assert ask("access-review", spec)["allowed"] is False
    with pytest.raises(Invalid):
        ask("access-review", {"user": "eve"})


def test_the_client_ca_is_the_published_one_else_the_kubeconfigs(around: Surroundings, ask: Any) -> None:
    path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
    assert ask("client-ca", {}) == {"pem": ""}  # plain HTTP: no CA at all
    around.api.put(path, {"data": {"client-ca-file": "PEM"}})
    assert ask("client-ca", {}) == {"pem": "PEM"}
    around.api.refuse("GET", path, 403)
    assert ask("client-ca", {}) == {"pem": ""}
    around.api.refuse("GET", path, 401, times=math.inf)
    with pytest.raises(Refused):
        ask("client-ca", {})  # the API server did not say what it would have
