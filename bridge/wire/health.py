"""The gRPC health check, one RPC of grpc.health.v1 on HTTP/2: bytes in, bytes out; no gRPC library and no thread.

As the kubelet's grpc probe: the connection stands once the server has sent its HTTP/2 settings, and only then is the
RPC sent. What comes of it is a `Health`: a serving status, or a gRPC status with grpc-go's description.
"""

import urllib.parse

from bridge.pb.grpc.health.v1 import health_pb2
from bridge.wire.exchange import Answer, Broken, Health
from bridge.wire.http2 import Stream
from bridge.wire.request import VERSION
from bridge.wire.words import join, quote

_CODES = (
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
)
_HTTP = {
    400: "Internal",
    401: "Unauthenticated",
    403: "PermissionDenied",
    404: "Unimplemented",
    429: "Unavailable",
    502: "Unavailable",
    503: "Unavailable",
    504: "Unavailable",
}


class Check:
    """One health check. `connected`: the server speaks HTTP/2, so that the RPC was sent. `health`: once `done`."""

    def __init__(self, host: str, port: int, service: str, seconds: float, *, scheme: str = "http") -> None:
        self.health: Health | None = None
        self._headers = [
            (":method", "POST"),
            (":scheme", scheme),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", join(host, port)),
            ("content-type", "application/grpc"),
            ("user-agent", f"kube-probe/{VERSION}"),
            ("te", "trailers"),
            ("grpc-timeout", f"{max(1, int(seconds * 1000))}m"),
        ]
        message = health_pb2.HealthCheckRequest(service=service).SerializeToString()
        self._body = b"\0" + len(message).to_bytes(4, "big") + message
        self._stream = Stream()
        self._asked = False

    @property
    def connected(self) -> bool:
        return self._asked

    @property
    def done(self) -> bool:
        return self.health is not None

    def begin(self) -> bytes:
        return self._stream.open()

    def receive(self, data: bytes) -> bytes:
        """The server's next bytes. Raises Broken only before `connected`."""
        try:
            reply = self._stream.receive(data)
        except Broken as error:
            if not self._asked:
                raise
            self.health = Health("Unavailable", f"connection error: desc = {quote(str(error))}")
            return b""
        if self._stream.settled and not self._asked:
            self._asked = True
            reply += self._stream.request(self._headers, self._body)
        if self._stream.done:
            self.health = self._judge()
        return reply

    def closed(self) -> None:
        """The server is gone."""
        if not self._asked:
            raise Broken("EOF")
        if self.health is None:
            self.health = Health("Unavailable", "error reading from server: EOF")

    def _judge(self) -> Health:
        answer = self._stream.answer
        assert answer is not None
        said = {**answer.headers, **self._stream.trailers}
        code = said.get("grpc-status")
        if code is None:
            return _without_status(answer)
        name = (
            _CODES[int(code)] if code.isascii() and code.isdigit() and int(code[:3]) < len(_CODES) else f"Code({code})"
        )
        if name != "OK":
            return Health(name, urllib.parse.unquote(said.get("grpc-message", "")))
        return _parse(answer.body)


def _without_status(answer: Answer) -> Health:
    """What grpc-go makes of an answer that is none of gRPC's."""
    if answer.fault:
        return Health("Unavailable", answer.fault)
    kind = quote(answer.headers.get("content-type", ""))
    about = f"transport: received unexpected content-type {kind}"
    if answer.status != 200:
        about = f"unexpected HTTP status code received from server: {answer.status}; {about}"
        return Health(_HTTP.get(answer.status, "Unknown"), about)
    if answer.headers.get("content-type", "").startswith("application/grpc"):
        return Health("Internal", "server closed the stream without sending trailers")
    return Health("Unknown", about)


def _parse(body: bytes) -> Health:
    """The response's message: a flag, a length, and HealthCheckResponse."""
    if len(body) < 5 or body[0] != 0 or len(body) < 5 + int.from_bytes(body[1:5], "big"):
        return Health("Internal", "cardinality violation: received no response message from non-server-streaming RPC")
    try:
        response = health_pb2.HealthCheckResponse.FromString(body[5 : 5 + int.from_bytes(body[1:5], "big")])
    except Exception as error:  # noqa: BLE001  (protobuf's DecodeError is no fixed class)
        return Health("Internal", f"grpc: failed to unmarshal the received message: {error}")
    statuses = health_pb2.HealthCheckResponse.ServingStatus
    known = response.status in statuses.values()
    return Health("OK", serving=statuses.Name(response.status) if known else str(response.status))
