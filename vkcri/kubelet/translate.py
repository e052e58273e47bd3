"""What a runtime's stream server does not speak of a WebSocket, in its own words: `Channels` are exec and attach by
v5.channel.k8s.io, made of SPDY's streams; a `Tunnel` is port-forward's SPDY in a WebSocket's messages. Pure.

Each is a `Translation` of vkcri.splice and belongs to its thread. The kubelet does the same since 1.36
(ExtendWebSocketsToKubelet), and a node that declares so has the API server pass such sessions on as they came. Source:
apiserver's pkg/util/proxy (streamtranslator.go, websocket.go, streamtunnel.go), client-go's tools/remotecommand.
"""

import json
from abc import ABC, abstractmethod
from typing import Any, Final

from vkcri import websocket
from vkcri.errors import Invalid
from vkcri.kubelet import spdy

CHANNELS: Final = "v5.channel.k8s.io"
STREAMS: Final = "v4.channel.k8s.io"
"""What is spoken with the runtime: streams that close, and an error stream of JSON."""
TUNNEL: Final = "SPDY/3.1+"
"""Stands before the protocol of the SPDY connection in a tunnel."""
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = range(5)
_ENDS = 255  # the channel on which a client says that another one ends
_PONG_BYTES = (
    512 * 1024
)  # that wait for the client: more than output alone fills (twice splice's BUFFER). A client that
# is merely slow has its pongs, since kubectl ends a session without; beyond it one reads nothing, and misses none.
_STATUS_BYTES = 64 * 1024


