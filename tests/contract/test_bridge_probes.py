"""Probes of cri-bridge on a real containerd: what they say of a container, and what becomes of it then."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.bridge_node import BridgeNode, container, pod, running
from tests.waiting import wait_for
from vkcri.instance import Instance

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-probes")]
TRAP = 'trap "exit 0" TERM; while true; do sleep 0.1; done'
UP = f'trap "exit 0" TERM; touch /tmp/up; {TRAP}'
"""Heeds TERM from when /tmp/up is there, which is when a probe of it begins to fail."""
STUBBORN = 'trap "" TERM; while true; do sleep 0.1; done'


@pytest.fixture(scope="module")
def node(claim: Callable[[str], Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeNode]:
    with running(claim("core").name, tmp_path_factory.mktemp("logs")) as node:
        yield node


def execute(script: str, **more: Any) -> dict[str, Any]:
    """A probe every second by a shell, with room for a machine under load."""
    action = {"exec": {"command": ["/bin/sh", "-c", script]}}
    return {**action, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 1, **more}


def http(port: int | str, path: str = "/", **more: Any) -> dict[str, Any]:
    action = {"httpGet": {"port": port, "path": path, "scheme": "HTTP"}}
    return {**action, "periodSeconds": 1, "timeoutSeconds": 10, "failureThreshold": 1, **more}


def probed(name: str, script: str = TRAP, *, spec: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A pod whose one container has these fields."""
    return pod(name, containers=[container("main", script, **fields)], **(spec or {}))


def shown(status: dict[str, Any], field: str = "containerStatuses") -> dict[str, Any]:
    found: dict[str, Any] = status[field][0]
    return found


def is_ready(status: dict[str, Any]) -> bool:
    return any(item["type"] == "Ready" and item["status"] == "True" for item in status["conditions"])


def messages(node: BridgeNode, spec: dict[str, Any], reason: str) -> list[str]:
    """Of all events of that reason, with their counts left out."""
    uid = spec["metadata"]["uid"]
    found = list(node.events.values())
    return [item["message"] for item in found if item["involvedObject"]["uid"] == uid and item["reason"] == reason]


def test_readiness_follows_its_probe_both_ways(node: BridgeNode) -> None:
    spec = probed("readiness", readinessProbe=execute("cat /tmp/ready"))
    node.put(spec)
    status = node.wait_status(spec, "running", lambda status: "running" in shown(status)["state"])
    assert (shown(status)["ready"], shown(status)["started"]) == (False, True)
    wait_for("its event", lambda: messages(node, spec, "Unhealthy"))
    expected = "Readiness probe failed: cat: can't open '/tmp/ready': No such file or directory\n"
    assert messages(node, spec, "Unhealthy") == [expected]
    node.execute(spec, "main", "touch /tmp/ready")
    node.wait_status(spec, "Ready", is_ready)
    node.execute(spec, "main", "rm /tmp/ready")
    status = node.wait_status(spec, "not Ready", lambda status: not is_ready(status))
    assert shown(status)["restartCount"] == 0
    node.delete(spec)


def test_a_failed_liveness_probe_restarts_the_container(node: BridgeNode) -> None:
    probe = execute("test ! -e /tmp/up || cat /tmp/alive")
    spec = probed("liveness", f"echo alive > /tmp/alive; {UP}", livenessProbe=probe)
    node.put(spec)
    node.wait_status(spec, "Ready", is_ready)
    first = shown(node.status(spec))["containerID"]
    node.execute(spec, "main", "rm /tmp/alive")
    status = node.wait_status(spec, "a restart", lambda status: shown(status)["restartCount"] == 1)
    wait_for("its event", lambda: messages(node, spec, "Killing"))
    assert messages(node, spec, "Killing") == ["Container main failed liveness probe, will be restarted"]
    assert messages(node, spec, "Unhealthy")[0].startswith("Liveness probe failed: cat: can't open '/tmp/alive'")
    status = node.wait_status(
        spec, "Ready again", lambda status: is_ready(status) and "running" in shown(status)["state"]
    )
    assert shown(status)["containerID"] != first
    assert shown(status)["lastState"]["terminated"]["containerID"] == first
    node.delete(spec)


def test_a_startup_probe_holds_back_the_others_and_starts_them_at_once(node: BridgeNode) -> None:
    spec = probed(
        "startup",
        startupProbe=execute("cat /tmp/started", failureThreshold=100),
        readinessProbe=execute("true", periodSeconds=600),
        livenessProbe=execute("echo $$ >> /tmp/lived; cat /tmp/started"),
    )
    node.put(spec)
    wait_for("two failures", lambda: _count(node, spec, "Unhealthy") >= 2)
    status = node.wait_phase(spec, "Running")
    assert (shown(status)["started"], shown(status)["ready"]) == (False, False)
    node.execute(spec, "main", "test ! -e /tmp/lived && touch /tmp/started")
    node.wait_status(spec, "Ready", is_ready)
    assert shown(node.status(spec))["started"]
    assert {message.split(" ")[0] for message in messages(node, spec, "Unhealthy")} == {"Startup"}
    node.delete(spec)


