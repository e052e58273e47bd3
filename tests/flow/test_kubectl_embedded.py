"""Stock kubectl, the one on this guest and Debian's 1.20, against the embedded API server alone: no node, no runtime.

Each test drives a real server process on an instance of its own, over TLS, with the kubeconfig that it wrote. Where a
test needs a node, it writes one through the API.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow import kubectls
from tests.flow.embedded import Server, embedded_server
from tests.flow.reading import lines, read_until
from tests.waiting import PATIENCE, wait_for

pytestmark = [
    pytest.mark.flow,
    pytest.mark.embedded_only("about the program apiserver by itself; tests/comparison has what a real one does alike"),
    pytest.mark.xdist_group("kubectl-embedded"),  # one server for all of them
]


class Kubectl:
    """One version of kubectl with the server's admin.conf."""

    def __init__(self, program: str, server: Server, scratch: Path) -> None:
        self.program, self.server, self.scratch = program, server, scratch
        self.minor = kubectls.minor(program)
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(server.instance.admin_kubeconfig),
            "HOME": str(scratch),
            "KUBECACHEDIR": str(scratch / "cache"),
        }

    def __call__(self, *arguments: str, text: str | None = None, fails: bool = False, **environment: str) -> str:
        """Its output, both streams. AssertionError unless it succeeds, or `fails`, as expected."""
        done = subprocess.run(
            [self.program, *arguments],
            input=text,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert (done.returncode != 0) == fails, f"{arguments}: {done.returncode}\n{done.stdout}\n{self.server.log}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json"))

    def apply(self, obj: dict[str, Any], **options: Any) -> str:
        return self("apply", "-f", "-", text=json.dumps(obj), **options)

    def write_status(self, path: str, status: dict[str, Any]) -> None:
        """Write a pod's status subresource, as a node's agent would, once the scheduler, which has no node here, has
        written what it has to say; every kubectl can do it so."""
        self.wait_unscheduled(path)
        obj = json.loads(self("get", "--raw", path))
        file = self.scratch / "status.json"
        file.write_text(json.dumps({**obj, "status": {**obj.get("status", {}), **status}}))
        self("replace", "--raw", f"{path}/status", "-f", str(file))

    def wait_unscheduled(self, path: str) -> None:
        wait_for("the scheduler's word", lambda: '"PodScheduled"' in self("get", "--raw", path))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with embedded_server("apis") as started:
        started.start()
        yield started


@pytest.fixture(params=["installed", "debian"])
def kubectl(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[Kubectl]:
    """Each kubectl, with a namespace of the test's own as its default."""
    program = kubectls.installed() if request.param == "installed" else request.getfixturevalue("old_kubectl")
    wait_for("admin.conf", server.instance.admin_kubeconfig.exists)
    made = Kubectl(program, server, tmp_path)
    wait_for(
        "the server's readiness",
        lambda: (
            subprocess.run([program, "get", "--raw", "/readyz"], env=made.environment, capture_output=True).stdout
            == b"ok"
        ),
    )
    namespace = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:60].strip("-")
    made("create", "namespace", namespace)
    config = tmp_path / "config"
    shutil.copy(server.instance.admin_kubeconfig, config)
    made.environment["KUBECONFIG"] = str(config)
    made("config", "set-context", "--current", f"--namespace={namespace}")
    wait_for("the namespace's account", lambda: made("get", "serviceaccount", "default", "--ignore-not-found"))
    yield made
    made("delete", "namespace", namespace, "--wait=false")


