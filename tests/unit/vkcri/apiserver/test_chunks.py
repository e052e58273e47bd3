"""A chunked body undone, wherever it is cut in pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkcri.apiserver.chunks import Chunks


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8), st.integers(1, 50), st.sampled_from(["", ";a=b", " "]))
def test_content_comes_out_whole_however_it_comes_in(parts: list[bytes], step: int, extension: str) -> None:
    sent = b"".join(f"{len(part):X}{extension}\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\nX: y\r\n\r\n"
    chunks, got = Chunks(), b""
    for start in range(0, len(sent), step):
        assert not chunks.ended
        got += chunks.feed(sent[start : start + step])
    assert (got, chunks.ended) == (b"".join(parts), True)


@pytest.mark.parametrize("data", [b"x\r\n", b"\r\n", b"-1\r\n", b"1" * 5000])
def test_what_is_no_chunk_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="chunk"):
        Chunks().feed(data)


def test_a_body_that_stops_has_not_ended() -> None:
    chunks = Chunks()
    assert chunks.feed(b"5\r\nhel") == b"hel"
    assert chunks.feed(b"lo\r\n0\r\n") == b"lo"
    assert not chunks.ended
