"""exec, attach and port-forward: a client's upgrade through log-server to a stream server that echoes."""

import configparser
import hashlib
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from werkzeug.datastructures import MultiDict

from tests.ports import closed_port
from tests.unit.vkcri.kubelet.node import Node
from tests.unit.vkcri.speaking import ACCEPTED, KEY, SpdyServer, masked, messages
from tests.waiting import PATIENCE, until
from vkcri import httpd, splice
from vkcri.errors import Invalid
from vkcri.kubelet import main, streams

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Odd: kept\r\n\r\n"
EXEC = "/exec/default/web/main?command=ls&command=-l&input=1&output=1&error=1"


R = TypeVar("R", bound="Runtime")


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
    yield from _serving(quiet, Runtime())


@pytest.fixture
def doomed_runtime(node: Node) -> Iterator[Runtime]:
    yield from _serving(node, Runtime())


def _serving(node: Node, made: R) -> Iterator[R]:
    """The runtime's stream server, to which a pod of the node leads."""
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


def test_runtime_whose_answer_is_rubbish_is_unavailable(quiet: Node, runtime: Runtime) -> None:
    runtime.answer = b"rubbish\r\n\r\n"
    with upgrade(quiet, EXEC) as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")


def test_runtime_that_listens_nowhere_is_unavailable(quiet: Node, runtime: Runtime) -> None:
    with closed_port() as port:
        quiet.stream_url = f"http://127.0.0.1:{port}/"
        with upgrade(quiet, EXEC) as connection:
            assert connection.recv(65536).startswith(b"HTTP/1.1 503 ")
    assert runtime.heads == []


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


@pytest.fixture
def endless_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a node that starts after it: its server gives a stream that long, too."""
    monkeypatch.setattr(streams, "DRAIN_SECONDS", PATIENCE)


@pytest.mark.usefixtures("endless_drain")
def test_stream_outlives_its_neighbours_and_ends_after_the_drain(
    node: Node, doomed_runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        monkeypatch.setattr(streams, "DRAIN_SECONDS", 0.0)
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


class SpdyRuntime(Runtime):
    """A runtime's stream server for exec of `cat`: what comes on standard input goes to standard output, and its end is
    the command's."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = SWITCHING.replace(b"X-Odd: kept", b"X-Stream-Protocol-Version: v4.channel.k8s.io")

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(2 * PATIENCE)
            server, data = SpdyServer(), b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            head, _, data = data.partition(b"\r\n\r\n")
            self.heads.append(head)
            connection.sendall(self.answer)
            try:
                while self._cat(connection, server, data):
                    data = connection.recv(65536)
                    if not data:
                        break
            except OSError:
                pass  # log-server has cut the stream: what a test is about
        self.ended.set()

    def _cat(self, connection: socket.socket, server: SpdyServer, data: bytes) -> bool:
        for heard in server.hear(data):
            if heard.kind == 1 and len(server.streams) == 3:
                connection.sendall(server.reply())
            if heard.kind == 0 and heard.data:
                connection.sendall(server.say("stdout", heard.data))
            if heard.last:
                connection.sendall(server.say("stdout", b"", last=True))
                connection.sendall(server.say("error", b'{"status":"Success"}') + server.reset())
                return False
        return True


@pytest.fixture
def cat(quiet: Node) -> Iterator[SpdyRuntime]:
    yield from _serving(quiet, SpdyRuntime())


@pytest.fixture
def doomed_cat(node: Node) -> Iterator[SpdyRuntime]:
    yield from _serving(node, SpdyRuntime())


CAT = "/exec/default/web/main?command=cat&input=1&output=1"


def handshake(protocols: str) -> str:
    return f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: {protocols}\r\n"


def channels(
    node: Node, path: str = CAT, *, method: str = "GET", protocols: str = "v5.channel.k8s.io"
) -> ssl.SSLSocket:
    return upgrade(node, path, more=handshake(protocols), method=method, protocol="websocket")


def heads(connection: socket.socket) -> tuple[list[str], bytes]:
    """The lines of an answer's head, and what came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        assert more, data
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), rest


def drained(connection: socket.socket, data: bytes = b"") -> list[tuple[int, bytes]]:
    """All messages up to the connection's end."""
    while more := connection.recv(65536):
        data += more
    return list(messages(data))


@pytest.mark.parametrize("path", [CAT, "/attach/default/web/main?input=1&output=1"])
def test_channels_whose_end_a_client_can_say_are_made_of_the_runtimes_streams(
    quiet: Node, cat: SpdyRuntime, path: str
) -> None:
    sent = os.urandom(1_000_000)
    received = bytearray()
    with channels(quiet, path, protocols="v5.channel.k8s.io, v4.channel.k8s.io") as connection:
        lines, rest = heads(connection)
        assert lines[0].startswith("HTTP/1.1 101 ")
        assert {f"Sec-WebSocket-Accept: {ACCEPTED}", "Sec-WebSocket-Protocol: v5.channel.k8s.io"} <= set(lines)
        assert rest + read(connection, 3 - len(rest)) == b"\x82\x01\x01"
        for start in range(0, len(sent), 150_001):
            part = sent[start : start + 150_001]
            connection.sendall(masked(2, b"\x00" + part))
            data, got = b"", 0
            while got < len(part):
                data += read(connection, 1)
                complete = list(whole(data))
                got = sum(len(payload) - 1 for _, payload in complete)
            received += b"".join(payload[1:] for _, payload in complete)
        connection.sendall(masked(2, b"\xff\x00"))
        said, closed = drained(connection)
    assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()
    assert json.loads(said[1].removeprefix(b"\x03"))["status"] == "Success"
    assert closed == (8, b"\x03\xe8")
    assert cat.ended.wait(PATIENCE)
    asked = cat.heads[0].decode().split("\r\n")
    assert asked[0] == "POST /exec/one-time?x=1 HTTP/1.1"
    assert {"Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: v4.channel.k8s.io"} <= set(asked)
    assert not [line for line in asked if "websocket" in line.lower() or "admin-token" in line]