class Socket(ABC):
    """The WebSocket's side of both. `to_client`, `to_backend`: what waits to be sent; `over`: the session is, but for
    what waits for the client; `left`: the client has said its last, which waits for the backend. `cut`: what it is told
    where it is cut."""

    def __init__(self, cut: str) -> None:
        self.to_client, self.to_backend = bytearray(), bytearray()
        self.over = self.left = False
        self._cut = cut
        self._reader = websocket.Reader()
        self._stirred = False

    def from_client(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._is_done():
            return  # and parse nothing: behind an error no frame begins where one seems to
        try:
            for piece in self._reader.pieces(data):
                if self._is_done():
                    return
                if piece.opcode < websocket.CLOSE:
                    self._stirred = True
                    self._hear(piece)
                elif piece.opcode == websocket.CLOSE:
                    self.to_client += websocket.frame(websocket.CLOSE, piece.data[:2])
                    self._leave()
                elif piece.opcode == websocket.PING and len(self.to_client) < _PONG_BYTES:
                    self.to_client += websocket.frame(websocket.PONG, piece.data)
        except Invalid as error:
            if not self.over:
                self._end(websocket.PROTOCOL_ERROR, str(error))

    def _is_done(self) -> bool:
        return self.over or self.left

    @abstractmethod
    def _hear(self, piece: websocket.Piece) -> None:
        """A piece of a message. Raises Invalid for what makes no sense."""

    @abstractmethod
    def _leave(self) -> None:
        """The client closes."""

    def stirred(self) -> bool:
        """Whether any content has passed since this was last asked: pings keep no session from being idle."""
        found, self._stirred = self._stirred, False
        return found

    def _end(self, code: int, reason: str = "") -> None:
        self.to_client += websocket.close(code, reason)
        self.over = True


class Tunnel(Socket):
    """Messages whose content, one after another, is the connection's bytes."""

    def _hear(self, piece: websocket.Piece) -> None:
        if piece.opcode != websocket.BINARY:
            raise Invalid("a tunnel's messages are binary")
        self.to_backend += piece.data

    def _leave(self) -> None:
        self.left = True

    def from_backend(self, data: bytes) -> None:
        self._stirred = True
        self.to_client += websocket.frame(websocket.BINARY, data)

    def backend_ended(self) -> None:
        self._end(websocket.NORMAL)

    def last_words(self) -> bytes:
        return websocket.close(websocket.GOING_AWAY, self._cut)


class Channels(Socket):
    """A channel number before each message; a stream for each channel that is wanted. Until `opening` is False the
    runtime has not answered for all streams, and would drop what is sent on them."""

    def __init__(self, *, stdin: bool, stdout: bool, stderr: bool, tty: bool, cut: str) -> None:
        super().__init__(cut)
        self._spdy = spdy.Client()
        wanted = {"error": True, "stdin": stdin, "stdout": stdout, "stderr": stderr, "resize": tty}
        self._streams: dict[str, int] = {}
        for kind in (kind for kind, is_wanted in wanted.items() if is_wanted):
            self._streams[kind], opening = self._spdy.open({"streamtype": kind})
            self.to_backend += opening
        self._unanswered = set(self._streams.values())
        self._unfinished = {number for kind, number in self._streams.items() if kind in ("error", "stdout", "stderr")}
        self._outputs = {
            self._streams[kind]: bytes([channel])
            for kind, channel in (("stdout", _STDOUT), ("stderr", _STDERR))
            if kind in self._streams
        }
        self._said = b""  # on the error stream
        self._channel: int | None = None  # of the message at hand
        self._named = b""  # the channels that a message on _ENDS names
        lowest = _STDOUT if stdout else _STDERR if stderr else _ERROR
        self.to_client += websocket.frame(websocket.BINARY, bytes([lowest]))  # it is established

    @property
    def opening(self) -> bool:
        return bool(self._unanswered)

    def _hear(self, piece: websocket.Piece) -> None:
        data = piece.data
        if piece.begins:
            self._channel = None
        if self._channel is None and data:
            self._channel, data, self._named = data[0], data[1:], b""
        if self._channel == _ENDS:
            self._named = (self._named + data)[:2]
            if piece.ends:
                self._close()
        elif data and self._channel == _STDIN and "stdin" in self._streams:
            self.to_backend += spdy.data(self._streams["stdin"], data)
        elif data and self._channel == _RESIZE and "resize" in self._streams:
            self.to_backend += spdy.data(self._streams["resize"], data)

    def _close(self) -> None:
        if len(self._named) != 1 or self._named[0] > _RESIZE:
            raise Invalid("one channel's number stands behind the signal that it ends")
        if self._named[0] == _STDIN and "stdin" in self._streams:
            self.to_backend += spdy.data(self._streams.pop("stdin"), b"", last=True)

    def _leave(self) -> None:
        self.over = True

    def from_backend(self, data: bytes) -> None:
        if self._is_done():
            return
        for event in self._spdy.events(data):
            if self._is_done():
                return
            if event.kind == 0:
                self._passed(event)
            elif event.kind == spdy.PING and event.number % 2 == 0:  # the server's own; ours would be odd
                self.to_backend += spdy.ping(event.number)
            if event.kind in (spdy.SYN_REPLY, spdy.RST_STREAM):
                self._unanswered.discard(event.number)
            if event.ends or event.kind == spdy.RST_STREAM:
                self._unfinished.discard(event.number)
                if not self._unfinished:
                    self.backend_ended()

    def _passed(self, event: spdy.Event) -> None:
        if event.number == self._streams["error"]:
            self._said += event.data[: _STATUS_BYTES - len(self._said)]
        elif event.data and event.number in self._outputs:
            self._stirred = True
            self.to_client += websocket.frame(websocket.BINARY, self._outputs[event.number], event.data)

    def backend_ended(self) -> None:
        """All streams have, or the connection: the result is what the error stream said."""
        self.to_client += _on_error_channel(_result(self._said))
        self._end(websocket.NORMAL)

    def failed(self, message: str) -> bytes:
        """All that the client hears of a session that could not be opened."""
        return bytes(self.to_client) + _on_error_channel(_internal(message)) + websocket.close(websocket.NORMAL)

    def last_words(self) -> bytes:
        """A close of another code than the normal one would hide them: kubectl then says the code alone."""
        return _on_error_channel(_failure("InternalError", self._cut, code=500)) + websocket.close(websocket.NORMAL)


def _on_error_channel(status: dict[str, Any]) -> bytes:
    return websocket.frame(websocket.BINARY, bytes([_ERROR]), json.dumps(status).encode())


def _failure(reason: str, message: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {}, "status": "Failure", "message": message, "reason": reason, **more}


def _internal(message: str) -> dict[str, Any]:
    """As apimachinery's NewInternalError."""
    whole = f"Internal error occurred: {message}"
    return _failure("InternalError", whole, details={"causes": [{"message": message}]}, code=500)


def _result(said: bytes) -> dict[str, Any]:
    """The Status for the client of what an error stream said, in the words of the kubelet's translation. One that said
    nothing has not told that the command succeeded, though the kubelet takes it so."""
    try:
        status = json.loads(said)
        if status["status"] == "Success":
            return {"metadata": {}, "status": "Success"}
        if status["status"] != "Failure":
            return _internal("error stream protocol error: unknown error")
        if status.get("reason") != "NonZeroExitCode":
            return _internal(str(status.get("message") or ""))
        causes = status["details"]["causes"]
        code = int(next(cause["message"] for cause in causes if cause.get("reason") == "ExitCode"))
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        words = said.decode(errors="replace") or "the runtime's stream server ended the session without a status"
        return _internal(f"error stream protocol error: {words}")
    message = f"command terminated with non-zero exit code: command terminated with exit code {code}"
    return _failure("NonZeroExitCode", message, details={"causes": [{"reason": "ExitCode", "message": str(code)}]})
