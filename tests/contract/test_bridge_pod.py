"""cri-bridge on a real containerd, with the queue's other half in the test: what becomes of a pod, and of what is
left."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge import images_local
from bridge.containerd_config import SEARCH_PATH
from bridge.pb.runtime.v1 import api_pb2
from tests.contract.bridge_node import BIN, SHELL, BridgeNode, container, pod, running
from tests.waiting import wait_for
from vkcri.api import loglines
from vkcri.instance import Instance

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-pod")]
TRAP = 'trap "exit 0" TERM; while true; do sleep 0.1; done'
UP = 'trap "exit 0" TERM; echo up; while true; do sleep 0.1; done'
"""Says so when it heeds TERM: `is_up`."""


@pytest.fixture(scope="module")
def node(claim: Callable[[str], Instance], tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeNode]:
    with running(claim("core").name, tmp_path_factory.mktemp("logs")) as node:
        yield node


def gone(node: BridgeNode, spec: dict[str, Any]) -> None:
    """Nothing of the pod is left on the guest, nor in the bridge's topics."""
    uid = spec["metadata"]["uid"]
    wait_for(f"nothing of {uid}", lambda: not node.leftovers(uid))
    wait_for(f"no status of {uid}", lambda: uid not in node.statuses)


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {item["type"]: item["status"] for item in status["conditions"]}


def is_up(node: BridgeNode, spec: dict[str, Any], container: str) -> bool:
    """Whether that container's script has said so."""
    return "up" in node.log(spec, container)


def logged(node: BridgeNode, spec: dict[str, Any], container: str, lines: int) -> list[str]:
    """The container's log, once it has so many lines: the runtime may write them after the container's end."""
    wait_for(f"{lines} lines of {container}", lambda: node.log(spec, container).count("\n") >= lines)
    return node.log(spec, container).splitlines()


def waiting(status: dict[str, Any], field: str = "containerStatuses") -> str:
    return str(status[field][0]["state"]["waiting"]["reason"])


def waiting_at(status: dict[str, Any], index: int) -> bool:
    """Whether that container waits for more than its turn."""
    reason = status["containerStatuses"][index]["state"].get("waiting", {}).get("reason", "")
    return reason not in ("", "PodInitializing", "ContainerCreating")


def test_a_pod_runs_and_leaves_nothing_when_deleted(node: BridgeNode) -> None:
    spec = pod("whole", f"echo hello; {TRAP}", volumes=[{"name": "scratch", "emptyDir": {}}])
    spec["spec"]["containers"][0]["volumeMounts"] = [{"name": "scratch", "mountPath": "/scratch"}]
    node.put(spec)
    status = node.wait_phase(spec, "Running")
    assert set(conditions(status).values()) == {"True"}
    found = status["containerStatuses"][0]
    assert found["containerID"].startswith("containerd://")
    assert (found["restartCount"], found["ready"], found["started"]) == (0, True, True)
    assert status["podIP"].startswith(f"10.244.{node.instance.index}.")
    assert status["hostIP"] == "192.0.2.10"
    wait_for("its log", lambda: "hello" in node.log(spec, "main"))
    wait_for("its events", lambda: {"Pulled", "Created", "Started"} <= set(node.reasons(spec)))
    node.delete(spec)
    gone(node, spec)
    assert node.told(spec, "Killing") == "Stopping container main"


def test_the_last_status_of_a_deleted_pod_is_terminal(node: BridgeNode) -> None:
    spec = pod("last", UP)
    node.put(spec)
    node.wait_phase(spec, "Running")
    wait_for("its trap", lambda: is_up(node, spec, "main"))
    node.mark_deleted(spec)
    wait_for("finished", lambda: node.statuses[spec["metadata"]["uid"]]["finished"])
    status = node.status(spec)
    assert status["phase"] == "Succeeded"
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    node.remove(spec)
    gone(node, spec)


