"""Resource quantities ("100m", "1.5Gi", "2e3") as exact numbers, by the grammar of Kubernetes' resource.Quantity.

Pure. Values are Fractions, so nothing is lost between parsing and the one rounding that a caller asks for; rounding is
always up, as Quantity.Value and MilliValue do. Like the API server, an amount finer than one nano is rounded up to one
and an amount beyond 2^63-1 is held at 2^63-1.
"""

import math
import re
from fractions import Fraction

from vkcri.errors import Invalid

_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIX = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_GRAMMAR = re.compile(r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,4})?")
_MOST = Fraction(2**63 - 1)
_NANO = 10**9

Number = int | Fraction


def parse(text: str | int | float) -> Fraction:
    """The amount of a quantity as it stands in JSON (a string; a bare number is accepted as the API server does).

    Raises Invalid with the API server's message."""
    found = _GRAMMAR.fullmatch(str(text))
    if not found:
        raise Invalid(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            f": {str(text)!r}"
        )
    sign, digits, suffix = found.group(1), found.group(2), found.group(3) or ""
    amount = Fraction(f"0{digits}" if digits.startswith(".") else digits.rstrip(".")) * _multiplier(suffix)
    amount = min(Fraction(math.ceil(amount * _NANO), _NANO), _MOST)
    return -amount if sign == "-" else amount


def value(text: str | int | float) -> int:
    """The amount in whole units, rounded up (bytes, pods)."""
    return math.ceil(parse(text))


def millis(text: str | int | float) -> int:
    """The amount in thousandths, rounded up (CPU)."""
    return math.ceil(parse(text) * 1000)


def format(amount: Number, *, binary: bool = False) -> str:  # noqa: A001 - the field's own word, used as quantities.format
    """The canonical text: the largest suffix that leaves a whole number, as the API server prints it.

    binary uses Ki, Mi, ... where the amount is a whole number of at least 1024, as for a quantity written with one."""
    amount = Fraction(amount)
    if amount == 0:
        return "0"
    if binary and amount.denominator == 1 and abs(amount) >= 1024:
        return _format_binary(int(amount))
    nanos = math.ceil(amount * _NANO) if amount > 0 else math.floor(amount * _NANO)
    exponent = -9
    while exponent < 18 and nanos % 1000 == 0:
        nanos //= 1000
        exponent += 3
    return f"{nanos}{_SUFFIX[exponent]}"


def canonical(text: str | int | float) -> str:
    """The same quantity as the API server would print it back: "1024Mi" -> "1Gi", "0.5" -> "500m", "1000k" -> "1M",
    "2e3" -> "2e3"."""
    written = str(text)
    amount = parse(written)
    if re.search(r"[eE][+-]?[0-9]+$", written):
        return _format_exponent(amount)
    return format(amount, binary=written[-2:] in _BINARY)


def rounded_up(text: str) -> str:
    """The quantity with nothing finer than a thousandth, in its own notation: "1n" -> "1m"."""
    amount = parse(text) * 1000
    return text if amount.denominator == 1 else format(Fraction(math.ceil(amount), 1000))


def is_whole(text: str | int | float) -> bool:
    """Whether the amount is an integer."""
    return parse(text).denominator == 1


def _multiplier(suffix: str) -> Fraction:
    if suffix in _BINARY:
        return Fraction(1024 ** _BINARY[suffix])
    if suffix in _DECIMAL:
        return Fraction(10) ** _DECIMAL[suffix]
    return Fraction(10) ** min(int(suffix[1:]), 40) if int(suffix[1:]) > -40 else Fraction(1, 10**40)


def _format_binary(whole: int) -> str:
    power = 0
    while power < 6 and whole % 1024 == 0:
        whole //= 1024
        power += 1
    suffix = next((name for name, exponent in _BINARY.items() if exponent == power), "")
    return f"{whole}{suffix}"


def _format_exponent(amount: Fraction) -> str:
    if amount == 0:
        return "0"
    plain = format(amount)
    digits = plain.rstrip("numkMGTPE")
    exponent = _DECIMAL[plain[len(digits) :]]
    return f"{digits}e{exponent}" if exponent else digits
