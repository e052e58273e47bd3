"""A pod's worker, with everything around it real but the runtime: failures, crashes, repeats and orders of events."""

import json
import math
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from bridge import memory as memory_module
from bridge import preemption
from bridge import worker as worker_module
from bridge.actions import SANDBOX, START, Eviction
from bridge.assembly import Bridge
from bridge.cgroups import Cgroups
from bridge.cluster import Cluster
from bridge.decide import decide
from bridge.events import EXITED, STARTED, Hint
from bridge.observe import Observed
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.relist import listing
from bridge.runtime import Runtime
from bridge.spec import names
from bridge.volumes import mounting
from tests.contract.bridge_node import NODE, TOPICS, container, pod
from tests.contract.fake_runtime import FakeRuntime
from tests.instances import own
from tests.waiting import PATIENCE, wait_for
from vkcri.api import pods, quantities
from vkcri.config import RuntimeSettings
from vkcri.errors import NotFound, Unavailable
from vkcri.lifecycle import Process
from vkcri.queue import Publisher, request

pytestmark = [pytest.mark.container, pytest.mark.xdist_group("bridge-worker")]
INSTANCE = own("core")
SUBSCRIPTION = "queue-pods"


class Node:
    """One bridge in this process on a fake runtime, and the watcher's half of the queue."""

    def __init__(self, fake: FakeRuntime) -> None:
        self.fake = fake
        fake.has_events = True
        self.settings = RuntimeSettings(instance=INSTANCE, runtime_endpoint=fake.endpoint, node_name=NODE)
        self.outer = Process("watcher", INSTANCE, end=lambda _: None)
        self.watcher = Publisher(INSTANCE.queue_socket("watcher"), TOPICS, sources={"pods": ("api", "file")})
        self.watcher.start(self.outer)
        self.publish_node()
        for topic in ("objects", "services"):
            self.watcher.mark_synced(topic)
        for source in ("api", "file"):
            self.watcher.mark_synced("pods", source=source)
        self.run()

    def publish_node(self) -> None:
        self.watcher.replace("node", {NODE: json.dumps({"metadata": {"name": NODE}}).encode()})

    def run(self) -> None:
        self.process = Process("cri-bridge", INSTANCE, end=lambda _: None)
        self.bridge = Bridge(self.process, self.settings)
        self.bridge.guest.trouble = self.bridge.guest.network_error = str
        self.bridge.publisher.start(self.process)
        self.bridge.scheduler.start(self.process)
        for part in (self.bridge.wire, self.bridge.relist, self.bridge.hints, self.bridge.cluster, self.bridge.pods):
            part.start(self.process)

    def end(self) -> None:
        """The bridge is gone; what it had under way is not waited for."""
        self.process.drain()
        self.bridge.runtime.close()

    def put(self, spec: dict[str, Any]) -> str:
        uid = str(spec["metadata"]["uid"])
        self.watcher.put("pods", uid, json.dumps(spec).encode(), source="api")
        return uid

    def delete(self, spec: dict[str, Any], grace: int = 30) -> None:
        spec["metadata"] |= {"deletionTimestamp": "2026-11-23T00:00:00Z", "deletionGracePeriodSeconds": grace}
        self.put(spec)

    def remove(self, spec: dict[str, Any]) -> None:
        self.watcher.delete("pods", spec["metadata"]["uid"], source="api")

    def value(self, uid: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.bridge.publisher.get("pod-status", uid) or b'{"status": {}}')
        return found

    def status(self, uid: str) -> dict[str, Any]:
        found: dict[str, Any] = self.value(uid)["status"]
        return found

    def wait(
        self, uid: str, what: str, probe: Callable[[dict[str, Any]], Any], seconds: float = PATIENCE
    ) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            status = self.status(uid)
            try:
                return status if status and probe(status) else None
            except (KeyError, IndexError):
                return None

        return wait_for(what, look, seconds)

    def running(self, uid: str) -> dict[str, Any]:
        return self.wait(uid, "Running", lambda status: status["phase"] == "Running")

    def events(self, uid: str) -> dict[str, str]:
        found = [json.loads(value) for value in self.bridge.publisher.items("events").values()]
        return {item["reason"]: item["message"] for item in found if item["involvedObject"]["uid"] == uid}

    def live(self) -> list[cri.ContainerStatus]:
        with self.fake.locked:
            return [item for item in self.fake.containers.values() if item.state == cri.CONTAINER_RUNNING]


