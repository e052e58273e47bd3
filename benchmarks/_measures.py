"""What one node is asked to do, timed: the same calls through the same API server for vkcri and for the real kubelet.

Pods name their node, so that the scheduler has no part in a figure. Times are from the request, or from the byte that
makes the container act, to what a client sees: a watch event, a line, an answer. A container acts on a fifo in a
hostPath volume, which is written from here: no polling, and the same clock at both ends.
"""

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode

from benchmarks._pods import PODS, WAIT_SECONDS, Contender, Pods
from benchmarks._processes import cpu_seconds, pss
from tests.flow.live import shell_pod
from tests.waiting import wait_for

BURST = 60
IDLE_PODS = 20
PROBED_PODS = 60  # a node; 250 containers each on two nodes at once are too many for two cores
EXITS_A_POD = 10
IDLE_SECONDS = 60.0
LOG_LINES, LINE_BYTES = 60_000, 100  # 8 MB in the file: the kubelet rotates at 10 MiB


class Work(Pods):
    """The measurements, one method each; every one leaves no pod behind. Seconds unless it says otherwise."""

    def create_to_ready(self, node: Contender) -> float:
        """From the POST of a pod to its condition Ready."""
        with self._pod(node, "exec sleep 3600") as (_, seconds):
            return seconds

    def burst(self, node: Contender) -> float:
        """From the first POST of BURST pods to the last one Ready."""
        names = [self._name() for _ in range(BURST)]
        with self._removed(names):
            began = time.monotonic()
            versions = [self._create(node, shell_pod(name, "exec sleep 3600")) for name in names]
            self._until_ready(versions[0], names)
            return time.monotonic() - began

    def exits_to_status(self, node: Contender, count: int, apart: float) -> list[float]:
        """From the byte on which a container ends to its state `terminated`: `count` containers, EXITS_A_POD of a pod,
        one after the other, up to `apart` seconds between them, so that they fall anywhere in a second of polling."""
        found: list[float] = []
        while len(found) < count:
            found += self._exits_of_a_pod(node, min(EXITS_A_POD, count - len(found)), apart)
        return found

    def delete_to_gone(self, node: Contender) -> float:
        """From DELETE, with its grace, to the event DELETED, for a container that ends on SIGTERM."""
        with self._pod(node, "trap 'exit 0' TERM; sleep 3600 & wait", terminationGracePeriodSeconds=30) as (name, _):
            with self._watch(self._version(name), name) as events:
                began = time.monotonic()
                self._client.delete(f"{PODS}/{name}")
                for event in events:
                    if event["type"] == "DELETED":
                        return time.monotonic() - began
        raise AssertionError("the watch ended")

    def execs(self, node: Contender, repeats: int) -> list[float]:
        """`kubectl exec POD -- true`, kubectl's own start included."""
        with self._pod(node, "exec sleep 3600") as (name, _):
            return [self._timed([*self._kubectl, "exec", name, "--", "true"]) for _ in range(repeats)]

    def logs(self, node: Contender, repeats: int) -> dict[str, list[float]]:
        """Reading one line of a log, and the whole of one of LOG_LINES lines, through the API server and at the node's
        own endpoint, where the connection is kept as an API server keeps it."""
        loop = f'for (i = 1; i <= {LOG_LINES}; i++) printf "line %06d %0{LINE_BYTES - 13}d\\n", i, i'
        script = f"awk 'BEGIN {{ {loop} }}'; exec sleep 3600"
        with self._pod(node, script) as (name, _), self._endpoint(node) as endpoint:
            path = f"{PODS}/{name}/log"

            def served(**params: str) -> bytes:
                return self._client.request("GET", path, params=params, timeout=60.0)

            def direct(**params: str) -> bytes:
                endpoint.request("GET", f"/containerLogs/default/{name}/main?{urlencode(params)}")
                with endpoint.getresponse() as answer:
                    assert answer.status == 200
                    return answer.read()

            last = f"line {LOG_LINES:06d}".encode()
            wait_for("the log is written", lambda: last in served(tailLines="1"))
            found: dict[str, list[float]] = {}
            for _ in range(repeats):
                for read, where in ((served, ""), (direct, ", from its endpoint")):
                    began = time.monotonic()
                    read(tailLines="1")
                    between = time.monotonic()
                    assert len(read()) == LOG_LINES * LINE_BYTES
                    found.setdefault(f"log, last line{where}", []).append(between - began)
                    found.setdefault(f"log, {LOG_LINES} lines{where}", []).append(time.monotonic() - between)
            return found

    def follow_lag(self, node: Contender, repeats: int) -> list[float]:
        """From the byte on which a container prints a line to that line in a followed log."""
        script = "exec 3<>/work/fifo; while read line <&3; do echo $line; done"  # open for both, it never ends
        with self._fifos() as folder, self._pod(node, script, folder) as (name, _):
            stream = self._client.watch(f"{PODS}/{name}/log", params={"follow": "true"}, read_timeout=30.0)
            lags = []
            with stream as lines:
                answers = iter(lines)
                for number in range(repeats + 1):
                    time.sleep(0.2)  # nothing else is under way
                    began = time.monotonic()
                    (folder / "fifo").write_text(f"{number}\n")
                    assert next(answers) == str(number).encode()
                    lags.append(time.monotonic() - began)
            return lags[1:]  # the first one pays for the connection

    def probed(self, nodes: Sequence[Contender]) -> list[float]:
        """CPU in percent of one core, a node each, over the same IDLE_SECONDS. Each node has PROBED_PODS pods, whose
        container is probed by HTTP and by a command every ten seconds."""
        timing = {"periodSeconds": 10, "timeoutSeconds": 10}
        container = {
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, **timing},
            "livenessProbe": {"exec": {"command": ["true"]}, **timing},
        }
        script = "echo > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"
        made = [(node, self._name()) for _ in range(PROBED_PODS) for node in nodes]
        with self._removed([name for _, name in made]):
            for node, name in made:
                self._create(node, shell_pod(name, script, container=container))
            wait_for("they are Ready", lambda: all(self._is_ready(name) for _, name in made), 4 * WAIT_SECONDS)
            return [used["node"] for used in self._used([node.pids() for node in nodes])]

    def at_rest(self, node: Contender) -> Mapping[str, float]:
        """CPU in percent of one core over IDLE_SECONDS, and PSS in MB, with IDLE_PODS pods that sleep; containerd's own
        CPU beside it, since a node makes it work."""
        names = [self._name() for _ in range(IDLE_PODS)]
        with self._removed(names):
            for name in names:
                self._create(node, shell_pod(name, "exec sleep 3600"))
            wait_for("they are Ready", lambda: all(map(self._is_ready, names)), WAIT_SECONDS)
            pids = node.pids()
            (used,) = self._used([pids])
            return {"cpu": used["node"], "containerd": used["containerd"], "pss": sum(map(pss, pids["node"]))}

    def _used(self, nodes: Sequence[Mapping[str, Sequence[int]]]) -> list[dict[str, float]]:
        """CPU in percent of one core over IDLE_SECONDS, by kind, of each node's processes."""
        time.sleep(15)  # at rest, no longer starting pods
        before = [{kind: cpu_seconds(group) for kind, group in pids.items()} for pids in nodes]
        time.sleep(IDLE_SECONDS)
        return [
            {kind: (cpu_seconds(group) - then[kind]) / IDLE_SECONDS * 100 for kind, group in pids.items()}
            for pids, then in zip(nodes, before, strict=True)
        ]

    def _exits_of_a_pod(self, node: Contender, count: int, apart: float) -> list[float]:
        """exits_to_status of the containers of one pod, which waits until all of them run."""
        containers = [
            {**shell_pod("", f"read line </work/{number}")["spec"]["containers"][0], "name": f"c{number}"}
            for number in range(count)
        ]
        spec = {"container": containers[0], "containers": containers[1:], "restartPolicy": "Never"}
        found = []
        with self._fifos([str(number) for number in range(count)]) as folder:
            with self._pod(node, "", folder, **spec) as (name, _):
                for number in random.sample(range(count), count):
                    time.sleep(random.uniform(0, apart))
                    found.append(self._exit(name, folder / str(number), f"c{number}"))
        return found

    def _exit(self, name: str, fifo: Path, container: str) -> float:
        with self._watch(self._version(name), name) as events:
            began = time.monotonic()
            fifo.write_text("end\n")
            for event in events:
                statuses = event["object"]["status"].get("containerStatuses") or ()
                if any(item["name"] == container and "terminated" in item["state"] for item in statuses):
                    return time.monotonic() - began
        raise AssertionError("the watch ended")
