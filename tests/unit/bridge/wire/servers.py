"""Servers for the wire's tests, each on a port of its own on loopback: scripted bytes, TLS, gRPC, and a full queue."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import trustme

from bridge.pb.grpc.health.v1 import health_pb2
from tests.waiting import PATIENCE

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(serve: Serve, *, tls: ssl.SSLContext | None = None, family: int = socket.AF_INET) -> Iterator[int]:
    """Give each connection to `serve`, on a thread of its own; the port."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    server = socket.create_server((host, 0), family=socket.AddressFamily(family))
    connections: list[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), tls.wrap_socket(connection, server_side=True) if tls else connection as end:
            serve(end)
        connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        thread.join(PATIENCE)


def read_head(connection: socket.socket) -> list[str]:
    """The request's lines."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(4096)
        if not part:
            break
        data += part
    return data.decode("latin-1").split("\r\n")


def answering(*responses: bytes, heads: list[list[str]] | None = None) -> Serve:
    """Answer the first connection with the first response, and so on; the last one again and again."""
    left = list(responses)

    def serve(connection: socket.socket) -> None:
        head = read_head(connection)
        if heads is not None:
            heads.append(head)
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_WR)

    return serve


def response(status: str = "200 OK", body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{name}: {v}" for name, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def server_context(*protocols: str) -> ssl.SSLContext:
    """TLS of a server with a certificate that nobody trusts, for another name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.test").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@contextlib.contextmanager
def unreachable() -> Iterator[int]:
    """A port that takes no connection and refuses none: its queue is full."""
    with socket.socket() as server, contextlib.ExitStack() as stack:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextlib.contextmanager
def health_server(
    answer: Callable[[health_pb2.HealthCheckRequest, grpc.ServicerContext], health_pb2.HealthCheckResponse],
    *,
    service: str = "grpc.health.v1.Health",
    tls: bool = False,
    host: str = "127.0.0.1",
) -> Iterator[int]:
    """grpc's own server with that method Check."""
    pool = ThreadPoolExecutor(4, "health")
    server = grpc.server(pool)
    method = grpc.unary_unary_rpc_method_handler(
        answer, health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Check": method}),))
    if tls:
        pair: Any = trustme.CA().issue_cert("elsewhere.test")
        key, chain = pair.private_key_pem.bytes(), b"".join(item.bytes() for item in pair.cert_chain_pems)
        port = server.add_secure_port(f"{host}:0", grpc.ssl_server_credentials([(key, chain)]))
    else:
        port = server.add_insecure_port(f"{host}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait(PATIENCE)
        pool.shutdown()
