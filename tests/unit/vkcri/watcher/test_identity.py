"""Who we are, and whether that is a node."""

from pathlib import Path

import pytest

from tests.unit.vkcri.watcher.conftest import Surroundings
from vkcri.watcher.identity import User, warning, who

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
