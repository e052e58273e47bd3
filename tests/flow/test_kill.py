"""Any process may die at any point: each is killed with -9 while pods are created, run, terminate and are followed.

One thread a test, `task-events`, keeps containerd's own events, across the death of the containerd that serves them.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.flow.live import SHELL_IMAGE, LiveNode, container, identity, is_ready, live_node, phase, shell_pod
from tests.flow.planes import Plane
from tests.waiting import wait_for

pytestmark = [pytest.mark.flow, pytest.mark.container, pytest.mark.timeout(600), pytest.mark.xdist_group("kill")]

PROGRAMS = ("api-watcher", "cri-bridge", "log-server", "kube-proxy", "apiserver", "containerd", "supervisord")
SERVES_LOGS = ("apiserver", "log-server", "supervisord")  # a follower's connection goes through them
SERVES_EVENTS = ("containerd", "supervisord")  # supervisord's containerd ends with it
COUNTING = "echo begin; n=0; while true; do n=$((n + 1)); echo line $n; sleep 0.5; done"


class TaskEvents:
    """containerd's task events; `ctr events` is started again whenever it ends, until closed."""

    def __init__(self, node: LiveNode) -> None:
        socket = node.instance.runtime_endpoint.removeprefix("unix://")
        self._command = ["ctr", "-a", socket, "-n", "k8s.io", "events"]
        self._lines: list[str] = []
        self._closing = threading.Event()
        self._reader = self._read()
        self._thread = threading.Thread(target=self._follow, name="task-events")
        self._thread.start()

    def _read(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def _follow(self) -> None:
        while True:
            assert self._reader.stdout is not None
            with self._reader.stdout as output:
                self._lines.extend(output)
            self._reader.wait()
            if self._closing.wait(0.05):
                return
            self._reader = self._read()

    def close(self) -> None:
        self._closing.set()
        while self._thread.is_alive():
            self._reader.kill()
            self._thread.join(0.1)

    def of(self, topic: str, container: str) -> list[dict[str, Any]]:
        """The events of one topic about a container; exits are those of its main process, not of what was executed."""
        bodies = [json.loads(line[line.index("{") :]) for line in list(self._lines) if f" /tasks/{topic} " in line]
        return [body for body in bodies if container == body["container_id"] == body.get("id", container)]


class Follower:
    """`kubectl logs -f` of the steady pod, whose lines are numbered; what it prints is kept."""

    def __init__(self, node: LiveNode, folder: Path) -> None:
        self._file = folder / "followed"
        command = ["kubectl", f"--kubeconfig={node.place.kubeconfig}", "logs", "-f", "--tail=1", "steady"]
        with open(self._file, "wb") as output, open(folder / "errors", "wb") as errors:
            self.process = subprocess.Popen(command, stdout=output, stderr=errors, env=node.environment)

    @property
    def text(self) -> str:
        return self._file.read_text()

    @property
    def numbers(self) -> list[int]:
        return [int(number) for number in re.findall(r"^line (\d+)\n", self.text, re.MULTILINE)]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def victim(plane: Plane) -> Iterator[LiveNode]:
    """A node whose programs are killed; its pods outlive each of the deaths."""
    with live_node(plane, "kill") as live:
        live.up()
        live.apply(shell_pod("steady", COUNTING), crashed_pod())
        live.wait_ready("steady")
        live.wait_pod("crashed", lambda it: container(it).get("restartCount") == 1 and is_ready(it))
        yield live


@contextmanager
def watched(node: LiveNode, folder: Path) -> Iterator[tuple[TaskEvents, Follower]]:
    events, follower = TaskEvents(node), Follower(node, folder)
    try:
        wait_for("the follower's first line", lambda: follower.numbers)
        wait_for("`ctr events` shows what is executed", lambda: shows_events(node, events))
        yield events, follower
    finally:
        follower.close()
        events.close()


def shows_events(node: LiveNode, events: TaskEvents) -> bool:
    node.kubectl("exec", "steady", "--", "true")
    return bool(events.of("exec-started", identity(node.pod("steady"))))


def crashed_pod() -> dict[str, Any]:
    """Its container fails once and runs from then on."""
    script = "test -e /kept/once || { touch /kept/once; echo failing; exit 3; }; exec sleep 36000"
    mounts = {"volumeMounts": [{"name": "kept", "mountPath": "/kept"}]}
    return shell_pod("crashed", script, container=mounts, volumes=[{"name": "kept", "emptyDir": {}}])


def dying_pod(name: str) -> dict[str, Any]:
    """It takes five of its twenty seconds of grace to end, and then ends by itself."""
    script = "trap 'echo TERM; sleep 5; exit 0' TERM; echo ready; while true; do sleep 0.1; done"
    return shell_pod(name, script, terminationGracePeriodSeconds=20)


def born_pod(name: str) -> dict[str, Any]:
    """It runs once, two seconds after the runtime has begun to make it, so that a kill meets it on its way."""
    first = {"name": "first", "image": SHELL_IMAGE, "command": ["sh", "-c", "echo first; sleep 2"]}
    return shell_pod(name, "echo born; sleep 1", restartPolicy="Never", initContainers=[first])


def program_pid(node: LiveNode, program: str) -> int:
    """`apiserver` is the one that serves this node, embedded or real."""
    if program == "supervisord":
        return node.supervisord_pid()
    if program == "apiserver" and node.place.cluster is not None:
        return node.place.cluster.running()["kube-apiserver"][0]
    return node.pid(program)


def wait_back(node: LiveNode, program: str, killed: int) -> None:
    """Until supervisord (or, for supervisord itself, a new make run; for a real API server, who started it) has it
    running again and the node is Ready."""
    if program == "supervisord":
        wait_for("supervisord is gone", lambda: "pid" not in node.supervisorctl("status", check=False))
        node.up()
    elif program == "apiserver" and node.place.cluster is not None:
        node.place.cluster.start()
    else:
        node.wait_running(program, but=killed)
    wait_for("the node is Ready", node.is_node_ready, 90)


def started_at(status: dict[str, Any]) -> float:
    """Unix seconds; the API's times have whole ones."""
    text = status["state"]["terminated"]["startedAt"]
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_pod_ends_where_it_should_after_a_kill(victim: LiveNode, program: str, tmp_path: Path) -> None:
    node, dying, born = victim, f"dying-{program}", f"born-{program}"
    steady, crashed = container(node.wait_ready("steady")), container(node.wait_ready("crashed"))
    with watched(node, tmp_path) as (events, follower):
        node.apply(dying_pod(dying))
        doomed = identity(node.wait_ready(dying))
        wait_for("its start", lambda: events.of("start", doomed))
        wait_for("its trap is set", lambda: node.kubectl("logs", dying) == "ready\n")
        pid = program_pid(node, program)
        node.kubectl("delete", "pod", dying, "--wait=false")
        assert node.pod(dying)["metadata"]["deletionTimestamp"]
        node.client.create(f"/api/v1/namespaces/{node.namespace}/pods", born_pod(born))  # no kubectl that ends later
        killed = time.time()
        os.kill(pid, signal.SIGKILL)
        followed = len(follower.numbers)

        wait_back(node, program, pid)
        check_born(node, events, born, program, killed)
        check_dying(node, events, dying, doomed, program)
        check_steady(node, events, steady)
        check_crashed(node, crashed)
        check_follower(follower, followed, program)
    node.kubectl("delete", "pod", born, "--wait=true")


def check_born(node: LiveNode, events: TaskEvents, name: str, program: str, killed: float) -> None:
    """It was on its way when the program died; both of its containers ran once, and to their end."""
    pod = node.wait_pod(name, lambda it: phase(it) == "Succeeded", 120)
    (first,) = pod["status"]["initContainerStatuses"]
    main = container(pod)
    assert started_at(main) >= int(killed), "the container ran before the kill: nothing was shown"
    wait_for("containerd's events are seen after the kill", lambda: events.of("exit", identity(pod)))
    for status in (first, main):
        made = status["containerID"].removeprefix("containerd://")
        assert (status["restartCount"], status["state"]["terminated"]["reason"]) == (0, "Completed")
        assert node.containers(name, status["name"]) == {made}
        starts = len(events.of("start", made))
        assert starts == 1 or (starts == 0 and program in SERVES_EVENTS)  # one may fall between two `ctr events`
    for of, line in (("first", "first\n"), ("main", "born\n")):
        wait_for("its log", partial(has_logged, node, line, name, "-c", of))


def has_logged(node: LiveNode, text: str, *arguments: str) -> bool:
    """log-server may run and not serve yet."""
    return node.kubectl("logs", *arguments, check=False) == text


def check_dying(node: LiveNode, events: TaskEvents, name: str, doomed: str, program: str) -> None:
    """It goes after its own five seconds, not before and not by force, and nothing is started in its place."""
    seen: set[str] = set()

    def gone() -> bool:
        pod = node.pod(name)
        seen.update(node.containers(name))
        assert container(pod).get("restartCount", 0) == 0
        return pod == {}

    wait_for("the deleted pod is gone", gone, 90)
    assert seen <= {doomed}
    wait_for("its ended container is removed", lambda: node.containers(name) == set())  # follows `finished`
    assert len(events.of("start", doomed)) == 1
    if program not in SERVES_EVENTS:
        wait_for("its exit", lambda: events.of("exit", doomed))
    exits = [body.get("exit_status", 0) for body in events.of("exit", doomed)]
    assert exits == [0] or (exits == [] and program in SERVES_EVENTS)


def check_steady(node: LiveNode, events: TaskEvents, before: dict[str, Any]) -> None:
    """The same container, never started again, and none beside it."""
    after = container(node.wait_ready("steady", 60))
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    assert node.containers("steady") == {after["containerID"].removeprefix("containerd://")}
    assert events.of("start", after["containerID"].removeprefix("containerd://")) == []
    wait_for("its log", lambda: node.kubectl("logs", "steady", check=False).count("begin\n") == 1)


def check_crashed(node: LiveNode, before: dict[str, Any]) -> None:
    """What it went through once is neither forgotten nor counted again."""
    after = container(node.wait_ready("crashed"))
    shown = ("containerID", "restartCount", "state", "lastState")
    assert [after[field] for field in shown] == [before[field] for field in shown]
    assert (after["restartCount"], after["lastState"]["terminated"]["exitCode"]) == (1, 3)
    wait_for("its first log", lambda: has_logged(node, "failing\n", "crashed", "--previous"))


def check_follower(follower: Follower, before: int, program: str) -> None:
    """It misses and repeats nothing, and goes on; where its connection died it may end instead, but not in a line."""

    def settled() -> bool:
        ended = program in SERVES_LOGS and follower.process.poll() is not None
        return ended or len(follower.numbers) >= before + 4

    wait_for("the follower goes on", settled)
    if program not in SERVES_LOGS:
        assert follower.process.poll() is None
    numbers, ended = follower.numbers, follower.process.poll() is not None
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert not ended or follower.text.endswith("\n")
