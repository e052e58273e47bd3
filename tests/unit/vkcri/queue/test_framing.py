"""Frames cut anywhere, with trailing data, at and above the limit."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkcri.errors import Invalid
from vkcri.queue.framing import MAX_FRAME, Decoder, frame


def test_a_frame_is_a_big_endian_length_and_the_payload() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x03abc"
    assert frame(b"") == b"\x00\x00\x00\x00"


def test_byte_by_byte_a_payload_appears_with_its_last_byte_only() -> None:
    decoder = Decoder()
    data = frame(b"first") + frame(b"") + frame(b"third")
    seen = []
    for position in range(len(data)):
        decoder.feed(data[position : position + 1])
        seen += [(position + 1, payload) for payload in decoder]
    assert seen == [(9, b"first"), (13, b""), (22, b"third")]
    assert decoder.pending == 0


def test_trailing_data_waits_for_its_rest() -> None:
    decoder = Decoder()
    decoder.feed(frame(b"one") + frame(b"two")[:5])
    assert list(decoder) == [b"one"]
    assert decoder.pending == 5
    decoder.feed(frame(b"two")[5:])
    assert list(decoder) == [b"two"]


@given(payloads=st.lists(st.binary(max_size=50)), cuts=st.lists(st.integers(0, 300)))
def test_however_it_is_cut_the_same_payloads_come_out(payloads: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(frame, payloads))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    decoder = Decoder()
    seen: list[bytes] = []
    for start, end in itertools.pairwise(edges):
        decoder.feed(data[start:end])
        seen += decoder
    assert seen == payloads


def test_the_largest_payload_passes_and_one_byte_more_is_refused_at_the_sender() -> None:
    decoder = Decoder()
    decoder.feed(frame(bytes(MAX_FRAME)))
    assert [len(payload) for payload in decoder] == [MAX_FRAME]
    with pytest.raises(Invalid, match=f"{MAX_FRAME + 1} bytes"):
        frame(bytes(MAX_FRAME + 1))


def test_a_length_above_the_limit_is_refused_at_the_receiver_for_ever_and_what_came_before_it_is_not_lost() -> None:
    decoder = Decoder()
    decoder.feed(frame(b"good") + struct.pack(">I", MAX_FRAME + 1))
    assert next(decoder) == b"good"
    for _ in range(2):
        with pytest.raises(Invalid, match=f"{MAX_FRAME + 1} bytes"):
            next(decoder)
