"""What is passed on to a kubelet: logs as they come, upgrades byte by byte, refusals as they are.

Both servers are real (vkcri.httpd over TLS); the kubelet's answers are made up here, its own code has its own tests.
"""

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from flask import Request

from tests.waiting import PATIENCE
from vkcri import certs, httpd
from vkcri.apiserver import proxy, tokens
from vkcri.apiserver.authn import Authenticator
from vkcri.apiserver.authz import Authorizer
from vkcri.apiserver.proxy import Kubelet, client_context
from vkcri.apiserver.rest import Api
from vkcri.apiserver.storage import Store
from vkcri.config import ApiServerSettings
from vkcri.instance import Instance

Environ = dict[str, Any]


class FakeKubelet:
    """A WSGI application that remembers what it was asked and answers as `answers` says, by the path's first part."""

    def __init__(self) -> None:
        self.asked: list[Environ] = []
        self.answers: dict[str, Callable[[Environ, Any], Any]] = {}
        self.gone = threading.Event()

    def __call__(self, environ: Environ, start: Any) -> Any:
        self.asked.append(environ)
        return self.answers[environ["PATH_INFO"].split("/")[1]](environ, start)

    @property
    def path(self) -> str:
        return str(self.asked[-1]["PATH_INFO"])

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.asked[-1]["QUERY_STRING"])


@contextlib.contextmanager
def served(app: Any, name: str, folder: Path, authority: certs.CertificateAuthority) -> Iterator[int]:
    """An application over TLS on a free port."""
    certificate, key = authority.issue_server(["localhost"], ["127.0.0.1"])
    (folder / f"{name}.crt").write_bytes(certificate)
    (folder / f"{name}.key").write_bytes(key)
    context = httpd.tls_context(
        str(folder / f"{name}.crt"), str(folder / f"{name}.key"), client_ca=authority.certificate.decode()
    )
    server = httpd.make_server(app, "127.0.0.1", 0, ssl_context=context, name=name)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server.port
    finally:
        server.close(1)
        thread.join(PATIENCE)


@pytest.fixture(scope="module")
def authority() -> certs.CertificateAuthority:
    return certs.CertificateAuthority.create("test-ca")


@pytest.fixture
def kubelet(tmp_path: Path, authority: certs.CertificateAuthority) -> Iterator[tuple[FakeKubelet, int]]:
    fake = FakeKubelet()
    with served(fake, "kubelet", tmp_path, authority) as port:
        yield fake, port


@pytest.fixture
def connect(
    tmp_path: Path, authority: certs.CertificateAuthority, kubelet: tuple[FakeKubelet, int]
) -> Iterator[Callable[[], ssl.SSLSocket]]:
    """An API server with a pod `p` of containers c and d on node n; opens connections to it as a master."""
    store = Store(tmp_path / "store.db")
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet[1]}},
    }
    store.create("/nodes", {"kind": "Node", "metadata": {"name": "n"}, "status": status})
    spec = {"nodeName": "n", "containers": [{"name": "c"}, {"name": "d"}]}
    store.create("/pods", {"kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": spec})
    for name in ("client", "master"):
        pair = authority.issue_client(name, ["system:masters"])
        for suffix, data in zip(("crt", "key"), pair, strict=True):
            (tmp_path / f"{name}.{suffix}").write_bytes(data)
    api = Api(
        store,
        ApiServerSettings(instance=Instance("apis-70"), pod_ip="127.0.0.1"),
        Authenticator(store, tokens.signer_of(tokens.new_key())),
        Authorizer(store),
        Kubelet(store, lambda: client_context(str(tmp_path / "client.crt"), str(tmp_path / "client.key")), 1),
    )
    opened: list[ssl.SSLSocket] = []
    with served(api.app(), "api", tmp_path, authority) as port:

        def open_one() -> ssl.SSLSocket:
            context = client_context(str(tmp_path / "master.crt"), str(tmp_path / "master.key"))
            connection = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10))
            opened.append(connection)
            return connection

        yield open_one
        for connection in opened:
            connection.close()
    store.close()


def send(connection: ssl.SSLSocket, path: str, *headers: str, method: str = "GET", body: bytes = b"") -> None:
    lines = [f"{method} /api/v1/namespaces/default/pods/p/{path} HTTP/1.1", "Host: localhost", *headers]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def read_until(connection: ssl.SSLSocket, end: bytes) -> bytes:
    data = b""
    while end not in data:
        piece = connection.recv(4096)
        assert piece, f"closed after {data!r}"
        data += piece
    return data


