"""Publisher and Subscription over real sockets: restarts, slow and stalled peers, garbage."""

import logging
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.waiting import PATIENCE, until
from vkcri.errors import Invalid, Unavailable
from vkcri.lifecycle import Process
from vkcri.queue import Change, Publisher, Subscription, messages, request
from vkcri.queue.framing import MAX_FRAME

SOURCES = {"pods": ("api", "file")}
OWNER = """
import sys
from pathlib import Path
from vkcri.instance import Instance
from vkcri.lifecycle import Process
from vkcri.queue import Publisher
process = Process("owner", Instance(sys.argv[2]))
publisher = Publisher(Path(sys.argv[1]), ["pods"], ping_seconds=0.1)
publisher.put("pods", "a", b"1")
publisher.mark_synced("pods")
publisher.start(process)
print("ready", flush=True)
process.stopping.wait()
"""


def publisher(folder: Path, process: Process, **options: float) -> Publisher:
    owner = Publisher(folder / "watcher.sock", ["pods", "objects"], sources=SOURCES, **options)
    owner.start(process)
    return owner


def subscription(folder: Path, process: Process, topic: str = "pods", silence: float = 15) -> Subscription:
    subscriber = Subscription(folder / "watcher.sock", topic, lambda _change: None, silence_seconds=silence)
    subscriber.start(process)
    return subscriber


def test_snapshot_then_changes_then_deletions(folder: Path, process: Process) -> None:
    owner = publisher(folder, process)
    owner.put("pods", "a", b"1", source="api")
    seen: list[Change] = []
    synced: list[str] = []
    reader = Subscription(folder / "watcher.sock", "pods", seen.append, on_synced=synced.append)
    reader.start(process)
    owner.mark_synced("pods", source="api")
    assert reader.wait_synced(10, "api")
    assert not reader.synced("file")
    owner.put("pods", "b", b"2", source="file")
    owner.delete("pods", "a", source="api")
    until(lambda: reader.items() == {"b": b"2"})
    until(lambda: len(seen) == 3)
    assert seen == [
        Change("pods", "a", b"1", "api"),
        Change("pods", "b", b"2", "file"),
        Change("pods", "a", None, "api"),
    ]
    assert synced == ["api"]
    assert reader.connected


def test_a_subscriber_that_starts_first_waits_for_its_owner(folder: Path, process: Process) -> None:
    reader = subscription(folder, process)
    assert not reader.wait_synced(0.3, "api")
    owner = publisher(folder, process)
    owner.replace("pods", {"a": b"1"}, source="api")
    assert reader.wait_synced(10, "api")
    assert reader.get("a") == b"1"


def test_state_is_kept_while_the_owner_is_away_and_until_the_next_one_is_synced(folder: Path, process: Process) -> None:
    first = publisher(folder, process)
    first.replace("pods", {"a": b"1", "b": b"1"}, source="api")
    reader = subscription(folder, process)
    assert reader.wait_synced(10, "api")
    first.close()
    until(lambda: not reader.connected)
    assert reader.items() == {"a": b"1", "b": b"1"}
    assert reader.synced("api")
    second = publisher(folder, process)
    second.put("pods", "b", b"2", source="api")
    until(lambda: reader.get("b") == b"2")
    assert reader.get("a") == b"1"
    second.mark_synced("pods", source="api")
    until(lambda: reader.items() == {"b": b"2"})


def test_any_interleaving_of_writes_and_restarts_ends_equal(folder: Path, process: Process) -> None:
    chance = random.Random(7)
    owner = publisher(folder, process, ping_seconds=0.05)
    readers = [subscription(folder, process) for _ in range(3)]
    for _ in range(3000):
        step = chance.random()
        key = f"k{chance.randrange(50)}"
        if step < 0.6:
            owner.put("pods", key, str(chance.random()).encode() * chance.randrange(1, 200), source="api")
        elif step < 0.9:
            owner.delete("pods", key, source="api")
        elif step < 0.99:
            owner.replace("pods", {f"s{number}": b"x" for number in range(chance.randrange(5))}, source="file")
        elif step < 0.995:
            owner.close()
            owner = publisher(folder, process, ping_seconds=0.05)
        else:
            channel = chance.choice(readers)._channel
            if channel is not None:
                channel.shut()
    owner.mark_synced("pods", source="api")
    owner.mark_synced("pods", source="file")
    for reader in readers:
        until(lambda reader=reader: reader.items() == owner.items("pods"))  # type: ignore[misc]


