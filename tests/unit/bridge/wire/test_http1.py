"""Responses byte by byte: whole ones, odd ones, and garbage."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.wire.exchange import BODY_BYTES, Answer, Broken
from bridge.wire.http1 import HEAD_BYTES, Http1
from bridge.wire.request import of_action

GET = of_action({"path": "/", "port": 80}, {"name": "app"}, "10.0.0.5", "probe")
BROKEN = "net/http: HTTP/1.x transport connection broken: "


def read(data: bytes, *, step: int = 0, close: bool = True) -> Answer | None:
    """The answer to these bytes, fed at once or `step` at a time; None while it is not whole."""
    exchange = Http1(GET)
    for start in range(0, len(data), step or max(1, len(data))):
        exchange.receive(data[start : start + (step or len(data))])
        if exchange.done:
            break
    if close and not exchange.done:
        exchange.closed()
    return exchange.answer if exchange.done else None


def answer(data: bytes, *, step: int = 0, close: bool = True) -> Answer:
    found = read(data, step=step, close=close)
    assert found is not None
    return found


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok"),
        (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
            b"abc0123456789",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x"),
    ],
)
def test_a_whole_response_is_read_however_it_comes(data: bytes, body: bytes, step: int) -> None:
    assert answer(data, step=step).body == body
    assert answer(data, step=step).fault == ""


def test_no_byte_of_a_head_is_searched_again_for_each_that_comes() -> None:
    exchange = Http1(GET)
    for byte in b"HTTP/1.1 200 OK\r\n" + b"X-Name: y\r\n" * 50:
        exchange.receive(bytes([byte]))
        assert len(exchange._buffer) - exchange._searched <= 3
    exchange.receive(b"\r\n")
    assert exchange.answer is not None


def test_the_end_is_known_without_a_close() -> None:
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", close=False) is not None
    assert read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", close=False) is not None
    assert read(b"HTTP/1.1 200 OK\r\n\r\nabc", close=False) is None


def test_ten_kibibytes_of_a_body_are_enough() -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    for step in (0, 1000):
        found = answer(head + b"x" * (3 * BODY_BYTES), step=step, close=False)
        assert found.body == b"x" * BODY_BYTES
    chunk = b"%x\r\n%s\r\n" % (BODY_BYTES + 1, b"y" * (BODY_BYTES + 1))
    found = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, close=False)
    assert found.body == b"y" * BODY_BYTES


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "unexpected EOF"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "invalid byte in chunk length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", "malformed chunked encoding"),
    ],
)
def test_a_body_that_breaks_off_is_a_fault_of_the_answer(data: bytes, fault: str) -> None:
    assert (answer(data).status, answer(data).fault) == (200, fault)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "EOF"),
        (b"HTTP/1.1 200 OK\r\nA: b", f"{BROKEN}unexpected EOF"),
        (b"garbage\r\n\r\n", f'{BROKEN}malformed HTTP response "garbage"'),
        (b"SSH-2.0-OpenSSH_9 x\r\n", f'{BROKEN}malformed HTTP status code "x"'),
        (b"HTTP/1.1 abc OK\r\n\r\n", f'{BROKEN}malformed HTTP status code "abc"'),
        (b"HTTP/1.1 20 OK\r\n\r\n", f'{BROKEN}malformed HTTP status code "20"'),
        (b"ICY 200 OK\r\n\r\n", f'{BROKEN}malformed HTTP version "ICY"'),
        (b"HTTP/1.1 200 OK\r\nbad line\r\n\r\n", f"{BROKEN}malformed MIME header line: bad line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", f'{BROKEN}bad Content-Length "x"'),
        (b"HTTP/1.1 103 Hints\r\n\r\n" * 6, f"{BROKEN}net/http: too many 1xx informational responses"),
    ],
)
def test_what_is_no_response_is_said_in_gos_words(data: bytes, message: str) -> None:
    with pytest.raises(Broken) as raised:
        read(data)
    assert str(raised.value) == message


def test_garbage_is_known_by_its_first_line() -> None:
    with pytest.raises(Broken, match="malformed HTTP response"):
        read(b"220-smtp.example.test\r\n", close=False)


def test_a_head_without_end_is_not_kept() -> None:
    with pytest.raises(Broken, match=f"headers exceeded {HEAD_BYTES} bytes"):
        read(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (HEAD_BYTES // 6 + 3), step=65536, close=False)


def test_switching_protocols_is_an_answer() -> None:
    assert answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").status == 101


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_do_more_than_break_it(data: bytes, step: int) -> None:
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        try:
            found = read(prefix + data, step=step)
        except Broken as error:
            json.dumps(str(error))
        else:
            assert found is not None
            assert len(found.body) <= BODY_BYTES
