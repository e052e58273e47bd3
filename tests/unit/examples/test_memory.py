"""The second provider: its steps as a pure function, and the queue's contract with the real process."""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.instances import own
from tests.living import living
from tests.waiting import PATIENCE
from vkcri.api import loglines, times
from vkcri.errors import Invalid, NotFound, Refused
from vkcri.lifecycle import Process
from vkcri.queue import Publisher, Subscription, request

FILE = Path(__file__).parents[3] / "examples" / "providers" / "memory.py"
INSTANCE = own("queue")
NOW = times.to_epoch("2026-11-23T12:00:00Z")
Object = dict[str, Any]


def module() -> Any:
    spec = importlib.util.spec_from_file_location("memory_provider", FILE)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


memory = module()


def pod(policy: str = "Always", **annotations: str) -> Object:
    names = {f"memory.vkcri/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return {
        "metadata": {"namespace": "ns", "name": "web", "uid": "u-1", "annotations": names},
        "spec": {"restartPolicy": policy, "containers": [{"name": "main", "image": "any"}]},
    }


def run(subject: Object, times_: list[float], prior: Object | None = None, may_start: bool = True) -> Object:
    status = prior or {"conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": "before"}]}
    for moment in times_:
        status = memory.step(subject, status, NOW + moment, may_start)
    return status


def condition(status: Object, name: str) -> Object:
    return next(item for item in status["conditions"] if item["type"] == name)


def test_it_is_short_and_imports_only_what_a_provider_may() -> None:
    text = FILE.read_text()
    assert text.count("\n") < 200
    allowed = {"config", "errors", "lifecycle", "queue", "api"}
    for node in ast.walk(ast.parse(text)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            top, _, rest = name.partition(".")
            assert top in sys.stdlib_module_names or (top == "vkcri" and rest.partition(".")[0] in allowed), name


def test_when_everything_is_good_nothing_changes() -> None:
    status = run(pod(), [0])
    assert status["phase"] == "Running"
    assert condition(status, "Ready")["status"] == "True"
    assert condition(status, "PodScheduled")["lastTransitionTime"] == "before"
    assert run(pod(), [60, 3600], status) == status


def test_without_a_node_nothing_starts() -> None:
    status = run(pod(), [0, 60], may_start=False)
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_a_delayed_start() -> None:
    status = run(pod(start_delay="5"), [0, 4])
    assert status["phase"] == "Pending"
    status = run(pod(start_delay="5"), [5], status)
    assert status["phase"] == "Running"
    assert condition(status, "Ready")["lastTransitionTime"] == "2026-11-23T12:00:05Z"


def test_a_failing_start_is_told_and_stays() -> None:
    status = run(pod(fail="no space"), [0, 100])
    waiting = status["containerStatuses"][0]["state"]["waiting"]
    assert waiting == {"reason": "CreateContainerError", "message": "no space"}
    assert status["phase"] == "Pending"


@pytest.mark.parametrize(("code", "phase"), [("0", "Succeeded"), ("3", "Failed")])
def test_an_exit_without_restart_is_terminal_and_final(code: str, phase: str) -> None:
    subject = pod("Never", exit_after="10", exit_code=code)
    status = run(subject, [0, 9])
    assert status["phase"] == "Running"
    status = run(subject, [10], status)
    assert status["phase"] == phase
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == int(code)
    assert run(pod("Always"), [1000], status) == status


def test_restarts_back_off_as_the_kubelets_do() -> None:
    subject = pod("OnFailure", exit_after="1", exit_code="1")
    status = run(subject, [0, 1, 2])
    assert status["phase"] == "Running"
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    status = run(subject, [10.9], status)
    assert "waiting" in status["containerStatuses"][0]["state"]
    status = run(subject, [11], status)
    assert status["containerStatuses"][0]["restartCount"] == 1
    assert status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    status = run(subject, [12, 13, 31.9], status)
    assert "waiting" in status["containerStatuses"][0]["state"]
    assert run(subject, [32], status)["containerStatuses"][0]["restartCount"] == 2


@pytest.mark.parametrize(("stop_delay", "at", "code"), [("0", 0, 0), ("20", 20, 0), ("600", 30, 137)])
def test_a_deletion_is_honoured_within_its_grace(stop_delay: str, at: float, code: int) -> None:
    status = run(pod(), [0])
    subject = pod(stop_delay=stop_delay)
    subject["metadata"] |= {"deletionTimestamp": "2026-11-23T12:01:30Z", "deletionGracePeriodSeconds": 30}
    if at:
        assert run(subject, [60 + at - 1], status)["phase"] == "Running"
    status = run(subject, [60 + at], status)
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == code
    assert status["phase"] == ("Failed" if code else "Succeeded")
    assert condition(status, "Ready")["status"] == "False"


def test_a_readiness_gate_of_others_is_waited_for_and_carried_over() -> None:
    subject = pod()
    subject["spec"]["readinessGates"] = [{"conditionType": "example.com/up"}]
    status = run(subject, [0])
    assert (condition(status, "Ready")["status"], condition(status, "ContainersReady")["status"]) == ("False", "True")
    status["conditions"].append({"type": "example.com/up", "status": "True"})
    status = run(subject, [1], status)
    assert condition(status, "Ready")["status"] == "True"
    assert condition(status, "example.com/up") == {"type": "example.com/up", "status": "True"}


class Guest:
    """The watcher's side of the queue, and the provider as a process of its own."""

    def __init__(self, process: Process) -> None:
        self.watcher = Publisher(INSTANCE.queue_socket("watcher"), ["pods", "node"], sources={"pods": ("api", "file")})
        self.watcher.start(process)
        self.watcher.replace("node", {"n1": b"{}"})
        self.provider = INSTANCE.queue_socket("provider")
        self.statuses = Subscription(self.provider, "pod-status", lambda _: None)
        self.node = Subscription(self.provider, "node-status", lambda _: None)
        self.events = Subscription(self.provider, "events", lambda _: None)
        for subscription in (self.statuses, self.node, self.events):
            subscription.start(process)
        self.child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = {"PATH": os.environ["PATH"], "VKCRI_INSTANCE": INSTANCE.name, "VKUBELET_NODE_NAME": "n1"}
        environ["PYTHONPATH"] = str(FILE.parents[2])
        self.child = subprocess.Popen([sys.executable, str(FILE)], env=environ)

    def stop(self) -> None:
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None

    def publish(self, *subjects: Object) -> None:
        values = {subject["metadata"]["uid"]: json.dumps(subject).encode() for subject in subjects}
        self.watcher.replace("pods", values, source="api")

    def entry(self, uid: str = "u-1") -> Object:
        return json.loads(self.statuses.get(uid) or b'{"status": {}}')  # type: ignore[no-any-return]

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, self.entry()
            assert self.child is None or self.child.poll() is None
            time.sleep(0.02)


@pytest.fixture
def guest() -> Iterator[Guest]:
    with living("watcher", INSTANCE) as process:
        made = Guest(process)
        yield made
    made.stop()
    for folder in (INSTANCE.run_dir, INSTANCE.state_dir, INSTANCE.log_dir):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="an instance's folders are root's")
