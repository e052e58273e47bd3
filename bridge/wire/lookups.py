"""Host names to addresses, for the loop: a name server that hangs holds up nothing but those who ask for a name of its.

A name is asked for once at a time, on one of THREADS threads, which end when there is nothing to do. One that is at a
name for HANGS_SECONDS does not count any more, so that the names behind it go on; up to MOST_THREADS of them, beyond
which the other names wait too. What waits has its own deadline, which cancels it: a name that nobody waits for any more
is not looked up. An address needs no thread.
"""

import functools
import ipaddress
import socket
from collections import deque
from collections.abc import Callable

from bridge.wire.loop import Loop
from vkcri.lifecycle import Process

THREADS = 32
MOST_THREADS = 256  # of which each that hangs costs a stack and nothing else
HANGS_SECONDS = 1.0
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
        self._since: dict[str, float] = {}  # when a thread began with a name; the threads write their own entries
        self._looks_again = False

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
        self._spread()

    def _spread(self) -> None:
        """A thread for each name that waits, as far as they may be."""
        if self._process is None:
            return
        now = self._loop.clock()
        hanging = sum(now - since >= HANGS_SECONDS for since in list(self._since.values()))
        most = min(THREADS + hanging, MOST_THREADS)
        for _ in range(min(len(self._queue), most - self._threads)):
            self._threads += 1
            self._process.start_thread("lookup", self._work, may_end=True)
        if self._queue and not self._looks_again:
            self._looks_again = True
            self._loop.at(now + HANGS_SECONDS, self._look_again)

    def _look_again(self) -> None:
        """What waited for a thread then may have waited for names that hang."""
        self._looks_again = False
        self._spread()

    def _work(self) -> None:
        """Runs on a lookup thread, until the queue is empty."""
        assert self._process is not None
        while True:
            try:
                host = self._queue.popleft()
            except IndexError:
                self._loop.call(self._ended)
                return
            self._since[host] = self._loop.clock()
            with self._process.expect(f"the addresses of {host}", LOOKUP_SECONDS):
                result = look_up(host)
            del self._since[host]
            self._loop.call(functools.partial(self._tell, host, result))

    def _tell(self, host: str, result: Addresses | str) -> None:
        for found in self._waiting.pop(host, []):
            found(result)

    def _ended(self) -> None:
        """A thread has ended; what came after it had looked is for a new one."""
        self._threads -= 1
        self._spread()


def look_up(host: str) -> Addresses | str:
    """Blocking. A string says why there are none, in Go's words."""
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = "no such host" if isinstance(error, socket.gaierror) else str(error)
        return f"lookup {host}: {reason}"
    return list(dict.fromkeys((int(family), str(address[0])) for family, _, _, _, address in answers))