def test_a_startup_that_fails_restarts_the_container(node: BridgeNode) -> None:
    spec = probed("no-startup", startupProbe=execute("exit 3", failureThreshold=2))
    node.put(spec)
    node.wait_status(spec, "a restart", lambda status: shown(status)["restartCount"] == 1)
    wait_for("its event", lambda: messages(node, spec, "Killing"))
    assert messages(node, spec, "Killing") == ["Container main failed startup probe, will be restarted"]
    node.delete(spec)


def test_the_next_init_container_waits_for_the_sidecars_startup(node: BridgeNode) -> None:
    car = container("car", f"sleep 2; touch /tmp/up; {TRAP}", restartPolicy="Always")
    car["startupProbe"] = execute("test -e /tmp/up", failureThreshold=100)
    spec = pod("gated", TRAP, initContainers=[car, container("second", "echo two")])
    node.put(spec)
    node.wait_phase(spec, "Running")
    for uid, status in node.history:
        if uid == spec["metadata"]["uid"] and "initContainerStatuses" in status:
            first, second = status["initContainerStatuses"]
            assert first["started"] or "waiting" in second["state"]
    node.delete(spec)


def test_a_sidecars_liveness_restarts_it_and_nothing_else(node: BridgeNode) -> None:
    car = container("car", f"touch /tmp/alive; {TRAP}", restartPolicy="Always")
    car["livenessProbe"] = execute("test -e /tmp/alive && rm /tmp/alive")
    spec = pod("car-liveness", TRAP, initContainers=[car])
    node.put(spec)
    status = node.wait_status(
        spec, "a restart", lambda status: shown(status, "initContainerStatuses")["restartCount"] >= 1
    )
    assert shown(status)["restartCount"] == 0
    wait_for("its event", lambda: messages(node, spec, "Killing"))
    assert messages(node, spec, "Killing")[0] == "Init container car failed liveness probe"
    node.delete(spec)


def test_http_and_tcp_probes_reach_the_pod_by_its_address(node: BridgeNode) -> None:
    script = "mkdir /tmp/www; echo fine > /tmp/www/good; exec httpd -f -p 8080 -h /tmp/www"
    spec = probed(
        "http",
        script,
        ports=[{"name": "web", "containerPort": 8080, "protocol": "TCP"}],
        startupProbe=http("web", "/good", failureThreshold=100),
        readinessProbe=http("web", "/good?x=1"),
        livenessProbe={"tcpSocket": {"port": "web"}, "periodSeconds": 1, "timeoutSeconds": 10},
        spec={"terminationGracePeriodSeconds": 1},  # httpd does not heed TERM
    )
    node.put(spec)
    node.wait_status(spec, "Ready", is_ready)
    node.execute(spec, "main", "rm /tmp/www/good")
    node.wait_status(spec, "not Ready", lambda status: not is_ready(status))
    words = "Readiness probe failed: HTTP probe failed with statuscode: 404"
    wait_for("its event", lambda: words in messages(node, spec, "Unhealthy"))
    assert shown(node.status(spec))["restartCount"] == 0
    node.delete(spec)


def test_a_port_where_nothing_listens_is_refused(node: BridgeNode) -> None:
    spec = probed(
        "refused", readinessProbe=http(81), livenessProbe={"tcpSocket": {"port": 82}, "failureThreshold": 100}
    )
    spec["spec"]["containers"][0]["livenessProbe"]["periodSeconds"] = 1
    node.put(spec)
    wait_for("both", lambda: len(messages(node, spec, "Unhealthy")) == 2)
    address = node.wait_status(spec, "an address", lambda status: status["podIP"])["podIP"]
    assert sorted(messages(node, spec, "Unhealthy")) == [
        f"Liveness probe failed: dial tcp {address}:82: connect: connection refused",
        f'Readiness probe failed: Get "http://{address}:81/": dial tcp {address}:81: connect: connection refused',
    ]
    node.delete(spec)


def test_a_command_that_takes_too_long_has_failed(node: BridgeNode) -> None:
    spec = probed("slow", readinessProbe=execute("sleep 100", timeoutSeconds=1))
    node.put(spec)
    wait_for("its event", lambda: messages(node, spec, "Unhealthy"))
    words = 'Readiness probe failed: command timed out: "/bin/sh -c sleep 100" timed out after 1s'
    assert messages(node, spec, "Unhealthy") == [words]
    node.delete(spec)


