"""What one node is asked to do, timed: the same calls through the same API server for vkcri and for the real kubelet.

Pods name their node, so that the scheduler has no part in a figure. Times are from the request, or from the byte that
makes the container act, to what a client sees: a watch event, a line, an answer. A container acts on a fifo in a
hostPath volume, which is written from here: no polling, and the same clock at both ends.
"""

import base64
import http.client
import json
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.flow.live import is_ready, shell_pod, wait_for
from vkcri.kube.client import Client

PODS = "/api/v1/namespaces/default/pods"
BURST = 60
IDLE_PODS = 20
IDLE_SECONDS = 60.0
LOG_LINES, LINE_BYTES = 60_000, 100  # 8 MB in the file: the kubelet rotates at 10 MiB
_TICKS = os.sysconf("SC_CLK_TCK")
_WAIT_SECONDS = 180.0


@dataclass(frozen=True)
class Contender:
    """One node: its name, and its processes by what they are (`node`: what is compared, `containerd`: beside it)."""

    name: str
    pids: Callable[[], Mapping[str, Sequence[int]]]


class Work:
    """The measurements, one method each; every one leaves no pod behind. Seconds unless it says otherwise."""

    def __init__(self, client: Client, kubeconfig: Path) -> None:
        self._client = client
        self._kubectl = ["kubectl", f"--kubeconfig={kubeconfig}"]
        self._number = 0

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

    def exit_to_status(self, node: Contender) -> float:
        """From the byte on which a container ends to phase Succeeded."""
        with self._fifo() as fifo, self._pod(node, "read line </work/fifo", fifo, restartPolicy="Never") as (name, _):
            version = self._version(name)
            with self._watch(version, name) as events:
                began = time.monotonic()
                fifo.write_text("end\n")
                for event in events:
                    if event["object"]["status"]["phase"] == "Succeeded":
                        return time.monotonic() - began
        raise AssertionError("the watch ended")

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

    @contextmanager
    def _endpoint(self, node: Contender) -> Iterator[http.client.HTTPSConnection]:
        """A connection to a node's kubelet API, as the cluster's administrator."""
        status = self._client.get(f"/api/v1/nodes/{node.name}")["status"]
        (address,) = [item["address"] for item in status["addresses"] if item["type"] == "InternalIP"]
        port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # both may serve a self-signed one
        show = [*self._kubectl, "config", "view", "--raw", "--flatten", "-o", "json"]
        user = json.loads(subprocess.run(show, check=True, capture_output=True).stdout)["users"][0]["user"]
        with tempfile.NamedTemporaryFile() as pair:
            for key in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[key]) + b"\n")
            pair.flush()
            context.load_cert_chain(pair.name)
        connection = http.client.HTTPSConnection(address, port, timeout=60, context=context)
        try:
            yield connection
        finally:
            connection.close()

    def follow_lag(self, node: Contender, repeats: int) -> list[float]:
        """From the byte on which a container prints a line to that line in a followed log."""
        script = "exec 3<>/work/fifo; while read line <&3; do echo $line; done"  # open for both, it never ends
        with self._fifo() as fifo, self._pod(node, script, fifo) as (name, _):
            stream = self._client.watch(f"{PODS}/{name}/log", params={"follow": "true"}, read_timeout=30.0)
            lags = []
            with stream as lines:
                answers = iter(lines)
                for number in range(repeats + 1):
                    time.sleep(0.2)  # nothing else is under way
                    began = time.monotonic()
                    fifo.write_text(f"{number}\n")
                    assert next(answers) == str(number).encode()
                    lags.append(time.monotonic() - began)
            return lags[1:]  # the first one pays for the connection

    def at_rest(self, node: Contender) -> Mapping[str, float]:
        """CPU in percent of one core over IDLE_SECONDS, and PSS in MB, with IDLE_PODS pods that sleep; containerd's own
        CPU beside it, since a node makes it work."""
        names = [self._name() for _ in range(IDLE_PODS)]
        with self._removed(names):
            for name in names:
                self._create(node, shell_pod(name, "exec sleep 3600"))
            wait_for("they are Ready", lambda: all(map(self._is_ready, names)), _WAIT_SECONDS)
            time.sleep(15)  # at rest, no longer starting pods
            pids = node.pids()
            before = {kind: _cpu(group) for kind, group in pids.items()}
            time.sleep(IDLE_SECONDS)
            used = {kind: (_cpu(group) - before[kind]) / IDLE_SECONDS * 100 for kind, group in pids.items()}
            return {"cpu": used["node"], "containerd": used["containerd"], "pss": sum(map(_pss, pids["node"]))}

    def _name(self) -> str:
        self._number += 1
        return f"bench-{self._number}"

    @contextmanager
    def _fifo(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="vkcri-bench-") as folder:
            os.mkfifo(Path(folder) / "fifo")
            yield Path(folder) / "fifo"

    @contextmanager
    def _pod(self, node: Contender, script: str, fifo: Path | None = None, **spec: Any) -> Iterator[tuple[str, float]]:
        """A Ready pod's name and how long that took; it is gone at the end. `fifo`: its folder is /work."""
        name = self._name()
        pod = shell_pod(name, script, **{"terminationGracePeriodSeconds": 0, **spec})
        if fifo is not None:
            pod["spec"]["volumes"] = [{"name": "work", "hostPath": {"path": str(fifo.parent)}}]
            pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "work", "mountPath": "/work"}]
        with self._removed([name]):
            began = time.monotonic()
            self._until_ready(self._create(node, pod), [name])
            yield name, time.monotonic() - began

    def _create(self, node: Contender, pod: dict[str, Any]) -> str:
        """Create a pod on that node; gives its resource version."""
        pod["spec"]["nodeName"] = node.name
        return str(self._client.create(PODS, pod)["metadata"]["resourceVersion"])

    def _until_ready(self, version: str, names: Sequence[str]) -> None:
        """Wait until all of these were Ready after that version. Raises AssertionError where the watch ends first."""
        waiting = set(names)
        with self._watch(version, names[0] if len(names) == 1 else "") as events:
            for event in events:
                if is_ready(event["object"]):
                    waiting.discard(event["object"]["metadata"]["name"])
                if not waiting:
                    return
        raise AssertionError(f"the watch ended before these were Ready: {', '.join(sorted(waiting))}")

    @contextmanager
    def _removed(self, names: Sequence[str]) -> Iterator[None]:
        """Whatever becomes of the measurement, these pods are gone at its end."""
        try:
            yield
        finally:
            for name in filter(self._exists, names):
                self._client.delete(f"{PODS}/{name}", {"gracePeriodSeconds": 0})
            self._gone(names)

    @contextmanager
    def _watch(self, version: str, name: str = "") -> Iterator[Iterator[dict[str, Any]]]:
        params = {"resourceVersion": version, **({"fieldSelector": f"metadata.name={name}"} if name else {})}
        with self._client.watch(PODS, params=params, read_timeout=_WAIT_SECONDS) as lines:
            yield map(json.loads, lines)

    def _version(self, name: str) -> str:
        return str(self._client.get(f"{PODS}/{name}")["metadata"]["resourceVersion"])

    def _exists(self, name: str) -> bool:
        found = self._client.get(PODS, params={"fieldSelector": f"metadata.name={name}"})
        return bool(found["items"])

    def _is_ready(self, name: str) -> bool:
        return is_ready(self._client.get(f"{PODS}/{name}"))

    def _gone(self, names: Sequence[str]) -> None:
        """Wait until they are, and a moment more: a node still cleans up behind a pod that a client sees no longer."""
        wait_for("the pods are gone", lambda: not any(map(self._exists, names)), _WAIT_SECONDS)
        time.sleep(0.5)

    def _timed(self, command: list[str]) -> float:
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return time.monotonic() - began


def _cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU that processes have used, their ended children included."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15]))
    return total / _TICKS


def _pss(pid: int) -> float:
    """In MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0
