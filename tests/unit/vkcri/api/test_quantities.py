"""Quantities by the API server's grammar: exact, rounded up, printed canonically."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vkcri.api import quantities
from vkcri.errors import Invalid


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", Fraction(0)),
        ("100m", Fraction(1, 10)),
        ("1.5Gi", Fraction(3 * 2**29)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("2e3", Fraction(2000)),
        ("1E3", Fraction(1000)),
        ("1E", Fraction(10**18)),
        ("1Ei", Fraction(2**60)),
        ("-1", Fraction(-1)),
        ("+1k", Fraction(1000)),
        ("250u", Fraction(1, 4000)),
        (3, Fraction(3)),
    ],
)
def test_parses_every_form(text: str, amount: Fraction) -> None:
    assert quantities.parse(text) == amount


@pytest.mark.parametrize("text", ["", "a", "1.2.3", "1 Gi", "1KI", "1mi", "Gi", "--1", "1e", "1K", "0x10", "1\n"])
def test_refuses_what_the_api_server_refuses(text: str) -> None:
    with pytest.raises(Invalid, match="quantities must match"):
        quantities.parse(text)


def test_an_amount_finer_than_a_nano_is_rounded_up() -> None:
    assert quantities.parse("0.1n") == Fraction(1, 10**9)


def test_an_amount_beyond_64_bits_is_held_there() -> None:
    assert quantities.value("100E") == 2**63 - 1


@pytest.mark.parametrize(("text", "whole", "thousandths"), [("100m", 1, 100), ("1.1", 2, 1100), ("1u", 1, 1)])
def test_rounds_up(text: str, whole: int, thousandths: int) -> None:
    assert (quantities.value(text), quantities.millis(text)) == (whole, thousandths)


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1.5Ki", "1536"),
        ("0.5", "500m"),
        ("1000k", "1M"),
        ("2e3", "2e3"),
        ("1e-3", "1e-3"),
        ("128974848", "128974848"),
        ("0Gi", "0"),
        ("-2000m", "-2"),
    ],
)
def test_prints_the_canonical_form(written: str, printed: str) -> None:
    assert quantities.canonical(written) == printed


@given(st.integers(min_value=-(2**62), max_value=2**62), st.booleans())
def test_what_is_printed_parses_to_the_same_amount(amount: int, binary: bool) -> None:
    assert quantities.parse(quantities.format(amount, binary=binary)) == amount


@given(st.integers(min_value=0, max_value=10**15))
def test_thousandths_survive_printing(thousandths: int) -> None:
    assert quantities.millis(quantities.format(Fraction(thousandths, 1000))) == thousandths
