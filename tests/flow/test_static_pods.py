"""Static pods of a folder: they run as the files say, and their mirror pods tell it, whatever becomes of those.

The cases are those of Kubernetes' own node tests of mirror pods, and what is this node's own: each process may restart,
and the API server may be away.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.flow.live import LiveNode, container, identity, is_ready, phase, shell_pod
from tests.flow.reading import read_until
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(400)]

LINES = "i=0; while true; do i=$((i+1)); echo line $i; sleep 0.2; done"


class Static:
    """One static pod: its file, and its mirror pod."""

    def __init__(self, node: LiveNode, name: str) -> None:
        self.node = node
        self.file = node.instance.manifests_dir / f"{name}.yaml"
        self.own_name, self.name = name, f"{name}-{node.name}"

    def write(self, script: str = LINES, **spec: Any) -> None:
        """Put the manifest there by a rename, as people's tools do."""
        pod = shell_pod(self.own_name, script, **spec)
        pod["metadata"]["namespace"] = self.node.namespace
        self.file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.file.with_name(f".{self.file.name}")
        scratch.write_text(json.dumps(pod))
        scratch.rename(self.file)

    def wait(self, condition: Callable[[dict[str, Any]], object] = is_ready) -> dict[str, Any]:
        return self.node.wait_pod(self.name, condition)

    def remove(self) -> None:
        """The file goes, and with it the pod and its mirror pod."""
        self.file.unlink(missing_ok=True)
        wait_for("no mirror pod", lambda: not self.node.pod(self.name))

    def running(self) -> set[str]:
        return self.node.containers(self.name)


@pytest.fixture
def static(node: LiveNode) -> Iterator[Static]:
    found = Static(node, "fixed")
    yield found
    found.remove()


def mirror_uid(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["uid"])


def config_hash(pod: dict[str, Any]) -> str:
    annotations = pod["metadata"]["annotations"]
    assert annotations["kubernetes.io/config.mirror"] == annotations["kubernetes.io/config.hash"]
    return str(annotations["kubernetes.io/config.hash"])


def test_a_static_pod_is_seen_and_reached_through_its_mirror_pod(node: LiveNode, static: Static) -> None:
    static.write()
    pod = static.wait()
    owner = pod["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Node", node.node()["metadata"]["uid"], True)
    assert node.exec(static.name, "hostname").strip() == static.name
    with node.kubectl_process("logs", "-f", "-n", node.namespace, static.name) as follower:
        try:
            assert read_until(follower, lambda lines: len(lines) > 2)
            node.kubectl("delete", "pod", static.name, "--wait=false")
            again = static.wait(lambda it: mirror_uid(it) != mirror_uid(pod) and is_ready(it))
            assert identity(again) == identity(pod), "the container has gone on"
            assert len(read_until(follower, lambda lines: len(lines) > 9)) > 9, "and so has its log"
        finally:
            follower.kill()
    node.kubectl("delete", "pod", static.name, "--force", "--grace-period=0")
    last = static.wait(lambda it: mirror_uid(it) != mirror_uid(again) and is_ready(it))
    assert identity(last) == identity(pod)
    assert config_hash(last) == config_hash(pod)
    assert "Started" in node.kubectl("describe", "pod", static.name), "kubectl finds a static pod's events by its hash"


def test_a_changed_file_is_another_pod_and_a_removed_one_none(node: LiveNode, static: Static) -> None:
    static.write()
    before = static.wait()
    static.write(f"trap 'sleep 1; exit 0' TERM; echo second; {LINES}", terminationGracePeriodSeconds=10)
    after = static.wait(lambda it: is_ready(it) and identity(it) != identity(before))
    assert config_hash(after) != config_hash(before)
    assert mirror_uid(after) != mirror_uid(before)
    wait_for("the first container's end", lambda: static.running() == {identity(after)})
    static.file.rename(static.file.with_name("other.yaml"))  # its path is a part of what it is
    try:
        renamed = static.wait(lambda it: is_ready(it) and identity(it) != identity(after))
    finally:
        static.file.with_name("other.yaml").rename(static.file.with_name(".gone"))
    assert config_hash(renamed) != config_hash(after)
    wait_for("no mirror pod", lambda: not node.pod(static.name))
    assert static.running() == set()
    assert not (node.instance.volumes_dir / config_hash(renamed)).exists()