@pytest.mark.xdist_group("memory-provider")
def test_the_queues_contract_from_first_pod_to_restart_to_deletion(guest: Guest) -> None:
    subject = pod(log="one\ntwo")
    guest.publish(
        subject, {**pod(fail="broken"), "metadata": {**pod(fail="broken")["metadata"], "uid": "u-2", "name": "b"}}
    )
    guest.start()
    guest.until(lambda: guest.entry()["status"].get("phase") == "Running" and guest.statuses.synced())
    assert guest.entry()["finished"] is False
    assert {key: guest.entry()[key] for key in ("namespace", "name", "uid")} == {
        "namespace": "ns",
        "name": "web",
        "uid": "u-1",
    }
    answer = request(
        guest.provider, "log-path", {"namespace": "ns", "pod": "web", "container": "main"}, timeout=PATIENCE
    )
    assert answer["running"] is True
    assert answer["path"] == str(INSTANCE.pod_logs_dir / "ns_web_u-1" / "main" / "0.log")
    lines = [loglines.parse(line) for line in Path(answer["path"]).read_bytes().splitlines(keepends=True)]
    assert [line.content for line in lines] == [b"one\n", b"two\n"]
    with pytest.raises(NotFound):
        request(guest.provider, "log-path", {"namespace": "ns", "pod": "web", "container": "other"}, timeout=PATIENCE)
    with pytest.raises(NotFound):
        request(guest.provider, "log-path", {"namespace": "ns", "pod": "none", "container": "main"}, timeout=PATIENCE)
    with pytest.raises(Invalid, match="is waiting to start: CreateContainerError"):
        request(guest.provider, "log-path", {"namespace": "ns", "pod": "b", "container": "main"}, timeout=PATIENCE)
    with pytest.raises(Invalid, match="previous terminated container"):
        body = {"namespace": "ns", "pod": "web", "container": "main", "previous": True}
        request(guest.provider, "log-path", body, timeout=PATIENCE)
    for name in ("exec", "attach", "port-forward"):
        with pytest.raises(Refused):
            request(guest.provider, name, {"uid": "u-1", "container": "main", "command": ["id"]}, timeout=PATIENCE)
    guest.until(lambda: guest.node.get("node"))
    node = json.loads(guest.node.get("node") or b"")
    assert int(node["capacity"]["cpu"]) == os.cpu_count()
    assert {item["type"]: item["status"] for item in node["conditions"]}["Ready"] == "True"
    guest.until(lambda: any("/Simulated/" in key for key in guest.events.items()))

    before = guest.entry()["status"]
    subject["status"] = before
    guest.publish(subject)
    guest.until(lambda: guest.statuses.get("u-2") is None)
    guest.stop()
    guest.until(lambda: not guest.statuses.connected)
    assert guest.entry()["status"] == before
    guest.start()
    guest.until(lambda: guest.statuses.connected)
    assert guest.entry()["status"] == before

    stop = times.seconds(times.of(time.time() + 2))
    subject["metadata"] |= {"deletionTimestamp": stop, "deletionGracePeriodSeconds": 2}
    guest.publish(subject)
    guest.until(lambda: guest.entry().get("finished"))
    assert guest.entry()["status"]["phase"] == "Succeeded"
    guest.publish()
    guest.until(lambda: guest.statuses.get("u-1") is None)
    guest.until(lambda: not (INSTANCE.pod_logs_dir / "ns_web_u-1").exists())
