"""Who we are, and whether that is a node."""

import math
from pathlib import Path

import pytest

from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.waiting import until
from vkcri.backoff import Backoff
from vkcri.watcher import identity
from vkcri.watcher.identity import Identified, User, warning, who

REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.mark.parametrize(
    ("user", "says"),
    [
        (User("system:node:n1", ("system:nodes", "system:authenticated")), []),
        (User("system:node:n1", ("system:authenticated",)), ["not as system:node:n1 in system:nodes"]),
        (User("system:node:n2", ("system:nodes",)), ["is node n2's", "VKUBELET_NODE_NAME=n2"]),
        (
            User("kubernetes-admin", ("system:masters", "system:authenticated")),
            ["joined as kubernetes-admin (system:masters), not as system:node:n1", "BOOTSTRAP_KUBECONFIG=FILE"],
        ),
        (
            User("system:bootstrap:vkcri0", ("system:bootstrappers", "system:authenticated")),
            ["a bootstrap token", "BOOTSTRAP_KUBECONFIG=FILE, not as KUBECONFIG"],
        ),
        (User("me"), ["joined as me, not as system:node:n1"]),
    ],
    ids=str,
)
def test_another_identity_than_the_nodes_own_is_warned_about(user: User, says: list[str]) -> None:
    text = warning(user, "n1")
    assert [part for part in says if part not in text] == []
    assert bool(text) == bool(says)


def test_the_api_server_says_who_we_are(around: Surroundings) -> None:
    info = {"username": "system:node:n1", "groups": ["system:nodes"]}
    around.api.on_review = lambda body: {**body, "status": {"userInfo": info}}
    assert who(around.client) == User("system:node:n1", ("system:nodes",))


@pytest.mark.parametrize("status", [403, 404])
def test_an_api_server_that_does_not_say_leaves_the_certificate(around: Surroundings, status: int) -> None:
    around.api.refuse("POST", REVIEWS, status)
    assert who(around.client) is None  # the test's kubeconfig has none


def test_our_certificate_says_who_we_are(around: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.vkcri.signer import Signer
    from vkcri.kube.client import Client
    from vkcri.signing import Pair, Subject

    around.api.refuse("POST", REVIEWS, 404)
    pem = Signer().sign(Pair(tmp_path, "a").request(Subject("kubernetes-admin", ("system:masters",))))
    monkeypatch.setattr(Client, "certificate", pem)
    assert who(around.client) == User("kubernetes-admin", ("system:masters",))


@pytest.fixture
def identified(around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> Identified:
    monkeypatch.setattr(identity, "RETRY", Backoff(first=0.05, factor=1.0, most=0.05))
    info = {"username": "system:node:n2", "groups": ["system:nodes"]}
    around.api.on_review = lambda body: {**body, "status": {"userInfo": info}}
    return Identified(around.client, around.notices, around.access, "n1")


def test_another_nodes_kubeconfig_is_said_though_it_registers_no_node(
    around: Surroundings, identified: Identified
) -> None:
    around.api.refuse("GET", "/api/v1/nodes/n1", 403, times=math.inf)
    identified.start(around.process)
    until(lambda: "VKUBELET_NODE_NAME=n2" in str(around.notice("identity")))
    assert identified.answer({}, 5.0) == {"user": "system:node:n2"}


def test_an_api_server_that_is_away_is_asked_again(around: Surroundings, identified: Identified) -> None:
    around.api.refuse("POST", REVIEWS, 500, times=3)
    identified.start(around.process)
    until(lambda: identified.user == "system:node:n2")
    assert len(around.api.calls("POST", REVIEWS)) == 4


def test_credentials_that_are_not_known_are_said_until_they_are(around: Surroundings, identified: Identified) -> None:
    around.api.refuse("POST", REVIEWS, 401, times=math.inf)
    identified.start(around.process)
    until(lambda: around.notice("credentials") is not None)
    assert identified.answer({}, 0.1) == {"user": ""}
    around.api.forgive()
    until(lambda: identified.user == "system:node:n2")
    until(lambda: around.notice("credentials") is None)


def test_a_kubeconfig_that_vkcri_wrote_asks_nobody(around: Surroundings, identified: Identified) -> None:
    identified.is_the_node()
    assert identified.answer({}, 0.0) == {"user": "system:node:n1"}
    assert around.notice("identity") is None
    assert around.api.server.calls == []
