"""The cost of probes: 250 pods with three probes each (exec, HTTP, TCP) every ten seconds, all of them good.

`python -m benchmarks probes` prints two lines: the CPU that the prober with its loop and its CRI client take, as a part
of one core, and how late probes begin; then the same while 250 of the HTTP probes hang. The pods are simulated: the
runtime is the tests' fake and the server a plain one, each in a process of its own whose CPU does not count, so a
command costs here what it costs cri-bridge, and nothing of what a real runtime spends on it.
"""

import multiprocessing
import resource
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.probes.prober import Prober
from bridge.probes.track import Target
from bridge.probes.view import View
from bridge.runtime import Runtime
from bridge.wire.client import Client
from bridge.wire.loop import Loop
from tests.contract.fake_runtime import SHELL_IMAGE, FakeRuntime
from tests.instances import own
from vkcri.lifecycle import Process

PODS, PERIOD, SECONDS = 250, 10, 30.0
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def serve(path: str, ready: Connection) -> None:
    """The pods' side: a fake runtime at that socket, a server that answers, and one that does not."""
    quiet = socket.create_server(("127.0.0.1", 0), backlog=1024)
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    with FakeRuntime(Path(path)):
        ready.send((server.getsockname()[1], quiet.getsockname()[1]))
        while True:
            connection, _ = server.accept()
            with connection:
                if connection.recv(4096):
                    connection.sendall(ANSWER)


@contextmanager
def pods_side(folder: str) -> Iterator[tuple[str, int, int]]:
    """(endpoint, port that answers, port that does not)."""
    ours, theirs = multiprocessing.Pipe()
    path = f"{folder}/cri.sock"
    child = multiprocessing.get_context("spawn").Process(target=serve, args=(path, theirs), daemon=True)
    child.start()
    try:
        yield (f"unix://{path}", *ours.recv())
    finally:
        child.kill()
        child.join()


def container(runtime: Runtime, name: str) -> str:
    """A running container's id: all simulated pods share it."""
    config = cri.PodSandboxConfig(metadata=cri.PodSandboxMetadata(name=name, uid="u", namespace="n"))
    sandbox = runtime.run_pod_sandbox(cri.RunPodSandboxRequest(config=config)).pod_sandbox_id
    made = cri.ContainerConfig(metadata=cri.ContainerMetadata(name="app"), image=cri.ImageSpec(image=SHELL_IMAGE))
    request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=made, sandbox_config=config)
    identity = runtime.create_container(request).container_id
    runtime.start_container(cri.StartContainerRequest(container_id=identity))
    return identity


def a_pod(number: int, port: int, http_port: int) -> dict[str, Any]:
    timing = {"periodSeconds": PERIOD, "timeoutSeconds": PERIOD}
    app = {
        "name": "app",
        "readinessProbe": {"httpGet": {"port": http_port, "path": "/", "host": "127.0.0.1"}, **timing},
        "livenessProbe": {"exec": {"command": ["true"]}, **timing},
    }
    second = {"name": "tcp", "readinessProbe": {"tcpSocket": {"port": port, "host": "127.0.0.1"}, **timing}}
    metadata = {"name": f"p{number}", "namespace": "default", "uid": f"uid-{number}"}
    return {"metadata": metadata, "spec": {"containers": [app, second]}}


def measure(endpoint: str, port: int, http_port: int, title: str) -> None:
    """Probe for SECONDS and print the line."""
    process = Process("prober", own("bench"), end=lambda _: None)
    runtime, client = Runtime(endpoint), Client(Loop())
    warned: list[str] = []
    late: list[float] = []
    prober = Prober(client, runtime.exec_later, lambda *about: warned.append(about[2]), lambda _: None)
    client.start(process)
    identity = container(runtime, title)
    began = time.time()
    for number in range(PODS):
        targets = tuple(Target(name, identity, running=True, started=True, started_at=began) for name in ("app", "tcp"))
        prober.update(f"uid-{number}", View(a_pod(number, port, http_port), "127.0.0.1", False, targets))
        time.sleep(PERIOD / PODS)  # their ticks are spread, as those of pods made one by one
    before, count = cpu_seconds(), total(prober)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        asked = time.monotonic()
        turned = threading.Event()
        client.loop.call(turned.set)
        turned.wait(10)
        late.append(time.monotonic() - asked)
        time.sleep(0.2)
    used, probes = cpu_seconds() - before, total(prober) - count
    threads = threading.active_count()
    process.drain()
    runtime.close()
    print(
        f"probes, {title}: {PODS} pods with 3 each every {PERIOD} s: {used / SECONDS:.1%} of a core, "
        f"{probes} probes in {SECONDS:g} s ({used / max(1, probes) * 1e6:.0f} us each), {threads} threads, "
        f"loop late by {median(late) * 1000:.1f} ms (median), {max(late) * 1000:.0f} ms (most), {len(warned)} failed"
    )


def total(prober: Prober) -> int:
    """Probes that have ended so far."""
    lines = prober.metrics.text().splitlines()
    return sum(int(line.rpartition(" ")[2]) for line in lines if line.startswith("prober_probe_total{"))


def main() -> None:
    """Print both lines."""
    with tempfile.TemporaryDirectory(prefix="vkcri-bench-") as folder, pods_side(folder) as (endpoint, port, quiet):
        measure(endpoint, port, port, "all good")
        measure(endpoint, port, quiet, "all of the HTTP ones hanging")


if __name__ == "__main__":
    main()
