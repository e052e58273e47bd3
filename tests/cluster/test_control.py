"""A control plane that starts, survives what happens to its processes, lets nodes join, and leaves nothing."""

import base64
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.cluster import processes
from tests.cluster.control import Cluster, claimed
from tests.waiting import wait_for
from vkcri.errors import ConfigError, Refused, Unavailable
from vkcri.kube.client import MERGE, Client
from vkcri.kube.kubeconfig import Kubeconfig

pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(400)]
PODS = "/api/v1/namespaces/default/pods"
REQUESTS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
SLICES = "/apis/discovery.k8s.io/v1/endpointslices"


def as_node(cluster: Cluster, node: str) -> Client:
    return Client(Kubeconfig(cluster.node_kubeconfig(node), "vkcri-test"))


def ready_node(client: Client, name: str) -> None:
    """A Node that looks alive for the 50 s that the controller waits for its Lease."""
    client.create("/api/v1/nodes", {"metadata": {"name": name, "labels": {"made-by": "hand"}}})
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": "by hand"}
    room = {"cpu": "2", "memory": "2Gi", "pods": "9"}
    status = {"status": {"capacity": room, "allocatable": room, "conditions": [ready]}}
    client.patch(f"/api/v1/nodes/{name}/status", status, content_type=MERGE)


def bound_to(client: Client, name: str) -> str:
    """The node of a pod, once it has one."""

    def probe() -> str:
        return str(client.get(f"{PODS}/{name}")["spec"].get("nodeName", ""))

    return wait_for(f"{name} is bound", probe)


def pod(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "main", "image": "none"}], **spec}}


def test_a_pod_is_bound_and_everything_is_back_after_each_program_was_killed() -> None:
    with claimed() as cluster:
        cluster.start()
        client, folder = cluster.client(), cluster.place.folder
        ready_node(client, "one")
        client.create(PODS, pod("before"))
        assert bound_to(client, "before") == "one"

        before = cluster.running()
        cluster.start()
        assert cluster.running() == before, "a second start changes nothing"

        for (pid,) in before.values():
            os.kill(pid, signal.SIGKILL)
        wait_for("all have ended", lambda: not cluster.running())
        cluster.start()
        after = cluster.running()
        assert set(after) == set(before)
        assert not set(map(tuple, after.values())) & set(map(tuple, before.values()))
        assert bound_to(client, "before") == "one", "the store was kept"

        client.delete("/api/v1/nodes/one")
        ready_node(client, "two")
        client.create(PODS, pod("after"))
        assert bound_to(client, "after") == "two"

        (pid,) = after["kube-apiserver"]
        os.kill(pid, signal.SIGKILL)
        assert cluster.stop()
        assert processes.running(folder) == {}
        assert not folder.exists()
        assert str(folder) not in Path("/proc/self/mountinfo").read_text()
        for program in ("kube-apiserver", "etcd", "etcd-peer", "kube-controller-manager", "kube-scheduler"):
            for address in ("127.0.0.1", cluster.place.address):
                with pytest.raises(OSError):
                    socket.create_connection((address, cluster.place.port(program)), timeout=1).close()
        assert not cluster.stop(), "a second stop is harmless"


def test_a_cluster_of_another_release_is_not_replaced_in_passing(cluster: Cluster) -> None:
    other = Cluster(cluster.place.number, "1.0.1")
    with pytest.raises(ConfigError, match=r"is Kubernetes v1\.37\.2 .* make cluster-stop first"):
        other._prepare("v1.0.1")
    assert Cluster(cluster.place.number).version == cluster.version


def test_a_cluster_that_was_not_started_has_no_nodes_to_join() -> None:
    with claimed() as cluster, pytest.raises(ConfigError, match=r"is not there: make cluster"):
        cluster.node_kubeconfig("one")


def test_the_release_is_the_one_that_clients_are_told(cluster: Cluster) -> None:
    assert cluster.client().get("/version")["gitVersion"] == cluster.version


def test_a_node_may_change_itself_and_no_other_node(cluster: Cluster) -> None:
    node = as_node(cluster, "mine")
    node.create("/api/v1/nodes", {"metadata": {"name": "mine"}})
    with pytest.raises(Refused):
        node.create("/api/v1/nodes", {"metadata": {"name": "other"}})
    label = {"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}
    with pytest.raises(Refused, match="not allowed to modify labels"):
        node.patch("/api/v1/nodes/mine", label, content_type=MERGE)


def test_a_node_reads_endpointslices_by_the_binding_that_comes_with_its_identity(cluster: Cluster) -> None:
    node = as_node(cluster, "proxying")
    wait_for("the authorizer knows the binding", lambda: _allowed(lambda: node.get(SLICES)))
    cluster.client().delete("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/vkcri-proxy-proxying")
    wait_for("without it they are forbidden", lambda: not _allowed(lambda: node.get(SLICES)))


def test_a_bootstrap_token_gets_a_node_certificate_and_that_renews_itself(cluster: Cluster) -> None:
    bootstrap = Client(Kubeconfig(cluster.bootstrap_kubeconfig, "vkcri-test"))
    certificate = _signed(bootstrap, cluster, "bootstrapped", "joining")
    subject = x509.load_pem_x509_certificate(certificate).subject
    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:joining"
    assert _signed(as_node(cluster, "joining"), cluster, "renewed", "joining")
    with pytest.raises(Refused):
        bootstrap.get("/api/v1/secrets")


def test_pods_reach_the_api_server_by_the_first_service_address(cluster: Cluster) -> None:
    client = cluster.client()
    assert client.get("/api/v1/namespaces/default/services/kubernetes")["spec"]["clusterIP"] == str(
        cluster.place.service_range[1]
    )
    found = client.get("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes")
    assert found["endpoints"][0]["addresses"] == [cluster.place.address]
    assert found["ports"][0]["port"] == cluster.place.port("kube-apiserver")


def test_a_program_that_cannot_start_is_named_with_the_end_of_its_log() -> None:
    with claimed(flags={"kube-apiserver": {"no-such-flag": "x"}}) as cluster:
        with pytest.raises(Unavailable, match=r"(?s)kube-apiserver has ended.*no-such-flag"):
            cluster.start()


def _allowed(call: Callable[[], object]) -> bool:
    try:
        call()
    except Refused:
        return False
    return True


def _signed(client: Client, cluster: Cluster, name: str, node: str) -> bytes:
    """The certificate that a node's own request gets without anybody's hands."""
    parts = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(parts))
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    pem = request.public_bytes(serialization.Encoding.PEM)
    spec = {
        "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "request": base64.b64encode(pem).decode(),
        "usages": ["digital signature", "client auth"],
    }
    client.create(REQUESTS, {"metadata": {"name": name}, "spec": spec})
    admin = cluster.client()
    found = wait_for("it is signed", lambda: admin.get(f"{REQUESTS}/{name}").get("status", {}).get("certificate"))
    return base64.b64decode(found)
