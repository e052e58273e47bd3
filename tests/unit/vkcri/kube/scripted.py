"""A real HTTP server whose answers a test scripts: it does on purpose what a well-behaved API server never does."""

import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.waiting import PATIENCE


@dataclass
class Call:
    """One request as it came, and the means to answer it."""

    method: str
    path: str
    params: dict[str, str]
    headers: dict[str, str]
    body: Any
    answer_socket: socket.socket
    write: Callable[[bytes], object] = field(repr=False)
    gone: threading.Event = field(repr=False)

    @property
    def is_watch(self) -> bool:
        return self.params.get("watch") == "true"

    def send(self, status: int, body: Any, **headers: str) -> None:
        """A whole answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
        self.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + data)

    def fail(self, status: int, message: str, reason: str = "", **headers: str) -> None:
        self.send(status, status_object(status, message, reason), **headers)

    def begin(self) -> None:
        """The head of a chunked answer, as a watch has it."""
        self.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")

    def chunk(self, data: bytes) -> None:
        self.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def event(self, kind: str, item: Any) -> None:
        self.chunk(json.dumps({"type": kind, "object": item}, separators=(",", ":")).encode() + b"\n")

    def end(self) -> None:
        self.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Break the connection now, with whatever was sent so far."""
        self.answer_socket.shutdown(socket.SHUT_RDWR)

    def hold(self) -> None:
        """Keep the connection open until the server closes."""
        self.gone.wait(PATIENCE)


class Server:
    """Calls `script(call)` for each request, on the connection's thread. `calls` has them all."""

    def __init__(self, script: Callable[[Call], None], context: ssl.SSLContext | None = None) -> None:
        self.calls: list[Call] = []
        self.script = script
        self._closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                parts = urlsplit(self.path)
                data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                call = Call(
                    self.command,
                    parts.path,
                    dict(parse_qsl(parts.query)),
                    dict(self.headers.items()),
                    json.loads(data) if data else None,
                    self.connection,
                    self.wfile.write,
                    outer._closing,
                )
                outer.calls.append(call)
                try:
                    outer.script(call)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{verb}", Handler.handle_any)

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def get_request(self) -> tuple[socket.socket, Any]:
                connection, address = super().get_request()
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                return connection, address

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def status_object(code: int, message: str, reason: str = "", **details: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    return {**found, "message": message, "reason": reason, "details": details}


def kubeconfig(path: Path, server: str, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    """Write a kubeconfig (JSON is YAML) and return its path."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me"}}],
        "clusters": [{"name": "it", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user or {}}],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
