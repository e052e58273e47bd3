"""What the wire's parts hand to each other: a conversation without I/O, its answer, and how it fails. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

BODY_BYTES = 10 * 1024
"""How much of a response's body is read, as the kubelet's probes do."""


class Broken(Exception):
    """A conversation that came to no answer; the message is in Go's words, as the kubelet's events have it."""


@dataclass(frozen=True)
class Answer:
    """An HTTP response. headers: lower-case names, the first value of each. body: at most BODY_BYTES. fault: why the
    body could not be read to its end; empty where it could, or where BODY_BYTES were enough."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fault: str = ""


@dataclass(frozen=True)
class Health:
    """What a gRPC health check came to. code: OK and `serving`, a word of ServingStatus; or another gRPC code by its
    name in Go, with its `message`."""

    code: str
    message: str = ""
    serving: str = ""


@dataclass(frozen=True)
class Late:
    """A health check whose deadline is over. connected: only the RPC was not answered in time."""

    connected: bool


class Exchange(Protocol):
    """One conversation with a peer, whose bytes somebody else carries. Every method may raise Broken."""

    @property
    def done(self) -> bool:
        """Whether nothing more is to be read."""

    def begin(self) -> bytes:
        """What to send first."""

    def receive(self, data: bytes) -> bytes:
        """The peer's next bytes; what to send in return."""

    def closed(self) -> None:
        """The peer has closed its side. Afterwards `done` is true, or it raises."""
