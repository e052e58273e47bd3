"""What needs no container holds on both providers: cri-bridge on containerd, and the one that keeps pods in memory.

Watcher, status, deletion and logs as kubectl shows them, restarts of either side of the queue, and the queue itself.
A provider that falls silent is in test_session: the watcher tells, and it cannot tell providers apart.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.flow.live import BIN, LiveNode, container, is_ready, live_node, shell_pod
from tests.flow.planes import Plane
from tests.flow.reading import lines, read_until
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(300), pytest.mark.xdist_group("providers")]

MEMORY = "examples/providers/memory.py"
LINES = ("line one", "line two", "line three")


@pytest.fixture(scope="module", params=["cri-bridge", MEMORY])
def live(request: pytest.FixtureRequest, plane: Plane) -> Iterator[LiveNode]:
    """A Ready node on one provider: the session's own for cri-bridge, one of this module for the other."""
    if request.param == "cri-bridge":
        yield request.getfixturevalue("node")
        return
    with live_node(plane, "prov", VKCRI_PROVIDER=request.param) as made:
        made.up()
        yield made


@pytest.fixture
def pod(live: LiveNode) -> Iterator[str]:
    """The name of a Ready pod that has logged three lines, gone after the test."""
    name = f"both-{time.monotonic_ns() % 10**9}"
    live.apply(simple_pod(name))
    live.wait_ready(name)
    try:
        yield name
    finally:
        live.kubectl("delete", "pod", name, "--ignore-not-found", "--grace-period=1", "--wait=true")


def simple_pod(name: str, **spec: Any) -> dict[str, Any]:
    """A Pod that logs three lines on either provider and then runs on."""
    made = shell_pod(
        name, f"for line in '{LINES[0]}' '{LINES[1]}' '{LINES[2]}'; do echo $line; done; sleep 3600", **spec
    )
    made["metadata"]["annotations"] = {"memory.vkcri/log": "\n".join(LINES)}
    return made


def conditions(pod: dict[str, Any]) -> dict[str, str]:
    return {item["type"]: item["status"] for item in pod["status"]["conditions"]}


def identity(live: LiveNode, name: str) -> tuple[str, int]:
    found = container(live.pod(name))
    return found["containerID"], found["restartCount"]


def test_only_the_programs_that_are_needed_run(live: LiveNode) -> None:
    wanted = {**dict.fromkeys(live.programs, "RUNNING"), **dict.fromkeys(live.idle, "EXITED")}
    assert set(wanted) == {"containerd", "apiserver", "api-watcher", "cri-bridge", "log-server", "kube-proxy"}
    wait_for("the launchers' ends", lambda: live.states() == wanted)
    if "containerd" in live.idle:
        assert f"not needed: provider {MEMORY}" in (live.instance.log_dir / "containerd.log").read_text()
        assert not live.instance.containerd_root.exists()
        assert f"not needed: provider {MEMORY}" in live.run(str(BIN / "vkcri"), "doctor")


def test_a_pod_becomes_running_and_ready(live: LiveNode, pod: str) -> None:
    shown = live.kubectl("get", "pod", pod, "--no-headers").split()
    assert shown[1:4] == ["1/1", "Running", "0"]
    found = live.pod(pod)
    wanted = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": "True", "Ready": "True"}
    assert conditions(found).items() >= wanted.items()
    main = container(found)
    assert main["ready"]
    assert main["started"]
    assert main["state"]["running"]["startedAt"]
    assert found["status"]["startTime"]
    assert found["status"]["qosClass"] == "BestEffort"
    assert re.search(r"Status: +Running", live.kubectl("describe", "pod", pod))
    status = live.run(str(BIN / "vkcri"), "status")
    assert re.search(rf"{live.namespace} +{pod} +Running +1/1 +0", status)
    assert f"NODE {live.name}: Ready" in status


def test_its_log_is_read_in_every_way(live: LiveNode, pod: str) -> None:
    whole = "".join(f"{line}\n" for line in LINES)
    wait_for("three lines", lambda: live.kubectl("logs", pod) == whole)
    assert live.kubectl("logs", pod, "--tail=1") == f"{LINES[2]}\n"
    assert live.kubectl("logs", pod, "--tail=0") == ""
    assert live.kubectl("logs", pod, "--limit-bytes=12") == whole[:12]
    stamped = live.kubectl("logs", pod, "--timestamps", "--since=1h").splitlines()
    assert [line.partition(" ")[2] for line in stamped] == list(LINES)
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ", stamped[0])
    assert "previous terminated container" in live.kubectl("logs", pod, "--previous", check=False)
    assert "not valid for pod" in live.kubectl("logs", pod, "-c", "other", check=False)
    shown = live.run(str(BIN / "vkcri"), "logs", "--namespace", live.namespace, pod, "--tail", "2")
    assert shown == "line two\nline three\n"


def test_a_followed_log_ends_with_its_container(live: LiveNode, pod: str) -> None:
    command = ["kubectl", f"--kubeconfig={live.place.kubeconfig}", "logs", "-f", "--tail=2", pod]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=live.environment)
    try:
        assert lines(follower, 2) == ["line two\n", "line three\n"]
        assert follower.poll() is None
        live.kubectl("delete", "pod", pod, "--wait=false")
        rest, _ = follower.communicate(timeout=PATIENCE)
        assert rest == ""
        assert follower.returncode == 0
    finally:
        follower.kill()
        follower.wait()


