"""api-watcher against the embedded API server, both as real processes; the test plays the provider."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.watcher.live import Guest
from tests.instances import claimed, own
from tests.waiting import PATIENCE, until
from vkcri.errors import NotFound, Refused, Unavailable
from vkcri.kube.client import Client
from vkcri.queue import Subscription, request
from vkcri.queue.events import EventRecorder, pod_reference

POD = "/api/v1/namespaces/default/pods"


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    """A guest whose node `n1` is Ready."""
    with Guest(own("watch"), tmp_path) as found:
        found.apiserver = found.run("apiserver", VKUBELET_NODE_NAME="n1")  # type: ignore[attr-defined]
        found.watcher = found.run("api-watcher", VKUBELET_NODE_NAME="n1")  # type: ignore[attr-defined]
        until(found.instance.admin_kubeconfig.exists)
        until(lambda: ready(found.admin(), "n1") == "True")
        yield found


def get(client: Client, path: str) -> dict[str, Any] | None:
    """None while the object, or the API server, is not there."""
    try:
        return client.get(path)
    except (NotFound, Unavailable):
        return None


def ready(client: Client, node: str) -> str | None:
    conditions = ((get(client, f"/api/v1/nodes/{node}") or {}).get("status") or {}).get("conditions") or []
    return next((item["status"] for item in conditions if item["type"] == "Ready"), None)


def make_pod(client: Client, name: str, **spec: Any) -> None:
    spec = {"containers": [{"name": "c", "image": "x"}], **spec}
    metadata = {"name": name, "namespace": "default"}
    until(lambda: get(client, "/api/v1/namespaces/default/serviceaccounts/default"))
    client.create(POD, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})


def arrives(guest: Guest, name: str) -> dict[str, Any]:
    until(lambda: guest.pod(name))
    found = guest.pod(name)
    assert found is not None
    return found


def test_a_pods_whole_life(guest: Guest) -> None:
    admin = guest.admin()
    volumes = [{"name": "v", "configMap": {"name": "settings", "optional": True}}]
    make_pod(admin, "web", volumes=volumes)
    pod = arrives(guest, "web")
    until(lambda: guest.objects.get("configmaps/default/settings") == b"absent")
    until(lambda: b"BEGIN CERTIFICATE" in (guest.objects.get("configmaps/default/kube-root-ca.crt") or b""))

    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"k": "1"}}
    admin.create("/api/v1/namespaces/default/configmaps", body)
    until(lambda: b'"k":"1"' in (guest.objects.get("configmaps/default/settings") or b""))
    admin.patch("/api/v1/namespaces/default/configmaps/settings", {"data": {"k": "2"}})
    until(lambda: b'"k":"2"' in (guest.objects.get("configmaps/default/settings") or b""))

    guest.report_pod(pod, "Running")
    until(lambda: admin.get(f"{POD}/web")["status"]["phase"] == "Running")
    status = admin.get(f"{POD}/web")["status"]
    assert status["podIPs"] == [{"ip": "10.244.0.7"}]
    assert {item["type"]: item["status"] for item in status["conditions"]}["Ready"] == "True"
    assert "PodScheduled" in {item["type"] for item in status["conditions"]}

    admin.delete(f"{POD}/web")
    until(lambda: (guest.pod("web") or {"metadata": {}})["metadata"].get("deletionTimestamp"))
    guest.report_pod(pod, "Succeeded", finished=True)
    until(lambda: get(admin, f"{POD}/web") is None)
    until(lambda: guest.pod("web") is None and guest.objects.items() == {})


def test_a_readiness_gates_condition_survives_our_reports(guest: Guest) -> None:
    admin = guest.admin()
    make_pod(admin, "gated", readinessGates=[{"conditionType": "example.com/ok"}])
    pod = arrives(guest, "gated")
    guest.report_pod(pod, "Running")
    gate = {"type": "example.com/ok", "status": "True"}
    admin.patch(f"{POD}/gated/status", {"status": {"conditions": [gate]}})
    until(lambda: b"example.com/ok" in (guest.pods.get(pod["metadata"]["uid"]) or b""))
    guest.report_pod(pod, "Succeeded")
    until(lambda: admin.get(f"{POD}/gated")["status"]["phase"] == "Succeeded")
    conditions = {item["type"]: item["status"] for item in admin.get(f"{POD}/gated")["status"]["conditions"]}
    assert conditions["example.com/ok"] == "True"
    assert conditions["Ready"] == "False"


def test_a_node_that_is_deleted_is_registered_again_and_ready(guest: Guest) -> None:
    admin = guest.admin()
    first = admin.get("/api/v1/nodes/n1")["metadata"]["uid"]
    admin.delete("/api/v1/nodes/n1")
    until(lambda: (get(admin, "/api/v1/nodes/n1") or {"metadata": {"uid": first}})["metadata"]["uid"] != first)
    until(lambda: ready(admin, "n1") == "True")
    lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
    second = admin.get("/api/v1/nodes/n1")["metadata"]["uid"]
    until(
        lambda: ((get(admin, lease) or {}).get("metadata") or {}).get("ownerReferences", [{}])[0].get("uid") == second
    )
    until(lambda: second.encode() in (guest.node.get("n1") or b""))


def test_a_killed_watcher_forgets_no_pod_and_writes_nothing_twice(guest: Guest) -> None:
    admin = guest.admin()
    make_pod(admin, "web")
    pod = arrives(guest, "web")
    guest.report_pod(pod, "Running")
    until(lambda: admin.get(f"{POD}/web")["status"]["phase"] == "Running")
    version = admin.get(f"{POD}/web")["metadata"]["resourceVersion"]
    guest.watcher.end(signal.SIGKILL)  # type: ignore[attr-defined]
    make_pod(admin, "late")
    guest.watcher.start()  # type: ignore[attr-defined]
    arrives(guest, "late")
    assert (pod["metadata"]["uid"], False) not in guest.seen
    assert admin.get(f"{POD}/web")["metadata"]["resourceVersion"] == version
    assert ready(admin, "n1") == "True"


def test_a_killed_api_server_is_waited_for_and_nothing_is_forgotten(guest: Guest) -> None:
    admin = guest.admin()
    make_pod(admin, "web")
    pod = arrives(guest, "web")
    guest.apiserver.end(signal.SIGKILL)  # type: ignore[attr-defined]
    guest.report_pod(pod, "Running")
    guest.apiserver.start()  # type: ignore[attr-defined]
    until(lambda: _phase(admin, "web") == "Running")
    make_pod(admin, "late")
    arrives(guest, "late")
    assert (pod["metadata"]["uid"], False) not in guest.seen


def _phase(client: Client, name: str) -> str | None:
    return ((get(client, f"{POD}/{name}") or {}).get("status") or {}).get("phase")


def test_two_watchers_of_one_name(guest: Guest, tmp_path: Path) -> None:
    admin = guest.admin()
    make_pod(admin, "web")
    pod = arrives(guest, "web")
    before = admin.get("/api/v1/nodes/n1")["metadata"]
    kubeconfig = str(guest.instance.admin_kubeconfig)
    with claimed("watch") as instance, Guest(instance, tmp_path) as other:
        rival = other.run("api-watcher", VKUBELET_NODE_NAME="n1", KUBECONFIG=kubeconfig)
        until(lambda: rival.said("VKUBELET_NODE_NAME"))
        assert rival.said("joining https://127.0.0.1") == 1
        lines = [line for line in rival.log.read_text().splitlines() if "joining" in line or "belongs" in line]
        assert "joining" in lines[0]
        assert f"(KUBECONFIG={kubeconfig}); for the embedded server: make run KUBECONFIG=" in lines[0]
        until(lambda: other.pods.connected)
        other.report_pod(pod, "Failed", finished=True)
        until(lambda: rival.said("belongs to another agent"))
        assert other.process.wait(12) is False  # its second look
        assert rival.said("belongs to another agent") == 1
        assert other.pods.items() == {}
        assert not other.pods.synced("api")
        assert other.node.items() == {}
        after = admin.get("/api/v1/nodes/n1")["metadata"]
        assert (after["uid"], after["annotations"]) == (before["uid"], before["annotations"])
        assert _phase(admin, "web") == "Pending"
        assert rival.end() == 0
        joined = other.run("api-watcher", VKUBELET_NODE_NAME="n2", KUBECONFIG=kubeconfig)
        until(lambda: ready(admin, "n2") == "True")
        taints = admin.get("/api/v1/nodes/n2")["spec"]["taints"]
        assert {"key": "virtual-kubelet.io/provider", "value": "cri", "effect": "NoSchedule"} in taints
        assert joined.said("belongs to another agent") == 1  # the first one's line, in the same file


def test_what_other_roles_ask(guest: Guest) -> None:
    admin = guest.admin()
    make_pod(admin, "web")
    pod = arrives(guest, "web")
    socket = guest.instance.queue_socket("watcher")
    body = {
        "namespace": "default",
        "serviceAccount": "default",
        "audiences": [],
        "expirationSeconds": 3607,
        "podName": "web",
        "podUID": pod["metadata"]["uid"],
    }
    token = request(socket, "token", body, timeout=PATIENCE)
    review = request(socket, "token-review", {"token": token["token"], "audiences": []}, timeout=PATIENCE)
    assert review["authenticated"]
    assert review["user"]["username"] == "system:serviceaccount:default:default"
    attributes = {"verb": "get", "resource": "nodes", "subresource": "proxy", "name": "n1"}
    access = {"user": review["user"]["username"], "groups": review["user"]["groups"], "resourceAttributes": attributes}
    assert request(socket, "access-review", access, timeout=PATIENCE)["allowed"] is False
    masters = {"user": "admin", "groups": ["system:masters"], "resourceAttributes": attributes}
    assert request(socket, "access-review", masters, timeout=PATIENCE)["allowed"] is True
    assert "BEGIN CERTIFICATE" in request(socket, "client-ca", {}, timeout=PATIENCE)["pem"]
    with pytest.raises((Refused, NotFound)):
        request(socket, "token", {**body, "podUID": "another"}, timeout=PATIENCE)
    text = request(socket, "metrics", {}, timeout=PATIENCE)["text"]
    assert 'vkcri_watcher_synced{resource="pods"} 1' in text


def test_events_and_services_travel(guest: Guest) -> None:
    admin = guest.admin()
    make_pod(admin, "web")
    pod = arrives(guest, "web")
    recorder = EventRecorder(guest.provider, "cri-bridge", "n1")
    for _ in range(3):
        recorder.event(pod_reference(pod, "c"), "Warning", "BackOff", "Back-off restarting failed container")

    def counted() -> list[int]:
        items = admin.get("/api/v1/namespaces/default/events")["items"]
        return [item["count"] for item in items if item["reason"] == "BackOff"]

    until(lambda: counted() == [3])
    services = Subscription(guest.instance.queue_socket("watcher"), "services", lambda _: None)
    slices = Subscription(guest.instance.queue_socket("watcher"), "endpointslices", lambda _: None)
    services.start(guest.process)
    slices.start(guest.process)
    assert services.wait_synced(PATIENCE)
    assert slices.wait_synced(PATIENCE)
    assert json.loads(services.get("default/kubernetes") or b"{}")["kind"] == "Service"
    made = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}
    admin.create("/api/v1/namespaces/default/services", {"apiVersion": "v1", "kind": "Service", **made})
    until(lambda: services.get("default/s"))
    admin.delete("/api/v1/namespaces/default/services/s")
    until(lambda: services.get("default/s") is None)