@pytest.fixture
def node(fake: FakeRuntime) -> Iterator[Node]:
    for folder in (INSTANCE.queues_dir, INSTANCE.locks_dir, INSTANCE.state_dir):
        folder.mkdir(parents=True, exist_ok=True)
    node = Node(fake)
    try:
        yield node
    finally:
        node.end()
        node.outer.drain()
        mounting.unmount_below(INSTANCE.volumes_dir)
        for folder in (INSTANCE.run_dir, INSTANCE.state_dir, INSTANCE.log_dir):
            shutil.rmtree(folder, ignore_errors=True)
        Cgroups(node.settings).cleanup()


def test_a_pod_comes_and_goes_with_one_start_a_container(node: Node) -> None:
    spec = pod("one", containers=[container("a", "x"), container("b", "x")])
    uid = node.put(spec)
    node.running(uid)
    assert node.fake.count("StartContainer") == 2
    node.delete(spec)
    wait_for("finished", lambda: node.value(uid)["finished"])
    node.remove(spec)
    wait_for("nothing", lambda: not node.fake.sandboxes and not node.fake.containers)
    wait_for("no status", lambda: node.bridge.publisher.get("pod-status", uid) is None)
    wait_for("no worker", lambda: not node.bridge.roster.workers())


def test_a_pod_is_evicted_once_and_not_started_again_and_a_critical_one_never(node: Node) -> None:
    spec, vital = pod("evicted", terminationGracePeriodSeconds=600), pod("vital", priority=2_000_000_000)
    for each in (spec, vital):
        node.running(node.put(each))
    uid = str(spec["metadata"]["uid"])
    worker, other = node.bridge.roster.worker(uid), node.bridge.roster.worker(str(vital["metadata"]["uid"]))
    assert worker is not None
    assert other is not None
    eviction = Eviction("It took too much. ", 1.0, notes={"starved_resource": "memory"})
    assert worker.evict(eviction)
    assert not worker.evict(eviction)
    assert not other.evict(eviction)
    status = node.wait(uid, "Failed", lambda status: status["phase"] == "Failed")
    assert (status["reason"], status["message"]) == ("Evicted", "It took too much. ")
    assert node.events(uid)["Evicted"] == "It took too much. "
    wait_for("its end", lambda: worker.over)
    assert not worker.evict(eviction)
    assert (other.over, node.fake.count("StartContainer")) == (False, 2)


@pytest.mark.parametrize(
    ("method", "reason", "event"),
    [
        ("RunPodSandbox", "ContainerCreating", "FailedCreatePodSandBox"),
        ("CreateContainer", "CreateContainerError", "Failed"),
        ("StartContainer", "RunContainerError", "Failed"),
    ],
)
def test_what_fails_is_shown_and_tried_again(node: Node, method: str, reason: str, event: str) -> None:
    node.fake.fail_next(method, "no space left on device", times=math.inf)
    uid = node.put(pod("retry"))
    status = node.wait(
        uid, reason, lambda status: status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
    )
    wait_for("its event", lambda: event in node.events(uid))
    assert "no space left on device" in node.events(uid)[event]
    if reason != "ContainerCreating":
        assert status["containerStatuses"][0]["state"]["waiting"]["message"] == "no space left on device"
    node.fake.forgive(method)
    assert node.running(uid)["containerStatuses"][0]["restartCount"] == 0