def test_a_deleted_pod_is_gone_within_its_grace(live: LiveNode) -> None:
    live.apply(simple_pod("brief", terminationGracePeriodSeconds=90))
    live.wait_ready("brief")
    started = time.monotonic()
    live.kubectl("delete", "pod", "brief", "--grace-period=3", "--wait=true")
    assert time.monotonic() - started < 80  # its own grace is 90
    assert live.pod("brief") == {}
    wait_for("its logs are gone", lambda: not list(live.instance.pod_logs_dir.glob(f"{live.namespace}_brief_*")))


def test_a_pod_that_does_not_end_by_itself_has_its_grace_and_no_more(live: LiveNode) -> None:
    stubborn = shell_pod("stubborn", "trap '' TERM; while true; do sleep 1; done", terminationGracePeriodSeconds=5)
    stubborn["metadata"]["annotations"] = {"memory.vkcri/stop-delay": "60"}
    live.apply(stubborn)
    live.wait_ready("stubborn")
    started = time.monotonic()
    live.kubectl("delete", "pod", "stubborn", "--wait=true")
    assert 4 < time.monotonic() - started < 55


def test_a_forced_delete_is_immediate_and_nothing_stays(live: LiveNode, pod: str) -> None:
    uid = live.pod(pod)["metadata"]["uid"]
    live.kubectl("delete", "pod", pod, "--force", "--grace-period=0", "--wait=false")
    assert live.pod(pod) == {}
    tail = str(BIN / "vkcri"), "queue", "tail", "pod-status"
    wait_for("the provider let go of it", lambda: uid not in first_lines(live, *tail), 40)


def test_a_node_object_that_is_deleted_is_registered_again(live: LiveNode, pod: str) -> None:
    before, running = live.node()["metadata"]["uid"], identity(live, pod)
    live.kubectl("delete", "node", live.name)
    wait_for("another Node", lambda: live.node().get("metadata", {}).get("uid") not in (None, before))
    wait_for("the node is Ready", live.is_node_ready)
    live.wait_ready(pod)
    assert identity(live, pod) == running


@pytest.mark.parametrize("program", ["api-watcher", "cri-bridge", "log-server"])
def test_a_restart_of_either_side_keeps_the_pods(live: LiveNode, pod: str, program: str) -> None:
    before = identity(live, pod)
    assert before[1] == 0
    live.supervisorctl("restart", program)
    live.apply(simple_pod("after"))
    live.wait_ready("after")
    assert is_ready(live.pod(pod))
    assert identity(live, pod) == before
    wait_for("its log", lambda: live.kubectl("logs", pod, "--tail=1", check=False) == f"{LINES[2]}\n")
    live.kubectl("delete", "pod", "after", "--grace-period=1", "--wait=true")


def is_synced(line: str) -> bool:
    return line.startswith('{"synced"')


def first_lines(live: LiveNode, *command: str, last: Callable[[str], bool] = is_synced) -> str:
    """What a command that does not end by itself prints up to the last line that is wanted, or within PATIENCE."""
    with subprocess.Popen(
        command, env=live.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        try:
            return "".join(read_until(running, lambda printed: last(printed[-1])))
        finally:
            running.kill()


def is_running_in(live: LiveNode, topic: str, uid: str) -> bool:
    """Whether a topic has the pod now, and as Running."""
    entries = [json.loads(line) for line in first_lines(live, str(BIN / "vkcri"), "queue", "tail", topic).splitlines()]
    assert "synced" in entries[-1]
    return any(item.get("put") == uid and item["value"].get("status", {}).get("phase") == "Running" for item in entries)


def test_the_queue_is_shown_as_json_lines(live: LiveNode) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "word"}, "stringData": {"word": "sesame"}}
    volume = {"volumes": [{"name": "word", "secret": {"secretName": "word"}}]}
    live.apply(secret, simple_pod("queued", **volume))
    live.wait_ready("queued")
    uid = live.pod("queued")["metadata"]["uid"]
    try:
        for topic in ("pods", "pod-status"):
            wait_for(f"it runs, by {topic}", partial(is_running_in, live, topic, uid))
        key = f"secrets/{live.namespace}/word"
        tail = (str(BIN / "vkcri"), "queue", "tail", "objects")  # which is never synced: objects are read as pods want
        text = first_lines(live, *tail, last=lambda line: f'"{key}"' in line)
        keys = {entry.get("put"): entry for entry in map(json.loads, text.splitlines())}
        assert keys[key]["bytes"] > 20
        assert not any("value" in entry for entry in keys.values())
        assert "sesame" not in text
        assert "c2VzYW1l" not in text
    finally:
        live.kubectl("delete", "pod", "queued", "--grace-period=1", "--wait=true")
        live.kubectl("delete", "secret", "word")


def test_values_of_secrets_are_in_no_log(live: LiveNode) -> None:
    for path in live.instance.log_dir.glob("*.log"):
        assert "c2VzYW1l" not in path.read_text(errors="replace")