def test_init_containers_run_in_order_before_the_others(node: BridgeNode) -> None:
    held = "until test -e /tmp/go; do sleep 0.05; done; echo 1"
    spec = pod("init", TRAP, initContainers=[container("first", held), container("second", "echo 2")])
    node.put(spec)
    status = node.wait_status(spec, "the first", lambda it: "running" in it["initContainerStatuses"][0]["state"])
    assert waiting(status) == "PodInitializing"
    assert "waiting" in status["initContainerStatuses"][1]["state"]
    node.execute(spec, "first", "touch /tmp/go")
    status = node.wait_phase(spec, "Running")
    ends = [item["state"]["terminated"] for item in status["initContainerStatuses"]]
    assert [item["reason"] for item in ends] == ["Completed", "Completed"]
    stamps = [wait_for("its log", partial(node.log, spec, name)).split()[0] for name in ("first", "second")]
    assert stamps == sorted(stamps)
    node.delete(spec)
    gone(node, spec)


def test_a_failed_init_container_ends_a_pod_that_may_run_once(node: BridgeNode) -> None:
    spec = pod("init-fails", "echo never", restartPolicy="Never", initContainers=[container("first", "exit 3")])
    node.put(spec)
    status = node.wait_phase(spec, "Failed")
    assert status["initContainerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    assert node.log(spec, "main") == ""
    node.delete(spec)
    gone(node, spec)


def test_sidecars_start_before_and_stop_after_the_containers(node: BridgeNode) -> None:
    sidecar = container("sidecar", 'trap "echo sidecar; exit 0" TERM; echo up; while true; do sleep 0.05; done')
    spec = pod(
        "sidecars",
        'trap "sleep 0.3; echo main; exit 0" TERM; echo up; while true; do sleep 0.05; done',
        initContainers=[{**sidecar, "restartPolicy": "Always"}],
    )
    node.put(spec)
    status = node.wait_phase(spec, "Running")
    assert "running" in status["initContainerStatuses"][0]["state"]
    for name in ("main", "sidecar"):
        wait_for(f"{name}'s trap", partial(is_up, node, spec, name))
    node.mark_deleted(spec)
    wait_for("finished", lambda: node.statuses[spec["metadata"]["uid"]]["finished"])
    stamps = [logged(node, spec, name, 2)[1].split()[0] for name in ("main", "sidecar")]
    assert stamps == sorted(stamps)
    node.remove(spec)
    gone(node, spec)


@pytest.mark.parametrize(
    ("policy", "script", "phase", "reason"),
    [
        ("Never", "exit 0", "Succeeded", "Completed"),
        ("Never", "exit 7", "Failed", "Error"),
        ("OnFailure", "exit 0", "Succeeded", "Completed"),
    ],
)
def test_a_pod_that_ends_keeps_its_containers_only(
    node: BridgeNode, policy: str, script: str, phase: str, reason: str
) -> None:
    spec = pod(f"ends-{policy.lower()}-{phase.lower()}", f"echo done; {script}", restartPolicy=policy)
    uid = node.put(spec)
    status = node.wait_phase(spec, phase)
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == reason
    assert conditions(status)["Ready"] == "False"
    wait_for("finished", lambda: node.statuses[uid]["finished"])
    assert [item.state for item in node.sandboxes(uid)] == [api_pb2.SANDBOX_NOTREADY]
    wait_for("its log", lambda: "done" in node.log(spec, "main"))
    node.delete(spec)
    gone(node, spec)


def test_a_restart_rule_starts_all_containers_of_the_pod_anew(node: BridgeNode) -> None:
    """In a pod that may run once: the sidecar and the other container are killed, the init container runs again, the
    sandbox and the volume stay."""
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    shared = {"volumeMounts": [{"name": "work", "mountPath": "/work"}]}
    source = f"test -f /work/once && {{ {TRAP}; }}; touch /work/once; exit 42"
    spec = pod(
        "restarts-all",
        restartPolicy="Never",
        terminationGracePeriodSeconds=2,
        volumes=[{"name": "work", "emptyDir": {}}],
        initContainers=[
            container("first", "echo run >> /work/runs", **shared),
            container("car", TRAP, restartPolicy="Always"),
        ],
        containers=[
            container("source", source, restartPolicy="Never", restartPolicyRules=[rule], **shared),
            container("other", "sleep 1000"),
        ],
    )
    uid = node.put(spec)

    def again(status: dict[str, Any]) -> bool:
        found = [*status["initContainerStatuses"], *status["containerStatuses"]]
        return all(item["restartCount"] == 1 for item in found) and all(
            "running" in item["state"] for item in found if item["name"] != "first"
        )

    status = node.wait_status(spec, "all of it restarted once", again)
    by_name = {item["name"]: item for item in [*status["initContainerStatuses"], *status["containerStatuses"]]}
    assert {item["lastState"]["terminated"]["reason"] for item in by_name.values()} == {"RestartingAllContainers"}
    assert by_name["first"]["state"]["terminated"]["exitCode"] == 0
    assert (status["phase"], conditions(status)["AllContainersRestarting"]) == ("Running", "False")
    shown = [status for key, status in node.history if key == uid]
    assert any(conditions(status)["AllContainersRestarting"] == "True" for status in shown)
    assert [item.metadata.attempt for item in node.sandboxes(uid)] == [0]
    assert len(node.containers(uid)) == 4  # of the old runs nothing is left
    folder = node.instance.volumes_dir / uid / "kubernetes.io~empty-dir/work"
    assert (folder / "runs").read_text() == "run\nrun\n"
    node.delete(spec)
    gone(node, spec)


def test_a_variable_is_read_from_a_file_that_an_init_container_wrote(node: BridgeNode) -> None:
    def of(key: str) -> dict[str, Any]:
        return {"name": key, "valueFrom": {"fileKeyRef": {"volumeName": "work", "path": "d/a.env", "key": key}}}

    spec = pod(
        "env-file",
        volumes=[{"name": "work", "emptyDir": {}}],
        initContainers=[
            container(
                "writes",
                """mkdir /work/d; printf "# made here\nA='one\n two'\n" > /work/d/a.env""",
                volumeMounts=[{"name": "work", "mountPath": "/work"}],
            )
        ],
        containers=[
            container("reads", f'echo "A is $A"; {TRAP}', env=[of("A")]),
            container("waits", "sleep 1000", env=[of("B")]),
        ],
    )
    node.put(spec)
    status = node.wait_status(spec, "an error", lambda status: waiting_at(status, 1))
    found = status["containerStatuses"][1]["state"]["waiting"]
    assert found["reason"] == "CreateContainerConfigError"
    assert found["message"].startswith('environment variable key "B" not found in file "')
    wait_for("its value", lambda: "A is one" in node.log(spec, "reads") and " two" in node.log(spec, "reads"))
    node.delete(spec)
    gone(node, spec)


def test_a_container_that_keeps_failing_waits_longer_and_counts(node: BridgeNode) -> None:
    spec = pod("crash", "echo once; exit 1")
    node.put(spec)
    status = node.wait_status(spec, "CrashLoopBackOff", lambda status: waiting(status) == "CrashLoopBackOff")
    found = status["containerStatuses"][0]
    assert found["restartCount"] == 1
    assert found["lastState"]["terminated"]["exitCode"] == 1
    assert found["state"]["waiting"]["message"].startswith("back-off 10s restarting failed container=main pod=crash_")
    assert status["phase"] == "Running"
    assert node.told(spec, "BackOff")
    node.wait_status(spec, "a third run", lambda status: status["containerStatuses"][0]["restartCount"] == 2)
    node.delete(spec)
    gone(node, spec)


def test_a_command_that_does_not_exist_is_a_start_error(node: BridgeNode) -> None:
    spec = pod("no-command", restartPolicy="Never")
    spec["spec"]["containers"][0]["command"] = ["/does/not/exist"]
    node.put(spec)
    status = node.wait_phase(spec, "Failed")
    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("StartError", 128)
    assert "no such file or directory" in ended["message"]
    node.delete(spec)
    gone(node, spec)


def test_an_image_that_cannot_be_pulled_is_said_and_deleting_does_not_wait_for_it(node: BridgeNode) -> None:
    spec = pod("no-image")
    spec["spec"]["containers"][0]["image"] = "127.0.0.1:9/nobody/nothing:1"
    node.put(spec)
    node.wait_status(spec, "ErrImagePull", lambda status: waiting(status) == "ErrImagePull")
    status = node.wait_status(spec, "ImagePullBackOff", lambda status: waiting(status) == "ImagePullBackOff")
    assert status["phase"] == "Pending"
    node.delete(spec)
    gone(node, spec)


def test_deleting_a_pod_does_not_wait_for_a_pull_that_hangs(node: BridgeNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as registry:
        spec = pod("hanging")
        spec["spec"]["containers"][0]["image"] = f"127.0.0.1:{registry.getsockname()[1]}/slow/image:1"
        node.put(spec)
        node.told(spec, "Pulling")
        node.delete(spec)
        gone(node, spec)
    status = [status for uid, status in node.history if uid == spec["metadata"]["uid"]][-1]
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_a_missing_config_map_keeps_the_pod_waiting_until_it_is_there(node: BridgeNode) -> None:
    key = "configmaps/default/late"
    node.watcher.put("objects", key, b"absent")
    spec = pod("late-volume", TRAP, volumes=[{"name": "late", "configMap": {"name": "late"}}])
    spec["spec"]["containers"][0]["volumeMounts"] = [{"name": "late", "mountPath": "/late"}]
    env = pod("late-env", f"echo value=$VALUE; {TRAP}")
    reference = {"configMapKeyRef": {"name": "late", "key": "value"}}
    env["spec"]["containers"][0]["env"] = [{"name": "VALUE", "valueFrom": reference}]
    node.put(spec)
    node.put(env)
    node.told(spec, "FailedMount")
    node.wait_status(spec, "ContainerCreating", lambda status: waiting(status) == "ContainerCreating")
    status = node.wait_status(
        env, "CreateContainerConfigError", lambda status: waiting(status) == "CreateContainerConfigError"
    )
    assert 'configmap "late" not found' in status["containerStatuses"][0]["state"]["waiting"]["message"]
    node.watcher.put("objects", key, json.dumps({"metadata": {"name": "late"}, "data": {"value": "42"}}).encode())
    for waited in (spec, env):
        node.wait_phase(waited, "Running")
    wait_for("its value", lambda: "value=42" in node.log(env, "main"))
    for waited in (spec, env):
        node.delete(waited)
        gone(node, waited)


def test_an_unknown_kind_of_volume_is_a_failed_mount(node: BridgeNode) -> None:
    spec = pod("odd-volume", volumes=[{"name": "odd", "rbd": {"image": "x", "monitors": ["y"]}}])
    node.put(spec)
    node.told(spec, "FailedMount")
    node.wait_status(spec, "ContainerCreating", lambda status: waiting(status) == "ContainerCreating")
    node.delete(spec)
    gone(node, spec)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("device", {"volumeDevices": [{"name": "v", "devicePath": "/dev/x"}]}, "UnsupportedField"),
        ("twice", {"volumeMounts": [{"name": "v", "mountPath": "/x"}] * 2}, "InvalidPodSpec"),
        ("too-much", {"resources": {"requests": {"memory": "900Ti"}}}, "OutOfmemory"),
    ],
)
def test_a_pod_that_cannot_be_had_as_it_is_asked_for_is_refused(
    node: BridgeNode, name: str, change: dict[str, Any], reason: str
) -> None:
    spec = pod(f"refused-{name}", volumes=[{"name": "v", "emptyDir": {}}])
    spec["spec"]["containers"][0] |= change
    uid = node.put(spec)
    status = node.wait_phase(spec, "Failed")
    assert status["reason"] == reason
    assert status["message"].startswith("Pod was rejected: ")
    assert node.told(spec, reason)
    wait_for("finished", lambda: node.statuses[uid]["finished"])
    node.delete(spec)
    gone(node, spec)


