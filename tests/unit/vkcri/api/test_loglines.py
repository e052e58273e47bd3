"""The CRI log line, byte by byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkcri.api import loglines
from vkcri.errors import Invalid


def test_a_full_line_ends_in_a_newline() -> None:
    parsed = loglines.parse(b"2026-11-23T21:41:00.1Z stdout F hello world\n")
    assert (parsed.stream, parsed.partial, parsed.content) == (b"stdout", False, b"hello world\n")
    assert parsed.nanos == 1795470060_100_000_000


def test_a_partial_line_has_no_newline_of_its_own() -> None:
    parsed = loglines.parse(b"2026-11-23T21:41:00Z stderr P abc\n")
    assert (parsed.stream, parsed.partial, parsed.content) == (b"stderr", True, b"abc")


def test_an_empty_line_and_spaces_are_kept() -> None:
    assert loglines.parse(b"2026-11-23T21:41:00Z stdout F \n").content == b"\n"
    assert loglines.parse(b"2026-11-23T21:41:00Z stdout F   a b \n").content == b"  a b \n"


def test_further_tags_are_ignored() -> None:
    assert loglines.parse(b"2026-11-23T21:41:00Z stdout P:x:y abc\n").partial


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"hello\n",
        b"2026-11-23T21:41:00Z\n",
        b"2026-11-23T21:41:00Z stdin F x\n",
        b"2026-11-23T21:41:00Z stdout\n",
        b"2026-11-23T21:41:00Z stdout X y\n",
        b"yesterday stdout F y\n",
    ],
)
def test_refuses_what_is_no_log_line(line: bytes) -> None:
    with pytest.raises(Invalid):
        loglines.parse(line)


@given(st.binary().filter(lambda data: b"\n" not in data), st.booleans(), st.sampled_from([b"stdout", b"stderr"]))
def test_any_bytes_survive(data: bytes, partial: bool, stream: bytes) -> None:
    parsed = loglines.parse(loglines.format(1795470060_123_456_789, stream, data, partial=partial))
    assert (parsed.stream, parsed.partial, parsed.nanos) == (stream, partial, 1795470060_123_456_789)
    assert parsed.content == data + (b"" if partial else b"\n")


def test_a_newline_inside_is_refused() -> None:
    with pytest.raises(Invalid):
        loglines.format(0, b"stdout", b"a\nb")
