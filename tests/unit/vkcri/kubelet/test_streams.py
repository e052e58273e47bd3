"""exec, attach and port-forward: a client's upgrade through log-server to a stream server that echoes."""

import configparser
import hashlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.datastructures import MultiDict

from tests.unit.vkcri.kubelet.node import Node
from tests.waiting import PATIENCE, until
from vkcri import httpd, splice
from vkcri.errors import Invalid
from vkcri.kubelet import main, streams

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Odd: kept\r\n\r\n"
EXEC = "/exec/default/web/main?command=ls&command=-l&input=1&output=1&error=1"


class Runtime:
    """A runtime's stream server: answers a head, then echoes."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answer = SWITCHING + b"early "
        self.heads: list[bytes] = []
        self.ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/exec/one-time?x=1"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(2 * PATIENCE)  # a client that waits in vain gives up first
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, rest = data.partition(b"\r\n\r\n")
            self.heads.append(head)
            connection.sendall(self.answer + rest)
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                pass  # log-server has cut the stream: what some tests are about
        self.ended.set()


@pytest.fixture
def quiet(calm_node: Node) -> Node:
    """A node that no test here stops, without the requests of the test before."""
    calm_node.stream_requests.clear()
    return calm_node


@pytest.fixture
def runtime(quiet: Node) -> Iterator[Runtime]:
    yield from _attach(quiet)


@pytest.fixture
def doomed_runtime(node: Node) -> Iterator[Runtime]:
    yield from _attach(node)


def _attach(node: Node) -> Iterator[Runtime]:
    made = Runtime()
    node.stream_url = made.url
    node.run_pod("web")
    yield made
    made.listener.close()


def upgrade(
    node: Node,
    path: str,
    *,
    more: str = "",
    method: str = "POST",
    token: str = "admin-token",
    protocol: str = "SPDY/3.1",
) -> ssl.SSLSocket:
    """A connection that has asked for an upgrade."""
    plain = socket.create_connection(("127.0.0.1", node.settings.kubelet_port), PATIENCE)
    connection = node.trust().wrap_socket(plain, server_hostname="localhost")
    head = f"{method} {path} HTTP/1.1\r\nHost: n1:10250\r\nAuthorization: Bearer {token}\r\n"
    connection.sendall(f"{head}Connection: Upgrade\r\nUpgrade: {protocol}\r\n{more}\r\n".encode())
    return connection


def read(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := connection.recv(65536)):
        data += part
    return bytes(data)


def test_upgrade_is_handed_on_and_its_answer_back_verbatim(quiet: Node, runtime: Runtime) -> None:
    protocols = "X-Stream-Protocol-Version: v4.channel.k8s.io\r\nX-Stream-Protocol-Version: channel.k8s.io\r\n"
    with upgrade(quiet, EXEC, more=protocols) as connection:
        assert read(connection, len(runtime.answer)) == SWITCHING + b"early "
        connection.sendall(b"hello")
        assert read(connection, 5) == b"hello"
    assert runtime.ended.wait(PATIENCE)
    lines = runtime.heads[0].decode().split("\r\n")
    assert lines[:2] == ["POST /exec/one-time?x=1 HTTP/1.1", f"Host: {runtime.url.split('/')[2]}"]
    assert [line for line in lines if line.startswith("X-Stream")] == protocols.split("\r\n")[:2]
    assert "Upgrade: SPDY/3.1" in lines
    assert "admin-token" not in runtime.heads[0].decode()
    wanted = {"uid": "uid-web", "container": "main", "stdin": True, "stdout": True, "stderr": True, "tty": False}
    assert quiet.stream_requests == [("exec", {**wanted, "command": ["ls", "-l"]})]


@pytest.mark.parametrize(
    "path", [EXEC, "/attach/default/web/main?input=1&output=1", "/portForward/default/web?port=80"]
)
def test_an_upgrade_to_websocket_is_handed_on_too(quiet: Node, runtime: Runtime, path: str) -> None:
    more = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: channel.k8s.io\r\n"
    with upgrade(quiet, path, more=more, method="GET", protocol="websocket") as connection:
        assert read(connection, len(runtime.answer)) == SWITCHING + b"early "
        connection.sendall(b"hello")
        assert read(connection, 5) == b"hello"
    lines = runtime.heads[0].decode().split("\r\n")
    assert lines[0] == "GET /exec/one-time?x=1 HTTP/1.1"
    assert {"Upgrade: websocket", *more.split("\r\n")[:2]} <= set(lines)


def test_eight_mebibytes_there_and_back_are_identical(quiet: Node, runtime: Runtime) -> None:
    data = os.urandom(8 * 1024 * 1024)
    with upgrade(quiet, EXEC) as connection:
        read(connection, len(runtime.answer))
        received = bytearray()
        for start in range(0, len(data), 150_001):
            connection.sendall(data[start : start + 150_001])
            received += read(connection, len(data[start : start + 150_001]))
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_bytes_sent_with_the_request_are_not_lost(quiet: Node, runtime: Runtime) -> None:
    with upgrade(quiet, EXEC) as connection:
        connection.sendall(b"sent early")
        assert read(connection, len(runtime.answer) + 10).endswith(b"sent early")


@pytest.mark.parametrize(
    ("path", "request_name"),
    [
        ("/exec/default/web/uid-web/main?command=id&output=1", "exec"),
        ("/attach/default/web/main?input=1&output=1&tty=1&error=1", "attach"),
        ("/attach/default/web/uid-web/main?output=1", "attach"),
        ("/portForward/default/web", "port-forward"),
        ("/portForward/default/web/uid-web", "port-forward"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_each_route_asks_its_own_request(
    quiet: Node, runtime: Runtime, path: str, request_name: str, method: str
) -> None:
    with upgrade(quiet, path, method=method) as connection:
        assert read(connection, len(SWITCHING)).startswith(b"HTTP/1.1 101 ")
    name, body = quiet.stream_requests[-1]
    assert (name, body["uid"]) == (request_name, "uid-web")
    assert len(runtime.heads) == 1
    if "tty" in path:
        assert (body["tty"], body["stderr"]) == (True, False)


def test_refusal_of_the_runtime_comes_back(quiet: Node, runtime: Runtime) -> None:
    runtime.answer = b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\ngone!\n"
    with upgrade(quiet, EXEC) as connection:
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert answer.endswith(b"gone!\n")


@pytest.mark.parametrize("answer", [b"", b"rubbish\r\n\r\n"])
def test_runtime_that_does_not_answer_is_unavailable(quiet: Node, runtime: Runtime, answer: bytes) -> None:
    if not answer:
        runtime.listener.close()
        with socket.create_server(("127.0.0.1", 0)) as free:
            quiet.stream_url = f"http://127.0.0.1:{free.getsockname()[1]}/"
    runtime.answer = answer
    with upgrade(quiet, EXEC) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/exec/default/absent/main?output=1", 404, "pod does not exist"),
        ("/exec/default/web/another-uid/main?output=1", 404, "pod does not exist"),
        ("/exec/default/web/absent?output=1", 404, 'container not found ("absent")'),
        ("/exec/default/web/main?command=id", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/portForward/default/absent", 404, "pod does not exist"),
    ],
)
def test_wrong_streams_are_refused_as_by_the_kubelet(
    quiet: Node, runtime: Runtime, path: str, status: int, message: str
) -> None:
    del runtime
    with upgrade(quiet, path) as connection:
        answer = connection.recv(65536).decode()
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert answer.endswith(f"\r\n\r\n{message}")


def test_request_that_is_no_upgrade_is_told(quiet: Node, runtime: Runtime) -> None:
    assert quiet.get(EXEC, method="POST") == (500, "Upgrade request required\n")
    assert runtime.heads == []


def test_stream_wants_a_good_credential(quiet: Node, runtime: Runtime) -> None:
    for token, status in (("", b"401"), ("pod-token", b"403"), ("scraper-token", b"403")):
        with upgrade(quiet, EXEC, token=token) as connection:
            assert connection.recv(65536).split(b" ")[1] == status
    assert (runtime.heads, quiet.stream_requests) == ([], [])


class Clock:
    """The splice's `time`: it can be put forward, and tells whether it was looked at."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return time.monotonic() + self.ahead

    def settle(self) -> None:
        """Wait until the stream's thread has looked again, whatever it was about."""
        seen = self.looks
        until(lambda: self.looks > seen + 3)


