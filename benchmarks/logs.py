"""A log as log-server gives it, over TLS from its own endpoint: the end of a large one, the whole of one, and its lag.

The program runs by itself, with the queue's owners that its tests have; no runtime is needed. The lines have 100 bytes,
to which CRI's format adds 40. Times are a client's, on a connection that it keeps.
"""

import http.client
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from tests.unit.vkcri.kubelet.node import Node
from vkcri.api import loglines

LINE = b"x" * 99
LARGE = 1 << 30  # bytes of the file
WHOLE = 100_000_000  # bytes of text
LAGS = 200
REPEATS = 21
_TOKEN = {"Authorization": "Bearer admin-token"}


def main() -> None:
    """Print the figures. Leaves nothing."""
    node = Node()
    try:
        node.start_watcher()
        node.start_provider()
        node.start()
        path = node.run_pod("large")
        client = node.kubelet()
        _write(path, LARGE)
        for lines in (1, 100, 10_000):
            seconds = statistics.median(_timed(lambda: read(client, f"tailLines={lines}")) for _ in range(REPEATS))  # noqa: B023
            print(f"logs: the last {lines} lines of a file of 1 GiB: {1000 * seconds:.1f} ms (aim: 10 for a few)")
        for query, what in (("", "as they are"), ("&timestamps=true", "with their times")):
            seconds = _timed(lambda: read(client, f"limitBytes={WHOLE}{query}"))  # noqa: B023
            print(f"logs: 100-byte lines, {what}: {WHOLE / seconds / 1e6:.0f} MB/s")
        follow_lag(node)
        client.close()
    finally:
        node.close()


def read(client: http.client.HTTPSConnection, query: str) -> int:
    """How many bytes of text came."""
    client.request("GET", f"/containerLogs/default/large/main?{query}", headers=_TOKEN)
    with client.getresponse() as answer:
        assert answer.status == 200
        size = 0
        while piece := answer.read(1 << 20):
            size += len(piece)
        return size


def follow_lag(node: Node) -> None:
    """From the write of a record to its line at a follower."""
    client = node.kubelet()
    path = node.run_pod("followed")
    client.request("GET", "/containerLogs/default/followed/main?follow=true", headers=_TOKEN)
    lags = []
    with client.getresponse() as answer, path.open("ab", buffering=0) as file:
        for number in range(LAGS + 10):
            time.sleep(0.02)
            began = time.monotonic()
            file.write(_record(b"%d" % number))
            assert answer.readline() == b"%d\n" % number
            lags.append(1000 * (time.monotonic() - began))
    client.close()
    middle, high = statistics.median(lags[10:]), statistics.quantiles(lags[10:], n=20)[-1]
    print(f"logs: a followed line arrives after {middle:.1f} ms (median of {LAGS}; 95 of 100 within {high:.1f} ms)")


def _record(content: bytes) -> bytes:
    return loglines.format(time.time_ns(), b"stdout", content)


def _write(path: Path, size: int) -> None:
    block = _record(LINE) * 10_000
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