def test_a_restart_of_any_process_leaves_a_static_pod_alone(node: LiveNode, static: Static) -> None:
    static.write()
    before = static.wait()
    for program in ("api-watcher", "cri-bridge", "log-server"):
        pid = node.pid(program)
        node.supervisorctl("restart", program)
        node.wait_running(program, but=pid)
    wait_for("exec answers again", lambda: "hi" in node.kubectl("exec", static.name, "--", "echo", "hi", check=False))
    after = static.wait()
    assert (identity(after), mirror_uid(after)) == (identity(before), mirror_uid(before))
    assert container(after)["restartCount"] == 0


def test_a_static_pod_that_crashes_is_started_again_and_counted(static: Static) -> None:
    static.write("echo before; exit 3")
    pod = static.wait(lambda it: container(it).get("restartCount", 0) >= 1)
    assert container(pod)["lastState"]["terminated"]["exitCode"] == 3
    static.wait(lambda it: container(it)["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    static.write("exit 0", restartPolicy="Never")
    static.wait(lambda it: phase(it) == "Succeeded")


def test_a_bad_manifest_is_told_and_its_neighbour_runs(node: LiveNode, static: Static) -> None:
    bad = static.file.with_name("bad.yaml")
    static.write()
    bad.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: bad}\nspec: {serviceAccountName: a, containers: []}\n")
    try:
        told = wait_for("the notice", lambda: text if str(bad) in (text := status(node)) else "")
        assert "spec.containers: Required value" in told
        static.wait()
    finally:
        bad.unlink()
    wait_for("no notice", lambda: str(bad) not in status(node))


def status(node: LiveNode) -> str:
    return node.run(".venv/bin/vkcri", "status", check=False)


@pytest.mark.embedded_only("stops the API server, which on a real plane serves other nodes too")
def test_without_an_api_server_static_pods_come_change_and_go_and_api_pods_stay(node: LiveNode, static: Static) -> None:
    node.apply(shell_pod("ordinary", "sleep 3600"))
    ordinary = identity(node.wait_ready("ordinary"))
    node.supervisorctl("stop", "apiserver")
    try:
        for program in ("api-watcher", "cri-bridge", "log-server"):
            node.supervisorctl("restart", program)  # from here on none of them has ever seen the API server
        static.write()
        first = wait_for("it runs", lambda: exactly_one(running(node, static.name)))
        static.write("echo second; sleep 3600")
        second = wait_for("another runs", lambda: exactly_one(running(node, static.name) - {first}))
        wait_for("the first one's end", lambda: static.running() == {second})
        logs = (".venv/bin/vkcri", "logs", "-n", node.namespace, static.name)
        wait_for("its log", lambda: "second" in node.run(*logs, check=False))
        row = [node.namespace, static.name, "Running"]
        wait_for("its row", lambda: row in [line.split()[:3] for line in status(node).splitlines()])
        static.file.unlink()
        wait_for("it is gone", lambda: not static.running())
        assert running(node, "ordinary") == {ordinary}
    finally:
        node.supervisorctl("start", "apiserver")
        wait_for("the node is Ready again", node.is_node_ready)
    static.write()
    static.wait()
    assert identity(node.wait_ready("ordinary")) == ordinary
    node.kubectl("delete", "pod", "ordinary", "--wait=true")


def running(node: LiveNode, pod: str) -> set[str]:
    """The ids of a pod's containers that run."""
    tasks = {line.split()[0] for line in node.ctr("tasks", "list").splitlines() if "RUNNING" in line}
    return node.containers(pod) & tasks


def exactly_one(ids: set[str]) -> str:
    return next(iter(ids)) if len(ids) == 1 else ""
