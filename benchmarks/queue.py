"""The queue's cost: 10,000 updates over 250 keys to three subscribers in processes of their own, over real sockets.

`python -m benchmarks.queue` prints one line: seconds until all three hold the newest values, CPU a message (owner and
subscribers together, for each update that was written), and whether all ended equal. Exit status 1 if not.
"""

import hashlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.instances import own
from vkcri.instance import Instance
from vkcri.lifecycle import Process
from vkcri.queue import Change, Publisher, Subscription

UPDATES, KEYS, SUBSCRIBERS, SIZE = 10_000, 250, 3, 1024
DEADLINE = 120.0


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def digest(values: dict[str, bytes]) -> str:
    return hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()


def subscribe(path: Path, instance: Instance, results: Connection) -> None:
    """Follow until the key `end` comes; then report CPU seconds, changes seen and what is held."""
    process = Process("subscriber", instance)
    seen = 0

    def count(change: Change) -> None:
        nonlocal seen
        seen += 1
        if change.key == "end":
            process.stop()

    subscription = Subscription(path, "pods", count)
    began = cpu_seconds()
    subscription.start(process)
    subscription.wait_synced(DEADLINE)
    results.send("ready")
    process.stopping.wait(DEADLINE)
    values = {key: value for key, value in subscription.items().items() if key != "end"}
    results.send((cpu_seconds() - began, seen, digest(values)))


def main() -> None:
    """Run it once and print the line. Raises SystemExit where the subscribers do not end equal."""
    with tempfile.TemporaryDirectory(prefix="vkcri-bench-") as folder:
        path = Path(folder) / "watcher.sock"
        instance = own("queue")
        process = Process("owner", instance)
        publisher = Publisher(path, ["pods"])
        publisher.mark_synced("pods")
        publisher.start(process)
        context = multiprocessing.get_context("spawn")
        pipes: list[Connection] = []
        readers = []
        for _ in range(SUBSCRIBERS):
            mine, theirs = context.Pipe()
            reader = context.Process(target=subscribe, args=(path, instance, theirs))
            reader.start()
            pipes.append(mine)
            readers.append(reader)
        for pipe in pipes:
            pipe.recv()
        began, cpu_began = time.monotonic(), cpu_seconds()
        for number in range(UPDATES):
            publisher.put("pods", f"key-{number % KEYS}", number.to_bytes(8, "big") + os.urandom(SIZE - 8))
        written = time.monotonic() - began
        wanted = digest(publisher.items("pods"))
        publisher.put("pods", "end", b"{}")
        results = [pipe.recv() if pipe.poll(DEADLINE) else (0.0, 0, "nothing") for pipe in pipes]
        took, cpu = time.monotonic() - began, cpu_seconds() - cpu_began + sum(result[0] for result in results)
        for reader in readers:
            reader.join(10)
        process.drain()
    equal = all(result[2] == wanted for result in results)
    received = sum(result[1] for result in results)
    print(
        f"queue: {UPDATES} updates of {SIZE} B over {KEYS} keys to {SUBSCRIBERS} subscribers: {took:.2f} s "
        f"({written:.2f} s to write), {cpu / UPDATES * 1e6:.0f} us CPU an update, {received} messages received "
        f"({cpu / max(received, 1) * 1e6:.0f} us each), {'equal at the end' if equal else 'NOT EQUAL at the end'}"
    )
    if not equal:
        sys.exit(1)


if __name__ == "__main__":
    main()