def test_a_stream_where_nothing_moves_is_cut_after_the_kubelets_four_hours(
    quiet: Node, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """streamingConnectionIdleTimeout; a byte begins the time anew."""
    clock, hours = Clock(), 3600.0
    monkeypatch.setattr(splice, "time", clock)
    monkeypatch.setattr(splice, "TICK_SECONDS", 0.05)
    with upgrade(quiet, EXEC) as connection:
        read(connection, len(runtime.answer))
        for _ in range(2):
            clock.settle()
            clock.ahead += 4 * hours - 600
            clock.settle()
            connection.sendall(b"still here")
            assert read(connection, 10) == b"still here"
        clock.settle()
        clock.ahead += 4 * hours
        assert connection.recv(1) == b""
    assert runtime.ended.wait(PATIENCE)


def test_stream_outlives_its_neighbours_and_ends_after_the_drain(
    node: Node, doomed_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DRAIN_SECONDS", 1.5)
    with upgrade(node, EXEC) as connection:
        read(connection, len(doomed_runtime.answer))
        node.stop_neighbour("watcher")
        node.stop_neighbour("provider")
        connection.sendall(b"still here")
        assert read(connection, 10) == b"still here"
        stopper = threading.Thread(target=node.process.drain)
        stopper.start()
        until(lambda: not node.listens(node.settings.kubelet_port))
        connection.sendall(b"and now")
        assert read(connection, 7) == b"and now"
        assert connection.recv(10) == b""  # it has opened no error stream to be told on
        stopper.join(PATIENCE)
    assert doomed_runtime.ended.wait(PATIENCE)


def test_a_session_that_the_drain_cuts_is_told_so(
    node: Node, doomed_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DRAIN_SECONDS", 0.5)
    doomed_runtime.answer = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n\x82\x03\x01he"
    )
    said = b"log-server of node n1 has ended, and this session with it"
    session = upgrade(node, EXEC, protocol="websocket")
    forward = upgrade(node, "/portForward/default/web?port=80", protocol="websocket")
    with session, forward:
        for connection in (session, forward):
            read(connection, len(doomed_runtime.answer))
        stopper = threading.Thread(target=node.process.drain)
        stopper.start()
        assert read(forward, 1) == b""
        words = read(session, 1000)
        stopper.join(PATIENCE)
    assert words[0] == 0x82
    assert words.count(said) == 2  # on the error channel, and in the close frame
    assert b'"status": "Failure"' in words


def test_the_drain_is_what_the_slowest_end_leaves_of_supervisords_patience() -> None:
    """Beyond it supervisord kills, and nobody is told anything."""
    supervised = configparser.RawConfigParser(inline_comment_prefixes=(";",))
    assert supervised.read(Path(__file__).parents[4] / "supervisor.conf")
    people = main.PEOPLE_DRAIN_SECONDS + 2 * httpd.LINGER_SECONDS  # first; then the kubelet's server begins to close
    kubelet = streams.DRAIN_SECONDS + streams.CUT_SECONDS + 2 * httpd.LINGER_SECONDS
    assert 0 < supervised.getfloat("program:log-server", "stopwaitsecs") - people - kubelet <= 1


def test_websocket_names_its_ports_in_the_query() -> None:
    assert streams.forward_body("u", MultiDict([("port", "80,81"), ("port", "82")]), websocket=True) == {
        "uid": "u",
        "ports": [80, 81, 82],
    }
    assert streams.forward_body("u", MultiDict([("port", "80")]), websocket=False) == {"uid": "u", "ports": []}
    for ports in ([], ["x"], ["0"], ["65536"], ["-1"], [""]):
        with pytest.raises(Invalid):
            streams.forward_body("u", MultiDict([("port", port) for port in ports]), websocket=True)