def read_all(connection: ssl.SSLSocket) -> bytes:
    data = b""
    with contextlib.suppress(ssl.SSLEOFError):
        while piece := connection.recv(65536):
            data += piece
    return data


def plain(_environ: Environ, start: Any) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"line 1"]


def test_logs_are_asked_of_the_pods_node_with_the_callers_options(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int]
) -> None:
    fake, _ = kubelet
    fake.answers["containerLogs"] = plain
    connection = connect()
    send(connection, "log?container=d&tailLines=5&timestamps=true&pretty=1", "Connection: close")
    assert b"\r\nline 1\r\n" in read_all(connection)
    assert fake.path == "/containerLogs/default/p/d"
    assert fake.query == {"tailLines": ["5"], "timestamps": ["true"]}
    assert certs.peer_identity(fake.asked[-1]["vkcri.peer_certificate"]) == ("client", ["system:masters"])
    assert "HTTP_AUTHORIZATION" not in fake.asked[-1]


def test_a_followed_log_comes_line_by_line_and_ends_with_its_reader(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int]
) -> None:
    fake, _ = kubelet
    more = threading.Event()

    def follow(environ: Environ, start: Any) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])

        def lines() -> Iterator[bytes]:
            yield b"first\n"
            assert more.wait(PATIENCE)
            yield b"second\n"
            while not environ["vkcri.connection"].disconnected() and not environ["vkcri.closing"].wait(0.05):
                pass
            fake.gone.set()

        return lines()

    fake.answers["containerLogs"] = follow
    connection = connect()
    send(connection, "log?container=c&follow=true")
    assert b"200 OK" in read_until(connection, b"first\n")
    more.set()
    read_until(connection, b"second\n")
    connection.close()
    assert fake.gone.wait(PATIENCE)


def test_a_kubelets_refusal_is_passed_on(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int]
) -> None:
    def refuse(_environ: Environ, start: Any) -> list[bytes]:
        start("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"container c is waiting to start"]

    for path in ("containerLogs", "exec"):
        kubelet[0].answers[path] = refuse
    upgrade = ("Connection: Upgrade", "Upgrade: SPDY/3.1")
    for path, headers, method in (("log?container=c", (), "GET"), ("exec?container=c&command=sh", upgrade, "POST")):
        connection = connect()
        send(connection, path, *headers, method=method)
        answer = read_until(connection, b"waiting to start")
        assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_kubelets_words_about_a_log_become_a_status_that_kubectl_prints(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int]
) -> None:
    def refuse(environ: Environ, start: Any) -> list[bytes]:
        code = "500 Internal Server Error" if "previous" in environ["QUERY_STRING"] else "400 Bad Request"
        start(code, [("Content-Type", "text/plain")])
        return [b'container "c" in pod "p" is waiting', b" to start\n"]

    kubelet[0].answers["containerLogs"] = refuse
    for query, reason, before in (
        ("", "BadRequest", ""),
        ("&previous=1", "InternalError", "Internal error occurred: "),
    ):
        connection = connect()
        send(connection, f"log?container=c{query}", "Connection: close")
        status = json.loads(read_all(connection).partition(b"\r\n\r\n")[2])
        assert (status["kind"], status["status"], status["reason"]) == ("Status", "Failure", reason)
        assert status["message"] == f'{before}container "c" in pod "p" is waiting to start'


def test_a_kubelet_that_is_away_is_said_so(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int]
) -> None:
    def vanish(environ: Environ, _start: Any) -> list[bytes]:
        environ["vkcri.connection"].take_over()
        return []

    kubelet[0].answers["containerLogs"] = vanish
    connection = connect()
    send(connection, "log?container=c", "Connection: close")
    head, _, text = read_all(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 ")
    assert "kubelet of n" in json.loads(text)["message"]


@pytest.mark.parametrize("protocol", ["SPDY/3.1", "websocket"])
def test_an_upgrade_is_made_at_the_kubelet_and_then_carries_bytes(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int], protocol: str
) -> None:
    fake, _ = kubelet

    def echo(environ: Environ, _start: Any) -> list[bytes]:
        stream, early = environ["vkcri.connection"].take_over()
        stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello,")
        stream.settimeout(PATIENCE)
        data = early or stream.recv(100)
        while data and b"bye" not in data:
            stream.sendall(data.upper())
            data = stream.recv(100)
        return []

    fake.answers["exec"] = echo
    connection = connect()
    headers = ["Connection: Upgrade", f"Upgrade: {protocol}", "X-Stream-Protocol-Version: v4.channel.k8s.io"]
    headers += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "Impersonate-Extra-X: 1"]
    send(connection, "exec?container=c&command=sh&command=-c&stdin=true&stdout=1&stderr=false&tty=true", *headers)
    read_until(connection, b"101 Switching Protocols")
    connection.sendall(b"there")
    read_until(connection, b"THERE")
    connection.sendall(b"bye")
    assert read_all(connection) == b""
    assert fake.path == "/exec/default/p/c"
    assert fake.query == {"command": ["sh", "-c"], "input": ["1"], "output": ["1"], "tty": ["1"]}
    assert fake.asked[-1]["HTTP_X_STREAM_PROTOCOL_VERSION"] == "v4.channel.k8s.io"
    assert fake.asked[-1]["HTTP_UPGRADE"] == protocol
    assert not any("IMPERSONATE" in name for name in fake.asked[-1])


