"""How a node joins: by a bootstrap token, certificates by request, their renewal; what an administrator is told to do.

The programs are real processes, api-watcher, log-server and kube-proxy, without supervisord and without a runtime: the
Node is registered and stays not ready, which is enough here. The control plane signs for three minutes, and for five
before: at 70 to 90 percent of that a certificate is renewed, half a minute to two after it was signed. It trusts only
kubelets whose certificate its CA has signed.
"""

import json
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.control import Cluster, claimed
from tests.cluster.joined import Guest
from tests.instances import claimed as instance_claimed
from tests.unit.vkcri.apiserver.node_access import ROWS, VERBS, Row
from tests.waiting import wait_for
from vkcri import signing
from vkcri.errors import NotFound, Unavailable, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.kubeconfig import Kubeconfig
from vkcri.queue import request
from vkcri.queue.tail import snapshot
from vkcri.watcher.credentials import BOOTSTRAPPERS

NODES = "/api/v1/nodes"
TAINT = {"key": "virtual-kubelet.io/provider", "value": "cri", "effect": "NoSchedule"}
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
pytestmark = [pytest.mark.cluster, pytest.mark.xdist_group("joining"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def strict() -> Iterator[Cluster]:
    """A control plane that signs for three minutes and verifies its kubelets."""
    with claimed() as found:
        authority = str(found.place.pki / "ca.crt")
        flags = {
            "kube-controller-manager": {"cluster-signing-duration": "3m"},
            "kube-apiserver": {"kubelet-certificate-authority": authority},
        }
        cluster = Cluster(found.place.number, flags=flags)
        cluster.start()
        yield cluster


@pytest.fixture
def name() -> Iterator[str]:
    with instance_claimed("join") as instance:
        yield instance.name


@pytest.fixture
def guest(strict: Cluster, name: str) -> Iterator[Guest]:
    made = Guest(strict, name, BOOTSTRAP_KUBECONFIG=str(strict.bootstrap_kubeconfig))
    yield made
    made.close()


def test_a_token_makes_a_node_whose_certificates_are_signed_renewed_and_verified(guest: Guest) -> None:
    guest.start()
    assert _own_taints(guest) == [TAINT]
    pem = guest.instance.certificates_dir / "kubelet-client-current.pem"
    first = pem.read_bytes()
    assert signing.read(first).subject.common_name == f"system:node:{guest.name}"
    assert len(_by_the_token(guest)) == 1

    line = guest.told("log-server", "serving-certificate")
    (asked,) = guest.requests("kubelet-serving")
    assert line == f"kubectl certificate approve {asked['metadata']['name']}"
    assert asked["spec"]["username"] == f"system:node:{guest.name}"
    guest.says_once("log-server", line)
    assert "x509" in guest.unreachable()  # self-signed
    guest.kubectl(line)
    guest.wait_reachable()
    wanted = signing.Subject.of_node(guest.name, guest.node()["status"]["addresses"])
    server = signing.read(guest.instance.certificates_dir.joinpath("kubelet-server-current.pem").read_bytes())
    assert server.satisfies(wanted)
    assert _issuer_is_trusted(guest)

    guest.end(signal.SIGKILL)
    count = len(guest.requests())
    guest.start()
    guest.wait_reachable()  # with the same certificate
    assert len(guest.requests()) == count or min(signing.read(first).renewal, server.renewal) < time.time()

    wait_for(f"a renewed certificate\n{guest.tails()}", lambda: pem.read_bytes() != first, 180)
    newest = guest.requests("client-kubelet")[-1]
    assert newest["spec"]["username"] == f"system:node:{guest.name}"  # by itself, not by the token
    wait_for("it is used", lambda: guest.said("api-watcher", "its credentials are used from here on"))
    lease = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{guest.name}"
    renewed = guest.client.get(lease)["spec"]["renewTime"]
    wait_for("the Lease goes on", lambda: guest.client.get(lease)["spec"]["renewTime"] > renewed)
    assert guest.said("api-watcher", "Unauthorized") == 0
    assert len([item for item in guest.requests() if not (item.get("status") or {}).get("conditions")]) <= 1


def _by_the_token(guest: Guest) -> list[dict[str, Any]]:
    """The requests for a client certificate that were made without one: renewals are the node's own."""
    asked = guest.requests("client-kubelet")
    return [item for item in asked if item["spec"]["username"] == "system:bootstrap:vkcri0"]


def _issuer_is_trusted(guest: Guest) -> bool:
    """Whether a client that trusts the cluster's CA alone takes the kubelet API under the node's address."""
    context = ssl.create_default_context(cafile=str(guest.cluster.place.pki / "ca.crt"))
    context.check_hostname = True
    address = next(item["address"] for item in guest.node()["status"]["addresses"] if item["type"] == "InternalIP")
    with socket.create_connection((address, guest.instance.kubelet_port), 10) as plain:
        with context.wrap_socket(plain, server_hostname=address) as secure:
            return secure.version() is not None


def test_without_the_proxiers_role_its_line_is_said_and_the_binding_cures_it_by_itself(guest: Guest) -> None:
    guest.start("api-watcher", "kube-proxy")
    line = (
        f"kubectl create clusterrolebinding vkcri-proxy-{guest.name} --clusterrole=system:node-proxier "
        f"--user=system:node:{guest.name}"
    )
    assert guest.told("kube-proxy", "rules") == line
    assert guest.told("api-watcher", "endpointslices") == line
    for program in ("api-watcher", "kube-proxy"):
        guest.says_once(program, line)
    wait_for("EndpointSlices are refused", lambda: _proxy_state(guest) == ["forbidden"])
    snapshot(guest.instance.queue_socket("watcher"), "services", 60.0)  # synced: pods need no more
    guest.kubectl(line)
    wait_for(f"EndpointSlices can be read\n{guest.tails()}", lambda: _proxy_state(guest) == ["synced"])
    wait_for("nothing is left to do", lambda: guest.notices("kube-proxy") == {})
    wait_for("rules", lambda: guest.said("kube-proxy", " built: "))
    guest.kubectl(f"kubectl delete clusterrolebinding vkcri-proxy-{guest.name}")


def _proxy_state(guest: Guest) -> list[str]:
    try:
        text = request(guest.instance.queue_socket("proxy"), "metrics", {}, timeout=2.0)["text"]
    except Unavailable:
        return []
    lines = [line for line in text.splitlines() if line.startswith("vkcri_proxy_state{") and line.endswith(" 1")]
    return [line.split('"')[1] for line in lines]


def test_a_token_that_has_expired_is_said_and_a_new_one_goes_on(guest: Guest) -> None:
    secret = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-vkcri0"
    held = guest.client.get(secret)
    guest.client.delete(secret)
    wait_for("the token is refused", lambda: _forgotten(guest))
    guest.start("api-watcher")
    assert "it has expired or was deleted" in guest.told("api-watcher", "client-certificate", "expired")
    metadata = {key: held["metadata"][key] for key in ("name", "namespace")}
    guest.client.create(secret.rpartition("/")[0], {**held, "metadata": metadata})
    assert guest.node()["metadata"]["name"] == guest.name
    assert guest.notices("api-watcher").get("client-certificate") is None


def _forgotten(guest: Guest) -> bool:
    try:
        Client(Kubeconfig(guest.cluster.bootstrap_kubeconfig, "vkcri-test")).get("/api")
    except VkcriError:
        return True
    return False


def test_a_token_that_may_not_ask_and_an_approval_that_does_not_come_are_lines_to_type(guest: Guest) -> None:
    bindings = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"
    held = {
        name: guest.client.get(f"{bindings}/{name}")
        for name in ("vkcri:kubelet-bootstrap", "vkcri:node-autoapprove-bootstrap")
    }
    for binding in held:
        guest.client.delete(f"{bindings}/{binding}")
    guest.start("api-watcher")
    try:
        line = guest.told("api-watcher", "client-certificate", "may not ask")
        assert line == BOOTSTRAPPERS
        guest.kubectl(line)
        approve = guest.told("api-watcher", "client-certificate", "approval")
        (asked,) = guest.requests()
        assert approve == f"kubectl certificate approve {asked['metadata']['name']}"
        guest.end(signal.SIGKILL)
        guest.start("api-watcher")
        assert guest.told("api-watcher", "client-certificate", "approval") == approve  # the same, after a kill
        guest.kubectl(approve)
        assert guest.node()["metadata"]["name"] == guest.name
        assert len(_by_the_token(guest)) == 1
    finally:
        guest.kubectl("kubectl delete clusterrolebinding vkcri-bootstrap --ignore-not-found")
        for binding, item in held.items():
            guest.client.create(bindings, {**item, "metadata": {"name": binding}})


def test_an_administrators_kubeconfig_joins_with_a_warning(strict: Cluster, name: str) -> None:
    guest = Guest(strict, name, KUBECONFIG=str(strict.admin_kubeconfig))
    try:
        guest.start("api-watcher")
        text = guest.told("api-watcher", "identity")
        assert f"joined as kubernetes-admin (system:masters), not as system:node:{name}" in text
        assert "better: BOOTSTRAP_KUBECONFIG=FILE" in text
        assert guest.node()["metadata"]["name"] == name
        assert guest.requests() == []
    finally:
        guest.close()


def test_the_kubeconfig_of_another_node_is_said_and_nothing_of_that_node_is_touched(strict: Cluster, name: str) -> None:
    other = f"{name}-other"
    admin = strict.client()
    guest = Guest(strict, name, KUBECONFIG=str(strict.node_kubeconfig(other)))
    lease = {"metadata": {"name": other}, "spec": {"holderIdentity": other, "leaseDurationSeconds": 40}}
    held = admin.create(LEASES, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **lease})
    admin.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": other, "labels": {"a": "b"}}})
    try:
        guest.start()
        text = (
            f"the kubeconfig is node {other}'s, and it may write nothing about node {name}: "
            f"VKUBELET_NODE_NAME={other}, or a kubeconfig of system:node:{name}"
        )
        assert guest.told("api-watcher", "identity", other) == text
        wait_for(f"it went on trying\n{guest.tails()}", lambda: _refusals(guest) >= 3)
        assert f"api-watcher: {text}" in guest.printed()
        guest.says_once("api-watcher", text)
        assert admin.get(f"{LEASES}/{other}") == held
        found = json.loads(guest.kubectl(f"kubectl get node {other} -o json --show-managed-fields"))
        writers = {item["manager"] for item in found["metadata"]["managedFields"]}
        assert "vkcri-cluster" in writers <= {"vkcri-cluster", "kube-controller-manager"}  # the first is this test
        _nothing_is_there(guest)
    finally:
        guest.close()
        admin.delete(f"{NODES}/{other}")
        admin.delete(f"{LEASES}/{other}")


def test_a_bootstrap_token_given_as_the_kubeconfig_is_said_and_asks_for_nothing(strict: Cluster, name: str) -> None:
    guest = Guest(strict, name, KUBECONFIG=str(strict.bootstrap_kubeconfig))
    try:
        guest.start()
        text = (
            "joined as system:bootstrap:vkcri0, a bootstrap token, which may ask for a node's certificate and nothing "
            "else: give that file as BOOTSTRAP_KUBECONFIG=FILE, not as KUBECONFIG"
        )
        assert guest.told("api-watcher", "identity", "bootstrap") == text
        wait_for(f"it went on trying\n{guest.tails()}", lambda: _refusals(guest) >= 3)
        assert f"api-watcher: {text}" in guest.printed()
        guest.says_once("api-watcher", text)
        _nothing_is_there(guest)
    finally:
        guest.close()


def _refusals(guest: Guest) -> float:
    """How often the API server refused the Node's registration, as api-watcher counts it."""
    try:
        text = request(guest.instance.queue_socket("watcher"), "metrics", {}, timeout=2.0)["text"]
    except Unavailable:
        return 0.0
    start = 'vkcri_watcher_node_failures_total{error="Refused"} '
    return sum(float(line.removeprefix(start)) for line in text.splitlines() if line.startswith(start))


def _nothing_is_there(guest: Guest) -> None:
    """Neither a Node, a Lease nor a request for a certificate of this guest's name; and nothing to run was heard of."""
    admin = guest.client
    for path in (f"{NODES}/{guest.name}", f"{LEASES}/{guest.name}"):
        with pytest.raises(NotFound):
            admin.get(path)
    assert guest.requests() == []
    for topic, source in (("node", ""), ("pods", "api")):
        with pytest.raises(Unavailable, match="not synced"):
            snapshot(guest.instance.queue_socket("watcher"), topic, 0.5, source=source)


def test_a_taint_is_set_at_registration_and_one_that_differs_is_a_line_to_type(strict: Cluster, name: str) -> None:
    guest = Guest(strict, name, KUBECONFIG=str(strict.node_kubeconfig(name)))
    try:
        guest.start("api-watcher")
        assert _own_taints(guest) == [TAINT]
        guest.end()
        guest.environ["VKUBELET_DISABLE_TAINT"] = "true"
        guest.start("api-watcher")
        off = guest.told("api-watcher", "taint")
        assert off == f"kubectl taint nodes {name} virtual-kubelet.io/provider:NoSchedule-"
        assert _own_taints(guest) == [TAINT]
        guest.kubectl(off)
        wait_for("the taint is as configured", lambda: "taint" not in guest.notices("api-watcher"))
        guest.end()
        del guest.environ["VKUBELET_DISABLE_TAINT"]
        guest.start("api-watcher")
        on = guest.told("api-watcher", "taint")
        assert on == f"kubectl taint nodes {name} --overwrite virtual-kubelet.io/provider=cri:NoSchedule"
        guest.kubectl(on)
        wait_for("the taint is as configured", lambda: "taint" not in guest.notices("api-watcher"))
    finally:
        guest.close()


def _own_taints(guest: Guest) -> list[dict[str, str]]:
    """Those of the Node that are vkcri's: Kubernetes' controllers add and remove theirs meanwhile."""
    return [item for item in guest.node()["spec"].get("taints", []) if item["key"] == TAINT["key"]]


def test_the_real_api_server_confirms_what_a_node_may(strict: Cluster) -> None:
    """The table that the embedded one is held to, asked row by row."""
    client, core = strict.client(), "/api/v1/namespaces/default/pods"
    strict.node_kubeconfig("n1")  # binds system:node-proxier
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volumes = [
        {"name": "c", "configMap": {"name": "wanted"}},
        {"name": "p", "persistentVolumeClaim": {"claimName": "claimed"}},
        {"name": "made", "ephemeral": {"volumeClaimTemplate": {"spec": claim}}},
    ]
    main = {"name": "main", "image": "none", "envFrom": [{"secretRef": {"name": "wanted"}}]}
    foreign = [{"name": "c", "configMap": {"name": "foreign"}}]
    plain = {"name": "main", "image": "none"}
    client.create(core, _pod("mine", nodeName="n1", volumes=volumes, containers=[main]))
    client.create(core, _pod("other", nodeName="n2", volumes=foreign, containers=[plain]))
    try:
        wait_for("the authorizer has seen the pod", lambda: _allowed(client, ROWS[0], "get"))
        wait_for("the binding holds", lambda: _allowed(client, Row("", "nodes", "", "", ""), "list"))
        wrong = {
            row[:4]: found
            for row in ROWS
            if (found := [verb for verb in VERBS if _allowed(client, row, verb)])
            != [verb for verb in VERBS if verb in row.allowed.split()]
        }
        assert wrong == {}
    finally:
        for pod in ("mine", "other"):
            client.delete(f"{core}/{pod}", {"gracePeriodSeconds": 0})


def _pod(name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _allowed(client: Client, row: Row, verb: str) -> bool:
    resource, subresource = row.parts
    asked = {
        "verb": verb,
        "group": row.group,
        "version": "v1",
        "resource": resource,
        "subresource": subresource,
        "namespace": row.namespace,
        "name": row.name,
    }
    user = {"user": "system:node:n1", "groups": ["system:nodes", "system:authenticated"]}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {**user, "resourceAttributes": {key: value for key, value in asked.items() if value}},
    }
    found = client.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(found["status"]["allowed"])
