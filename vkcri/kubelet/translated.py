"""exec, attach and port-forward by WebSockets that no runtime speaks: the kubelet's own translation to SPDY.

Runs on the request's thread, as vkcri.kubelet.streams does, and carries the connection to its end; what the bytes mean
is vkcri.kubelet.translate's.
"""

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import SplitResult, urlsplit

from flask import Request, Response
from werkzeug.exceptions import MethodNotAllowed

from vkcri import splice, websocket
from vkcri.errors import Unavailable
from vkcri.kubelet import streams
from vkcri.kubelet.translate import CHANNELS, STREAMS, TUNNEL, Channels, Tunnel

FAILURE_SECONDS = 10.0  # to say why there is no session


def wants_channels(request: Request) -> bool:
    """Whether an exec or attach asks for the protocol in which a client says that its standard input ends."""
    return streams.is_websocket(request) and CHANNELS in _offered(request)


def wants_tunnel(request: Request) -> bool:
    """Whether a port-forward asks for SPDY in a WebSocket."""
    return streams.is_websocket(request) and any(
        name.startswith(TUNNEL) and name.endswith(".k8s.io") for name in _offered(request)
    )


def carry_channels(
    request: Request, url: str, wanted: Mapping[str, Any], closing_down: Callable[[], bool], cut: str
) -> Response:
    """A session of exec or attach; wanted: the provider's request for it. What keeps it from beginning the client hears
    on its error channel. Raises Invalid for a handshake that is none."""
    switching = _switching(request, CHANNELS)
    kinds = {name: bool(wanted[name]) for name in ("stdin", "stdout", "stderr", "tty")}
    translation = Channels(**kinds, cut=cut)
    with ExitStack() as held:
        failure = ""
        try:
            target = urlsplit(url)
            backend = held.enter_context(closing(streams.connect(target)))
            _open(backend, translation, _upgraded(backend, target))
        except (OSError, Unavailable) as error:
            failure = str(error)
        client, early = request.environ["vkcri.connection"].take_over()
        if failure:
            client.settimeout(FAILURE_SECONDS)
            client.sendall(switching + translation.failed(failure))
            return Response()
        translation.from_client(early)
        splice.splice(client, backend, to_client=switching, stop=closing_down, translation=translation)
    return Response()  # not sent: the connection was taken over


def carry_tunnel(request: Request, url: str, closing_down: Callable[[], bool], cut: str) -> Response:
    """A port-forward. The runtime's refusal is returned as it came. Raises Unavailable where it cannot be reached or
    does not answer, Invalid for a handshake that is none."""
    _switching(request, "")
    offered = [name for name in _offered(request) if name.startswith(TUNNEL)]
    target = urlsplit(url)
    with closing(streams.connect(target)) as backend:
        try:
            head, rest = _asked(backend, target, [name.removeprefix(TUNNEL) for name in offered])
        except OSError as error:
            raise Unavailable(f"the runtime's stream server {target.netloc}: {error}") from error
        if head.split(b" ", 2)[1:2] != [b"101"]:
            return streams.refusal(backend, head, rest)
        chosen = TUNNEL + _chosen(head)
        switching = _switching(request, chosen if chosen in offered else "")
        client, early = request.environ["vkcri.connection"].take_over()
        translation = Tunnel(cut)
        translation.from_client(early)
        translation.to_client += websocket.frame(websocket.BINARY, rest) if rest else b""
        splice.splice(client, backend, to_client=switching, stop=closing_down, translation=translation)
    return Response()


def _offered(request: Request) -> list[str]:
    return websocket.protocols(request.headers.get("Sec-WebSocket-Protocol", ""))


def _switching(request: Request, protocol: str) -> bytes:
    """The answer to the client's handshake. Raises Invalid."""
    if request.method != "GET":
        raise MethodNotAllowed
    fields = request.headers
    return websocket.switching(fields.get("Sec-WebSocket-Key", ""), fields.get("Sec-WebSocket-Version", ""), protocol)


def _asked(backend: socket.socket, target: SplitResult, protocols: Sequence[str]) -> tuple[bytes, bytes]:
    """Ask the runtime for SPDY: the answer's head, and what came behind it. Raises OSError."""
    fields = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")]
    fields += [("X-Stream-Protocol-Version", protocol) for protocol in protocols]
    backend.settimeout(streams.ANSWER_SECONDS)
    backend.sendall(streams.request_head("POST", target, fields))
    return streams.read_head(backend)


def _chosen(head: bytes) -> str:
    """The protocol that the runtime has chosen."""
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "x-stream-protocol-version":
            return value.strip()
    return ""


def _upgraded(backend: socket.socket, target: SplitResult) -> bytes:
    """A connection of SPDY: what came behind the answer. Raises Unavailable, with the runtime's words, and OSError."""
    head, rest = _asked(backend, target, [STREAMS])
    if head.split(b" ", 2)[1:2] != [b"101"]:
        said = streams.refusal(backend, head, rest).get_data(as_text=True)
        raise Unavailable(f"unable to upgrade connection: {said.strip()}")
    if _chosen(head) != STREAMS:
        raise Unavailable(f"the runtime's stream server {target.netloc} does not speak {STREAMS}")
    return rest


def _open(backend: socket.socket, translation: Channels, rest: bytes) -> None:
    """Open the session's streams and wait until the runtime has answered for each. Raises OSError."""
    backend.sendall(translation.to_backend)
    translation.to_backend.clear()
    translation.from_backend(rest)
    while translation.opening and not translation.over:
        data = backend.recv(65536)
        if not data:
            raise ConnectionError("the runtime's stream server has ended the connection")
        translation.from_backend(data)
