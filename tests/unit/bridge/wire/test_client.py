"""The wire against real servers on loopback: good ones, slow ones, odd ones, and none."""

import socket
import ssl
import threading
import time
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from bridge.wire.client import LATE_BODY, LATE_HEAD, Client
from bridge.wire.exchange import Answer, Broken
from bridge.wire.http1 import Http1
from bridge.wire.request import Get, of_action
from tests.ports import closed_port
from tests.unit.bridge.wire.servers import (
    answering,
    read_head,
    response,
    server_context,
    serving,
    unreachable,
)
from tests.waiting import PATIENCE, wait_for
from vkcri.errors import Unavailable


def a_get(port: int, path: str = "/", *, scheme: str = "HTTP", host: str = "127.0.0.1", **more: Any) -> Get:
    return of_action({"path": path, "port": port, "scheme": scheme, "host": host, **more}, {}, "", "probe")


def fetch(client: Client, get: Get, seconds: float = 30.0) -> Answer | Broken:
    results: list[Answer | Broken] = []
    client.loop.call(lambda: (client.get(get, seconds, results.append), None)[1])
    wait_for("the answer", lambda: results, seconds + PATIENCE)
    return results[0]


def dial(client: Client, host: str, port: int, seconds: float = 30.0) -> Broken | None:
    results: list[Broken | None] = []
    client.loop.call(lambda: (client.connect(host, port, seconds, results.append), None)[1])
    wait_for("the connection", lambda: results, seconds + PATIENCE)
    return results[0]


