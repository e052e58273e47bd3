r"""A provider in one file: pods that are Running and Ready in memory and nowhere else. No root, no CRI, no image.

Chosen by `provider = "examples/providers/memory.py"` in the TOML file or by VKCRI_PROVIDER; it holds cri-bridge's
contract (ARCHITECTURE.md). Containers, their restarts, grace and logs are simulated; processes, init containers,
addresses, volumes and probes are not, which an event says. The truth is a pod's last status, after a restart the API
server's; the rest follows from the clock. Annotations, times in seconds:
    memory.vkcri/start-delay: "5"     containers wait that long before they start
    memory.vkcri/fail: "no space"     they never start: CreateContainerError with that message
    memory.vkcri/exit-after: "10"     they exit by themselves after that time; restartPolicy applies
    memory.vkcri/exit-code: "3"       with that code, else 0
    memory.vkcri/stop-delay: "60"     what they take to end when told so; beyond the pod's grace they are killed, 137
    memory.vkcri/log: "one\ntwo"      lines that they write when they start
"""

import json
import os
import platform
import shutil
import time
from pathlib import Path
from typing import Any

from vkcri.api import loglines, pods, times
from vkcri.config import RuntimeSettings
from vkcri.errors import Invalid, NotFound
from vkcri.lifecycle import Process, program_main
from vkcri.queue import Publisher, Subscription
from vkcri.queue.events import EventRecorder, pod_reference

Object = dict[str, Any]


def number(pod: Object, name: str, default: float) -> float:
    """An annotation's number; the default where it is absent or no number."""
    try:
        return float(pods.annotations(pod)[f"memory.vkcri/{name}"])
    except (KeyError, ValueError):
        return default


def restarts(pod: Object, item: Object) -> bool:
    """Whether this ended container runs again."""
    policy = {"Always": True, "OnFailure": item["state"]["terminated"]["exitCode"] != 0}
    return policy.get(pods.restart_policy(pod), False) and not pods.deletion_timestamp(pod)


def step(pod: Object, prior: Object, now: float, may_start: bool) -> Object:
    """The pod's status now, from its last one. Pure. now: seconds since the epoch. A terminal one is final."""
    if pods.is_terminal(prior):
        return prior
    status = {"startTime": times.seconds(times.of(now)), "qosClass": pods.qos_class(pod), **prior}
    old = {item["name"]: item for item in prior.get("containerStatuses", ())}
    due = times.to_epoch(status["startTime"]) + number(pod, "start-delay", 0) if may_start else float("inf")
    mains = [container(pod, old.get(item["name"]), item, due, now) for item in pod["spec"]["containers"]]
    over = [item for item in mains if "terminated" in item["state"]]
    ran = any(item["lastState"] or "waiting" not in item["state"] for item in mains)
    status["phase"] = "Running" if ran else "Pending"
    if len(over) == len(mains) and not any(restarts(pod, item) for item in over):
        status["phase"] = "Failed" if any(item["state"]["terminated"]["exitCode"] for item in over) else "Succeeded"
    status["containerStatuses"] = mains
    status["conditions"] = conditions(pod, prior.get("conditions") or [], status, now)
    return status


def conditions(pod: Object, prior: list[Object], status: Object, now: float) -> list[Object]:
    """Ours computed, those of others carried over; a transition time changes only with its condition's status."""
    found = {item["type"]: item for item in prior}
    gates = [found.get(gate["conditionType"], {}) for gate in pods.spec(pod).get("readinessGates") or ()]
    gates_open = all(gate.get("status") == "True" for gate in gates)
    ready = status["phase"] == "Running" and all(item["ready"] for item in status["containerStatuses"])
    ours = {"PodScheduled": True, "Initialized": True, "ContainersReady": ready, "Ready": ready and gates_open}
    for name, value in ours.items():
        if found.get(name, {}).get("status") != str(value):
            found[name] = {"type": name, "status": str(value), "lastTransitionTime": times.seconds(times.of(now))}
    return list(found.values())


def container(pod: Object, prior: Object | None, spec: Object, due: float, now: float) -> Object:
    """One container's status now: waiting, running, terminated, and again as restartPolicy says."""
    old = {"lastState": {}, **(prior or {"state": {}, "restartCount": 0})}
    state, last, count = old["state"], old["lastState"], old["restartCount"]
    stop, stamp = pods.deletion_timestamp(pod), times.seconds(times.of(now))
    if last:  # the kubelet's delays: 10, 20, 40 ... 300 s
        due = max(due, times.to_epoch(last["terminated"]["finishedAt"]) + min(10 << min(count, 5), 300))
    if "running" in state:
        started, spare = state["running"]["startedAt"], pods.grace_seconds(pod) - number(pod, "stop-delay", 0)
        if stop and now >= times.to_epoch(stop) - max(0.0, spare):  # a deletionTimestamp is the end of the grace
            state = ended(137 if spare < 0 else 0, started, stamp)
        elif now >= times.to_epoch(started) + number(pod, "exit-after", float("inf")):
            state = ended(int(number(pod, "exit-code", 0)), started, stamp)
    elif "terminated" in state:
        if restarts(pod, old):
            state, last = {"waiting": {"reason": "CrashLoopBackOff", "message": "waits for its restart"}}, state
    elif stop:
        state = ended(137, stamp, stamp)
    elif message := pods.annotations(pod).get("memory.vkcri/fail"):
        state = {"waiting": {"reason": "CreateContainerError", "message": message}}
    elif now >= due:
        state, count = {"running": {"startedAt": stamp}}, count + bool(last)
    elif not last:
        state = {"waiting": {"reason": "ContainerCreating"}}
    name, image, running = spec["name"], spec.get("image", ""), "running" in state
    life = {"state": state, "lastState": last, "restartCount": count, "ready": running, "started": running}
    identity = {"name": name, "image": image, "containerID": f"memory://{pods.uid(pod)}-{name}-{count}"}
    return life | identity | {"imageID": f"memory://{image}"}