def test_starts_and_the_deadline_are_told_in_the_kubelets_words(node: Node) -> None:
    spec = pod("words", terminationGracePeriodSeconds=1)
    uid = node.put(spec)
    node.running(uid)
    spec["spec"]["activeDeadlineSeconds"] = 1
    node.put(spec)
    node.wait(uid, "Failed", lambda status: status["phase"] == "Failed")
    told = node.events(uid)
    assert {reason: told[reason] for reason in ("Created", "Started", "Killing", "DeadlineExceeded")} == {
        "Created": "Container created",
        "Started": "Container started",
        "Killing": "Stopping container main",
        "DeadlineExceeded": "Pod was active on the node longer than the specified deadline",
    }


def test_a_cluster_dns_server_that_is_missing_is_told_of_pod_and_node(node: Node) -> None:
    uid = node.put(pod("dns", dnsPolicy="ClusterFirst"))
    node.running(uid)
    of_pod, of_node = (node.events(who)["MissingClusterDNS"] for who in (uid, NODE))
    assert of_pod == f'pod: "dns_default({uid})". {of_node}'


def test_a_cgroup_that_cannot_be_made_is_told_and_tried_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    cgroups, failures = node.bridge.guest.cgroups, [Unavailable("no space left on device")]
    ensure = cgroups.ensure_pod

    def fail_once(spec: Any) -> str:
        if failures:
            raise failures.pop()
        return ensure(spec)

    monkeypatch.setattr(cgroups, "ensure_pod", fail_once)
    uid = node.put(pod("narrow"))
    node.running(uid)
    told = node.events(uid)["FailedCreatePodContainer"]
    assert told == "unable to ensure pod container exists: no space left on device"
    assert "FailedCreatePodSandBox" not in node.events(uid)