def test_an_owner_that_ends_before_its_thread_began_leaves_no_socket_open(
    folder: Path, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Callable[[], None]] = []
    monkeypatch.setattr(process, "start_thread", lambda _name, target, **_options: begun.append(target))
    owner = publisher(folder, process)
    listener = owner._listener
    assert listener is not None
    owner.close()
    begun[0]()
    assert listener.fileno() == -1


def test_a_reader_that_reads_nothing_blocks_no_writer_and_no_other_reader(folder: Path, process: Process) -> None:
    owner = publisher(folder, process, stall_seconds=0.5)
    stalled = socket.socket(socket.AF_UNIX)
    stalled.connect(str(folder / "watcher.sock"))
    stalled.sendall(messages.subscribe("pods"))
    reader = subscription(folder, process)
    value = bytes(1 << 20)
    began = time.monotonic()
    for number in range(60):
        owner.put("pods", f"k{number % 5}", value + str(number).encode(), source="api")
    assert time.monotonic() - began < PATIENCE / 2
    until(lambda: reader.items() == owner.items("pods"))
    until(lambda: len(owner._channels) == 1)  # and after stall_seconds the stalled one is given up
    stalled.close()


def test_a_stalled_owner_is_noticed_and_found_again(folder: Path, process: Process) -> None:
    path = folder / "owner.sock"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(path), process.instance.name], stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        reader = Subscription(path, "pods", lambda _change: None, silence_seconds=0.5)
        reader.start(process)
        assert reader.wait_synced(PATIENCE)
        owner.send_signal(signal.SIGSTOP)
        with pytest.raises(Unavailable, match=r"within 0\.3 s"):
            request(path, "ping", {}, timeout=0.3)
        until(lambda: not reader.connected)
        assert reader.get("a") == b"1"
        owner.send_signal(signal.SIGCONT)
        until(lambda: reader.connected)
        assert request(path, "ping", {}, timeout=PATIENCE)["pid"] == owner.pid
        owner.kill()
        owner.wait()
        until(lambda: not reader.connected)
        assert reader.get("a") == b"1"
        with pytest.raises(Unavailable):
            request(path, "ping", {}, timeout=0.3)
    finally:
        owner.kill()
        owner.wait()
        assert owner.stdout is not None
        owner.stdout.close()


def test_a_subscriber_of_an_empty_unsynced_topic_is_connected_at_once(folder: Path, process: Process) -> None:
    publisher(folder, process, ping_seconds=60)
    reader = subscription(folder, process)
    until(lambda: reader.connected)
    assert not reader.synced("api")


def test_a_quiet_owner_that_pings_is_not_given_up(folder: Path, process: Process) -> None:
    publisher(folder, process, ping_seconds=0.05)
    reader = subscription(folder, process, silence=2.0)
    for _ in range(10):  # of which one in which this process, and so its owner's pings, stood still for no second
        until(lambda: reader.connected)
        losses, longest = _watched(reader, 2.5)
        if longest < 1.0:
            break
    assert longest < 1.0, "this machine stands still all the time"
    assert all(losses)


def _watched(reader: Subscription, seconds: float) -> tuple[list[bool], float]:
    """Whether it was connected at each of many looks, and the longest time between two of these."""
    looks: list[bool] = []
    began = before = time.monotonic()
    longest = 0.0
    while before < began + seconds:
        looks.append(reader.connected)
        time.sleep(0.02)
        now = time.monotonic()
        before, longest = now, max(longest, now - before)
    return looks, longest


def test_the_owner_notices_that_an_idle_subscriber_is_gone(folder: Path, process: Process) -> None:
    owner = publisher(folder, process, ping_seconds=0.05)
    reader = subscription(folder, process)
    until(lambda: len(owner._channels) == 1)
    reader.close()
    until(lambda: len(owner._channels) == 0)