def test_a_mount_path_that_leaves_its_folder_is_refused(node: BridgeNode) -> None:
    spec = pod("escape", volumes=[{"name": "v", "emptyDir": {}}])
    spec["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/x", "subPath": "../../escape"}]
    node.put(spec)
    node.wait_status(spec, "CreateContainerConfigError", lambda status: waiting(status) == "CreateContainerConfigError")
    node.delete(spec)
    gone(node, spec)


def test_a_grace_is_honoured_and_a_second_delete_shortens_it(node: BridgeNode) -> None:
    spec = pod("stubborn", 'trap "" TERM; echo up; while true; do sleep 0.1; done', terminationGracePeriodSeconds=600)
    uid = node.put(spec)
    node.wait_phase(spec, "Running")
    wait_for("its trap", lambda: "up" in node.log(spec, "main"))
    began = time.monotonic()
    node.mark_deleted(spec)
    node.told(spec, "Killing")
    other = pod("meanwhile", TRAP)
    node.put(other)
    node.wait_phase(other, "Running")
    assert "running" in node.status(spec)["containerStatuses"][0]["state"]
    node.mark_deleted(spec, 2)
    wait_for("finished", lambda: node.statuses[uid]["finished"])
    assert time.monotonic() - began >= 2
    assert node.status(spec)["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    node.remove(spec)
    node.delete(other)
    gone(node, spec)
    gone(node, other)


def test_hooks_run_after_the_start_and_before_the_stop(node: BridgeNode) -> None:
    spec = pod("hooks", 'trap "cat /tmp/said; exit 0" TERM; echo up; while true; do sleep 0.05; done')
    spec["spec"]["containers"][0]["lifecycle"] = {
        "postStart": {"exec": {"command": ["/bin/sh", "-c", "echo started >> /tmp/said"]}},
        "preStop": {"exec": {"command": ["/bin/sh", "-c", "echo stopping >> /tmp/said"]}},
    }
    node.put(spec)
    node.wait_phase(spec, "Running")
    wait_for("its trap", lambda: is_up(node, spec, "main"))
    node.mark_deleted(spec)
    wait_for("finished", lambda: node.statuses[spec["metadata"]["uid"]]["finished"])
    assert [line.split(" ")[3] for line in logged(node, spec, "main", 3)] == ["up", "started", "stopping"]
    node.remove(spec)
    gone(node, spec)


def test_a_hook_that_sleeps_holds_up_the_next_start_and_the_signal(node: BridgeNode) -> None:
    nap = {"sleep": {"seconds": 1}}
    script = 'trap "echo TERM; exit 0" TERM; echo up; while true; do sleep 0.05; done'
    main = container("main", script, lifecycle={"postStart": nap, "preStop": nap})
    spec = pod("naps", containers=[main, container("next", script)])
    uid = node.put(spec)
    node.wait_phase(spec, "Running")
    for name in ("main", "next"):
        wait_for(f"{name}'s trap", partial(is_up, node, spec, name))
    made = {item.metadata.name: item for item in node.containers(uid)}
    asked = api_pb2.ContainerStatusRequest(container_id=made["main"].id)
    second = 1_000_000_000
    assert made["next"].created_at - node.runtime().container_status(asked).status.started_at >= second
    deleted = time.time_ns()
    node.mark_deleted(spec)
    wait_for("finished", lambda: node.statuses[uid]["finished"])
    last = loglines.parse(logged(node, spec, "main", 2)[-1].encode())
    assert last.content == b"TERM\n"
    assert last.nanos - deleted >= second
    assert node.status(spec)["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    node.remove(spec)
    gone(node, spec)


def test_a_container_is_stopped_by_the_signal_that_its_image_names(node: BridgeNode) -> None:
    image = "localhost/vkcri/signalled:1"
    config = {"Cmd": ["sh"], "Env": [f"PATH={SEARCH_PATH}"], "StopSignal": "SIGUSR1"}
    archive = images_local.oci_archive(image, images_local.layer_of(images_local.shell_entries()), config)
    snapshotter = images_local.snapshotter_of(images_local.status_info(node.runtime()).get("config", {}))
    images_local.import_image(node.runtime(), node.settings.runtime_socket, image, archive, snapshotter)
    script = 'trap "echo USR1; exit 0" USR1; trap "echo TERM; exit 1" TERM; echo up; while true; do sleep 0.05; done'
    named, default = container("named", script, image=image), container("default", script)
    spec = pod("signalled", restartPolicy="Never", containers=[named, default])
    uid = node.put(spec)
    node.wait_phase(spec, "Running")
    for name in ("named", "default"):
        wait_for(f"{name}'s traps", partial(is_up, node, spec, name))
    node.mark_deleted(spec)
    wait_for("finished", lambda: node.statuses[uid]["finished"])
    said = {name: logged(node, spec, name, 2)[-1].split()[-1] for name in ("named", "default")}
    assert said == {"named": "USR1", "default": "TERM"}
    codes = {item["name"]: item["state"]["terminated"]["exitCode"] for item in node.status(spec)["containerStatuses"]}
    assert codes == {"named": 0, "default": 1}
    node.remove(spec)
    gone(node, spec)


def test_termination_messages_come_from_the_file_or_the_log(node: BridgeNode) -> None:
    """The log is the runtime's to write, maybe after the end: the container lives until it is written."""
    held = "echo from the log; until test -e /tmp/go; do sleep 0.05; done; exit 1"
    spec = pod(
        "messages",
        restartPolicy="Never",
        containers=[
            container("file", "echo from the log; echo from the file > /dev/termination-log; exit 1"),
            container("log", held, terminationMessagePolicy="FallbackToLogsOnError"),
            container("none", "echo from the log; exit 0", terminationMessagePolicy="FallbackToLogsOnError"),
        ],
    )
    node.put(spec)
    logged(node, spec, "log", 1)
    node.execute(spec, "log", "touch /tmp/go")
    status = node.wait_phase(spec, "Failed")
    found = {item["name"]: item["state"]["terminated"].get("message") for item in status["containerStatuses"]}
    assert found == {"file": "from the file\n", "log": "from the log\n", "none": None}
    node.delete(spec)
    gone(node, spec)


def test_a_container_beyond_its_memory_is_oom_killed(node: BridgeNode) -> None:
    spec = pod("oom", "head -c 200m /dev/zero | tail", restartPolicy="Never")
    spec["spec"]["containers"][0]["resources"] = {"limits": {"memory": "20Mi"}, "requests": {"memory": "20Mi"}}
    node.put(spec)
    node.wait_phase(spec, "Failed")
    node.wait_status(
        spec,
        "OOMKilled",
        lambda status: status["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled",
    )
    node.delete(spec)
    gone(node, spec)


def test_a_deadline_ends_the_pod(node: BridgeNode) -> None:
    spec = pod("deadline", TRAP, activeDeadlineSeconds=10)
    node.put(spec)
    node.wait_phase(spec, "Running")
    status = node.wait_phase(spec, "Failed")
    assert status["reason"] == "DeadlineExceeded"
    node.delete(spec)
    gone(node, spec)


def test_an_image_changed_in_place_restarts_the_container(node: BridgeNode) -> None:
    spec = pod("changed", UP)
    node.put(spec)
    first = node.wait_phase(spec, "Running")["containerStatuses"][0]["containerID"]
    wait_for("its trap", lambda: is_up(node, spec, "main"))
    socket_path = str(node.settings.runtime_socket)
    subprocess.run(
        ["ctr", "-a", socket_path, "-n", "k8s.io", "images", "tag", "--force", SHELL, f"{SHELL}-newer"], check=True
    )
    spec["spec"]["containers"][0]["image"] = f"{SHELL}-newer"
    node.put(spec)
    status = node.wait_status(
        spec,
        "a new container",
        lambda status: status["phase"] == "Running" and status["containerStatuses"][0]["restartCount"] == 1,
    )
    assert status["containerStatuses"][0]["containerID"] != first
    assert "definition changed" in node.told(spec, "Killing")
    node.delete(spec)
    gone(node, spec)


def test_a_dead_sandbox_is_replaced_with_its_containers(node: BridgeNode) -> None:
    """A start that falls into the dying sandbox counts as a run: containerd 2 takes the container and fails to start
    it, where 1.x refuses it."""
    spec = pod("sandbox", TRAP, initContainers=[container("init", "echo init")])
    uid = node.put(spec)
    node.wait_phase(spec, "Running")
    sandbox = node.sandboxes(uid)[0]
    node.runtime().stop_pod_sandbox(api_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox.id))
    status = node.wait_status(
        spec,
        "a second run",
        lambda status: status["containerStatuses"][0]["restartCount"] >= 1 and conditions(status)["Ready"] == "True",
    )
    assert status["initContainerStatuses"][0]["restartCount"] == 1
    assert status["containerStatuses"][0]["restartCount"] <= 2
    assert node.told(spec, "SandboxChanged")
    node.delete(spec)
    gone(node, spec)


def test_a_killed_bridge_finds_its_pods_again(node: BridgeNode) -> None:
    running, ended = pod("survivor", TRAP), pod("done", "exit 0", restartPolicy="Never")
    for spec in (running, ended):
        node.put(spec)
    before = node.wait_phase(running, "Running")["containerStatuses"][0]["containerID"]
    ended["status"] = node.wait_phase(ended, "Succeeded")
    running["status"] = node.status(running)
    node.end("cri-bridge", kill=True)
    fresh = pod("while-away", TRAP)
    for spec in (running, ended, fresh):
        node.put(spec)
    node.run_bridge()
    node.wait_phase(fresh, "Running")
    status = node.wait_phase(running, "Running")
    found = status["containerStatuses"][0]
    assert (found["containerID"], found["restartCount"]) == (before, 0)
    assert node.wait_phase(ended, "Succeeded")["containerStatuses"][0]["restartCount"] == 0
    assert len(node.containers(ended["metadata"]["uid"])) == 1
    for spec in (running, ended, fresh):
        node.delete(spec)
        gone(node, spec)


def test_a_killed_containerd_leaves_containers_running(node: BridgeNode) -> None:
    spec = pod("shim", TRAP)
    node.put(spec)
    before = node.wait_phase(spec, "Running")["containerStatuses"][0]["containerID"]
    node.end("containerd", kill=True)
    wait_for("a node that is not Ready", lambda: not node.ready())
    node.run("containerd")
    wait_for("a Ready node", node.ready)
    other = pod("afterwards", TRAP)
    node.put(other)
    node.wait_phase(other, "Running")
    assert node.status(spec)["containerStatuses"][0]["containerID"] == before
    for item in (spec, other):
        node.delete(item)
        gone(node, item)


def test_a_pod_that_may_run_once_is_not_run_again_after_everything_went(node: BridgeNode) -> None:
    once, done, always = pod("once", TRAP, restartPolicy="Never"), pod("done-once", "exit 0"), pod("always", TRAP)
    done["spec"]["restartPolicy"] = "Never"
    for spec, phase in ((once, "Running"), (done, "Succeeded"), (always, "Running")):
        node.put(spec)
        spec["status"] = node.wait_phase(spec, phase)
    node.end("cri-bridge")
    environment = {**os.environ, "VKCRI_INSTANCE": node.instance.name}
    for uid in (spec["metadata"]["uid"] for spec in (once, done, always)):
        for sandbox in node.sandboxes(uid):
            node.runtime().stop_pod_sandbox(api_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox.id))
            node.runtime().remove_pod_sandbox(api_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id))
    assert subprocess.run([BIN / "vkcri-cri-bridge", "--check"], env=environment, check=False).returncode == 0
    for spec in (once, done, always):
        node.put(spec)
    node.statuses.clear()
    node.run_bridge()
    status = node.wait_phase(once, "Failed")
    ended = status["containerStatuses"][0]["state"]["terminated"]
    assert (ended["reason"], ended["exitCode"]) == ("ContainerStatusUnknown", 137)
    assert node.wait_phase(done, "Succeeded")["containerStatuses"][0]["state"]["terminated"]["reason"] == "Completed"
    status = node.wait_status(always, "a second run", lambda status: status["containerStatuses"][0]["ready"])
    found = status["containerStatuses"][0]
    assert (found["restartCount"], found["lastState"]["terminated"]["exitCode"]) == (1, 137)
    for spec in (once, done):
        assert node.sandboxes(spec["metadata"]["uid"]) == []
    for spec in (once, done, always):
        node.delete(spec)
        gone(node, spec)