class TestHttp:
    def test_a_get_is_answered(self, client: Client) -> None:
        heads: list[list[str]] = []
        with serving(answering(response(body=b"fine"), heads=heads)) as port:
            found = fetch(client, a_get(port, "/healthz"))
        assert isinstance(found, Answer)
        assert (found.status, found.body) == (200, b"fine")
        assert heads[0][:2] == ["GET /healthz HTTP/1.1", f"Host: 127.0.0.1:{port}"]

    def test_redirects_are_followed_on_the_same_host(self, client: Client) -> None:
        heads: list[list[str]] = []
        first, second = response("302 Found", Location="/next"), response("500 Oops")
        with serving(answering(first, second, heads=heads)) as port:
            found = fetch(client, a_get(port))
        assert isinstance(found, Answer)
        assert found.status == 500
        assert [head[0] for head in heads] == ["GET / HTTP/1.1", "GET /next HTTP/1.1"]

    def test_a_redirect_to_another_host_is_the_answer(self, client: Client) -> None:
        with serving(answering(response("302 Found", b"there", Location="http://0.0.0.0/"))) as port:
            found = fetch(client, a_get(port))
        assert isinstance(found, Answer)
        assert (found.status, found.body) == (302, b"there")

    def test_a_ring_of_redirects_is_broken_off(self, client: Client) -> None:
        with serving(answering(response("302 Found", Location="/again"))) as port:
            assert str(fetch(client, a_get(port))) == 'Get "/again": stopped after 10 redirects'

    def test_a_head_that_comes_byte_by_byte_is_read(self, client: Client) -> None:
        def serve(connection: socket.socket) -> None:
            read_head(connection)
            for byte in response(body=b"slow"):
                connection.sendall(bytes([byte]))
                time.sleep(0.001)

        with serving(serve) as port:
            found = fetch(client, a_get(port))
        assert isinstance(found, Answer)
        assert found.body == b"slow"

    def test_a_silent_server_is_given_up_at_the_deadline(self, client: Client) -> None:
        with serving(lambda connection: connection.recv(1 << 20) and connection.recv(1) and None) as port:
            began = time.monotonic()
            found = fetch(client, a_get(port), 0.3)
            assert 0.3 <= time.monotonic() - began < 30
        assert str(found) == f'Get "http://127.0.0.1:{port}/": {LATE_HEAD}'

    def test_a_body_that_stalls_is_an_answer_with_a_fault(self, client: Client) -> None:
        def serve(connection: socket.socket) -> None:
            read_head(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
            connection.recv(1)

        with serving(serve) as port:
            for seconds in (0.3, 2, 8, 30):  # until there is time enough for the head
                if isinstance(found := fetch(client, a_get(port), seconds), Answer):
                    break
        assert isinstance(found, Answer)
        assert (found.status, found.fault) == (200, LATE_BODY)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "EOF"),
            (
                b"220 mail ready\r\n",
                'net/http: HTTP/1.x transport connection broken: malformed HTTP status code "mail"',
            ),
        ],
    )
    def test_garbage_breaks_it(self, client: Client, data: bytes, message: str) -> None:
        with serving(answering(data)) as port:
            assert str(fetch(client, a_get(port))) == f'Get "http://127.0.0.1:{port}/": {message}'

    def test_a_connection_that_is_reset_is_said(self, client: Client) -> None:
        def serve(connection: socket.socket) -> None:
            read_head(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

        with serving(serve) as port:
            found = str(fetch(client, a_get(port)))
        assert found.startswith(f'Get "http://127.0.0.1:{port}/": read tcp 127.0.0.1:')
        assert found.endswith(f"->127.0.0.1:{port}: read: connection reset by peer")

    def test_a_refused_connection_is_said(self, client: Client) -> None:
        with closed_port() as port:
            found = str(fetch(client, a_get(port)))
        refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        assert found == f'Get "http://127.0.0.1:{port}/": {refused}'

    def test_ipv6(self, client: Client) -> None:
        heads: list[list[str]] = []
        with serving(answering(response(), heads=heads), family=socket.AF_INET6) as port:
            assert isinstance(fetch(client, a_get(port, host="::1")), Answer)
        assert heads[0][1] == f"Host: [::1]:{port}"

    def test_a_host_name_is_looked_up_off_the_loop(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        with serving(answering(response())) as port:
            assert isinstance(fetch(client, a_get(port, host="localhost")), Answer)
        real, on = socket.getaddrinfo, list[str]()

        def without_a_server(host: str, *more: Any, **options: Any) -> Any:
            if host != "nobody.invalid":
                return real(host, *more, **options)
            on.append(threading.current_thread().name)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", without_a_server)
        found = str(fetch(client, a_get(80, host="nobody.invalid")))
        assert on == ["lookup"]
        assert found == 'Get "http://nobody.invalid:80/": dial tcp: lookup nobody.invalid: no such host'

    def test_waiting_for_an_answer_raises_what_broke(self, client: Client) -> None:
        with serving(answering(response(body=b"x"))) as port:
            assert client.get_and_wait(a_get(port), 30).body == b"x"
        with closed_port() as port, pytest.raises(Unavailable, match="connection refused"):
            client.get_and_wait(a_get(port), 30)


class TestHttps:
    def test_no_certificate_is_too_bad(self, client: Client) -> None:
        with serving(answering(response(body=b"sure")), tls=server_context()) as port:
            found = fetch(client, a_get(port, scheme="HTTPS"))
        assert isinstance(found, Answer)
        assert (found.status, found.body) == (200, b"sure")

    def test_a_server_without_tls_is_named(self, client: Client) -> None:
        def serve(connection: socket.socket) -> None:
            connection.recv(4096)
            connection.sendall(response("400 Bad Request"))
            connection.recv(4096)

        with serving(serve) as port:
            found = str(fetch(client, a_get(port, scheme="HTTPS")))
        assert found == f'Get "https://127.0.0.1:{port}/": http: server gave HTTP response to HTTPS client'
        with serving(lambda connection: connection.sendall(b"hello there\n")) as port:
            found = str(fetch(client, a_get(port, scheme="HTTPS")))
        assert found.endswith("tls: first record does not look like a TLS handshake")

    def test_a_server_that_closes_in_the_handshake(self, client: Client) -> None:
        with serving(lambda connection: connection.recv(4096) and None) as port:
            assert str(fetch(client, a_get(port, scheme="HTTPS"))).endswith(": EOF")

    def test_a_server_that_refuses_is_quoted(self, client: Client) -> None:
        context = server_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-RSA-AES128-SHA")  # the test's certificate is of an elliptic curve
        with serving(answering(response()), tls=context) as port:
            found = str(fetch(client, a_get(port, scheme="HTTPS")))
        assert found.endswith("remote error: tls: handshake failure")

    def test_a_stalled_handshake_ends_at_the_deadline(self, client: Client) -> None:
        with serving(lambda connection: connection.recv(4096) and connection.recv(1) and None) as port:
            assert str(fetch(client, a_get(port, scheme="HTTPS"), 0.3)).endswith(LATE_HEAD)

    def test_a_server_that_chooses_http2_gets_it(self, client: Client) -> None:
        with serving(serve_http2, tls=server_context("h2")) as port:
            found = fetch(client, a_get(port, "/two?x", scheme="HTTPS"))
        assert isinstance(found, Answer)
        assert (found.status, found.body) == (200, b"GET /two?x https")


class TestHttp2:
    def test_prior_knowledge(self, client: Client) -> None:
        with serving(serve_http2) as port:
            found = fetch(client, a_get(port, "/h2c", protocol="HTTP2"))
        assert isinstance(found, Answer)
        assert (found.status, found.body) == (200, b"GET /h2c http")

    def test_a_server_of_http1_breaks_it(self, client: Client) -> None:
        with serving(answering(response("400 Bad Request"))) as port:
            assert "http2: " in str(fetch(client, a_get(port, protocol="HTTP2")))

    def test_a_large_body_is_cut(self, client: Client) -> None:
        with serving(lambda connection: serve_http2(connection, b"x" * 200_000)) as port:
            found = fetch(client, a_get(port, protocol="HTTP2"))
        assert isinstance(found, Answer)
        assert found.body == b"x" * 10240

    def test_a_reset_stream_and_a_server_that_goes_are_said(self, client: Client) -> None:
        with serving(lambda connection: serve_http2(connection, reset=True)) as port:
            assert str(fetch(client, a_get(port, protocol="HTTP2"))).endswith("REFUSED_STREAM; received from peer")
        with serving(lambda connection: connection.recv(4096) and None) as port:
            assert str(fetch(client, a_get(port, protocol="HTTP2"))).endswith(": EOF")

    def test_a_status_that_is_none_breaks_it_at_once(self, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        for status in ("2²0", "ok", ""):
            with serving(lambda connection, status=status: serve_http2(connection, status=status)) as port:
                found = str(fetch(client, a_get(port, protocol="HTTP2"), 30.0))
            assert "malformed response from server" in found
        assert "Traceback" not in caplog.text


def serve_http2(
    connection: socket.socket, body: bytes | None = None, *, reset: bool = False, status: str = "200"
) -> None:
    """One request on HTTP/2, answered with what was asked for, or with that body."""
    peer = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    peer.initiate_connection()
    connection.sendall(peer.data_to_send())
    unsent = b""
    stream = 0
    while data := connection.recv(65536):
        for event in peer.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers: dict[Any, Any] = dict(event.headers)
                stream = event.stream_id
                asked = f"{headers[':method']} {headers[':path']} {headers[':scheme']}".encode()
                if reset:
                    peer.reset_stream(stream, 7)
                else:
                    peer.send_headers(stream, [(":status", status)])
                    unsent = asked if body is None else body
        while unsent and (room := min(peer.local_flow_control_window(stream), 16384)):
            peer.send_data(stream, unsent[:room], end_stream=len(unsent) <= room)
            unsent = unsent[room:]
        connection.sendall(peer.data_to_send())


def test_whatever_fails_in_a_conversation_ends_it_at_once(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(*_: Any) -> bytes:
        raise ValueError("not thought of")

    monkeypatch.setattr(Http1, "receive", bug)
    with serving(answering(response())) as port:
        found = str(fetch(client, a_get(port), 60.0))
    assert found.endswith("malformed response: ValueError: not thought of")
    assert "not thought of" in caplog.text


class TestTcp:
    def test_an_open_port_is_enough(self, client: Client) -> None:
        with serving(lambda connection: connection.recv(1) and None) as port:
            assert dial(client, "127.0.0.1", port) is None

    def test_a_closed_one_is_refused(self, client: Client) -> None:
        with closed_port() as port:
            found = str(dial(client, "127.0.0.1", port))
        assert found == f"dial tcp 127.0.0.1:{port}: connect: connection refused"

    def test_one_that_says_nothing_is_late(self, client: Client) -> None:
        with unreachable() as port:
            assert str(dial(client, "127.0.0.1", port, 0.3)) == f"dial tcp 127.0.0.1:{port}: i/o timeout"


def test_hundreds_that_hang_hold_up_nobody_and_take_no_thread(client: Client) -> None:
    late: list[Any] = []
    with unreachable() as port, serving(answering(response(body=b"quick"))) as good:
        before = set(threading.enumerate())
        for _ in range(300):
            client.loop.call(lambda: (client.get(a_get(port), 100, late.append), None)[1])
        for _ in range(20):
            assert isinstance(fetch(client, a_get(good)), Answer)
        new = [thread.name for thread in threading.enumerate() if thread not in before]
        assert "lookup" not in new
        assert len(new) < 100, "the good server's own, but not one for each that hangs"
        assert late == [], "those that hang have 100 s"


def test_a_bug_in_one_conversation_costs_no_other(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    def bug(answer: Any) -> None:
        raise ValueError(f"a bug: {answer}")

    with serving(answering(response())) as port:
        client.loop.call(lambda: (client.get(a_get(port), 5, bug), None)[1])
        wait_for("the log", lambda: "a bug" in caplog.text)
        assert isinstance(fetch(client, a_get(port)), Answer)