def test_the_largest_value_travels_and_a_larger_one_is_told_to_its_sender(folder: Path, process: Process) -> None:
    owner = publisher(folder, process)
    reader = subscription(folder, process)
    largest = os.urandom(MAX_FRAME - len("big") - len("api") - 64)
    owner.put("pods", "big", largest, source="api")
    until(lambda: reader.get("big") == largest)
    with pytest.raises(Invalid, match=r"pods big: .* at most 8388608"):
        owner.put("pods", "big", largest + b"x", source="api")
    assert owner.get("pods", "big") == largest


def test_a_frame_above_the_limit_closes_the_connection_with_a_logged_reason(
    folder: Path, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    publisher(folder, process)
    with socket.socket(socket.AF_UNIX) as client, caplog.at_level(logging.WARNING):
        client.connect(str(folder / "watcher.sock"))
        client.sendall(struct.pack(">I", MAX_FRAME + 1))
        client.settimeout(PATIENCE)
        assert client.recv(1) == b""
        until(lambda: "a frame of 8388609 bytes" in caplog.text)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(garbage=st.one_of(st.binary(max_size=200), st.binary(max_size=80).map(lambda b: struct.pack(">I", len(b)) + b)))
def test_no_bytes_kill_the_owner(folder: Path, process: Process, garbage: bytes) -> None:
    path = folder / "watcher.sock"
    if not path.exists():
        publisher(folder, process)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(garbage)
        client.shutdown(socket.SHUT_WR)
        client.settimeout(PATIENCE)
        while client.recv(65536):
            pass
    assert request(path, "ping", {}, timeout=PATIENCE)["program"] == "test"


def test_an_owner_that_sends_garbage_is_tried_again_and_costs_no_state(folder: Path, process: Process) -> None:
    owner = publisher(folder, process)
    owner.replace("pods", {"a": b"1"}, source="api")
    reader = subscription(folder, process)
    assert reader.wait_synced(10, "api")
    owner.close()
    with socket.socket(socket.AF_UNIX) as impostor:
        (folder / "watcher.sock").unlink(missing_ok=True)
        impostor.bind(str(folder / "watcher.sock"))
        impostor.listen()
        impostor.settimeout(PATIENCE)
        for _ in range(2):
            connection, _ = impostor.accept()
            with connection:
                connection.sendall(b"\x00\x00\x00\x02\xff\xff")
    assert reader.items() == {"a": b"1"}
    publisher(folder, process).put("pods", "a", b"2", source="api")
    until(lambda: reader.get("a") == b"2")


def test_a_topic_that_the_owner_lacks_is_said_once_and_tried_again_slowly(
    folder: Path, process: Process, caplog: pytest.LogCaptureFixture
) -> None:
    publisher(folder, process)
    with caplog.at_level(logging.INFO):
        reader = subscription(folder, process, "nodes")
        until(lambda: reader._attempt >= 3)
    assert caplog.text.count("watcher owns no topic 'nodes'") == 1
    assert not reader.connected


def test_a_stale_socket_is_replaced_and_a_closing_owner_leaves_its_successors_alone(
    folder: Path, process: Process
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "watcher.sock"))
    first = publisher(folder, process)
    assert request(first.path, "ping", {}, timeout=PATIENCE)
    assert first.path.stat().st_mode & 0o777 == 0o600
    second = publisher(folder, process)
    first.close()
    assert request(second.path, "ping", {}, timeout=PATIENCE)
    second.close()
    assert not second.path.exists()


def test_values_are_held_once_however_many_read(folder: Path, process: Process) -> None:
    owner = publisher(folder, process)
    value = b"v" * 100_000
    owner.put("pods", "a", value, source="api")
    readers = [subscription(folder, process) for _ in range(3)]
    for reader in readers:
        until(lambda reader=reader: reader.get("a") is not None)  # type: ignore[misc]
    assert owner.get("pods", "a") is value
    assert all(not cursor for cursor in owner._topics["pods"].cursors)