def test_a_command_that_cannot_be_run_says_nothing(node: BridgeNode) -> None:
    missing = {"exec": {"command": ["/does/not/exist"]}, "periodSeconds": 1, "failureThreshold": 1}
    spec = probed("no-command", livenessProbe=missing)
    node.put(spec)
    wait_for("its event", lambda: _count(node, spec, "Unhealthy") >= 2)
    words = "Liveness probe errored and resulted in unknown state: rpc error: code = "
    assert messages(node, spec, "Unhealthy")[0].startswith(words)
    assert shown(node.wait_phase(spec, "Running"))["restartCount"] == 0
    node.delete(spec)


def test_the_probes_own_grace_is_that_of_its_kill(node: BridgeNode) -> None:
    probe = execute("test ! -e /tmp/up", terminationGracePeriodSeconds=2)
    spec = probed(
        "grace",
        f'trap "" TERM; touch /tmp/up; {STUBBORN}',
        livenessProbe=probe,
        spec={"terminationGracePeriodSeconds": 500},
    )
    node.put(spec)
    status = node.wait_status(spec, "a restart", lambda status: shown(status)["restartCount"] == 1)
    assert shown(status)["lastState"]["terminated"]["exitCode"] == 137
    node.delete(spec, 1)


def test_a_pod_that_may_run_once_ends_with_its_failed_container(node: BridgeNode) -> None:
    spec = probed("once", UP, livenessProbe=execute("test ! -e /tmp/up"), spec={"restartPolicy": "Never"})
    node.put(spec)
    status = node.wait_phase(spec, "Succeeded")  # it ended with 0 when it was asked to stop
    assert shown(status)["restartCount"] == 0
    node.told(spec, "Killing")
    assert messages(node, spec, "Killing") == ["Stopping container main"]
    node.delete(spec)


def test_while_a_pod_ends_readiness_goes_on_and_liveness_does_not(node: BridgeNode) -> None:
    ending = "rm /tmp/here; until test -e /tmp/go; do sleep 0.1; done; exit 0"
    script = f'trap "{ending}" TERM; touch /tmp/here; touch /tmp/up; while true; do sleep 0.1; done'
    spec = probed(
        "ending",
        script,
        readinessProbe=execute("test -e /tmp/up && test -e /tmp/here"),
        livenessProbe=execute("test ! -e /tmp/up || test -e /tmp/here"),
        spec={"terminationGracePeriodSeconds": 600},
    )
    node.put(spec)
    node.wait_status(spec, "Ready", is_ready)
    before = _count(node, spec, "Unhealthy")
    node.mark_deleted(spec)
    status = node.wait_status(spec, "not Ready", lambda status: not is_ready(status))
    assert "running" in shown(status)["state"]
    wait_for("four failures, a second apart", lambda: _count(node, spec, "Unhealthy") >= before + 4)
    node.execute(spec, "main", "touch /tmp/go")
    wait_for("finished", lambda: node.statuses[spec["metadata"]["uid"]]["finished"])
    node.told(spec, "Killing")
    assert messages(node, spec, "Killing") == ["Stopping container main"]
    assert not [message for message in messages(node, spec, "Unhealthy") if "Liveness" in message]
    node.remove(spec)


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_of_the_bridge_does_not_flap_what_is_ready(node: BridgeNode, kill: bool) -> None:
    spec = probed(
        f"kept-{kill}".lower(),
        startupProbe=execute("echo >> /tmp/startup"),
        readinessProbe=execute("echo >> /tmp/readiness", periodSeconds=3),
        livenessProbe=execute("true"),
    )
    uid = node.put(spec)
    spec["status"] = node.wait_status(spec, "Ready", is_ready)
    node.put(spec)  # as the API server would, once it has been told
    node.end("cri-bridge", kill=kill)
    node.execute(spec, "main", "rm /tmp/startup /tmp/readiness")
    before = len(node.history)
    node.run_bridge()
    wait_for("two more probes", lambda: lines(node, spec, "/tmp/readiness") >= 2)
    news = [status for key, status in node.history[before:] if key == uid]
    assert all(is_ready(status) and shown(status)["started"] for status in [*news, node.status(spec)])
    assert shown(node.status(spec))["restartCount"] == 0
    assert lines(node, spec, "/tmp/startup") == 0
    node.delete(spec)


def lines(node: BridgeNode, spec: dict[str, Any], path: str) -> int:
    """How many the file in the container has."""
    return int(node.execute(spec, "main", f"touch {path}; wc -l < {path}"))


def _count(node: BridgeNode, spec: dict[str, Any], reason: str) -> int:
    """How often that happened."""
    uid = spec["metadata"]["uid"]
    found = [item for item in list(node.events.values()) if item["involvedObject"]["uid"] == uid]
    return sum(int(item["count"]) for item in found if item["reason"] == reason)
