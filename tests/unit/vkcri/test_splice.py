"""Bytes through the splice over real sockets, plain and TLS."""

import hashlib
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import PATIENCE
from vkcri import certs, splice
from vkcri.farewell import farewell
from vkcri.httpd import tls_context

SIZE = 8 * 1024 * 1024
Pair = tuple[socket.socket, socket.socket]


class Line:
    """client <-> (near | splice | far) <-> backend"""

    def __init__(self, make: Callable[[], Pair], **arguments: object) -> None:
        self.client, self.near = make()
        self.far, self.backend = _plain()
        self.result: tuple[int, int] | None = None
        self.spent = 0.0  # seconds of CPU of the splice's own thread, once it has ended
        self.stopped = threading.Event()
        self._arguments = arguments
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.result = splice.splice(self.near, self.far, stop=self.stopped.is_set, **self._arguments)  # type: ignore[arg-type]
        self.spent = time.thread_time()
        self.near.close()
        self.far.close()

    def wait(self) -> tuple[int, int]:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert self.result is not None
        return self.result

    def close(self) -> None:
        self.stopped.set()
        self.wait()
        self.client.close()
        self.backend.close()


def _plain() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname(), PATIENCE)
        other, _ = listener.accept()
    other.settimeout(PATIENCE)
    return one, other


def _tls(folder: Path) -> Pair:
    authority = certs.CertificateAuthority.create("ca")
    for name, data in zip(("crt", "key"), authority.issue_server(["localhost"], []), strict=True):
        (folder / name).write_bytes(data)
    context = tls_context(str(folder / "crt"), str(folder / "key"))
    client, server = _plain()
    accepted: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: accepted.append(context.wrap_socket(server, server_side=True)))
    thread.start()
    trust = ssl.create_default_context(cadata=authority.certificate.decode())
    wrapped = trust.wrap_socket(client, server_hostname="localhost")
    thread.join(PATIENCE)
    return wrapped, accepted[0]