def test_an_operation_for_which_there_is_no_thread_is_tried_again(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    real, refused = Process.start_thread, list[str]()

    def start_thread(self: Process, name: str, *more: Any, **options: Any) -> threading.Thread:
        if name.startswith(("sandbox ", "start ")) and name not in refused:
            refused.append(name)
            raise RuntimeError("can't start new thread")
        return real(self, name, *more, **options)

    monkeypatch.setattr(Process, "start_thread", start_thread)
    spec = pod("threads")
    node.running(node.put(spec))
    assert [name.partition(" ")[0] for name in refused] == ["sandbox", "start"]
    assert "FailedSync" not in node.events(str(spec["metadata"]["uid"]))


def test_what_a_hook_says_is_in_no_event(node: Node) -> None:
    """It may be a secret that its server has answered with."""
    hook = {"exec": {"command": ["x"]}}
    spec = pod("hook", containers=[container("main", "x", lifecycle={"postStart": hook, "preStop": hook})])
    node.fake.fail_next("ExecSync", "s3cr3t", times=math.inf)
    uid = node.put(spec)
    wait_for("its end", lambda: {"FailedPostStartHook", "Killing"} <= set(node.events(uid)))
    node.delete(spec)
    wait_for("finished", lambda: node.value(uid)["finished"])
    told = node.events(uid)
    assert told["FailedPostStartHook"] == "PostStartHook failed"
    assert "s3cr3t" not in str(told)


def test_a_runtimes_error_names_the_container_so_that_repeats_are_the_same(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object, request: cri.StartContainerRequest) -> object:
        raise Unavailable(f'cannot start "{request.container_id}"')

    monkeypatch.setattr(Runtime, "start_container", broken)
    uid = node.put(pod("names"))
    node.wait(uid, "a second try", lambda _: node.fake.count("CreateContainer") > 1)
    failed = [json.loads(value) for value in node.bridge.publisher.items("events").values()]
    assert {item["message"] for item in failed if item["reason"] == "Failed"} == {'Error: cannot start "main"'}


def test_what_keeps_the_first_container_from_starting_is_shown_though_the_last_one_runs(node: Node) -> None:
    missing = container("a", "x", image="localhost/vkcri/missing:1", imagePullPolicy="Never")
    uid = node.put(pod("halves", containers=[missing, container("b", "x")]))
    status = node.wait(uid, "the last runs", lambda status: "running" in status["containerStatuses"][1]["state"])
    reason = "ErrImageNeverPull"
    node.wait(uid, reason, lambda status: status["containerStatuses"][0]["state"]["waiting"]["reason"] == reason)
    assert status["phase"] == "Pending"
    wait_for("its event", lambda: reason in node.events(uid))


def test_a_slow_pull_of_one_pod_holds_up_no_other_and_not_its_own_end(node: Node) -> None:
    slow = pod("slow")
    node.fake.delay("PullImage", 30)
    slow["spec"]["containers"][0] |= {"image": "localhost/vkcri/slow:1"}
    first = node.put(slow)
    wait_for("its pull", lambda: node.fake.count("PullImage"))
    assert node.running(node.put(pod("quick")))
    assert node.status(first)["phase"] == "Pending"
    node.delete(slow)
    wait_for("finished though it still pulls", lambda: node.value(first)["finished"])


def _runs(status: dict[str, Any]) -> list[int]:
    """The restart counts of the containers that run."""
    return [item["restartCount"] for item in status["containerStatuses"] if "running" in item["state"]]


def test_pods_that_wait_hold_up_no_other_however_many_they_are(node: Node) -> None:
    """More of each kind than there are threads for steps, for starts and for pulls."""
    pulling, crashing, ending = ([pod(f"{kind}-{number}") for number in range(5)] for kind in ("p", "c", "e"))
    for spec in (*crashing, *ending):
        node.running(node.put(spec))
    for count in (0, 1):
        for spec in crashing:
            uid = spec["metadata"]["uid"]
            node.wait(uid, "it runs", lambda status, wanted=count: _runs(status) == [wanted])  # type: ignore[misc]
            (run,) = [item for item in node.live() if item.labels[names.POD_UID] == uid]
            node.fake.exit(run.id, 1)
    for method in ("StopContainer", "PullImage"):
        node.fake.delay(method, 30)
    for spec in ending:
        node.delete(spec, grace=300)
    for spec in pulling:
        spec["spec"]["containers"][0]["image"] = f"localhost/vkcri/{spec['metadata']['name']}:1"
        node.put(spec)
    wait_for("their graces", lambda: node.fake.count("StopContainer") == len(ending))
    wait_for("a pull", lambda: node.fake.count("PullImage"))
    node.running(node.put(pod("quick")))
    assert {node.status(spec["metadata"]["uid"])["phase"] for spec in pulling} == {"Pending"}


def test_a_deletion_during_a_start_stops_what_was_started(node: Node) -> None:
    spec = pod("hasty")
    node.fake.delay("StartContainer", 0.5)
    uid = node.put(spec)
    wait_for("its start", lambda: node.fake.count("StartContainer"))
    node.delete(spec)
    wait_for("finished", lambda: node.value(uid)["finished"])
    assert node.live() == []
    assert node.fake.count("StartContainer") == 1


def test_an_operation_that_outruns_a_reading_is_neither_undone_nor_repeated(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the two goes on once a step has read CRI beside it, and has ended when that step decides."""
    outran = {SANDBOX: threading.Event(), START: threading.Event()}
    runtime = node.bridge.runtime

    def held(outrun: threading.Event, call: Callable[..., Any], *request: Any, **options: Any) -> Any:
        outrun.wait(PATIENCE)
        return call(*request, **options)

    for key, name in ((SANDBOX, "run_pod_sandbox"), (START, "start_container")):
        monkeypatch.setattr(runtime, name, partial(held, outran[key], getattr(runtime, name)))
    uid = node.put(pod("overtaken"))
    worker = wait_for("its worker", lambda: node.bridge.roster.worker(uid))
    read = worker._reader.read

    def slow(*, afresh: bool) -> Observed:
        observed = read(afresh=afresh)
        for key in worker._memory.busy & outran.keys():
            outran[key].set()
            wait_for(f"the end of {key}", lambda key=key: key not in worker._memory.busy)  # type: ignore[misc]
        return observed

    monkeypatch.setattr(worker._reader, "read", slow)

    def woken() -> bool:
        worker.wake()
        return bool(node.live())

    wait_for("it runs", woken)
    node.running(uid)
    wait_for("rest", node.bridge.scheduler.idle)
    counts = {name: node.fake.count(name) for name in ("RunPodSandbox", "CreateContainer", "RemoveContainer")}
    assert counts == {"RunPodSandbox": 1, "CreateContainer": 1, "RemoveContainer": 0}
    assert all(outrun.is_set() for outrun in outran.values())


def test_a_second_delete_shortens_the_first(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[int] = []
    both, stop = threading.Event(), node.bridge.runtime.stop_container

    def held(request: cri.StopContainerRequest, *more: Any, **options: Any) -> Any:
        timeouts.append(request.timeout)
        assert both.wait(PATIENCE)
        return stop(request, *more, **options)

    monkeypatch.setattr(node.bridge.runtime, "stop_container", held)
    spec = pod("stubborn")
    uid = node.put(spec)
    node.running(uid)
    node.delete(spec, 600)
    wait_for("its stop", lambda: timeouts)
    node.delete(spec, 1)
    wait_for("the second beside it", lambda: len(timeouts) > 1)
    both.set()
    wait_for("finished", lambda: node.value(uid)["finished"])
    assert timeouts[:2] == [600, 2]


def test_a_bug_in_one_pod_is_shown_and_leaves_the_others_alone(
    node: Node, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = decide

    def broken(desired: Any, *more: Any) -> Any:
        if desired.pod["metadata"]["name"] == "cursed":
            raise ZeroDivisionError("a bug")
        return real(desired, *more)

    monkeypatch.setattr(worker_module, "decide", broken)
    cursed, blessed = node.put(pod("cursed")), node.put(pod("blessed"))
    node.running(blessed)
    status = node.wait(cursed, "the reason", lambda status: status["reason"] == "InternalError")
    assert status["message"] == "ZeroDivisionError: a bug"
    assert "Traceback" in caplog.text
    wait_for("its event", lambda: "FailedSync" in node.events(cursed))
    monkeypatch.setattr(worker_module, "decide", real)
    assert "reason" not in node.running(cursed)


def test_a_restarted_bridge_starts_nothing_again(node: Node) -> None:
    spec = pod("kept")
    uid = node.put(spec)
    spec["status"] = node.running(uid)
    node.put(spec)
    node.end()
    starts = node.fake.count("StartContainer")
    node.run()
    again = node.running(uid)
    assert again["containerStatuses"] == spec["status"]["containerStatuses"]
    assert again["conditions"] == spec["status"]["conditions"]
    assert node.fake.count("StartContainer") == starts


def test_a_runtime_that_forgets_its_containers_makes_no_pod_of_one_run_run_twice(node: Node) -> None:
    spec = pod("once", restartPolicy="Never")
    uid = node.put(spec)
    spec["status"] = node.running(uid)
    node.put(spec)
    node.end()
    with node.fake.locked:
        node.fake.containers.clear()
        node.fake.sandboxes.clear()
    node.run()
    status = node.wait(uid, "Failed", lambda status: status["phase"] == "Failed")
    assert status["containerStatuses"][0]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert node.fake.count("StartContainer") == 1


def test_an_unsynced_watcher_ends_nothing_and_a_synced_one_ends_orphans(node: Node) -> None:
    spec = pod("orphan")
    uid = node.put(spec)
    node.running(uid)
    node.end()
    node.outer.drain()
    node.outer = Process("watcher", INSTANCE, end=lambda _: None)
    node.watcher = Publisher(INSTANCE.queue_socket("watcher"), TOPICS, sources={"pods": ("api", "file")})
    node.watcher.start(node.outer)
    node.watcher.mark_synced("pods", source="file")
    node.run()
    wait_for("a reading", lambda: node.bridge.relist.relisted)
    wait_for("the other source", lambda: node.bridge.pods.synced("file"))
    assert len(node.live()) == 1
    assert node.bridge.roster.workers() == []
    node.watcher.mark_synced("pods", source="api")
    wait_for("nothing", lambda: not node.fake.sandboxes and not node.fake.containers)


def test_a_stop_signal_is_taken_from_a_runtime_that_shows_it_and_from_no_other(node: Node) -> None:
    asked = pod("signal", containers=[container("main", "x", lifecycle={"stopSignal": "SIGUSR1"})])
    uid = node.put(asked)
    node.wait(uid, "the refusal", lambda status: "CreateContainerConfigError" in json.dumps(status))
    assert (node.fake.containers, node.fake.count("StartContainer")) == ({}, 0)
    node.fake.knows_stop_signals = True
    node.wait(uid, "Running", lambda status: status["phase"] == "Running")
    assert [item.stop_signal for item in node.live()] == [cri.SIGNAL_SIGUSR1]


def test_an_ephemeral_container_joins_the_processes_of_the_container_that_it_names(node: Node) -> None:
    spec = pod("debugged", containers=[container("a", "x"), container("b", "x")])
    uid = node.put(spec)
    node.running(uid)
    spec["spec"]["ephemeralContainers"] = [
        {**container("debug", "x"), "targetContainerName": "b"},
        {**container("lost", "x"), "targetContainerName": "none"},
    ]
    node.put(spec)
    (debugger,) = wait_for("the debugger", lambda: [item.id for item in node.live() if item.metadata.name == "debug"])
    (target,) = [item.id for item in node.live() if item.metadata.name == "b"]
    options = node.fake.configs[debugger].linux.security_context.namespace_options
    assert (options.pid, options.target_id) == (cri.TARGET, target)
    about = [json.loads(value)["involvedObject"] for value in node.bridge.publisher.items("events").values()]
    assert "spec.ephemeralContainers{debug}" in {item.get("fieldPath") for item in about}
    node.wait(uid, "the other's reason", lambda status: "unable to find target container" in json.dumps(status))


def test_nothing_is_started_before_the_node_is_there(node: Node) -> None:
    node.watcher.delete("node", NODE)
    wait_for("no node", lambda: not node.bridge.cluster.ready)
    uid = node.put(pod("early"))
    wait_for("its worker", lambda: node.bridge.roster.worker(uid))
    wait_for("its step", node.bridge.scheduler.idle)
    assert node.fake.count("RunPodSandbox") == 0
    node.publish_node()
    node.running(uid)


def test_an_echo_of_our_own_status_wakes_nobody(node: Node) -> None:
    spec = pod("echo")
    uid = node.put(spec)
    spec["status"] = node.running(uid)
    wait_for("rest", node.bridge.scheduler.idle)
    worker = wait_for("its worker", lambda: node.bridge.roster.worker(uid))
    by: list[str] = []  # others than the subscription's thread may still wake it: for a hint, for a relist
    worker.wake = lambda: by.append(threading.current_thread().name)  # type: ignore[method-assign]
    spec["metadata"]["resourceVersion"] = "17"
    node.put(spec)
    wait_for("the news", lambda: worker.pod["metadata"].get("resourceVersion") == "17")
    spec["status"] = {**spec["status"], "phase": "Failed"}
    node.put(spec)
    wait_for("its wake", lambda: SUBSCRIPTION in by)
    assert by.count(SUBSCRIPTION) == 1


def test_what_the_last_step_has_seen_wakes_nobody(node: Node) -> None:
    uid = node.put(pod("known"))
    node.running(uid)
    wait_for("rest", node.bridge.scheduler.idle)
    worker = wait_for("its worker", lambda: node.bridge.roster.worker(uid))
    (run,) = node.live()
    by: list[str] = []  # others than this thread may still wake it: for a hint, for a relist
    worker.wake = lambda: by.append(threading.current_thread().name)  # type: ignore[method-assign]
    mine = threading.current_thread().name
    found = listing(node.bridge.runtime, INSTANCE.cri_label)
    worker.hint(Hint(run.id, STARTED))
    worker.listed(found[uid])
    assert by.count(mine) == 0
    worker.hint(Hint(run.id, EXITED))
    worker.listed(frozenset())
    assert by.count(mine) == 2


def test_a_sandbox_that_is_being_made_asks_for_no_relist_when_it_starts(node: Node) -> None:
    by: list[str] = []  # others than this thread may still ask: for hints that come late
    node.bridge.relist.ask = lambda: by.append(threading.current_thread().name)  # type: ignore[method-assign]
    mine = threading.current_thread().name
    node.running(node.put(pod("fresh")))
    wait_for("rest", node.bridge.scheduler.idle)
    assert node.bridge.guest.making == set()
    node.bridge.guest.making.add("a uid")
    node.bridge._hint(Hint("nobody's", STARTED))
    assert by.count(mine) == 0
    node.bridge._hint(Hint("nobody's", EXITED))
    node.bridge.guest.making.clear()
    node.bridge._hint(Hint("nobody's", STARTED))
    assert by.count(mine) == 2


def test_changed_labels_are_in_a_volume_at_once(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "REFRESH_AFTER_START", 3600.0)
    items = [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
    spec = pod("labels", volumes=[{"name": "info", "downwardAPI": {"items": items}}])
    spec["metadata"]["labels"] = {"key1": "value1"}
    uid = node.put(spec)
    spec["status"] = node.running(uid)
    file = node.settings.instance.volumes_dir / uid / "kubernetes.io~downward-api" / "info" / "labels"
    assert file.read_text() == 'key1="value1"'
    wait_for("rest", node.bridge.scheduler.idle)
    for number in (2, 3):
        spec["metadata"]["labels"] = {"key1": f"value{number}"}
        node.put(spec)
        wait_for("the new label", lambda wanted=f'key1="value{number}"': file.read_text() == wanted)


def test_a_terminal_phase_from_elsewhere_ends_the_pod(node: Node) -> None:
    spec = pod("evicted")
    uid = node.put(spec)
    spec["status"] = {**node.running(uid), "phase": "Failed", "reason": "Evicted"}
    node.put(spec)
    wait_for("finished", lambda: node.value(uid)["finished"])
    assert node.live() == []
    assert node.status(uid)["phase"] == "Failed"


def test_a_static_pod_takes_the_room_of_an_ordinary_one(node: Node) -> None:
    half = {"requests": {"memory": str(int(quantities.parse(node.bridge.node.allocatable["memory"]) * 6 / 10))}}
    ordinary = pod("ordinary")
    ordinary["spec"]["containers"][0]["resources"] = half
    uid = node.put(ordinary)
    node.running(uid)
    fixed = pod("fixed")
    fixed["metadata"]["annotations"] = {pods.SOURCE_ANNOTATION: "file"}
    fixed["spec"]["containers"][0]["resources"] = half
    key = str(fixed["metadata"]["uid"])
    node.watcher.put("pods", key, json.dumps(fixed).encode(), source="file")
    node.running(key)
    ended = node.wait(uid, "Failed", lambda status: status["phase"] == "Failed")
    assert (ended["reason"], ended["message"]) == ("Preempting", "Preempted in order to admit critical pod")
    assert node.events(uid)["Preempting"] == "Preempted in order to admit critical pod"
    wait_for("only the static pod's container runs", lambda: len(node.live()) == 1)
    assert 'kubelet_preemptions{preemption_signal="memory"} 1' in node.bridge.metrics.text()


def test_a_pod_that_preempts_begins_once_its_victim_has_ended_and_holds_up_no_other(node: Node) -> None:
    node.fake.fail_next("StopContainer", "it is busy", times=math.inf)
    most = {"requests": {"memory": str(int(quantities.parse(node.bridge.node.allocatable["memory"]) * 6 / 10))}}
    ordinary = pod("ordinary", containers=[container("main", "x", resources=most)], terminationGracePeriodSeconds=600)
    uid = node.put(ordinary)
    node.running(uid)
    (item,) = node.live()
    fixed = pod("fixed", containers=[container("main", "x", resources=most)])
    key = str(fixed["metadata"]["uid"])
    node.watcher.put("pods", key, json.dumps(fixed).encode(), source="file")
    wait_for("the preemption", lambda: "Preempting" in node.events(uid))
    node.running(node.put(pod("beside")))
    assert (node.fake.count("RunPodSandbox"), node.status(key)) == (2, {})
    node.fake.exit(item.id, 143)
    node.running(key)
    assert node.status(uid)["reason"] == "Preempting"


def test_a_pod_that_outlasts_its_eviction_is_told_of(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "LEAST_PATIENCE", 0.1)
    node.fake.fail_next("StopContainer", "it is busy", times=math.inf)
    uid = node.put(pod("stubborn"))
    node.running(uid)
    (item,) = node.live()
    worker = wait_for("its worker", lambda: node.bridge.roster.worker(uid))
    assert worker.evict(Eviction("It took too much. ", 0.0))
    told = wait_for("its event", lambda: node.events(uid).get("ExceededGracePeriod"))
    assert told == "Container runtime did not kill the pod within specified grace period."
    node.fake.exit(item.id, 143)
    node.wait(uid, "Failed", lambda status: status["phase"] == "Failed")


def test_a_pod_that_waits_for_the_cluster_can_be_evicted(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cluster, "ready", False)
    uid = node.put(pod("early"))
    worker = wait_for("its worker", lambda: node.bridge.roster.worker(uid))
    assert worker.evict(Eviction("Its room is wanted. ", 1.0))
    assert node.wait(uid, "Failed", lambda status: status["phase"] == "Failed")["reason"] == "Evicted"
    assert node.fake.count("RunPodSandbox") == 0


def test_an_oom_kill_that_shows_late_is_reported_however_late_the_exit_shows(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, told = node.bridge.runtime.container_status, list[str]()

    def first_an_error(request: cri.ContainerStatusRequest, *more: Any, **options: Any) -> cri.ContainerStatusResponse:
        answer = ask(request, *more, **options)
        if answer.status.state == cri.CONTAINER_EXITED:
            answer.status.reason = "OOMKilled" if told else "Error"
            answer.status.finished_at -= 7 * 10**9
            told.append(answer.status.reason)
        return answer

    monkeypatch.setattr(node.bridge.runtime, "container_status", first_an_error)
    spec = pod("oom", restartPolicy="Never")
    uid = node.put(spec)
    node.running(uid)
    (item,) = node.live()
    node.fake.exit(item.id, 137, reason="Error")
    node.wait(
        uid, "OOMKilled", lambda status: status["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"
    )


class TestAnswers:
    def ask(self, name: str, **body: Any) -> Any:
        return request(INSTANCE.queue_socket("provider"), name, body, timeout=PATIENCE)

    def test_urls_and_log_paths(self, node: Node) -> None:
        uid = node.put(pod("asked"))
        node.running(uid)
        about = {"uid": uid, "container": "main", "command": ["ls"], "stdout": True}
        assert self.ask("exec", **about)["url"].startswith("http://")
        assert self.ask("attach", **about)["url"].startswith("http://")
        assert self.ask("port-forward", uid=uid, ports=[80])["url"].startswith("http://")
        found = self.ask("log-path", namespace="default", pod="asked", container="main", previous=False)
        assert found["running"]
        assert found["containerID"] == node.status(uid)["containerStatuses"][0]["containerID"]

    def test_what_does_not_exist_is_not_found(self, node: Node) -> None:
        uid = node.put(pod("asked"))
        node.running(uid)
        for name, body in (
            ("exec", {"uid": "nobody", "container": "main", "command": ["ls"]}),
            ("exec", {"uid": uid, "container": "other", "command": ["ls"]}),
            ("port-forward", {"uid": "nobody", "ports": [80]}),
            ("log-path", {"namespace": "default", "pod": "nobody", "container": "main"}),
            ("log-path", {"namespace": "default", "pod": "asked", "container": "other"}),
        ):
            with pytest.raises(NotFound):
                self.ask(name, **body)
