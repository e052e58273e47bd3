"""Who may do what."""

from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import NODE, NODE_USER, House, container
from tests.unit.vkcri.apiserver.node_access import ROWS, VERBS, Row
from vkcri.apiserver.attributes import Attributes
from vkcri.apiserver.authn import User
from vkcri.apiserver.authz import Authorizer
from vkcri.apiserver.status import StatusError

MASTER = User("root", groups=("system:masters", "system:authenticated"))
ACCOUNT = User("system:serviceaccount:default:default", groups=("system:serviceaccounts", "system:authenticated"))
NOBODY = User.anonymous()


@pytest.fixture
def authorizer(house: House) -> Authorizer:
    """A node with one pod that refers to a ConfigMap, a Secret and two claims, a mirror pod, a pod on another node."""
    volumes: list[dict[str, Any]] = [
        {"name": "c", "configMap": {"name": "wanted"}},
        {"name": "p", "persistentVolumeClaim": {"claimName": "claimed"}},
        {"name": "made", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
    ]
    env_from = [{"secretRef": {"name": "wanted"}}]
    house.pod("mine", nodeName=NODE, volumes=volumes, containers=[container(envFrom=env_from)])
    house.pod("other", nodeName="n2", volumes=[{"name": "c", "configMap": {"name": "foreign"}}])
    return Authorizer(house.store)


def at(verb: str, resource: str, name: str = "", **more: Any) -> Attributes:
    return Attributes(verb, resource=resource, name=name, **{"namespace": "default", **more})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(filter(None, row[:4])))
def test_a_node_may_do_what_its_roles_say_and_no_more(authorizer: Authorizer, row: Row) -> None:
    resource, subresource = row.parts
    decided = {
        verb: authorizer.decide(NODE_USER, Attributes(verb, row.group, resource, subresource, row.namespace, row.name))
        for verb in VERBS
    }
    assert [verb for verb, (allowed, _) in decided.items() if allowed] == [v for v in VERBS if v in row.allowed.split()]
    reasons = [reason for allowed, reason in decided.values() if not allowed]
    assert row.reason in reasons[0]
    assert all(reason == "" for allowed, reason in decided.values() if allowed)


@pytest.mark.parametrize("verb", ["list", "watch"])
def test_a_node_lists_the_pods_bound_to_it(authorizer: Authorizer, verb: str) -> None:
    def ask(namespace: str, node: str) -> tuple[bool, str]:
        return authorizer.decide(
            NODE_USER, Attributes(verb, resource="pods", namespace=namespace, field_selector={"spec.nodeName": node})
        )

    assert ask("", NODE) == ask("default", NODE) == (True, "")
    assert ask("", "n2") == (False, "can only list/watch pods with spec.nodeName field selector")


def test_a_mirror_pod_relates_its_node_to_nothing(house: House) -> None:
    made = house.pod("static", nodeName=NODE, volumes=[{"name": "s", "secret": {"secretName": "stolen"}}])
    ask = Attributes("get", resource="secrets", namespace="default", name="stolen")
    assert Authorizer(house.store).decide(NODE_USER, ask)[0]
    made["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    house.store.modify("/pods", "default", "static", lambda _: made)  # no update may make it one
    assert not Authorizer(house.store).decide(NODE_USER, ask)[0]


@pytest.mark.parametrize("user", [ACCOUNT, NOBODY], ids=lambda user: user.username)
def test_what_a_node_may_others_may_not(authorizer: Authorizer, user: User) -> None:
    for row in ROWS:
        if row.resource.startswith("self"):
            continue
        resource, subresource = row.parts
        for verb in VERBS:
            asked = Attributes(verb, row.group, resource, subresource, row.namespace, row.name)
            assert not authorizer.decide(user, asked)[0]
            assert authorizer.decide(MASTER, asked) == (True, "")


@pytest.mark.parametrize("path", ["/api", "/apis/", "/apis/apps/v1", "/openapi/v3", "/version", "/healthz", "/livez"])
def test_discovery_is_for_all_that_are_known(authorizer: Authorizer, path: str) -> None:
    assert authorizer.decide(ACCOUNT, Attributes("get", path=path))[0]


@pytest.mark.parametrize(
    "attributes",
    [at("get", "pods", "mine"), at("list", "configmaps"), at("get", "secrets", "wanted"), at("create", "pods")],
    ids=str,
)
def test_a_service_account_reads_nothing(authorizer: Authorizer, attributes: Attributes) -> None:
    assert not authorizer.decide(ACCOUNT, attributes)[0]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/version", True),
        ("/healthz", True),
        ("/readyz/", True),
        ("/api", False),
        ("/openapi/v2", False),
        ("/metrics", False),
    ],
)
def test_nobody_sees_health_and_version_only(authorizer: Authorizer, path: str, allowed: bool) -> None:
    assert authorizer.decide(NOBODY, Attributes("get", path=path))[0] == allowed


def test_a_path_that_only_begins_alike_is_another(authorizer: Authorizer) -> None:
    assert not authorizer.decide(NOBODY, Attributes("get", path="/versions"))[0]
    assert not authorizer.decide(NOBODY, Attributes("get", path="/healthz-internal"))[0]


@pytest.mark.parametrize(
    ("user", "attributes", "message"),
    [
        (
            ACCOUNT,
            at("list", "pods"),
            'pods is forbidden: User "system:serviceaccount:default:default" cannot list resource "pods" in API '
            'group "" in the namespace "default"',
        ),
        (
            NODE_USER,
            at("get", "secrets", "x"),
            'secrets "x" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the '
            "namespace \"default\": no relationship found between node 'n1' and this object",
        ),
        (
            NOBODY,
            at("get", "nodes", "n1", namespace=""),
            'nodes "n1" is forbidden: User "system:anonymous" cannot get resource "nodes" in API group "" '
            "at the cluster scope",
        ),
    ],
)
def test_a_refusal_reads_as_kubernetes_writes_it(
    authorizer: Authorizer, user: User, attributes: Attributes, message: str
) -> None:
    with pytest.raises(StatusError) as caught:
        authorizer.authorize(user, attributes)
    assert caught.value.code == 403
    assert caught.value.message == message
