"""Probes as kubectl shows them: endpoints that come and go, restarts, events, and the page of their metrics."""

import threading
from typing import Any

import pytest

from bridge.pb.grpc.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from tests.flow.live import LiveNode, container, is_ready, shell_pod
from tests.unit.bridge.wire.servers import health_server
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(300)]
FAST = {"periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 1}


def execute(script: str, **more: Any) -> dict[str, Any]:
    return {"exec": {"command": ["/bin/sh", "-c", script]}, **FAST, **more}


def events(node: LiveNode, pod: str, reason: str) -> list[str]:
    selector = f"involvedObject.name={pod},reason={reason}"
    return [item["message"] for item in node.get("events", "--field-selector", selector).get("items", [])]


def ready_addresses(node: LiveNode, service: str) -> list[str]:
    """The addresses that the Service's EndpointSlices call ready."""
    slices = node.get("endpointslices", "-l", f"kubernetes.io/service-name={service}").get("items", [])
    endpoints = [endpoint for item in slices for endpoint in item.get("endpoints") or []]
    return [address for item in endpoints if item["conditions"]["ready"] for address in item["addresses"]]


def test_a_service_has_the_pods_that_are_ready(node: LiveNode) -> None:
    labels = {"app": "probed"}
    pod = shell_pod("probed", "exec httpd -f -p 8080 -h /tmp", container={"readinessProbe": execute("test -e /tmp/ok")})
    pod["metadata"]["labels"] = labels
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "probed"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    node.apply(pod, service)
    node.wait_pod("probed", lambda it: "running" in container(it).get("state", {}))
    wait_for("the event", lambda: events(node, "probed", "Unhealthy"))
    assert ready_addresses(node, "probed") == []
    node.kubectl("exec", "probed", "--", "touch", "/tmp/ok")
    address = node.wait_ready("probed")["status"]["podIP"]
    wait_for("its address", lambda: ready_addresses(node, "probed") == [address])
    page = node.kubectl("get", "--raw", f"/api/v1/nodes/{node.name}/proxy/metrics/probes")
    assert 'prober_probe_total{container="main",' in page
    node.kubectl("exec", "probed", "--", "rm", "/tmp/ok")
    wait_for("no address", lambda: ready_addresses(node, "probed") == [])
    assert container(node.pod("probed"))["restartCount"] == 0
    node.kubectl("delete", "pod,service", "probed")


def test_a_container_that_fails_its_liveness_probe_again_and_again_backs_off(node: LiveNode) -> None:
    probe = execute("echo sick; false", initialDelaySeconds=1, terminationGracePeriodSeconds=1)
    script = 'trap "" TERM; while true; do sleep 0.1; done'
    spec = {"container": {"livenessProbe": probe}, "terminationGracePeriodSeconds": 300}
    node.apply(shell_pod("sick", script, **spec))
    pod = node.wait_pod("sick", lambda it: container(it).get("restartCount", 0) >= 2)
    pod = node.wait_pod("sick", lambda it: "CrashLoopBackOff" in str(container(it).get("state", {})), 120)
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 137  # by the probe's grace, not the pod's
    described = node.kubectl("describe", "pod", "sick")
    assert "Container main failed liveness probe, will be restarted" in described
    assert "Liveness probe failed: sick" in described
    node.kubectl("delete", "pod", "sick", "--grace-period=1")


def test_a_grpc_probe_asks_the_health_service(node: LiveNode) -> None:
    serving = threading.Event()
    asked: list[str] = []

    def answer(request: HealthCheckRequest, context: object) -> HealthCheckResponse:
        del context
        asked.append(request.service)
        return HealthCheckResponse(status="SERVING" if serving.is_set() else "NOT_SERVING")

    with health_server(answer, host="0.0.0.0") as port:
        probe = {"grpc": {"port": port, "service": "a.b.C"}, **FAST}
        node.apply(shell_pod("asked", "sleep 1000", hostNetwork=True, container={"readinessProbe": probe}))
        words = 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'
        wait_for("the event", lambda: words in events(node, "asked", "Unhealthy"))
        serving.set()
        node.wait_ready("asked")
        assert set(asked) == {"a.b.C"}
    node.wait_pod("asked", lambda it: not is_ready(it))
    node.kubectl("delete", "pod", "asked", "--grace-period=1")