def test_bytes_sent_along_with_the_upgrade_are_not_lost(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int]
) -> None:
    def answer(environ: Environ, _start: Any) -> list[bytes]:
        stream, early = environ["vkcri.connection"].take_over()
        stream.settimeout(PATIENCE)
        stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        while len(early) < 5:
            early += stream.recv(100)
        stream.sendall(early[::-1])
        return []

    kubelet[0].answers["portForward"] = answer
    connection = connect()
    head = "GET /api/v1/namespaces/default/pods/p/portforward?ports=80,81 HTTP/1.1\r\nHost: x\r\n"
    connection.sendall(head.encode() + b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nearly")
    assert b"ylrae" in read_until(connection, b"ylrae")
    assert kubelet[0].query == {"port": ["80", "81"]}


def test_a_stream_without_an_upgrade_is_a_bad_request(connect: Callable[[], ssl.SSLSocket]) -> None:
    connection = connect()
    send(connection, "exec?container=c&command=sh", "Connection: close", method="POST")
    assert read_all(connection).startswith(b"HTTP/1.1 400 ")


def test_a_nodes_proxy_passes_method_path_query_and_body(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int]
) -> None:
    fake, _ = kubelet
    bodies: list[bytes] = []

    def keep(environ: Environ, start: Any) -> list[bytes]:
        bodies.append(environ["wsgi.input"].read())
        start("200 OK", [("Content-Type", "text/x"), ("X-Own", "1")])
        return [b"done"]

    fake.answers["stats"] = keep
    connection = connect()
    head = "POST /api/v1/nodes/n/proxy/stats/summary/?only=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    connection.sendall(head.encode() + b"Content-Length: 4\r\n\r\nbody")
    answer = read_all(connection)
    assert b"X-Own: 1" in answer
    assert b"done" in answer
    assert (fake.path, fake.query, bodies) == ("/stats/summary/", {"only": ["1"]}, [b"body"])


def test_a_nodes_proxy_passes_answers_without_a_body(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int]
) -> None:
    fake, _ = kubelet

    def sized(_environ: Environ, start: Any) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/x"), ("Content-Length", "4")])
        return [b"body"]

    def none(_environ: Environ, start: Any) -> list[bytes]:
        start("304 Not Modified", [])
        return []

    for answer, method, status in ((sized, "HEAD", b"200"), (none, "GET", b"304")):
        fake.answers["stats"] = answer
        connection = connect()
        for _ in range(2):  # the second on the same connection, which was not cut
            connection.sendall(f"{method} /api/v1/nodes/n/proxy/stats/summary HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1)
            assert head.split(b" ")[1] == status
            assert b"connection: keep-alive" in head.lower()


def test_a_kubelets_answer_that_breaks_off_cuts_ours(
    connect: Callable[[], ssl.SSLSocket], kubelet: tuple[FakeKubelet, int]
) -> None:
    fake, _ = kubelet

    def broken(_environ: Environ, start: Any) -> Iterator[bytes]:
        start("200 OK", [("Content-Type", "text/plain")])
        yield b"a line\n"
        raise ConnectionError("the kubelet dies")

    fake.answers["stats"] = broken
    connection = connect()
    connection.sendall(b"GET /api/v1/nodes/n/proxy/stats/summary HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = read_all(connection)
    assert answer.endswith(b"7\r\na line\n\r\n"), answer  # and no last chunk


def test_an_upgrade_that_cannot_be_handed_over_leaves_no_connection_open() -> None:
    connection = ssl.create_default_context().wrap_socket(socket.socket(), server_hostname="n")
    answer = proxy._Answer(101, [], b"", b"", connection)
    with pytest.raises(KeyError):
        proxy._spliced(answer, Request({}), "")  # no connection of a client at all
    assert connection.fileno() == -1
