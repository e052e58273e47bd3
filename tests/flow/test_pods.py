"""Pods as kubectl shows them: what works, and what a bad pod is told, on real containerd."""

import json
import re
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.flow import kubectls
from tests.flow.kubectls import Kubectl
from tests.flow.live import SHELL_IMAGE, LiveNode, container, identity, is_ready, phase, shell_pod
from tests.flow.reading import answered, lines
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(300)]


def events(node: LiveNode, pod: str) -> str:
    return node.kubectl("get", "events", "--field-selector", f"involvedObject.name={pod}")


def waiting(pod: dict[str, object]) -> str:
    """The waiting reason of the first container."""
    state = container(pod).get("state", {})
    return str(state.get("waiting", {}).get("reason", ""))


def test_init_containers_run_in_order_before_the_container(node: LiveNode) -> None:
    mount = [{"name": "shared", "mountPath": "/shared"}]
    init = [
        {
            "name": name,
            "image": "localhost/vkcri/shell:1",
            "command": ["sh", "-c", f"echo {name} >> /shared/order"],
            "volumeMounts": mount,
        }
        for name in ("first", "second")
    ]
    pod = shell_pod(
        "ordered",
        "cat /shared/order",
        restartPolicy="Never",
        initContainers=init,
        volumes=[{"name": "shared", "emptyDir": {}}],
        container={"volumeMounts": mount},
    )
    node.apply(pod)
    done = node.wait_pod("ordered", lambda it: phase(it) == "Succeeded")
    wait_for("its log", lambda: node.kubectl("logs", "ordered", "-c", "main") == "first\nsecond\n")
    assert [it["name"] for it in done["status"]["initContainerStatuses"]] == ["first", "second"]
    assert container(done)["state"]["terminated"]["reason"] == "Completed"


def test_a_failing_container_restarts_with_back_off_and_counts(node: LiveNode) -> None:
    node.apply(shell_pod("crashing", "echo run; exit 3"))
    pod = node.wait_pod("crashing", lambda it: container(it).get("restartCount", 0) >= 1 and waiting(it))
    assert waiting(pod) == "CrashLoopBackOff"
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 3
    assert "BackOff" in wait_for("the event", lambda: text if "BackOff" in (text := events(node, "crashing")) else "")
    assert node.kubectl("logs", "crashing", "--previous") == "run\n"
    node.kubectl("delete", "pod", "crashing", "--wait=true")


def test_volumes_carry_their_objects_and_follow_them(node: LiveNode) -> None:
    node.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": "red"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hidden"}, "stringData": {"word": "sesame"}},
        shell_pod(
            "reader",
            "stat -f -c %T /hidden; cat /hidden/word; echo; while true; do cat /settings/colour; echo; sleep 0.2; done",
            volumes=[
                {"name": "settings", "configMap": {"name": "settings"}},
                {"name": "hidden", "secret": {"secretName": "hidden", "defaultMode": 0o400}},
            ],
            container={
                "volumeMounts": [
                    {"name": "settings", "mountPath": "/settings"},
                    {"name": "hidden", "mountPath": "/hidden"},
                ]
            },
        ),
    )
    node.wait_ready("reader")
    wait_for("the first lines", lambda: len(node.kubectl("logs", "reader").splitlines()) >= 3)
    lines = node.kubectl("logs", "reader").splitlines()
    assert lines[:3] == ["tmpfs", "sesame", "red"]
    node.kubectl("patch", "configmap", "settings", "-p", '{"data":{"colour":"blue"}}')
    # a kubelet takes a minute or more
    wait_for("the change", lambda: node.kubectl("logs", "reader", "--tail=1") == "blue\n", 30)
    node.kubectl("delete", "pod", "reader", "--wait=true")


def test_a_pods_token_reads_discovery_and_nobodys_logs(node: LiveNode) -> None:
    service = "$KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT"
    node.apply(shell_pod("caller", f"until echo | nc -w 3 {service}; do sleep 0.5; done; echo reached; sleep 3600"))
    node.wait_ready("caller")
    wait_for("the API server answers a pod", lambda: "reached" in node.kubectl("logs", "caller"))
    folder = "/var/run/secrets/kubernetes.io/serviceaccount"
    token = node.exec("caller", "cat", f"{folder}/token")
    authority = ssl.create_default_context(cadata=node.exec("caller", "cat", f"{folder}/ca.crt"))
    server, address = node.place.server, node.pod("caller")["status"]["hostIP"]
    assert status_of(f"{server}/api", token, authority) == 200
    assert status_of(f"{server}/api/v1/pods", token, authority) == 403
    unverified = ssl._create_unverified_context()
    kubelet = f"https://{address}:{node.instance.kubelet_port}"
    assert status_of(f"{kubelet}/pods", token, unverified) == 403
    assert status_of(f"{kubelet}/containerLogs/{node.namespace}/caller/main", token, unverified) == 403
    assert status_of(f"{kubelet}/pods", "nonsense", unverified) == 401
    node.kubectl("delete", "pod", "caller", "--wait=true")


