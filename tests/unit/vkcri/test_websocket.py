"""A WebSocket's server, byte by byte: what RFC 6455 shows, and whatever else a client may send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vkcri.speaking import ACCEPTED, KEY, masked, messages
from vkcri import websocket
from vkcri.errors import Invalid


def test_the_handshake_is_the_standards_example() -> None:
    lines = websocket.switching(KEY, "13", "chat").decode().split("\r\n")
    assert lines[0].startswith("HTTP/1.1 101 ")
    assert {f"Sec-WebSocket-Accept: {ACCEPTED}", "Sec-WebSocket-Protocol: chat", "Upgrade: websocket"} <= set(lines)
    assert "Sec-WebSocket-Protocol" not in websocket.switching(KEY, "13", "").decode()


@pytest.mark.parametrize(("key", "version"), [(KEY, "8"), (KEY, ""), ("", "13"), ("c2hvcnQ=", "13"), ("ü{}", "13")])
def test_another_handshake_is_none(key: str, version: str) -> None:
    with pytest.raises(Invalid):
        websocket.switching(key, version, "")


def test_offers_are_in_the_clients_order() -> None:
    assert websocket.protocols("v5.channel.k8s.io,  base64.x ,") == ["v5.channel.k8s.io", "base64.x"]


def test_a_masked_frame_is_the_standards_example() -> None:
    frame = bytes.fromhex("818537fa213d7f9f4d5158")
    assert list(websocket.Reader().pieces(frame)) == [(websocket.TEXT, b"Hello", True, True)]
    assert frame == masked(websocket.TEXT, b"Hello")


@given(
    st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=4), max_size=4),
    st.binary(min_size=4, max_size=4),
    st.integers(1, 700),
)
def test_messages_arrive_whole_however_they_are_cut(contents: list[list[bytes]], mask: bytes, step: int) -> None:
    """In frames, whose bytes come in steps of any size, with pings between them."""
    sent = b""
    for fragments in contents:
        for index, fragment in enumerate(fragments):
            opcode = websocket.CONTINUED if index else websocket.BINARY
            sent += masked(opcode, fragment, mask, final=index + 1 == len(fragments))
            sent += masked(websocket.PING, b"still there?", mask)
    reader, found, pings = websocket.Reader(), [], 0
    for start in range(0, len(sent), step):
        for piece in reader.pieces(sent[start : start + step]):
            if piece.opcode == websocket.PING:
                assert piece.data == b"still there?"
                pings += 1
                continue
            assert piece.opcode == websocket.BINARY
            if piece.begins:
                found.append(b"")
            found[-1] += piece.data
    assert (found, pings) == ([b"".join(fragments) for fragments in contents], sum(map(len, contents)))


@pytest.mark.parametrize(
    "sent",
    [
        b"\x82\x05hello",  # not masked
        b"\xc2" + masked(2, b"x")[1:],  # a bit that nobody has agreed on
        masked(3, b"x"),
        masked(websocket.PING, b"x" * 126),
        masked(websocket.PING, b"x", final=False),
        masked(websocket.CONTINUED, b"x"),
        masked(websocket.BINARY, b"x", final=False) + masked(websocket.BINARY, b"y"),
    ],
)
def test_what_breaks_the_protocol_is_refused(sent: bytes) -> None:
    with pytest.raises(Invalid):
        list(websocket.Reader().pieces(sent))


@given(st.binary(max_size=500))
def test_rubbish_is_refused_or_waited_for(data: bytes) -> None:
    try:
        list(websocket.Reader().pieces(data))
    except Invalid:
        pass  # what is no frame


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 200_000])
def test_our_frames_are_read_back(size: int) -> None:
    sent = websocket.frame(websocket.BINARY, b"\x01", bytes(size)) + websocket.close(websocket.NORMAL, "bye")
    assert list(messages(sent)) == [(2, b"\x01" + bytes(size)), (8, b"\x03\xe8bye")]