@pytest.fixture(params=["plain", "tls"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Pair]:
    return _plain if request.param == "plain" else lambda: _tls(tmp_path)


@pytest.fixture
def lines() -> Iterator[list[Line]]:
    made: list[Line] = []
    yield made
    for line in made:
        line.close()


def _read(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (more := connection.recv(65536)):
        data += more
    return bytes(data)


def _echo(connection: socket.socket) -> None:
    try:
        while data := connection.recv(65536):
            connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        return  # reset by the other end: the echo is over either way


def test_round_trip_of_eight_mebibytes_is_identical(make: Callable[[], Pair], lines: list[Line]) -> None:
    line = Line(make)
    lines.append(line)
    threading.Thread(target=_echo, args=(line.backend,), daemon=True).start()
    data = os.urandom(SIZE)
    # One thread on the client's socket, as TLS wants it: written and read in turns that fit no buffer exactly.
    received, position = bytearray(), 0
    while position < SIZE:
        step = data[position : position + 150_001]
        line.client.sendall(step)
        received += _read(line.client, len(step))
        position += len(step)
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
    line.client.close()
    assert line.wait() == (SIZE, SIZE)


@pytest.mark.parametrize("upwards", [True, False])
def test_one_way_flood_arrives_whole(make: Callable[[], Pair], lines: list[Line], upwards: bool) -> None:
    line = Line(make)
    lines.append(line)
    sender, receiver = (line.client, line.backend) if upwards else (line.backend, line.client)
    data = os.urandom(SIZE)
    thread = threading.Thread(target=sender.sendall, args=(data,), daemon=True)
    thread.start()
    assert hashlib.sha256(_read(receiver, SIZE)).digest() == hashlib.sha256(data).digest()
    thread.join(PATIENCE)


def test_floods_both_ways_at_once_do_not_lock_up(lines: list[Line]) -> None:
    line = Line(_plain)
    lines.append(line)
    data = os.urandom(SIZE)
    for connection in (line.client, line.backend):
        threading.Thread(target=connection.sendall, args=(data,), daemon=True).start()
    results: dict[str, bytes] = {}
    threads = [
        threading.Thread(target=lambda name, end: results.update({name: _read(end, SIZE)}), args=item)
        for item in (("client", line.client), ("backend", line.backend))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == {"client": data, "backend": data}


def test_early_bytes_go_first(make: Callable[[], Pair], lines: list[Line]) -> None:
    line = Line(make, to_client=b"early ", to_backend=b"buffered ")
    lines.append(line)
    assert _read(line.client, 6) == b"early "
    line.client.sendall(b"later")
    assert _read(line.backend, 14) == b"buffered later"


def test_plain_half_close_is_passed_on_and_the_answer_comes_back(lines: list[Line]) -> None:
    line = Line(_plain)
    lines.append(line)
    line.client.sendall(b"question")
    line.client.shutdown(socket.SHUT_WR)
    assert _read(line.backend, 100) == b"question"
    line.backend.sendall(b"answer")
    line.backend.close()
    assert _read(line.client, 100) == b"answer"
    assert line.wait() == (6, 8)


@pytest.mark.parametrize("who", ["client", "backend"])
def test_close_of_one_end_ends_both(make: Callable[[], Pair], lines: list[Line], who: str) -> None:
    line = Line(make)
    lines.append(line)
    line.client.sendall(b"x")
    assert line.backend.recv(10) == b"x"
    line.backend.sendall(b"y")
    assert line.client.recv(10) == b"y"
    end, other = (line.client, line.backend) if who == "client" else (line.backend, line.client)
    end.close()
    assert other.recv(10) == b""
    other.close()
    assert line.wait() == (1, 1)


def test_last_bytes_before_a_close_are_delivered(make: Callable[[], Pair], lines: list[Line]) -> None:
    line = Line(make)
    lines.append(line)
    data = os.urandom(1_000_000)
    thread = threading.Thread(target=lambda: (line.backend.sendall(data), line.backend.close()), daemon=True)
    thread.start()
    assert _read(line.client, len(data) + 1) == data
    thread.join(PATIENCE)


def _reset() -> socket.socket:
    """The near end of a line whose other end had its last say and then closed with something unread: a reset."""
    far, end = _plain()
    far.sendall(b"unread")
    assert end.recv(6, socket.MSG_PEEK | socket.MSG_WAITALL) == b"unread"
    end.sendall(b"the last line\n")
    end.close()
    gone = select.poll()
    gone.register(far, 0)
    assert gone.poll(1000 * PATIENCE)
    return far


@pytest.mark.parametrize(("waiting", "pinged"), [(b"", b""), (b"a line\n", b""), (b"a line\n", b"ping")])
def test_what_a_backend_said_before_its_reset_is_delivered(
    make: Callable[[], Pair], waiting: bytes, pinged: bytes
) -> None:
    """So ends a runtime's stream server that has not read the client's last ping, whoever notices it first: who reads
    there, or who passes the next ping on."""
    client, near = make()
    with client, near, _reset() as far:
        splice.splice(near, far, to_client=waiting, to_backend=pinged)
        near.close()
        assert _read(client, SIZE) == waiting + b"the last line\n"


def test_reader_that_stops_holds_a_bounded_amount(lines: list[Line]) -> None:
    line = Line(_plain)
    lines.append(line)
    line.client.settimeout(0.5)
    sent = 0
    try:
        while sent < 64 * 1024 * 1024:
            sent += line.client.send(b"x" * 65536)
    except TimeoutError:
        pass  # every buffer on the way is full: what was to be shown
    assert sent < 64 * 1024 * 1024


def test_silence_ends_it_after_the_idle_limit(make: Callable[[], Pair], lines: list[Line]) -> None:
    started = time.monotonic()
    line = Line(make, idle=0.3)
    lines.append(line)
    line.wait()
    assert 0.25 < time.monotonic() - started < PATIENCE / 2


def test_stop_ends_it(make: Callable[[], Pair], lines: list[Line]) -> None:
    line = Line(make)
    lines.append(line)
    line.stopped.set()
    line.wait()


def test_idle_splice_does_not_spin(make: Callable[[], Pair], lines: list[Line]) -> None:
    line = Line(make)
    lines.append(line)
    line.client.sendall(b"x")
    assert line.backend.recv(10) == b"x"
    threading.Event().wait(0.5)
    line.stopped.set()
    line.wait()
    assert line.spent < 0.2


def test_half_closed_splice_does_not_spin(lines: list[Line]) -> None:
    line = Line(_plain)
    lines.append(line)
    line.client.shutdown(socket.SHUT_WR)
    assert line.backend.recv(10) == b""
    threading.Event().wait(0.5)
    line.stopped.set()
    line.wait()
    assert line.spent < 0.2


UPGRADED = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: channel.k8s.io\r\n\r\n"
LAST_WORDS = b"\x82\x06\x03ended\x88\x07\x03\xe9ended"


def test_last_words_stand_between_two_frames_of_a_flood(
    make: Callable[[], Pair], lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "LAST_SECONDS", PATIENCE)
    line = Line(make, farewell=farewell(UPGRADED, "ended"))
    lines.append(line)
    frame = b"\x82\x7e" + (50_001).to_bytes(2) + b"\x01" + b"x" * 50_000

    def flood() -> None:
        try:
            while True:
                line.backend.sendall(frame)
        except OSError:
            return  # cut, as it is meant to be

    threading.Thread(target=flood, daemon=True).start()
    received = bytearray(_read(line.client, SIZE))
    line.stopped.set()
    while more := line.client.recv(65536):
        received += more
    whole, rest = divmod(len(received), len(frame))
    assert received[: whole * len(frame)] == frame * whole
    assert (received[whole * len(frame) :], rest) == (LAST_WORDS, len(LAST_WORDS))


def test_a_session_that_has_ended_is_not_told_that_it_was_cut() -> None:
    """Its client only reads slowly."""
    (client, near), (far, backend) = _plain(), _plain()
    with client, near, far, backend:
        near_end, far_end = splice._End(near, bytearray(b"\x82\x01\x01"), None), splice._End(far, bytearray(), None)
        far_end.finished = True
        splice._say(farewell(UPGRADED, "ended"), None, near_end, far_end)
        near.close()
        assert _read(client, SIZE) == b"\x82\x01\x01"


def test_a_frame_that_does_not_end_has_no_words_behind_it(
    make: Callable[[], Pair], lines: list[Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splice, "LAST_SECONDS", 0.2)
    line = Line(make, farewell=farewell(UPGRADED, "ended"))
    lines.append(line)
    line.backend.sendall(b"\x82\x05\x01abc")
    assert _read(line.client, 6) == b"\x82\x05\x01abc"
    line.stopped.set()
    line.wait()
    assert line.client.recv(65536) == b""
