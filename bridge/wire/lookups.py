"""Host names to addresses, for the loop: a name server that hangs holds up nothing but those who ask for a name of its,
as long as there are fewer such names than threads; beyond that the other names wait too.

A name is asked for once at a time, on one of at most THREADS threads, which end when there is nothing to do. What waits
behind them has its own deadline, which cancels it: a name that nobody waits for any more is not looked up. An address
needs no thread.
"""

import functools
import ipaddress
import socket
from collections import deque
from collections.abc import Callable

from bridge.wire.loop import Loop
from vkcri.lifecycle import Process

THREADS = 32  # of which each that hangs costs a stack and nothing else
LOOKUP_SECONDS = 900.0  # what a resolver takes with several servers and search domains, all of them away
Addresses = list[tuple[int, str]]
"""(family, address), in the resolver's order."""
Found = Callable[[Addresses | str], None]
"""Called on the loop's thread: addresses, or why there are none."""


class Lookups:
    """All but `start` belongs to the loop's thread."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._process: Process | None = None
        self._waiting: dict[str, list[Found]] = {}
        self._queue: deque[str] = deque()
        self._threads = 0

    def start(self, process: Process) -> None:
        self._process = process

    def find(self, host: str, found: Found) -> None:
        """found(...) is called at once for an address, else later."""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            self._ask(host, found)
            return
        found([(socket.AF_INET if address.version == 4 else socket.AF_INET6, host)])

    def forget(self, host: str, found: Found) -> None:
        """That one waits no more."""
        waiting = self._waiting.get(host, [])
        if found not in waiting:
            return
        waiting.remove(found)
        if not waiting:
            try:
                self._queue.remove(host)
            except ValueError:
                return  # a thread is at it, for whoever asks next
            del self._waiting[host]

    def _ask(self, host: str, found: Found) -> None:
        if host in self._waiting:
            self._waiting[host].append(found)
            return
        self._waiting[host] = [found]
        self._queue.append(host)
        if self._threads < THREADS and self._process is not None:
            self._threads += 1
            self._process.start_thread("lookup", self._work, may_end=True)

    def _work(self) -> None:
        """Runs on a lookup thread, until the queue is empty."""
        assert self._process is not None
        while True:
            try:
                host = self._queue.popleft()
            except IndexError:
                self._loop.call(self._ended)
                return
            with self._process.expect(f"the addresses of {host}", LOOKUP_SECONDS):
                result = look_up(host)
            self._loop.call(functools.partial(self._tell, host, result))

    def _tell(self, host: str, result: Addresses | str) -> None:
        for found in self._waiting.pop(host, []):
            found(result)

    def _ended(self) -> None:
        """A thread has ended; what came after it had looked is for a new one."""
        self._threads -= 1
        if self._queue and self._process is not None:
            self._threads += 1
            self._process.start_thread("lookup", self._work, may_end=True)


def look_up(host: str) -> Addresses | str:
    """Blocking. A string says why there are none, in Go's words."""
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = "no such host" if isinstance(error, socket.gaierror) else str(error)
        return f"lookup {host}: {reason}"
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in answers))
