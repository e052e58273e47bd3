"""What a session that is cut is told: where the words may go, and that its client reads them as an error."""

import base64
import json
import struct
import tracemalloc
import zlib

import pytest

from vkcri.farewell import DICTIONARY, Farewell, SpdyFarewell, WebSocketFarewell, farewell
from vkcri.frames import Frames

MESSAGE = "it has ended"


def syn_stream(stream: int, compress: "zlib._Compress", **headers: str) -> bytes:
    """As a client opens a stream."""
    block = struct.pack("!I", len(headers))
    for text in [part for pair in headers.items() for part in pair]:
        block += struct.pack("!I", len(text)) + text.encode()
    packed = compress.compress(block) + compress.flush(zlib.Z_SYNC_FLUSH)
    body = struct.pack("!IIH", stream, 0, 0) + packed
    return struct.pack("!II", 0x80030001, len(body)) + body


def data_frame(stream: int, data: bytes) -> bytes:
    return struct.pack("!II", stream, len(data)) + data


def opening(*types: str) -> bytes:
    """A client's first bytes: a setting, then its streams, numbered 1, 3, 5."""
    compress = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    settings = struct.pack("!II", 0x80030004, 4) + b"\0\0\0\0"
    return settings + b"".join(
        syn_stream(2 * index + 1, compress, streamtype=kind, odd="x") for index, kind in enumerate(types)
    )


def spdy(version: str = "v4.channel.k8s.io") -> Farewell:
    head = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {version}\r\n\r\n"
    found = farewell(head.encode(), MESSAGE)
    assert isinstance(found, SpdyFarewell)
    return found


def web(protocol: str) -> Farewell:
    head = f"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    found = farewell(head.encode(), MESSAGE)
    assert isinstance(found, WebSocketFarewell)
    return found


def test_the_dictionary_is_spdys() -> None:
    """Its checksum is what every client's compressed headers name."""
    assert (len(DICTIONARY), zlib.adler32(DICTIONARY)) == (1423, 0xE3C6A7C2)


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize(("types", "stream"), [(("error", "stdin"), 1), (("stdin", "stdout", "error"), 5)])
def test_the_error_stream_is_the_one_that_the_client_names(types: tuple[str, ...], stream: int, step: int) -> None:
    found, sent = spdy(), opening(*types) + data_frame(1, b"\0" * 200_000)
    for start in range(0, len(sent), step):
        found.from_client(sent[start : start + step])
    words = found.words()
    assert struct.unpack("!II", words[:8]) == (stream, 1 << 24 | len(words) - 8)  # data, and its last
    status = json.loads(words[8:])
    assert (status["status"], status["message"], status["reason"]) == ("Failure", MESSAGE, "InternalError")


def test_headers_that_unpack_beyond_all_measure_are_not_unpacked() -> None:
    compress = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    bomb = syn_stream(1, compress, streamtype="error", odd="x" * 30_000_000)
    assert len(bomb) < 64 * 1024, "it comes within the bytes that are listened to"
    found = spdy()
    tracemalloc.start()
    try:
        found.from_client(bomb)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10_000_000
    assert found.words() == b""


def test_of_a_client_only_the_first_bytes_are_listened_to() -> None:
    found = spdy()
    for _ in range(100):
        found.from_client(data_frame(1, b"\0" * 1000))
    found.from_client(opening("error"))
    assert found.words() == b""


def test_before_v4_the_error_is_plain_text() -> None:
    found = spdy("v3.channel.k8s.io")
    found.from_client(opening("error"))
    assert found.words()[8:] == MESSAGE.encode()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"no frames at all " * 5000,
        opening("stdin"),
        opening("error")[:40],
        struct.pack("!II", 0x80030001, 20) + b"x" * 20,
        struct.pack("!II", 0x80030001, 70_000) + b"x" * 70_000,
    ],
)
def test_without_an_error_stream_nothing_is_said(sent: bytes) -> None:
    found = spdy()
    found.from_client(sent)
    assert found.words() == b""


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_words_wait_for_the_end_of_the_frame_at_hand(step: int) -> None:
    found = spdy()
    sent = b"".join(data_frame(3, b"x" * size) for size in (0, 5, 700, 0))
    ends = [8, 21, 729, 737]
    for start in range(0, len(sent), step):
        found.from_backend(sent[start : start + step])
        position = min(start + step, len(sent))
        assert (found.missing == 0) == (position in ends)
        assert position + found.missing <= next(end for end in ends if end >= position)


def test_websocket_frames_of_every_size() -> None:
    found = web("v4.channel.k8s.io")
    for size in (0, 125, 126, 65535, 65536, 200_000):
        head = b"\x82" + (
            bytes([size])
            if size < 126
            else struct.pack("!BH", 126, size)
            if size < 65536
            else struct.pack("!BQ", 127, size)
        )
        for byte in head:
            found.from_backend(bytes([byte]))
            assert found.missing > 0 or (size == 0 and byte == 0)
        found.from_backend(b"x" * size)
        assert found.missing == 0


@pytest.mark.parametrize(
    ("protocol", "opcode", "said"),
    [
        ("channel.k8s.io", 2, b"\x03" + MESSAGE.encode()),
        ("base64.channel.k8s.io", 1, b"3" + base64.b64encode(MESSAGE.encode())),
        ("", 2, b"\x03" + MESSAGE.encode()),
    ],
)
def test_a_websocket_hears_it_on_the_error_channel_and_in_the_close(protocol: str, opcode: int, said: bytes) -> None:
    words = web(protocol).words()
    assert words[:2] == bytes([0x80 | opcode, len(said)])
    assert words[2 : 2 + len(said)] == said
    assert words[2 + len(said) :] == b"\x88" + bytes([2 + len(MESSAGE)]) + struct.pack("!H", 1001) + MESSAGE.encode()


def test_a_websocket_of_v4_hears_a_status() -> None:
    words = web("v4.channel.k8s.io").words()
    size = words[1] if words[1] < 126 else int.from_bytes(words[2:4])
    start = 2 if words[1] < 126 else 4
    assert json.loads(words[start + 1 : start + size])["message"] == MESSAGE


def test_a_long_message_fits_its_close_frame_and_cuts_no_letter() -> None:
    found = farewell(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n", "ü" * 100)
    assert found is not None
    _, _, closing = found.words().rpartition(b"\x88")
    assert (closing[0], closing[3:].decode()) == (2 + 122, "ü" * 61)


def test_what_is_neither_spdy_nor_websocket_has_no_words() -> None:
    assert farewell(b"HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\n", MESSAGE) is None


def test_frames_without_a_body_are_frames() -> None:
    frames = Frames(lambda _head: 1, lambda _head: 0)
    frames.feed(b"abc")
    assert frames.missing == 0
