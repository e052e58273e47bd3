"""What a session attached to a container is told, and when it ends: the last row of ARCHITECTURE.md's table of how
containerds differ, on each of them. A runtime that does better fails it, and then the row goes."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.contract.conftest import Guest
from tests.contract.fake_runtime import SHELL_IMAGE
from tests.unit.vkcri.speaking import KEY, masked, messages
from tests.waiting import PATIENCE
from vkcri.config import RuntimeSettings

pytestmark = [pytest.mark.container]


@pytest.fixture
def guest(containerd_settings: RuntimeSettings, containerd_runtime: Runtime) -> Iterator[Guest]:
    instance = containerd_settings.instance
    found = Guest(containerd_runtime, "attach", instance.pod_logs_dir, instance.cgroup_root)
    yield found
    found.clean()


def start(guest: Guest, script: str) -> str:
    """A running container that reads its standard input."""
    sandbox = guest.run()
    config = cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name="main"),
        image=cri.ImageSpec(image=SHELL_IMAGE),
        command=["sh", "-c", script],
        log_path="main/0.log",
        stdin=True,
    )
    request = cri.CreateContainerRequest(
        pod_sandbox_id=sandbox, config=config, sandbox_config=guest.sandbox_config("pod")
    )
    container = guest.runtime.create_container(request).container_id
    guest.runtime.start_container(cri.StartContainerRequest(container_id=container))
    return container


def attached(guest: Guest, container: str, first: bytes, second: bytes) -> dict[int, bytes]:
    """What a session with standard input is told on each channel up to its own end. It gives the container the first
    word until it is answered, since containerd passes input on before the session has outputs, and then the second."""
    request = cri.AttachRequest(container_id=container, stdin=True, stdout=True, stderr=True)
    url = urlsplit(guest.runtime.attach(request).url)
    lines = [
        f"GET {url.path} HTTP/1.1",
        f"Host: {url.netloc}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: v4.channel.k8s.io",
    ]
    data = bytearray()
    with socket.create_connection((url.hostname, url.port), PATIENCE) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.settimeout(1)
        deadline = time.monotonic() + PATIENCE
        while b"got " + first not in data:
            assert time.monotonic() < deadline, bytes(data)
            connection.sendall(masked(2, b"\0" + first + b"\n"))
            with contextlib.suppress(TimeoutError):
                data += (more := connection.recv(65536))
                assert more, bytes(data)
        connection.settimeout(PATIENCE)
        connection.sendall(masked(2, b"\0" + second + b"\n"))
        while more := connection.recv(65536):
            data += more
    found: dict[int, bytes] = {}
    for opcode, payload in messages(bytes(data).partition(b"\r\n\r\n")[2]):
        if opcode == 2 and payload:
            found[payload[0]] = found.get(payload[0], b"") + payload[1:]
    return found


def test_with_standard_input_a_session_is_cut_off_from_one_output_by_the_end_of_the_other(guest: Guest) -> None:
    """It ends as if the container had, which goes on and may print."""
    script = 'while read word && [ "$word" = one ]; do echo got $word; done; exec 2>&-; read word; echo got $word'
    container = start(guest, script)
    said = attached(guest, container, b"one", b"that is not answered")
    assert set(said[1].splitlines()) == {b"got one"}
    assert json.loads(said[3])["status"] == "Success"
    assert guest.container(container).state == cri.CONTAINER_RUNNING