def status_of(url: str, token: str, context: ssl.SSLContext) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_page_is_fetched_through_the_cluster_ip_and_a_deleted_endpoint_gets_nothing(node: LiveNode) -> None:
    page = "mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"
    web = [shell_pod(name, page) for name in ("web-one", "web-two")]
    for pod in web:
        pod["metadata"]["labels"] = {"app": "web"}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    node.apply(*web, service)
    for name in ("web-one", "web-two"):
        node.wait_ready(name)
    address = node.get("service", "web")["spec"]["clusterIP"]
    client = f"while true; do timeout 2 wget -q -O - http://{address}/ || echo failed; sleep 0.1; done"
    node.apply(shell_pod("client", client))
    node.wait_ready("client")
    seen = wait_for(
        "both endpoints answer",
        lambda: (
            text if {"web-one", "web-two"} <= set((text := node.kubectl("logs", "client", "--tail=60")).split()) else ""
        ),
    )
    assert "web-one" in seen
    node.kubectl("delete", "pod", "web-one", "--wait=true")
    wait_for("the next answers", lambda: node.kubectl("logs", "client", "--tail=30").split() == ["web-two"] * 30, 60)
    node.kubectl("delete", "pod", "client", "web-two", "--wait=true")
    node.kubectl("delete", "service", "web")


def test_a_deleted_pod_has_its_grace(node: LiveNode) -> None:
    script = "trap 'echo got TERM; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
    node.apply(shell_pod("graceful", script, terminationGracePeriodSeconds=90))
    node.wait_ready("graceful")
    wait_for("the trap is set", lambda: "ready" in node.kubectl("logs", "graceful"))
    started = time.monotonic()
    node.kubectl("delete", "pod", "graceful", "--wait=true")
    assert time.monotonic() - started < 80
    wait_for("the event", lambda: "Killing" in events(node, "graceful"))


@pytest.mark.parametrize(
    ("name", "spec", "reason", "event"),
    [
        (
            "volume-kind",
            {"volumes": [{"name": "v", "iscsi": {"targetPortal": "127.0.0.1", "iqn": "iqn.2001-04.a.b:c", "lun": 0}}]},
            "ContainerCreating",
            "FailedMount",
        ),
        (
            "absent-configmap",
            {"volumes": [{"name": "v", "configMap": {"name": "absent"}}]},
            "ContainerCreating",
            "FailedMount",
        ),
        (
            "absent-env",
            {"container": {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "k"}}}]}},
            "CreateContainerConfigError",
            "Failed",
        ),
        (
            "absent-image",
            {"container": {"image": "127.0.0.1:1/absent:1", "imagePullPolicy": "Always"}},
            "ImagePullBackOff",
            "BackOff",
        ),
    ],
)
def test_a_pod_that_cannot_start_says_why_and_leaves_nothing(
    node: LiveNode, name: str, spec: dict[str, object], reason: str, event: str
) -> None:
    node.apply(shell_pod(name, "sleep 3600", **spec))
    node.wait_pod(name, lambda it: waiting(it) == reason)
    wait_for(f"event {event}", lambda: event in events(node, name))
    uid = node.pod(name)["metadata"]["uid"]
    node.kubectl("delete", "pod", name, "--wait=true")
    assert not (node.instance.volumes_dir / uid).exists()


def test_a_command_that_does_not_exist_is_start_error_128(node: LiveNode) -> None:
    node.apply(shell_pod("no-command", "", restartPolicy="Never", container={"command": ["/does/not/exist"]}))
    pod = node.wait_pod("no-command", lambda it: phase(it) == "Failed")
    terminated = container(pod)["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("StartError", 128)


@pytest.mark.parametrize(
    ("mounts", "field"),
    [
        (
            [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}],
            "spec.containers[0].volumeMounts[1].mountPath",
        ),
        ([{"name": "v", "mountPath": "/a", "subPath": "../b"}], "spec.containers[0].volumeMounts.subPath"),
        ([{"name": "unknown", "mountPath": "/a"}], "spec.containers[0].volumeMounts[0].name"),
    ],
)
def test_a_bad_mount_is_refused_with_the_fields_path(node: LiveNode, mounts: list[dict[str, str]], field: str) -> None:
    pod = shell_pod("bad", "true", volumes=[{"name": "v", "emptyDir": {}}], container={"volumeMounts": mounts})
    with pytest.raises(AssertionError, match=re.escape(field)):
        node.apply(pod)


