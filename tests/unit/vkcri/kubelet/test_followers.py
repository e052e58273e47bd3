"""Many followers of the kubelet API at once over TLS, and one among them that does not read."""

import hashlib
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.unit.vkcri.kubelet.node import Node, terminated
from tests.unit.vkcri.kubelet.test_logs import record
from tests.waiting import PATIENCE

FOLLOWERS = 200
FLOOD = 24 * 1024 * 1024  # far beyond what sockets and the server hold for one client
PIECE = b"x" * 1023


def followed(node: Node, context: ssl.SSLContext, pod: str) -> ssl.SSLSocket:
    """A connection that has asked to follow a log, and read nothing yet."""
    plain = socket.create_connection(("127.0.0.1", node.settings.kubelet_port), PATIENCE)
    connection = context.wrap_socket(plain, server_hostname="localhost")
    path = f"/containerLogs/default/{pod}/main?follow=true"
    connection.sendall(f"GET {path} HTTP/1.0\r\nAuthorization: Bearer admin-token\r\n\r\n".encode())
    return connection


def rest(connection: ssl.SSLSocket) -> bytes:
    """All that comes, to the connection's end, without the answer's head."""
    data = bytearray()
    while part := connection.recv(1 << 20):
        data += part
    return bytes(data).partition(b"\r\n\r\n")[2]


@pytest.mark.timeout(300)
def test_two_hundred_followers_get_every_line_though_one_beside_them_does_not_read(node: Node) -> None:
    context, calm, flood = node.trust(), node.run_pod("calm"), node.run_pod("flood")
    with ExitStack() as held:
        stuck = held.enter_context(followed(node, context, "flood"))
        reading = held.enter_context(followed(node, context, "flood"))
        others = [held.enter_context(followed(node, context, "calm")) for _ in range(FOLLOWERS)]
        for connection in (stuck, reading, *others):
            connection.settimeout(PATIENCE)
        for connection in others:
            assert connection.recv(12) == b"HTTP/1.1 200"
        written = write_flood(flood)
        for number in range(5):
            with calm.open("ab", buffering=0) as file:
                file.write(record(number, b"line %d" % number))
        for pod in ("flood", "calm"):
            node.put_status(pod, [terminated()])
        assert digest(rest(reading)) == written  # with its neighbour on the same file unread
        expected = b"".join(b"line %d\n" % number for number in range(5))
        assert {rest(connection) for connection in others} == {expected}
        assert digest(rest(stuck)) == written


def write_flood(path: Path) -> str:
    """Grow that log by FLOOD bytes of text; their digest."""
    text = hashlib.sha256()
    block = record(0, PIECE) * 64
    with path.open("ab", buffering=0) as file:
        for _ in range(FLOOD // (64 * (len(PIECE) + 1))):
            file.write(block)
            text.update((PIECE + b"\n") * 64)
    return text.hexdigest()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
