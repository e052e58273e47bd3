"""Who may do what."""

from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import NODE, NODE_USER, House, container
from vkcri.apiserver.authn import User
from vkcri.apiserver.authz import Attributes, Authorizer
from vkcri.apiserver.status import StatusError

MASTER = User("root", groups=("system:masters", "system:authenticated"))
ACCOUNT = User("system:serviceaccount:default:default", groups=("system:serviceaccounts", "system:authenticated"))
NOBODY = User.anonymous()
LEASES = {"group": "coordination.k8s.io", "resource": "leases"}
SLICES = {"group": "discovery.k8s.io", "resource": "endpointslices"}
CLASSES = {"group": "node.k8s.io", "resource": "runtimeclasses"}


@pytest.fixture
def authorizer(house: House) -> Authorizer:
    """A node with one pod that refers to a ConfigMap and a Secret, and a pod on another node."""
    volumes = [{"name": "c", "configMap": {"name": "wanted"}}]
    env_from = [{"secretRef": {"name": "wanted"}}]
    house.pod("mine", nodeName=NODE, volumes=volumes, containers=[container(envFrom=env_from)])
    house.pod("other", nodeName="n2", volumes=[{"name": "c", "configMap": {"name": "foreign"}}])
    return Authorizer(house.store)


def at(verb: str, resource: str, name: str = "", **more: Any) -> Attributes:
    return Attributes(verb, resource=resource, name=name, **{"namespace": "default", **more})


def one(name: str) -> dict[str, str]:
    return {"metadata.name": name}


ALLOWED = [
    at("get", "configmaps", "wanted"),
    at("get", "configmaps", "kube-root-ca.crt"),
    at("watch", "configmaps", field_selector=one("wanted")),
    at("list", "secrets", field_selector=one("wanted")),
    at("list", "pods", namespace="", field_selector={"spec.nodeName": NODE}),
    at("watch", "pods", namespace="", field_selector={"spec.nodeName": NODE}),
    at("get", "pods", "mine"),
    at("patch", "pods", "mine", subresource="status"),
    at("delete", "pods", "mine"),
    at("delete", "pods", "gone"),
    at("patch", "pods", "gone", subresource="status"),
    at("create", "pods"),
    at("create", "pods", "mine", subresource="eviction"),
    at("create", "serviceaccounts", "default", subresource="token"),
    at("create", "nodes", namespace=""),
    at("get", "nodes", NODE, namespace=""),
    at("patch", "nodes", NODE, namespace="", subresource="status"),
    at("watch", "nodes", namespace="", field_selector=one(NODE)),
    at("list", "services", namespace=""),
    at("watch", namespace="", **SLICES),
    at("list", namespace="", **CLASSES),
    at("watch", namespace="", **CLASSES),
    at("create", "events"),
    at("patch", "events", "x"),
    at("update", name=NODE, namespace="kube-node-lease", **LEASES),
    at("create", namespace="kube-node-lease", **LEASES),
    at("create", "tokenreviews", namespace="", group="authentication.k8s.io"),
    at("create", "subjectaccessreviews", namespace="", group="authorization.k8s.io"),
    at("create", "selfsubjectaccessreviews", namespace="", group="authorization.k8s.io"),
    Attributes("get", path="/api/v1"),
]
REFUSED = [
    (at("get", "configmaps", "foreign"), f"no relationship found between node '{NODE}' and this object"),
    (at("get", "secrets", "other"), f"no relationship found between node '{NODE}' and this object"),
    (at("get", "secrets", "wanted", namespace="kube-system"), "no relationship found"),
    (at("list", "secrets"), "can only read namespaced object of this type"),
    (at("list", "configmaps", namespace="", field_selector=one("wanted")), "can only read namespaced object"),
    (at("update", "configmaps", "wanted"), "can only read resources of this type"),
    (at("list", "pods", namespace=""), f"can only list/watch pods with spec.nodeName={NODE} field selector"),
    (at("list", "pods", namespace="", field_selector={"spec.nodeName": "n2"}), "can only list/watch pods"),
    (at("get", "pods", "other"), "no relationship found"),
    (at("get", "pods", "gone"), "no relationship found"),
    (at("patch", "pods", "other", subresource="status"), "no relationship found"),
    (at("delete", "pods", "other"), "no relationship found"),
    (at("patch", "pods", "mine"), "a node may not patch pods"),
    (at("create", namespace="", **CLASSES), "read only"),
    (at("create", "pods", "mine", subresource="exec"), "a node may not create pods/exec"),
    (at("create", "pods", "mine", subresource="binding"), "a node may not create pods/binding"),
    (at("create", "serviceaccounts", "ghost", subresource="token"), "no relationship found"),
    (at("list", "serviceaccounts"), "can only create tokens for individual service accounts"),
    (at("get", "nodes", "n2", namespace=""), "only its own Node object"),
    (at("list", "nodes", namespace=""), "only its own Node object"),
    (at("delete", "nodes", NODE, namespace=""), "a node may not delete nodes"),
    (at("patch", "services", "x"), "read only"),
    (at("list", "events"), "can only create and update events"),
    (at("get", name="n2", namespace="kube-node-lease", **LEASES), "same name as the requesting node"),
    (at("get", name=NODE, namespace="default", **LEASES), "kube-node-lease"),
    (at("list", namespace="kube-node-lease", **LEASES), "can only get, create, update, patch, or delete"),
    (at("get", "namespaces", "default", namespace=""), ""),
    (Attributes("post", path="/api"), ""),
]


@pytest.mark.parametrize("attributes", ALLOWED, ids=str)
def test_a_node_may(authorizer: Authorizer, attributes: Attributes) -> None:
    assert authorizer.decide(NODE_USER, attributes) == (True, "")


@pytest.mark.parametrize(("attributes", "reason"), REFUSED, ids=[str(row[0]) for row in REFUSED])
def test_a_node_may_not(authorizer: Authorizer, attributes: Attributes, reason: str) -> None:
    allowed, why = authorizer.decide(NODE_USER, attributes)
    assert not allowed
    assert reason in why
    assert authorizer.decide(MASTER, attributes) == (True, "")


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