def whole(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of which all is there."""
    while len(data) >= 2:
        start = {126: 4, 127: 10}.get(data[1], 2)
        size = int.from_bytes(data[2:start]) if start > 2 else data[1]
        if len(data) < start + size:
            return
        yield data[0] & 0x0F, data[start : start + size]
        data = data[start + size :]


def test_what_keeps_a_session_of_channels_from_beginning_is_said_on_its_error_channel(
    quiet: Node, cat: SpdyRuntime
) -> None:
    for answer, message in (
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\ngone!\n", "unable to upgrade connection: gone!"),
        (SWITCHING, "does not speak v4.channel.k8s.io"),
        (b"rubbish\r\n\r\n", "no answer that is understood"),
    ):
        cat.answer = answer
        with channels(quiet) as connection:
            lines, rest = heads(connection)
            established, said, closed = drained(connection, rest)
        assert (lines[0][:12], established, closed) == ("HTTP/1.1 101", (2, b"\x01"), (8, b"\x03\xe8"))
        assert message in json.loads(said[1].removeprefix(b"\x03"))["message"]


@pytest.mark.parametrize(
    ("method", "more", "status"),
    [
        ("POST", handshake("v5.channel.k8s.io"), 405),
        ("GET", handshake("v5.channel.k8s.io").replace("13", "8"), 400),
        ("GET", handshake("v5.channel.k8s.io").replace(KEY, "short"), 400),
    ],
)
@pytest.mark.parametrize("path", [CAT, "/portForward/default/web"])
def test_another_handshake_than_a_websockets_is_refused(
    quiet: Node, cat: SpdyRuntime, path: str, method: str, more: str, status: int
) -> None:
    more = more.replace("v5.channel.k8s.io", "SPDY/3.1+portforward.k8s.io") if "portForward" in path else more
    with upgrade(quiet, path, more=more, method=method, protocol="websocket") as connection:
        assert heads(connection)[0][0].split(" ")[1] == str(status)
    assert cat.heads == []


def test_a_session_of_channels_that_the_drain_cuts_is_told_so(
    node: Node, doomed_cat: SpdyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DRAIN_SECONDS", 0.5)
    with channels(node) as connection:
        _, rest = heads(connection)
        connection.sendall(masked(2, b"\x00x"))
        rest += read(connection, 7 - len(rest))
        stopper = threading.Thread(target=node.process.drain)
        stopper.start()
        *_, said, closed = drained(connection, rest)
        stopper.join(PATIENCE)
    told = json.loads(said[1].removeprefix(b"\x03"))
    assert told["message"] == "log-server of node n1 has ended, and this session with it"
    assert closed == (8, b"\x03\xe8")
    assert doomed_cat.ended.wait(PATIENCE)


TUNNELLED = "SPDY/3.1+portforward.k8s.io"


def test_a_forwarded_ports_spdy_goes_through_a_websockets_messages(quiet: Node, runtime: Runtime) -> None:
    runtime.answer = SWITCHING.replace(b"X-Odd: kept", b"X-Stream-Protocol-Version: portforward.k8s.io") + b"early"
    with channels(quiet, "/portForward/default/web", protocols=f"other, {TUNNELLED}") as connection:
        lines, rest = heads(connection)
        assert lines[0].startswith("HTTP/1.1 101 ")
        assert {f"Sec-WebSocket-Accept: {ACCEPTED}", f"Sec-WebSocket-Protocol: {TUNNELLED}"} <= set(lines)
        assert rest + read(connection, 7 - len(rest)) == b"\x82\x05early"
        connection.sendall(masked(2, b"there ", final=False) + masked(0, b"and back"))
        got = b""
        while sum(len(payload) for _, payload in whole(got)) < 14:
            got += read(connection, 1)
        assert b"".join(payload for _, payload in whole(got)) == b"there and back"
        connection.sendall(masked(8, b"\x03\xe8"))
        assert drained(connection) == [(8, b"\x03\xe8")]
    assert quiet.stream_requests == [("port-forward", {"uid": "uid-web", "ports": []})]
    asked = runtime.heads[0].decode().split("\r\n")
    assert asked[0] == "POST /exec/one-time?x=1 HTTP/1.1"
    assert {"Upgrade: SPDY/3.1", "X-Stream-Protocol-Version: portforward.k8s.io"} <= set(asked)


def test_a_tunnel_that_the_runtime_refuses_has_its_answer(quiet: Node, runtime: Runtime) -> None:
    runtime.answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n"
    with channels(quiet, "/portForward/default/web", protocols=TUNNELLED) as connection:
        lines, rest = heads(connection)
        assert (lines[0], rest) == ("HTTP/1.1 403 FORBIDDEN", b"no\n")


def test_websockets_that_are_translated_are_counted_as_the_kubelet_counts_its_streams(
    quiet: Node, cat: SpdyRuntime
) -> None:
    line = 'kubelet_websocket_streaming_requests_total{process="log-server",subresource="exec"} '

    def counted() -> float:
        page = quiet.get("/metrics", token="scraper-token")[1]
        return float(next((item.removeprefix(line) for item in page.splitlines() if item.startswith(line)), 0))

    before = counted()
    with channels(quiet) as connection:
        heads(connection)
        connection.sendall(masked(2, b"\xff\x00"))
        drained(connection)
    assert counted() == before + 1
    assert cat.ended.wait(PATIENCE)


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