def test_an_orphan_is_ended_by_its_annotations(node: BridgeNode) -> None:
    spec = pod("orphan", TRAP, terminationGracePeriodSeconds=20)
    node.put(spec)
    node.wait_phase(spec, "Running")
    node.end("cri-bridge", kill=True)
    node.remove(spec)
    node.statuses.clear()
    node.run_bridge()
    gone(node, spec)


def test_a_container_made_and_never_started_is_made_anew_and_counts_nothing(node: BridgeNode) -> None:
    spec = pod("half", "exec sleep 1000", terminationGracePeriodSeconds=1)
    uid = node.put(spec)
    node.wait_phase(spec, "Running")
    log = node.logs / "cri-bridge.log"
    node.end("cri-bridge", kill=True)
    runtime = node.runtime()
    old = node.containers(uid)[0]
    detail = runtime.container_status(api_pb2.ContainerStatusRequest(container_id=old.id)).status
    runtime.stop_container(api_pb2.StopContainerRequest(container_id=old.id, timeout=0))
    runtime.remove_container(api_pb2.RemoveContainerRequest(container_id=old.id))
    config = api_pb2.ContainerConfig(
        metadata=detail.metadata,
        image=api_pb2.ImageSpec(image=detail.image.image),
        command=["/bin/sh", "-c", "exit 0"],
        labels=detail.labels,
        annotations=detail.annotations,
        log_path="main/0.log",
    )
    sandbox = api_pb2.PodSandboxConfig(
        metadata=node.sandboxes(uid)[0].metadata, log_directory=str(Path(detail.log_path).parent.parent)
    )
    made = runtime.create_container(
        api_pb2.CreateContainerRequest(pod_sandbox_id=old.pod_sandbox_id, config=config, sandbox_config=sandbox)
    ).container_id
    node.statuses.clear()
    node.run_bridge()
    status = node.wait_status(spec, "a running container", lambda status: status["containerStatuses"][0]["ready"])
    found = status["containerStatuses"][0]
    assert (found["restartCount"], found["containerID"]) != (0, f"containerd://{made}")
    assert found["restartCount"] == 0
    assert log.exists()
    node.delete(spec)
    gone(node, spec)


