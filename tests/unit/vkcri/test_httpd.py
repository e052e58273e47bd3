"""The server against real sockets: good clients, slow ones, broken ones, hostile ones."""

import contextlib
import http.client
import itertools
import json
import os
import random
import socket
import ssl
import statistics
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug import exceptions

from tests.living import living
from tests.waiting import PATIENCE, until
from vkcri import certs, http1, httpd
from vkcri import connection as one_client
from vkcri.errors import Unavailable
from vkcri.instance import Instance

SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
POURED = 100_000  # bytes: more than the client's small buffer takes, less than the server's


class App:
    """A WSGI application with a route for each behaviour."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.gone = threading.Event()
        self.poured = threading.Event()

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        path = environ["PATH_INFO"]
        if path == "/length":
            start("200 OK", [("Content-Length", "5")])
            return [b"hello"]
        if path == "/last":
            start("200 OK", [("Content-Length", "5"), ("Connection", "close")])
            return [b"hello"]
        if path == "/echo":
            data = environ["wsgi.input"].read()
            start("200 OK", [("Content-Length", str(len(data)))])
            return [data]
        if path == "/who":
            der = environ["vkcri.peer_certificate"]
            text = json.dumps([environ["wsgi.url_scheme"], certs.peer_identity(der) if der else None]).encode()
            start("200 OK", [("Content-Length", str(len(text)))])
            return [text]
        if path == "/bug":
            raise KeyError("a bug of the application")
        if path == "/file-bug":
            raise FileNotFoundError("a bug that is an OSError")
        if path == "/upgrade":
            return self._upgrade(environ)
        if path == "/pour":
            return self._pour(environ)
        start("200 OK", [])
        return {"/chunks": self._chunks, "/late-bug": self._late_bug, "/idle": self._idle}[path](environ)

    def _chunks(self, environ: dict[str, Any]) -> Iterator[bytes]:
        del environ
        yield b"first\n"
        self.release.wait(PATIENCE)
        yield b""
        yield b"second\n"

    def _late_bug(self, environ: dict[str, Any]) -> Iterator[bytes]:
        del environ
        yield b"first\n"
        raise KeyError("too late for a 500")

    def _idle(self, environ: dict[str, Any]) -> Iterator[bytes]:
        yield b"begin\n"
        while not environ["vkcri.connection"].disconnected() and not environ["vkcri.closing"].wait(0.01):
            pass
        self.gone.set()

    def _upgrade(self, environ: dict[str, Any]) -> list[bytes]:
        connection, early = environ["vkcri.connection"].take_over()
        connection.settimeout(PATIENCE)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + early)
        while data := connection.recv(65536):
            connection.sendall(data)
        return [b"never sent"]

    def _pour(self, environ: dict[str, Any]) -> list[bytes]:
        """An upgrade whose end lies in the kernel, as far as the client does not read it."""
        connection, _ = environ["vkcri.connection"].take_over()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * POURED)
        connection.settimeout(PATIENCE)
        connection.sendall(SWITCHING + bytes(POURED))
        self.poured.set()
        return []


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture(scope="module")
def authority() -> certs.CertificateAuthority:
    return certs.CertificateAuthority.create("test-ca")


@pytest.fixture
def start(app: App) -> Iterator[Callable[..., httpd.Server]]:
    servers: list[httpd.Server] = []

    def make(**arguments: Any) -> httpd.Server:
        server = httpd.make_server(app, "127.0.0.1", 0, name="test", **arguments)
        servers.append(server)
        server.start(process)
        return server

    with living("test", Instance("logsrv-60")) as process:
        yield make
        app.release.set()
        for server in servers:
            server.close()
            until(lambda server=server: server.connections() == 0)


@pytest.fixture
def server(start: Callable[..., httpd.Server]) -> httpd.Server:
    return start()


@pytest.fixture
def context(authority: certs.CertificateAuthority, tmp_path: Path) -> ssl.SSLContext:
    return httpd.tls_context(*_pair(authority.issue_server(["localhost"], ["127.0.0.1"]), tmp_path, "server"))


def _pair(pair: tuple[bytes, bytes], folder: Path, name: str) -> tuple[str, str]:
    files = folder / f"{name}.crt", folder / f"{name}.key"
    for file, data in zip(files, pair, strict=True):
        certs.write_private(file, data)
    return str(files[0]), str(files[1])


def _connect(server: httpd.Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE)


def _read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def _send(server: httpd.Server, data: bytes) -> bytes:
    """Everything that the server says to these bytes; it must close by itself."""
    with _connect(server) as connection:
        connection.sendall(data)
        return _read_all(connection)


def _client(server: httpd.Server, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    if context:
        return http.client.HTTPSConnection("localhost", server.port, timeout=PATIENCE, context=context)
    return http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)


def _get(server: httpd.Server, path: str = "/length", context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    client = _client(server, context)
    try:
        client.request("GET", path)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def _trust(authority: certs.CertificateAuthority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.certificate.decode())


def _only(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client's context that speaks this version alone, be it one that OpenSSL offers at no higher security level."""
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        context.minimum_version = version
    return context


