"""HTTP/2 as a client that makes one request: bytes in, bytes out, on the library h2, which is without I/O too.

For a server of HTTPS that chooses it by ALPN, for cleartext by prior knowledge, and below the gRPC health check. Its
module is imported by the first that needs it: h2 takes 4 MB.
"""

from dataclasses import replace

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from bridge.wire.exchange import BODY_BYTES, Answer, Broken
from bridge.wire.request import Get

_CONFIG = h2.config.H2Configuration(client_side=True, header_encoding="latin-1")
_NEVER_SENT = ("connection", "proxy-connection", "transfer-encoding", "upgrade", "keep-alive", "te")
Headers = list[tuple[str, str]]


class Stream:
    """One connection with one stream. `settled`: the peer has said that it speaks HTTP/2. `answer`: once its headers
    came; `trailers`: lower-case names to values; `done`: it has said all, or BODY_BYTES of it."""

    def __init__(self) -> None:
        self.settled = False
        self.answer: Answer | None = None
        self.trailers: dict[str, str] = {}
        self.done = False
        self._connection = h2.connection.H2Connection(_CONFIG)
        self._stream: int | None = None

    def open(self) -> bytes:
        """The connection's preface."""
        self._connection.initiate_connection()
        return self._connection.data_to_send()

    def request(self, headers: Headers, body: bytes = b"") -> bytes:
        """Open the stream."""
        self._stream = self._connection.get_next_available_stream_id()
        self._connection.send_headers(self._stream, headers, end_stream=not body)
        if body:
            self._connection.send_data(self._stream, body, end_stream=True)
        return self._connection.data_to_send()

    def receive(self, data: bytes) -> bytes:
        """The peer's next bytes; what to send in return. Raises Broken."""
        if not self.settled and data.startswith(b"HTTP/1."):
            raise Broken("http2: frame too large, note that the frame header looked like an HTTP/1.1 header")
        try:
            for event in self._connection.receive_data(data):
                self._take(event)
        except h2.exceptions.ProtocolError as error:
            raise Broken(f"http2: {error}") from error
        return self._connection.data_to_send()

    def closed(self) -> None:
        """The peer is gone."""
        if self.answer is None:
            raise Broken("unexpected EOF" if self.settled else "EOF")
        if not self.done:
            self._finish("unexpected EOF")

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.settled = True
        elif isinstance(event, h2.events.ConnectionTerminated):
            code = h2.errors.ErrorCodes(event.error_code or 0).name if event.error_code in _CODES else event.error_code
            if self.answer is None and event.error_code:
                raise Broken(f"http2: server sent GOAWAY and closed the connection; ErrCode={code}")
        elif getattr(event, "stream_id", None) == self._stream and self._stream is not None:
            self._take_of_stream(event)

    def _take_of_stream(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            headers = dict(reversed(_texts(event.headers)))
            self.answer = Answer(_status(headers.get(":status", "")), headers)
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers = dict(_texts(event.headers))
        elif isinstance(event, h2.events.DataReceived) and self.answer is not None and not self.done:
            size = event.flow_controlled_length or 0
            if size and self._stream is not None:
                self._connection.acknowledge_received_data(size, self._stream)
            room = BODY_BYTES - len(self.answer.body)
            self.answer = replace(self.answer, body=self.answer.body + (event.data or b"")[:room])
            if len(self.answer.body) >= BODY_BYTES:
                self._finish()
        elif isinstance(event, h2.events.StreamEnded):
            if self.answer is None:
                raise Broken("http2: the stream ended before its headers")
            self._finish()
        elif isinstance(event, h2.events.StreamReset):
            code = event.error_code
            name = h2.errors.ErrorCodes(code).name if code in _CODES else str(code)
            fault = f"stream error: stream ID {self._stream}; {name}; received from peer"
            if self.answer is None:
                raise Broken(fault)
            self._finish(fault)

    def _finish(self, fault: str = "") -> None:
        assert self.answer is not None
        if not self.done:
            self.answer = replace(self.answer, fault=fault)
        self.done = True


class Http2:
    """One GET, as bridge.wire.http1.Http1 makes it."""

    def __init__(self, get: Get) -> None:
        self._get = get
        self._stream = Stream()

    @property
    def answer(self) -> Answer | None:
        return self._stream.answer

    @property
    def done(self) -> bool:
        return self._stream.done

    def begin(self) -> bytes:
        get = self._get
        get.check()
        headers = [(":method", "GET"), (":scheme", get.scheme), (":authority", get.authority), (":path", get.target)]
        sent = [(name.lower(), value) for name, value in get.headers]
        return self._stream.open() + self._stream.request(
            headers + [pair for pair in sent if pair[0] not in _NEVER_SENT]
        )

    def receive(self, data: bytes) -> bytes:
        return self._stream.receive(data)

    def closed(self) -> None:
        self._stream.closed()


_CODES = frozenset(int(code) for code in h2.errors.ErrorCodes)


def _status(text: str) -> int:
    """Raises Broken where it is no status code, in Go's words."""
    if not text:
        raise Broken("malformed response from server: missing status pseudo header")
    if not (text.isascii() and text.isdigit()):
        raise Broken("malformed response from server: malformed non-numeric status pseudo header")
    return int(text[:9])


def _texts(headers: object) -> Headers:
    return [(_text(name), _text(value)) for name, value in headers or ()]  # type: ignore[attr-defined]


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