def test_kubectl_debug_looks_into_a_running_container_from_beside_it(node: LiveNode) -> None:
    node.apply(shell_pod("debugged", "exec sleep 36000"))
    main = identity(node.wait_ready("debugged"))
    image = (f"--image={SHELL_IMAGE}", "--image-pull-policy=IfNotPresent")
    script = "while read word && [ $word = word ]; do echo got $word; tr '\\0' ' ' </proc/1/cmdline; echo; done"
    command = ("sh", "-c", script)
    arguments = ("debug", "-i", "-q", "debugged", *image, "--target=main", "--container=debugger", "--", *command)
    with Kubectl(kubectls.that_debugs(), node).session(*arguments) as session:
        count = answered(session, b"word\n", b"got word\n", between=(b"sleep 36000 \n",))
        assert lines(session, 1) == [b"sleep 36000 \n"]
        assert session.stdin is not None
        session.stdin.write(b"bye\n")  # not its end, which would end the session and not the command
        session.stdin.flush()
        assert session.wait(PATIENCE) == 0
    logged = "got word\nsleep 36000 \n" * count
    wait_for("its log", lambda: node.kubectl("logs", "debugged", "-c", "debugger") == logged)
    pod = node.wait_pod("debugged", lambda it: "terminated" in debugger(it).get("state", {}))
    ended = debugger(pod)
    assert (ended["name"], ended["restartCount"], ended["state"]["terminated"]["exitCode"]) == ("debugger", 0, 0)
    assert (identity(pod), container(pod)["restartCount"], is_ready(pod)) == (main, 0, True)
    node.kubectl("delete", "pod", "debugged", "--wait=true")


def debugger(pod: dict[str, Any]) -> dict[str, Any]:
    """The status of its ephemeral container; {} where there is none yet."""
    return next(iter(pod["status"].get("ephemeralContainerStatuses", [])), {})


def test_a_runtime_class_gives_a_pod_its_handler_and_overhead(node: LiveNode) -> None:
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass"}
    heavy = {**kind, "metadata": {"name": "heavy"}, "handler": "runc", "overhead": {"podFixed": {"cpu": "10m"}}}
    node.apply(heavy, {**kind, "metadata": {"name": "foreign"}, "handler": "kata"})
    assert re.search(r"NAME +HANDLER +AGE\n(.*\n)*heavy +runc +", node.kubectl("get", "runtimeclass"))
    node.apply(shell_pod("heavy", "sleep 3600", runtimeClassName="heavy"))
    assert node.wait_ready("heavy")["spec"]["overhead"] == {"cpu": "10m"}
    node.apply(shell_pod("foreign", "sleep 3600", runtimeClassName="foreign"))
    told = wait_for("the event", lambda: "FailedCreatePodSandBox" in (text := events(node, "foreign")) and text)
    assert 'no runtime for "kata" is configured' in str(told)
    ghost = json.dumps(shell_pod("ghost", "true", runtimeClassName="ghost"))
    assert 'RuntimeClass "ghost" not found' in node.kubectl("create", "-f", "-", text=ghost, check=False)
    node.kubectl("delete", "pod", "heavy", "foreign", "--wait=true")
    node.kubectl("delete", "runtimeclass", "heavy", "foreign")


def reasons(pod: dict[str, Any]) -> set[tuple[str, str]]:
    """(type, reason) of its conditions."""
    return {(item["type"], item.get("reason", "")) for item in pod.get("status", {}).get("conditions", [])}


def resize(node: LiveNode, pod: str, *, check: bool = True, **resources: dict[str, str | None]) -> str:
    patch = {"spec": {"containers": [{"name": "main", "resources": resources}]}}
    return node.kubectl("patch", "pod", pod, "--subresource", "resize", "-p", json.dumps(patch), check=check)


def test_a_pod_is_resized_in_place_and_told_why_not(node: LiveNode) -> None:
    small = {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}}
    files = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    script = f"while true; do cat {files} 2>/dev/null; sleep 0.2; done"
    node.apply(shell_pod("resized", script, container={"resources": small}))
    before = node.wait_ready("resized")
    resize(node, "resized", requests={"memory": "32Mi"}, limits={"memory": "64Mi"})
    after = node.wait_pod("resized", lambda it: container(it)["resources"]["limits"]["memory"] == "64Mi")
    assert container(after)["containerID"] == container(before)["containerID"]
    assert container(after)["allocatedResources"] == {"cpu": "50m", "memory": "32Mi"}
    wait_for("the new limit", lambda: node.kubectl("logs", "resized", "--tail=1").strip() == str(64 << 20))
    told = wait_for("the events", lambda: "ResizeCompleted" in (text := events(node, "resized")) and text)
    assert "ResizeStarted" in str(told)
    assert "resource limits cannot be removed" in resize(node, "resized", check=False, limits={"cpu": None})
    answer = resize(node, "resized", check=False, requests={"cpu": "9k"}, limits={"cpu": "9k"})
    if "patched" in answer:  # Kubernetes 1.34 leaves it to the node, which hopes for room
        node.wait_pod("resized", lambda it: ("PodResizePending", "Deferred") in reasons(it))
    else:
        assert "allocatable resources: cpu" in answer
    node.kubectl("delete", "pod", "resized", "--wait=true")