def pod(name: str = "hello", image: str = "busybox:1", **metadata: Any) -> dict[str, Any]:
    container = {"name": "main", "image": image, "command": ["sleep", "1000"], "env": [{"name": "A", "value": "1"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [container]},
    }


def pod_path(kubectl: Kubectl, name: str = "hello") -> str:
    namespace = kubectl("config", "view", "--minify", "-o", "jsonpath={..namespace}")
    return f"/api/v1/namespaces/{namespace}/pods/{name}"


def test_apply_creates_updates_and_takes_away(kubectl: Kubectl) -> None:
    assert "pod/hello created" in kubectl.apply(pod(labels={"app": "x", "old": "1"}))
    assert "pod/hello unchanged" in kubectl.apply(pod(labels={"app": "x", "old": "1"}))
    assert "pod/hello configured" in kubectl.apply(pod(image="busybox:2", labels={"app": "y"}))
    now = kubectl.json("get", "pod", "hello")
    assert now["metadata"]["labels"] == {"app": "y"}
    assert now["spec"]["containers"][0]["image"] == "busybox:2"
    assert now["spec"]["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    if kubectl.minor >= 27:  # older ones look for dry runs in OpenAPI v2, which is empty here
        same = json.dumps(pod(image="busybox:2", labels={"app": "y"}))
        assert kubectl("diff", "-f", "-", text=same) == ""
        assert "server dry run" in kubectl("apply", "--dry-run=server", "-f", "-", text=same)


def test_apply_of_a_list_in_yaml_and_delete_of_the_same(kubectl: Kubectl) -> None:
    text = """
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {a: "1"}
---
apiVersion: v1
kind: Secret
metadata: {name: two}
stringData: {b: "2"}
---
apiVersion: v1
kind: Service
metadata: {name: three}
spec: {ports: [{port: 80}], selector: {app: x}}
"""
    assert kubectl("apply", "-f", "-", text=text).count("created") == 3
    assert kubectl("get", "secret", "two", "-o", "jsonpath={.data.b}") == "Mg=="
    assert re.match(r"10\.\d+\.\d+\.\d+$", kubectl("get", "service", "three", "-o", "jsonpath={.spec.clusterIP}"))
    assert kubectl("delete", "-f", "-", text=text).count("deleted") == 3
    assert "NotFound" in kubectl("get", "service", "three", fails=True)


def test_typed_create_commands_that_send_protobuf(kubectl: Kubectl) -> None:
    """namespace is created by the fixture."""
    kubectl("create", "configmap", "c", "--from-literal=a=b", "--from-literal=empty=")
    assert kubectl.json("get", "configmap", "c")["data"] == {"a": "b", "empty": ""}
    kubectl("create", "secret", "generic", "s", "--from-literal=k=v")
    assert kubectl.json("get", "secret", "s")["data"] == {"k": "dg=="}
    kubectl("create", "serviceaccount", "sa")
    kubectl("create", "service", "clusterip", "svc", "--tcp=80:8080")
    (port,) = kubectl.json("get", "service", "svc")["spec"]["ports"]
    assert (port["port"], port["targetPort"], port["protocol"]) == (80, 8080, "TCP")
    assert "already exists" in kubectl("create", "serviceaccount", "sa", fails=True)
    if kubectl.minor >= 24:
        token = kubectl("create", "token", "sa", "--duration=1h").strip()
        who = kubectl("auth", "whoami", "--token", token, "-o", "json", KUBECONFIG=str(_without_user(kubectl)))
        assert json.loads(who)["status"]["userInfo"]["username"].endswith(":sa")


def _without_user(kubectl: Kubectl) -> Path:
    """The kubeconfig with the server alone."""
    view = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    view["users"], view["contexts"] = [], [{"name": "bare", "context": {"cluster": view["clusters"][0]["name"]}}]
    file = kubectl.scratch / "bare"
    file.write_text(json.dumps({**view, "current-context": "bare"}))
    return file


def test_get_in_every_form(kubectl: Kubectl) -> None:
    assert "No resources found" in kubectl("get", "pods")
    kubectl.apply(pod("a", labels={"app": "x"}))
    kubectl.apply(pod("b", labels={"app": "y"}))
    lines = kubectl("get", "pods").splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert [line.split()[:4] for line in lines[1:]] == [["a", "0/1", "Pending", "0"], ["b", "0/1", "Pending", "0"]]
    assert "NOMINATED NODE" in kubectl("get", "pods", "-o", "wide")
    assert kubectl("get", "pods", "-l", "app=x", "-o", "name").strip() == "pod/a"
    assert kubectl("get", "pods", "--field-selector", "metadata.name!=a", "--no-headers").split()[0] == "b"
    assert "app=y" in kubectl("get", "pod", "b", "--show-labels")
    assert kubectl("get", "pods", "-o", "jsonpath={.items[*].spec.containers[0].image}") == "busybox:1 busybox:1"
    assert "restartPolicy: Always" in kubectl("get", "pod", "a", "-o", "yaml")
    assert kubectl("get", "pods", "-o", "custom-columns=N:.metadata.name", "--no-headers").split() == ["a", "b"]
    assert [item["kind"] for item in kubectl.json("get", "pods")["items"]] == ["Pod", "Pod"]
    assert kubectl("get", "pods,configmaps", "-A").count("kube-root-ca.crt") > 1
    assert 'pods "none" not found' in kubectl("get", "pod", "none", fails=True)
    assert "doesn't have a resource type" in kubectl("get", "imaginary", fails=True)


def test_get_watch_shows_changes_as_they_happen(kubectl: Kubectl) -> None:
    kubectl.apply(pod())
    kubectl.wait_unscheduled(pod_path(kubectl))
    watching = subprocess.Popen(
        [kubectl.program, "get", "pods", "-w", "--no-headers"],
        env=kubectl.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert lines(watching, 1)[0].split()[:3] == ["hello", "0/1", "Pending"]
        state = {
            "name": "main",
            "ready": True,
            "restartCount": 2,
            "image": "i",
            "imageID": "",
            "state": {"running": {}},
        }
        kubectl.write_status(pod_path(kubectl), {"phase": "Running", "containerStatuses": [state]})
        rows = read_until(watching, lambda rows: "Running" in rows[-1])
        assert rows, "kubectl showed no further row"
        assert rows[-1].split()[:4] == ["hello", "1/1", "Running", "2"]
    finally:
        watching.kill()
        watching.wait(PATIENCE)
        if watching.stdout is not None:
            watching.stdout.close()


def test_changing_what_is_there(kubectl: Kubectl) -> None:
    kubectl.apply(pod())
    kubectl("label", "pod", "hello", "a=1", "b=2")
    kubectl("label", "pod", "hello", "b-")
    kubectl("annotate", "pod", "hello", "note=text with spaces")
    kubectl("patch", "pod", "hello", "-p", '{"metadata":{"labels":{"strategic":"1"}}}')
    kubectl("patch", "pod", "hello", "--type=merge", "-p", '{"metadata":{"labels":{"merge":"1"}}}')
    kubectl("patch", "pod", "hello", "--type=json", "-p", '[{"op":"add","path":"/metadata/labels/json","value":"1"}]')
    assert "edited" in kubectl("edit", "pod", "hello", EDITOR="sed -i s/busybox:1/busybox:3/")
    now = kubectl.json("get", "pod", "hello")
    assert now["metadata"]["labels"] == {"a": "1", "strategic": "1", "merge": "1", "json": "1"}
    assert now["metadata"]["annotations"]["note"] == "text with spaces"
    assert now["spec"]["containers"][0]["image"] == "busybox:3"
    kubectl("set", "image", "pod/hello", "main=busybox:4")
    kubectl("replace", "-f", "-", text=json.dumps({**pod(image="busybox:5"), "spec": {**now["spec"]}}))


def test_what_is_wrong_is_said_with_its_field(kubectl: Kubectl) -> None:
    twice = pod()
    twice["spec"]["containers"].append(dict(twice["spec"]["containers"][0]))
    assert 'spec.containers[1].name: Duplicate value: "main"' in kubectl.apply(twice, fails=True)
    misspelt = pod()
    misspelt["spec"]["containers"][0]["imagee"] = "x"
    shown = kubectl.apply(misspelt, fails=kubectl.minor >= 25)
    assert kubectl.minor < 25 or 'unknown field "spec.containers[0].imagee"' in shown
    moved = pod("moved")
    kubectl.apply(moved)
    moved["spec"]["hostNetwork"] = True
    assert "is invalid" in kubectl.apply(moved, fails=True)


def test_server_side_apply_is_refused_in_words(kubectl: Kubectl) -> None:
    shown = kubectl("apply", "--server-side", "-f", "-", text=json.dumps(pod()), fails=True)
    assert "use client-side apply" in shown


def test_waiting_for_a_condition_and_for_a_deletion(kubectl: Kubectl) -> None:
    kubectl.apply(pod())
    waiting = subprocess.Popen(
        [kubectl.program, "wait", "--for=condition=Ready", "pod/hello", "--timeout=30s"],
        env=kubectl.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-23T10:00:00Z"}
    kubectl.write_status(pod_path(kubectl), {"phase": "Running", "conditions": [ready]})
    assert "condition met" in waiting.communicate(timeout=40)[0]
    assert "deleted" in kubectl("delete", "pod", "hello", "--timeout=20s")
    kubectl("wait", "--for=delete", "pod/hello", "--timeout=20s", fails=kubectl.minor < 22)


def test_describe_events_and_run(kubectl: Kubectl) -> None:
    kubectl("run", "made", "--image=busybox", "--", "sleep", "5")
    assert kubectl.json("get", "pod", "made")["spec"]["containers"][0]["args"] == ["sleep", "5"]
    shown = kubectl("describe", "pod", "made")
    assert re.search(r"Status: +Pending", shown)
    assert "kube-api-access-" in shown
    uid = kubectl("get", "pod", "made", "-o", "jsonpath={.metadata.uid}")
    about = {
        "kind": "Pod",
        "name": "made",
        "uid": uid,
        "namespace": pod_path(kubectl).split("/")[4],
        "apiVersion": "v1",
    }
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "made.1"},
        "involvedObject": about,
        "type": "Warning",
        "reason": "Tested",
        "message": "seen by a test",
        "firstTimestamp": "2026-11-23T10:00:00Z",
        "lastTimestamp": "2026-11-23T10:00:00Z",
        "count": 1,
    }
    kubectl("create", "-f", "-", text=json.dumps(event))
    assert "seen by a test" in kubectl("describe", "pod", "made")
    assert re.search(r"Warning +Tested +pod/made +seen by a test", kubectl("get", "events"))
    if kubectl.minor >= 26:
        assert "seen by a test" in kubectl("events", "--for", "pod/made")
        assert "containers\t<[]Container>" in kubectl("explain", "pod.spec")


def test_who_may_do_what(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "pods").strip() == "yes"
    shown = kubectl("auth", "can-i", "list", "secrets", "--as=system:serviceaccount:default:default", fails=True)
    assert shown.strip().endswith("no")
    assert "*.*" in kubectl("auth", "can-i", "--list")
    denied = kubectl("get", "secrets", "--as=system:serviceaccount:default:default", fails=True)
    assert "Forbidden" in denied
    assert "cannot list" in denied


def test_a_namespace_is_emptied_when_it_is_deleted(kubectl: Kubectl) -> None:
    name = pod_path(kubectl).split("/")[4] + "-x"
    kubectl("create", "namespace", name)
    kubectl("create", "configmap", "c", "-n", name)
    kubectl("delete", "namespace", name, "--timeout=30s")
    assert "NotFound" in kubectl("get", "namespace", name, fails=True)
    kubectl("create", "namespace", name)
    assert "NotFound" in kubectl("get", "configmap", "c", "-n", name, fails=True)
    kubectl("delete", "namespace", name, "--wait=false")


def test_a_node_is_cordoned_drained_and_described(kubectl: Kubectl) -> None:
    name = pod_path(kubectl).split("/")[4][:50]
    kubectl.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    try:
        assert "cordoned" in kubectl("cordon", name)
        assert re.search(rf"{name} +\S*SchedulingDisabled", kubectl("get", "nodes"))
        assert "drained" in kubectl("drain", name, "--ignore-daemonsets", "--timeout=20s")
        assert "uncordoned" in kubectl("uncordon", name)
        kubectl("taint", "node", name, "k=v:NoSchedule")
        assert re.search(r"Taints: +k=v:NoSchedule", kubectl("describe", "node", name))
        kubectl("taint", "node", name, "k-")
    finally:
        kubectl("delete", "node", name)


def test_what_was_written_outlives_a_kill_and_a_watch_goes_on(kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "kept", "--from-literal=a=b")
    before = kubectl.json("get", "configmap", "kept")
    uid = kubectl("get", "configmap", "kept", "-o", "jsonpath={.metadata.uid}")
    assert kubectl.server.kill() == -signal.SIGKILL
    assert "refused" in kubectl("get", "configmaps", fails=True)
    kubectl.server.start()
    wait_for("the server again", lambda: "ok" in _readiness(kubectl))
    after = kubectl.json("get", "configmap", "kept")
    assert (after, after["metadata"]["uid"]) == (before, uid)
    kubectl("label", "configmap", "kept", "again=1")
    path = pod_path(kubectl).replace("pods/hello", "configmaps")
    rv = before["metadata"]["resourceVersion"]
    seen = kubectl("get", "--raw", f"{path}?watch=1&resourceVersion={rv}&timeoutSeconds=5").splitlines()
    changed = [json.loads(line) for line in seen]
    assert [item["type"] for item in changed if item["object"]["metadata"]["name"] == "kept"] == ["MODIFIED"]


def _readiness(kubectl: Kubectl) -> str:
    done = subprocess.run(
        [kubectl.program, "get", "--raw", "/readyz"], env=kubectl.environment, capture_output=True, text=True
    )
    return done.stdout


def test_stopping_ends_watches_in_their_middle_and_takes_no_time(kubectl: Kubectl) -> None:
    watching = [
        subprocess.Popen(
            [kubectl.program, "get", "configmaps", "-A", "-w", "--no-headers"],
            env=kubectl.environment,
            stdout=subprocess.PIPE,
        )
        for _ in range(5)
    ]
    try:
        for one in watching:
            lines(one, 1)
        began = time.monotonic()
        assert kubectl.server.kill(signal.SIGTERM) == 0
        assert time.monotonic() - began < 30  # the watches are not waited for: they have minutes
        for one in watching:
            one.wait(PATIENCE)
    finally:
        for one in watching:
            one.kill()
            one.communicate(timeout=10)
        kubectl.server.start()
    wait_for("the server again", lambda: "ok" in _readiness(kubectl))


@pytest.fixture
def other() -> Iterator[Server]:
    """A server of a test's own, not started yet."""
    with embedded_server("apis") as made:
        yield made


def test_where_a_cluster_is_joined_no_server_is_needed(other: Server) -> None:
    began = time.monotonic()
    other.start(KUBECONFIG="/etc/elsewhere.conf")
    assert other.wait(PATIENCE) == 0
    assert time.monotonic() - began > 1.5  # past startsecs, so that supervisord counts it as started
    assert "not needed: joined with KUBECONFIG=/etc/elsewhere.conf" in other.log
    assert not other.instance.store_file.exists()


def test_a_store_that_is_none_is_told_with_its_cure_and_waits_for_a_person(other: Server) -> None:
    other.instance.store_file.parent.mkdir(parents=True)
    other.instance.store_file.write_bytes(b"no database at all, but long enough to be read" * 100)
    other.start()
    assert other.wait(PATIENCE) == 78
    assert "make reset" in other.log
    assert "Traceback" not in other.log
