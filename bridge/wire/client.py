"""What others call: a GET with its redirects, a TCP connection, a gRPC health check, each with a deadline.

`Client` belongs to the loop's thread save `get_and_wait`, which any other thread may call and which blocks it. Every
call ends: with its result or, at its deadline, with the words that the kubelet's client has for that.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from bridge.wire.connection import Connection
from bridge.wire.exchange import Answer, Broken, Exchange, Health, Late
from bridge.wire.http1 import Http1
from bridge.wire.lookups import Lookups
from bridge.wire.loop import Loop, Timer
from bridge.wire.request import Get, redirected
from bridge.wire.words import join
from vkcri.errors import Unavailable
from vkcri.lifecycle import Process

if TYPE_CHECKING:
    from bridge.wire.health import Check

LATE_HEAD = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
LATE_BODY = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"
RECONNECT_FIRST, RECONNECT_FACTOR = 1.0, 1.6  # grpc-go's back-off between attempts to connect
WAIT_MARGIN = 5.0  # seconds that the loop has beyond a deadline to say so


class Call(Protocol):
    """Something under way."""

    def cancel(self) -> None:
        """End it; its callback is not called any more."""


class Client:
    """Runs on `loop`."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.lookups = Lookups(loop)

    def start(self, process: Process) -> None:
        self.lookups.start(process)
        self.loop.start(process, "wire")

    def get(self, get: Get, seconds: float, done: Callable[[Answer | Broken], None]) -> Call:
        """The answer that the last redirect led to, or Broken with the whole message of Go's url.Error."""
        return _Fetch(self, get, seconds, done)

    def connect(self, host: str, port: int, seconds: float, done: Callable[[Broken | None], None]) -> Call:
        """Open a connection and close it."""
        return _Dial(self, host, port, seconds, done)

    def check(
        self, host: str, port: int, service: str, seconds: float, done: Callable[[Health | Late], None], *, tls: bool
    ) -> Call:
        """A gRPC health check. A server that cannot be reached is tried again until the deadline."""
        return _HealthCall(self, host, port, service, seconds, done, tls=tls)

    def get_and_wait(self, get: Get, seconds: float) -> Answer:
        """Blocking. Raises Unavailable where no answer comes."""
        over = threading.Event()
        results: list[Answer | Broken] = []

        def done(result: Answer | Broken) -> None:
            results.append(result)
            over.set()

        self.loop.call(lambda: (self.get(get, seconds, done), None)[1])
        if not over.wait(seconds + WAIT_MARGIN):
            raise Unavailable(get.failed(LATE_HEAD))
        if isinstance(results[0], Broken):
            raise Unavailable(str(results[0]))
        return results[0]


class _Timed(ABC):
    """A call with a deadline, at which `_late` is called, and at most one connection at a time."""

    def __init__(self, client: Client, seconds: float) -> None:
        self._loop, self._lookups = client.loop, client.lookups
        self._connection: Connection | None = None
        self._timers: list[Timer] = [self._loop.at(self._loop.clock() + seconds, self._expire)]

    def cancel(self) -> None:
        for timer in self._timers:
            timer.cancel()
        if self._connection is not None:
            self._connection.cancel()

    def _expire(self) -> None:
        self.cancel()
        self._late()

    @abstractmethod
    def _late(self) -> None: ...


class _Fetch(_Timed):
    def __init__(self, client: Client, get: Get, seconds: float, done: Callable[[Answer | Broken], None]) -> None:
        super().__init__(client, seconds)
        self._done = done
        self._first = self._get = get
        self._followed = 0
        self._begin()

    def _begin(self) -> None:
        get = self._get
        self._connection = Connection(
            self._loop, self._lookups, get.host, get.port, self._ended, talk=self._talk, tls=get.scheme == "https"
        )
        self._connection.start()

    def _talk(self, protocol: str) -> Exchange:
        if protocol == "h2" or (self._get.prior_knowledge and self._get.scheme == "http"):
            from bridge.wire.http2 import Http2  # a process without HTTP/2 never loads h2

            return Http2(self._get)
        return Http1(self._get)

    def _ended(self, exchange: Exchange | None, broken: Broken | None) -> None:
        answer: Answer | None = getattr(exchange, "answer", None)
        if answer is None:
            self._finish(Broken(self._get.failed(str(broken))))
            return
        if broken is not None:
            self._finish(Answer(answer.status, answer.headers, answer.body, str(broken)))
            return
        try:
            following = redirected(self._first, self._get, answer, self._followed)
        except Broken as error:
            self._finish(error)
            return
        if following is None:
            self._finish(answer)
            return
        self._get, self._followed = following, self._followed + 1
        self._begin()

    def _finish(self, result: Answer | Broken) -> None:
        self.cancel()
        self._done(result)

    def _late(self) -> None:
        answer: Answer | None = getattr(self._connection and self._connection.exchange, "answer", None)
        if answer is None:
            self._done(Broken(self._get.failed(LATE_HEAD)))
        else:
            self._done(Answer(answer.status, answer.headers, answer.body, LATE_BODY))


class _Dial(_Timed):
    def __init__(
        self, client: Client, host: str, port: int, seconds: float, done: Callable[[Broken | None], None]
    ) -> None:
        super().__init__(client, seconds)
        self._done = done
        self._where = join(host, port)
        self._connection = Connection(self._loop, self._lookups, host, port, self._ended)
        self._connection.start()

    def _ended(self, exchange: Exchange | None, broken: Broken | None) -> None:
        del exchange
        self.cancel()
        self._done(broken)

    def _late(self) -> None:
        self._done(Broken(f"dial tcp {self._where}: i/o timeout"))


class _HealthCall(_Timed):
    def __init__(
        self,
        client: Client,
        host: str,
        port: int,
        service: str,
        seconds: float,
        done: Callable[[Health | Late], None],
        *,
        tls: bool,
    ) -> None:
        super().__init__(client, seconds)
        self._done = done
        self._host, self._port, self._service, self._tls = host, port, service, tls
        self._until = self._loop.clock() + seconds
        self._check: Check | None = None
        self._delay = RECONNECT_FIRST
        self._begin()

    def _begin(self) -> None:
        self._connection = Connection(
            self._loop, self._lookups, self._host, self._port, self._ended, talk=self._talk, tls=self._tls
        )
        self._connection.start()

    def _talk(self, protocol: str) -> Exchange:
        from bridge.wire.health import Check  # a process without gRPC probes never loads h2

        del protocol
        seconds = self._until - self._loop.clock()
        self._check = Check(self._host, self._port, self._service, seconds, scheme="https" if self._tls else "http")
        return self._check

    def _ended(self, exchange: Exchange | None, broken: Broken | None) -> None:
        """The check is done, or the connection is broken: before the RPC was sent, that only means to try again."""
        del exchange
        check = self._check
        if check is not None and check.connected and check.health is None:
            check.health = Health("Unavailable", f"error reading from server: {broken}")
        if check is not None and check.health is not None:
            self.cancel()
            self._done(check.health)
            return
        self._check = None
        self._timers.append(self._loop.at(self._loop.clock() + self._delay, self._begin))
        self._delay *= RECONNECT_FACTOR

    def _late(self) -> None:
        self._done(Late(connected=self._check is not None and self._check.connected))