def test_answers_many_requests_on_one_connection(server: httpd.Server) -> None:
    client = _client(server)
    for index in range(3):
        client.request("POST", "/echo", body=b"x" * index)
        first = client.sock
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b"x" * index)
        assert client.sock is first
        assert response.headers["Server"] == "vkcri"
    client.close()


def test_unread_body_does_not_become_the_next_request(server: httpd.Server) -> None:
    with _connect(server) as connection:
        connection.sendall(
            b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\nGET /chunks HTTP/1.1\r\n\r\n"
        )
        connection.sendall(b"GET /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert _read_all(connection).count(b"hello") == 2


def test_pipelined_requests_are_answered_in_order(server: httpd.Server) -> None:
    requests = [b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%02d" % number for number in range(20)]
    last = b"GET /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = _send(server, b"".join([*requests, last]))
    assert [part[:2] for part in answer.split(b"\r\n\r\n")[1:-1]] == [b"%02d" % number for number in range(20)]


def test_chunk_arrives_before_the_next_is_made(server: httpd.Server, app: App) -> None:
    client = _client(server)
    client.request("GET", "/chunks")
    response = client.getresponse()
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert response.readline() == b"first\n"
    app.release.set()
    assert response.readline() == b"second\n"
    assert response.read() == b""
    client.request("GET", "/length")
    assert client.getresponse().read() == b"hello"
    client.close()


def test_http10_stream_ends_with_the_connection(server: httpd.Server, app: App) -> None:
    app.release.set()
    answer = _send(server, b"GET /chunks HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nfirst\nsecond\n")
    assert b"chunked" not in answer


def test_head_and_bodiless_statuses_send_no_body(server: httpd.Server) -> None:
    answer = _send(server, b"HEAD /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("sizes", [[1], [3, 70_000, 1], []])
def test_chunked_request_bodies_are_read(server: httpd.Server, sizes: list[int]) -> None:
    client = _client(server)
    client.request("POST", "/echo", body=iter([b"y" * size for size in sizes]), encode_chunked=True,
                   headers={"Transfer-Encoding": "chunked"})  # fmt: skip
    assert client.getresponse().read() == b"y" * sum(sizes)
    client.request("GET", "/length")
    assert client.getresponse().read() == b"hello"
    client.close()


def test_continue_is_sent_only_once_the_body_is_wanted(server: httpd.Server) -> None:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with _connect(server) as connection:
        connection.sendall(head % b"/echo")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ok")
        assert connection.recv(1000).endswith(b"ok")
        connection.sendall(head % b"/length")
        assert _read_all(connection).startswith(b"HTTP/1.1 200 OK")


def test_bug_is_a_500_and_a_traceback(server: httpd.Server, caplog: pytest.LogCaptureFixture) -> None:
    assert _get(server, "/bug") == (500, b"internal error\n")
    assert _get(server, "/file-bug") == (500, b"internal error\n")
    assert caplog.text.count("Traceback") == 2


def test_bug_after_the_first_chunk_cuts_the_answer(server: httpd.Server, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(http.client.IncompleteRead):
        _get(server, "/late-bug")
    assert "too late" in caplog.text


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"rubbish\r\n\r\n", 400),
        (b"GET /length HTTP/1.1\r\n\r\n", 400),
        (b"GET /length HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /length HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET /length HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET /length HTTP/1.1\r\nHost: a\x00b\r\n\r\n", 400),
        (b"GET http://[/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /length HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        (b"GET /length HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
    ],
)
def test_malformed_request_is_refused(server: httpd.Server, request_bytes: bytes, status: int) -> None:
    assert _send(server, request_bytes).startswith(b"HTTP/1.1 %d " % status)
    assert _get(server) == (200, b"hello")


def test_body_cut_short_is_refused(server: httpd.Server) -> None:
    with _connect(server) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        connection.shutdown(socket.SHUT_WR)
        assert _read_all(connection).startswith(b"HTTP/1.1 400 ")


@given(st.binary(max_size=300) | st.text("GET /HTP1.\r\n: ,;chunkedTranserEo-Lgthx0159", max_size=300).map(str.encode))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_head_is_parsed_or_refused(data: bytes) -> None:
    refusals = (exceptions.BadRequest, exceptions.NotImplemented, exceptions.HTTPVersionNotSupported)
    with contextlib.suppress(*refusals):
        head = http1.parse_head(data + b"\r\n\r\n")
        assert head.method
        assert head.length >= -1
        assert all("\n" not in value and "\r" not in value for _, value in head.headers)


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=20, max_size=20))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_rubbish_leaves_the_server_well(server: httpd.Server, rubbish: list[bytes]) -> None:
    for data in rubbish:
        with _connect(server) as connection:
            connection.sendall(data + b"\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            _read_all(connection)
    assert _get(server) == (200, b"hello")
    until(lambda: server.connections() == 0)


def test_ten_thousand_malformed_requests_leave_memory_level(server: httpd.Server) -> None:
    """Good requests with a few bytes changed, four at a time; what the first tenth takes, caches and threads, is let
    be. A leak grows in every round of the others; an allocator's new arena is one round's alone."""
    good = b"POST /echo?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\n\r\nabc"

    def send(seed: int, count: int) -> None:
        chance = random.Random(seed)
        for _ in range(count):
            data = bytearray(good)
            for _ in range(chance.randrange(1, 6)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            with contextlib.suppress(ConnectionError), _connect(server) as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                _read_all(connection)

    def send_all(total: int) -> None:
        senders = [threading.Thread(target=send, args=(number, total // 4)) for number in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        until(lambda: server.connections() == 0)

    send_all(1000)
    sizes = [_resident()]
    for _ in range(3):
        send_all(3000)
        sizes.append(_resident())
    assert statistics.median(after - before for before, after in itertools.pairwise(sizes)) < 8 * 1024 * 1024 / 3, sizes
    assert _get(server) == (200, b"hello")


def _resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_slow_heads_and_silent_clients_are_cut(
    start: Callable[..., httpd.Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vkcri.connection.HEAD_SECONDS", 5.0)
    server = start()
    with _connect(server) as silent, _connect(server) as drip:
        drip.settimeout(0.02)
        answer = b""
        end = time.monotonic() + PATIENCE
        while not answer and time.monotonic() < end:
            drip.send(b"G")  # always another byte within any timeout of a single read
            try:
                answer = drip.recv(100)
            except TimeoutError:
                assert _get(server) == (200, b"hello")
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert silent.recv(100) == b""


def test_stalled_tls_clients_are_harmless(
    start: Callable[..., httpd.Server],
    context: ssl.SSLContext,
    authority: certs.CertificateAuthority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[httpd.Slot] = []
    shake = httpd.Server._handshake

    def begin(server: httpd.Server, slot: httpd.Slot, context: ssl.SSLContext) -> None:
        begun.append(slot)
        shake(server, slot, context)

    monkeypatch.setattr(httpd, "HANDSHAKE_SECONDS", 5.0)
    monkeypatch.setattr(httpd.Server, "_handshake", begin)
    server = start(ssl_context=context)
    stalled = []
    for index in range(20):
        stalled.append(_connect(server))
        stalled[-1].sendall(b"\x16\x03\x01\x02\x00"[: index % 6])  # a part of a TLS record's head
    until(lambda: len(begun) == 20)
    for _ in range(5):
        assert _get(server, context=_trust(authority)) == (200, b"hello")
    for connection in stalled:
        assert connection.recv(10) == b""
        connection.close()
    until(lambda: server.connections() == 0)


def test_plain_http_on_the_tls_port_is_told(start: Callable[..., httpd.Server], context: ssl.SSLContext) -> None:
    server = start(ssl_context=context)
    assert _send(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"this port speaks HTTPS\n")


def test_a_client_of_an_older_tls_than_1_2_is_refused_by_the_server(
    start: Callable[..., httpd.Server], context: ssl.SSLContext, authority: certs.CertificateAuthority
) -> None:
    server = start(ssl_context=context)
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises(ssl.SSLError) as refused:
            _get(server, context=_only(_trust(authority), version))
        assert refused.value.reason == "TLSV1_ALERT_PROTOCOL_VERSION"  # which the server sent, in answer to a hello
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        assert _get(server, context=_only(_trust(authority), version)) == (200, b"hello")


def test_client_certificate_is_optional_and_checked(
    start: Callable[..., httpd.Server], authority: certs.CertificateAuthority, tmp_path: Path
) -> None:
    pair = _pair(authority.issue_server(["localhost"], []), tmp_path, "server")
    server = start(ssl_context=httpd.tls_context(*pair, client_ca=authority.certificate.decode()))
    assert json.loads(_get(server, "/who", _trust(authority))[1]) == ["https", None]
    known = _trust(authority)
    known.load_cert_chain(*_pair(authority.issue_client("kate", ["a", "b"]), tmp_path, "client"))
    assert json.loads(_get(server, "/who", known)[1]) == ["https", ["kate", ["a", "b"]]]
    foreign = _trust(authority)
    other = certs.CertificateAuthority.create("test-ca")
    foreign.load_cert_chain(*_pair(other.issue_client("kate", []), tmp_path, "foreign"))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _get(server, "/who", foreign)


def test_context_is_swapped_live(
    start: Callable[..., httpd.Server], context: ssl.SSLContext, authority: certs.CertificateAuthority, tmp_path: Path
) -> None:
    server = start(ssl_context=context)
    other = certs.CertificateAuthority.create("other")
    with pytest.raises(ssl.SSLCertVerificationError):
        _get(server, context=_trust(other))
    server.use_context(httpd.tls_context(*_pair(other.issue_server(["localhost"], []), tmp_path, "other")))
    assert _get(server, context=_trust(other)) == (200, b"hello")
    with pytest.raises(ssl.SSLCertVerificationError):
        _get(server, context=_trust(authority))


def test_client_certificate_is_good_until_its_end_on_an_open_connection_too(
    start: Callable[..., httpd.Server], authority: certs.CertificateAuthority, tmp_path: Path
) -> None:
    now = [time.time()]
    pair = _pair(authority.issue_server(["localhost"], []), tmp_path, "server")
    context = httpd.tls_context(*pair, client_ca=authority.certificate.decode())
    server = start(ssl_context=context, now=lambda: now[0])
    known = _trust(authority)
    known.load_cert_chain(*_pair(authority.issue_client("kate", []), tmp_path, "client"))
    with (
        contextlib.closing(_client(server, known)) as client,
        contextlib.closing(_client(server, _trust(authority))) as nameless,
    ):
        for status in (200, 401):
            client.request("GET", "/who")
            answer = client.getresponse()
            answer.read()
            assert answer.status == status
            now[0] += (certs.LEAF_DAYS + 1) * 86400
        assert answer.headers["Connection"] == "close"
        nameless.request("GET", "/who")
        assert nameless.getresponse().status == 200


def test_client_certificate_of_a_ca_that_is_trusted_no_more_asks_for_nothing_more(
    start: Callable[..., httpd.Server], app: App, authority: certs.CertificateAuthority, tmp_path: Path
) -> None:
    pair = _pair(authority.issue_server(["localhost"], []), tmp_path, "server")
    server = start(ssl_context=httpd.tls_context(*pair, client_ca=authority.certificate.decode()))
    known = _trust(authority)
    known.load_cert_chain(*_pair(authority.issue_client("kate", []), tmp_path, "client"))
    with contextlib.closing(_client(server, known)) as idle, contextlib.closing(_client(server, known)) as busy:
        idle.request("GET", "/who")
        assert idle.getresponse().read().endswith(b'["kate", []]]')
        busy.request("GET", "/chunks")
        answer = busy.getresponse()
        other = certs.CertificateAuthority.create("other")
        server.use_context(httpd.tls_context(*pair, client_ca=other.certificate.decode()))
        assert idle.sock.recv(1) == b""
        app.release.set()
        answer.read()  # what was granted goes on to its end
        busy.auto_open = 0
        with pytest.raises((OSError, http.client.HTTPException)):
            busy.request("GET", "/who")
            busy.getresponse()


def test_a_connection_that_has_just_shaken_hands_is_answered_once_whatever_context_comes(
    start: Callable[..., httpd.Server], authority: certs.CertificateAuthority, tmp_path: Path
) -> None:
    pair = _pair(authority.issue_server(["localhost"], []), tmp_path, "server")
    server = start(ssl_context=httpd.tls_context(*pair))
    with contextlib.closing(_client(server, _trust(authority))) as client:
        client.connect()
        until(lambda: any(slot.client is not None and slot.client.idle for slot in server._open))
        server.use_context(httpd.tls_context(*pair, client_ca=authority.certificate.decode()))
        client.request("GET", "/length")
        answer = client.getresponse()
        assert (answer.status, answer.read(), answer.headers["Connection"]) == (200, b"hello", "close")


def test_an_answer_that_closes_is_the_connections_last(server: httpd.Server) -> None:
    answer = _send(server, b"GET /last HTTP/1.1\r\nHost: a\r\n\r\nGET /length HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 1
    assert answer.lower().count(b"connection: close") == 1


def test_close_says_close_notify(
    start: Callable[..., httpd.Server], context: ssl.SSLContext, authority: certs.CertificateAuthority
) -> None:
    server = start(ssl_context=context)
    strict = _trust(authority)
    with _connect(server) as plain:
        with strict.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as connection:
            connection.sendall(b"GET /length HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert _read_all(connection).endswith(b"hello")  # raises SSLEOFError without close_notify


def test_connections_are_bounded(
    start: Callable[..., httpd.Server], context: ssl.SSLContext, authority: certs.CertificateAuthority
) -> None:
    for arguments in ({}, {"ssl_context": context}):
        server = start(max_connections=2, **arguments)
        trust = _trust(authority) if arguments else None
        held = [_connect(server), _connect(server)]
        until(lambda server=server: server.connections() == 2)
        client = _client(server, trust)
        client.request("GET", "/length")
        response = client.getresponse()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert response.read()
        client.close()
        for connection in held:
            connection.close()
        until(lambda server=server: server.connections() == 0)
        assert _get(server, context=trust) == (200, b"hello")


def test_connections_far_beyond_the_bound_are_closed_at_once(start: Callable[..., httpd.Server]) -> None:
    server = start(max_connections=1)
    held = [_connect(server) for _ in range(1 + 3 * httpd.OVERFLOW)]
    until(lambda: server.connections() <= 1 + httpd.OVERFLOW)
    for connection in held[1:]:
        connection.close()
    held[0].sendall(b"GET /length HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"hello" in held[0].recv(1000)
    held[0].close()


@pytest.mark.parametrize("tls", [False, True])
def test_idle_stream_notices_that_its_client_left(
    start: Callable[..., httpd.Server],
    context: ssl.SSLContext,
    authority: certs.CertificateAuthority,
    app: App,
    tls: bool,
) -> None:
    server = start(ssl_context=context if tls else None)
    client = _client(server, _trust(authority) if tls else None)
    client.request("GET", "/idle")
    response = client.getresponse()
    assert response.readline() == b"begin\n"
    assert not app.gone.wait(0.1)
    response.close()
    client.close()
    assert app.gone.wait(PATIENCE)


@pytest.mark.parametrize("tls", [False, True])
def test_upgraded_connection_belongs_to_the_application(
    start: Callable[..., httpd.Server], context: ssl.SSLContext, authority: certs.CertificateAuthority, tls: bool
) -> None:
    server = start(ssl_context=context if tls else None)
    connection = _connect(server)
    if tls:
        connection = _trust(authority).wrap_socket(connection, server_hostname="localhost")
    with connection:
        connection.sendall(b"GET /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\r\nearly")
        head = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
        received = b""
        while len(received) < len(head) + 5:
            received += connection.recv(1000)
        assert received == head + b"early"
        connection.sendall(b"late")
        assert connection.recv(1000) == b"late"


class LostTime:
    """A connection's `time`, whose thread loses more than LINGER_SECONDS between any two looks at it."""

    def __init__(self) -> None:
        self._now = time.monotonic()

    def monotonic(self) -> float:
        self._now += 2 * one_client.LINGER_SECONDS
        return self._now


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("secure", [False, True])
def test_the_end_of_an_upgraded_connection_reaches_a_slow_client_that_pings(
    start: Callable[..., httpd.Server],
    app: App,
    authority: certs.CertificateAuthority,
    context: ssl.SSLContext,
    secure: bool,
    late: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To a ping that comes when all has been said a closed socket answers with a reset, which drops what is under
    way. As kubectl is one, whose output goes into a pager: it pings every five seconds. However late the server's
    thread runs."""
    waited: list[int] = []
    look = one_client._undelivered

    def seen(connection: socket.socket) -> int:
        waited.append(look(connection))
        return waited[-1]

    monkeypatch.setattr(one_client, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(one_client, "WRITE_SECONDS", 1000 * PATIENCE)
    if late:
        monkeypatch.setattr(one_client, "time", LostTime())
    monkeypatch.setattr(one_client, "_undelivered", seen)
    server = start(ssl_context=context if secure else None)
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(PATIENCE)
    plain.connect(("127.0.0.1", server.port))
    client = _trust(authority).wrap_socket(plain, server_hostname="localhost") if secure else plain
    with client:
        client.sendall(b"GET /pour HTTP/1.1\r\nHost: x\r\n\r\n")
        assert app.poured.wait(PATIENCE)
        for looks in (4, 8):
            client.sendall(b"ping")
            until(lambda looks=looks: len(waited) > looks)
        assert min(waited) > 0
        received = b""
        while more := client.recv(65536):
            received += more
        assert received == SWITCHING + bytes(POURED)
    until(lambda: server.connections() == 0)


def test_close_ends_idle_connections_and_lets_streams_end(server: httpd.Server, app: App) -> None:
    stream, idle = _client(server), _client(server)
    stream.request("GET", "/idle")
    response = stream.getresponse()
    assert response.readline() == b"begin\n"
    idle.request("GET", "/length")
    assert idle.getresponse().read() == b"hello"
    started = time.monotonic()
    server.close(grace=PATIENCE)
    assert time.monotonic() - started < PATIENCE / 2
    assert app.gone.is_set()
    assert response.read() == b""
    assert idle.sock.recv(10) == b""
    with pytest.raises(ConnectionRefusedError):
        _connect(server)
    response.close()
    stream.close()
    idle.close()


def test_close_cuts_what_does_not_end(server: httpd.Server, app: App) -> None:
    client = _client(server)
    client.request("GET", "/chunks")
    response = client.getresponse()
    assert response.readline() == b"first\n"
    closer = threading.Thread(target=server.close, args=(0.2,))
    closer.start()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    app.release.set()
    closer.join(PATIENCE)
    assert not closer.is_alive()
    response.close()
    client.close()


def test_port_in_use_is_unavailable(server: httpd.Server) -> None:
    with pytest.raises(Unavailable, match=f"127.0.0.1:{server.port}"):
        httpd.make_server(server.app, "127.0.0.1", server.port, name="second")


def test_all_addresses_are_served(app: App) -> None:
    server = httpd.make_server(app, "", 0, name="everywhere")
    with living("test", Instance("logsrv-60")) as process:
        server.start(process)
        assert _get(server) == (200, b"hello")
        server.close()