@pytest.mark.parametrize("moment", [0.12, 0.2, 0.28, 0.36])
def test_a_bridge_killed_while_pods_start_starts_each_container_once(node: BridgeNode, moment: float) -> None:
    specs = [pod(f"cut-{number}", TRAP, restartPolicy=("Always", "Never")[number % 2]) for number in range(4)]
    for spec in specs:
        node.put(spec)
    threading.Event().wait(moment)
    node.end("cri-bridge", kill=True)
    for spec in specs:
        spec["status"] = node.status(spec) or spec["status"]
        node.put(spec)
    node.run_bridge()
    for spec in specs:
        status = node.wait_status(spec, "Ready", lambda status: conditions(status)["Ready"] == "True")
        assert status["containerStatuses"][0]["restartCount"] == 0
        assert len(node.containers(spec["metadata"]["uid"])) == 1
    for spec in specs:
        node.mark_deleted(spec)
    node.end("cri-bridge", kill=True)
    node.run_bridge()
    for spec in specs:
        node.delete(spec)
        gone(node, spec)


def test_many_pods_start_at_once(node: BridgeNode) -> None:
    specs = [pod(f"many-{number}", TRAP) for number in range(8)]
    for spec in specs:
        node.put(spec)
    for spec in specs:
        node.wait_phase(spec, "Running")
    ending = [threading.Thread(target=node.delete, args=(spec,)) for spec in specs]
    for thread in ending:
        thread.start()
    for thread in ending:
        thread.join(60)
    for spec in specs:
        gone(node, spec)


def test_an_exit_shows(node: BridgeNode) -> None:
    """How soon, the benchmarks tell."""
    spec = pod("exits", "sleep 1000", restartPolicy="Never", terminationGracePeriodSeconds=1)
    uid = node.put(spec)
    node.wait_phase(spec, "Running")
    item = node.containers(uid)[0]
    info = node.runtime().container_status(api_pb2.ContainerStatusRequest(container_id=item.id, verbose=True)).info
    os.kill(json.loads(info["info"])["pid"], signal.SIGKILL)
    node.wait_phase(spec, "Failed")
    node.delete(spec)
    gone(node, spec)
