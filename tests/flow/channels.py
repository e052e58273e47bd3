"""A WebSocket client of exec, as a browser is one: GET, one sub-protocol, a channel number before each message.

Speaks to the API server of a node's kubeconfig over TLS. One thread uses it; every read has a deadline. Source: RFC
6455, and apimachinery's channel.k8s.io (0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize).
"""

import base64
import json
import os
import socket
import ssl
import struct
import tempfile
from collections.abc import Sequence
from types import TracebackType
from urllib.parse import urlencode, urlsplit

from tests.flow.live import LiveNode

SECONDS = 60.0
STDIN, STDOUT, STDERR, ERROR = range(4)
CLOSES = 255
"""Of v5: a message of the channel that ends."""
_CLOSE = 8


class Channels:
    """One connection. `protocol`: what the server chose, empty for a refusal, whose head is `head`."""

    def __init__(self, node: LiveNode, path: str, query: Sequence[tuple[str, str]], *protocols: str) -> None:
        server = urlsplit(node.place.server)
        self._socket = _trusted(node).wrap_socket(
            socket.create_connection((server.hostname, server.port), SECONDS), server_hostname=server.hostname
        )
        self._data = b""
        lines = [
            f"GET {path}?{urlencode(query)} HTTP/1.1",
            f"Host: {server.netloc}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            f"Sec-WebSocket-Protocol: {', '.join(protocols)}",
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        while b"\r\n\r\n" not in self._data:
            self._more()
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        self.head = head.decode("latin-1")
        fields = dict(line.lower().split(": ", 1) for line in self.head.split("\r\n")[1:])
        self.protocol = fields.get("sec-websocket-protocol", "") if " 101 " in self.head.split("\r\n")[0] else ""

    def __enter__(self) -> "Channels":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, channel: int, data: bytes) -> None:
        """One masked binary message."""
        payload, mask = bytes([channel]) + data, os.urandom(4)
        size = struct.pack("!BBH", 0x82, 0xFE, len(payload))  # the long form for any below 64 KiB
        keys = (mask * (len(payload) // 4 + 1))[: len(payload)]
        masked = int.from_bytes(payload) ^ int.from_bytes(keys)
        self._socket.sendall(size + mask + masked.to_bytes(len(payload)))

    def receive(self) -> tuple[int, bytes] | None:
        """Channel and content of the next message that has any; None at the end of the connection."""
        while True:
            try:
                kind, payload = self._frame()
            except ConnectionError:
                return None
            if kind == _CLOSE:
                return None
            if kind in (1, 2) and len(payload) > 1:
                return payload[0], payload[1:]

    def until(self, channel: int) -> bytes:
        """What comes up to the first message of a channel: that one's content. Fails the test at an early end."""
        while (found := self.receive()) is not None:
            if found[0] == channel:
                return found[1]
        raise AssertionError(f"the connection ended before anything came on channel {channel}")

    def _frame(self) -> tuple[int, bytes]:
        first, size = self._take(2)
        if size == 126:
            size = int.from_bytes(self._take(2))
        elif size == 127:
            size = int.from_bytes(self._take(8))
        return first & 0x0F, self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._more()
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server has closed the connection")
        self._data += data


def _trusted(node: LiveNode) -> ssl.SSLContext:
    """TLS as the kubeconfig's user, who has a client certificate."""
    view = json.loads(node.kubectl("config", "view", "--raw", "--flatten", "--minify", "-o", "json"))
    user, cluster = view["users"][0]["user"], view["clusters"][0]["cluster"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode("ascii"))
    with tempfile.NamedTemporaryFile() as pair:
        for name in ("client-certificate-data", "client-key-data"):
            pair.write(base64.b64decode(user[name]) + b"\n")
        pair.flush()
        context.load_cert_chain(pair.name)
    return context
