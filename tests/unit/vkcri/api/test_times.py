"""RFC 3339 times to the nanosecond."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkcri.api import times
from vkcri.errors import Invalid


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:30:00-00:30", 0),
        ("2026-11-23T21:41:00.123456789Z", 1795470060123456789),
        ("2026-11-23T21:41:00.1234567891Z", 1795470060123456789),
        ("2024-02-29T00:00:00Z", 1709164800 * 10**9),
    ],
)
def test_parses_fractions_and_zones(text: str, nanos: int) -> None:
    assert times.parse(text) == nanos


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T21:41:00",
        "2026-13-01T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00+25:00",
        "2026-01-01 00:00:00Z",
        "٢٠٢٦-01-01T00:00:00Z",
    ],
)
def test_refuses_what_is_no_time(text: str) -> None:
    with pytest.raises(Invalid):
        times.parse(text)


def test_prints_seconds_micros_and_nanos() -> None:
    nanos = 1795470060_120_000_000
    assert times.seconds(nanos) == "2026-11-23T21:41:00Z"
    assert times.micros(nanos) == "2026-11-23T21:41:00.120000Z"
    assert times.nanoseconds(nanos) == "2026-11-23T21:41:00.120000000Z"
    assert times.nano(nanos) == "2026-11-23T21:41:00.12Z"
    assert times.nano(1795470060_000_000_000) == "2026-11-23T21:41:00Z"


@given(st.integers(min_value=0, max_value=253402300799 * 10**9))
def test_what_is_printed_parses_to_the_same_nanosecond(nanos: int) -> None:
    assert times.parse(times.nanoseconds(nanos)) == nanos
    assert times.parse(times.nano(nanos)) == nanos


def test_of_and_to_epoch_are_inverse_to_the_microsecond() -> None:
    assert times.of(1.5) == 1_500_000_000
    assert times.to_epoch("1970-01-01T00:00:01.5Z") == 1.5