def ended(code: int, started: str, stamp: str) -> Object:
    life = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": started, "finishedAt": stamp}
    return {"terminated": life}


def node_status(settings: RuntimeSettings, now: float) -> Object:
    """The guest's true capacity, of which a pod here takes nothing."""
    stamp, memory = times.seconds(times.of(now)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
    capacity = {"cpu": str(os.cpu_count()), "memory": f"{memory}Ki", "pods": str(settings.max_pods)}
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    guest = {"kernelVersion": platform.release(), "operatingSystem": "linux", "architecture": machine}
    guest |= {"osImage": "memory", "containerRuntimeVersion": "memory://1"}
    states = {"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True"}
    found = [{"type": name, "status": state, "reason": "InMemory", "message": ""} for name, state in states.items()]
    status = {"capacity": capacity, "allocatable": capacity, "nodeInfo": guest, "conditions": found, "images": []}
    return status | {"runtimeHandlers": [], "features": {}, "relisted": stamp, "reported": stamp}


class Memory:
    """Two topics in, three out. The main thread takes every step; a connection's thread answers log-path."""

    def __init__(self, process: Process, settings: RuntimeSettings) -> None:
        self.logs, watcher = settings.instance.pod_logs_dir, settings.instance.queue_socket("watcher")
        self.known: dict[str, Object] = {}
        self.pods, self.node = (Subscription(watcher, topic, lambda _: None) for topic in ("pods", "node"))
        self.owner = Publisher(settings.instance.queue_socket("provider"), ["pod-status", "node-status", "events"])
        self.events = EventRecorder(self.owner, "memory-provider", settings.node_name)
        self.owner.serve("log-path", self.log_path)  # exec, attach and port-forward have no answer: Refused
        for part in (self.owner, self.pods, self.node):
            part.start(process)

    def turn(self, now: float) -> None:
        """Take every pod one step on."""
        synced = self.pods.synced("api")
        found = {uid: pod for uid, value in self.pods.items().items() if not pods.is_mirror(pod := json.loads(value))}
        for uid, pod in found.items():
            prior = self.known[uid]["status"] if uid in self.known else dict(pods.status(pod))
            if uid not in self.known and not pods.is_terminal(prior):
                self.events.event(pod_reference(pod), "Normal", "Simulated", "only in memory: nothing of it runs")
            status = step(pod, prior, now, bool(self.node.items()))
            entry = {"namespace": pods.namespace(pod), "name": pods.name(pod), "uid": uid, "status": status}
            self.known[uid] = entry | {"finished": pods.is_terminal(status)}
            for item in status.get("containerStatuses", ()):
                path = self.log_file(entry, item["name"], item["restartCount"])
                if "running" in item["state"] and not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    text = pods.annotations(pod).get("memory.vkcri/log", f"{item['name']} started")
                    lines = [loglines.format(times.of(now), b"stdout", line.encode()) for line in text.splitlines()]
                    path.write_bytes(b"".join(lines))
            self.owner.put("pod-status", uid, json.dumps(self.known[uid]).encode())
        for uid in set(self.known) - set(found):
            shutil.rmtree(self.log_file(self.known.pop(uid), "", 0).parent, ignore_errors=True)
            self.owner.delete("pod-status", uid)
        if synced:
            self.owner.mark_synced("pod-status")

    def log_file(self, entry: Object, name: str, count: int) -> Path:
        return Path(self.logs, f"{entry['namespace']}_{entry['name']}_{entry['uid']}", name, f"{count}.log")

    def log_path(self, body: Object, _left: float) -> Object:
        """The contract's log-path, errors in the kubelet's words."""
        wanted, name, previous = (body["namespace"], body["pod"]), body["container"], bool(body.get("previous"))
        entry = next((item for item in list(self.known.values()) if (item["namespace"], item["name"]) == wanted), None)
        items = {item["name"]: item for item in entry["status"].get("containerStatuses", ())} if entry else {}
        if entry is None or name not in items:
            raise NotFound(f"container {name} is not valid for pod {body['pod']}")
        item, waiting = items[name], items[name]["state"].get("waiting")
        count = item["restartCount"] - bool(previous and not waiting)
        if previous and not item["lastState"]:
            raise Invalid(f'previous terminated container "{name}" in pod "{body["pod"]}" not found')
        if waiting and not item["lastState"]:
            raise Invalid(f'container "{name}" in pod "{body["pod"]}" is waiting to start: {waiting["reason"]}')
        path, running = self.log_file(entry, name, count), "running" in item["state"] and not previous
        return {"path": str(path), "containerID": item["containerID"], "running": running}


def serve(process: Process, settings: RuntimeSettings) -> None:
    """Simulate this node's pods in memory."""
    memory, reported = Memory(process, settings), 0.0
    while not process.wait(0.25):
        now = time.time()
        with process.expect("a step of every pod", 30):
            memory.turn(now)
        if now - reported >= 10:
            reported = now
            memory.owner.replace("node-status", {"node": json.dumps(node_status(settings, now)).encode()})


main = program_main("cri-bridge", RuntimeSettings, serve)

if __name__ == "__main__":
    main()
