"""The UID of a static pod: what the kubelet computes for the same manifest, node and file. Pure.

The kubelet hashes Go's own dump of the Pod in its internal form (DeepHashObject of pkg/util/hash: spew's `%#v`), then
the node's name and the file's. So that dump is made here: podtypes.json has the types, by Go's names, in the order of
their fields, each with the field's JSON name ("" for one whose fields stand in the object around it).
tests/data/podhash has the Go program that wrote it, and the UIDs that this module must find. Not covered: times, which
no manifest needs.
"""

import json
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("podtypes.json")
_PRIME, _BASIS, _MASK = (1 << 88) + 0x13B, 0x6C62272E07BB014262B821756295C58D, (1 << 128) - 1
_NOTHING = "<nil>"
_NUMBERS = frozenset("int int8 int16 int32 int64 uint8 uint16 uint32 uint64 float64".split())  # noqa: SIM905
_QUANTITY = re.compile(r"([+-]?)0*([0-9]*)(?:\.([0-9]*))?(.*)", re.DOTALL)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_MILLI, _NANO = -3, -9
_FAST_DIGITS = 18  # Go: maxInt64Factors
_ZERO_TIME = "{Time:(time.Time){wall:(uint64)0 ext:(int64)0 loc:(*time.Location)<nil>}}"
_Types = dict[str, "str | list[list[str]]"]


def uid(pod: Mapping[str, Any], written: Mapping[str, Any], node_name: str, file: str) -> str:
    """32 hex digits. pod: the manifest with its defaults; written: as it stands in the file, where a quantity's
    spelling still is."""
    return f"{fnv128a(f'{dump(pod, written)}host:{node_name}file:{file}'.encode()):032x}"


def fnv128a(data: bytes) -> int:
    """FNV-1a of 128 bits."""
    value = _BASIS
    for byte in data:
        value = ((value ^ byte) * _PRIME) & _MASK
    return value


def dump(pod: Mapping[str, Any], written: Mapping[str, Any]) -> str:
    """The Pod as spew writes it with `%#v`, its kind and version cleared as in Kubernetes' internal form."""
    value = {key: item for key, item in pod.items() if key not in ("kind", "apiVersion")}
    return "(*core.Pod)" + _value("core.Pod", value, written)


@cache
def _types() -> _Types:
    found: _Types = json.loads(_FILE.read_text(encoding="utf-8"))
    return found


def _typed(kind: str, value: Any, written: Any) -> str:
    """A value with its type before it, as in a struct."""
    return f"({kind}){_value(kind, value, written)}"


def _value(kind: str, value: Any, written: Any) -> str:
    """A value whose type is known from what is around it."""
    if value is None and written in ([], {}):
        value = written  # an empty list or map that is written out is not none; a structure is the same either way
    if kind in _SPECIAL:
        return _SPECIAL[kind](value, written)
    if kind.startswith("*"):
        return _NOTHING if value is None else _value(kind[1:], value, written)
    if kind.startswith("[]"):
        return _NOTHING if value is None else _list(kind[2:], value, written)
    if kind.startswith("map["):
        return _NOTHING if value is None else _map(kind.partition("]")[2], value, written)
    if kind == "string":
        return str(value or "")
    if kind == "bool":
        return "true" if value else "false"
    if kind in _NUMBERS:
        return str(value or 0)
    found = _types()[kind]
    return _value(found, value, written) if isinstance(found, str) else _struct(found, value or {}, written)


def _struct(fields: list[list[str]], value: Mapping[str, Any], written: Any) -> str:
    parts = []
    for name, key, kind in fields:
        inner = (value.get(key), _child(written, key)) if key else (value, written)
        parts.append(f"{name}:{_typed(kind, *inner)}")
    return "{" + " ".join(parts) + "}"


def _list(kind: str, value: list[Any], written: Any) -> str:
    rows = written if isinstance(written, list) and len(written) == len(value) else [None] * len(value)
    return "[" + " ".join(_value(kind, item, row) for item, row in zip(value, rows, strict=True)) + "]"


def _map(kind: str, value: Mapping[str, Any], written: Any) -> str:
    rows = sorted(value.items(), key=lambda row: row[0].encode())
    return "map[" + " ".join(f"{name}:{_value(kind, item, _child(written, name))}" for name, item in rows) + "]"


def _child(written: Any, key: str) -> Any:
    return written.get(key) if isinstance(written, Mapping) else None


def _resources(value: Any, written: Any) -> str:
    """ResourceRequirements: a request that is its limit by default has the limit's spelling."""
    requests = {**(_child(written, "limits") or {}), **(_child(written, "requests") or {})}
    spelt = {**written, "requests": requests} if isinstance(written, Mapping) else written
    fields = _types()["core.ResourceRequirements"]
    assert not isinstance(fields, str)
    return _struct(fields, value or {}, spelt)


def _amounts(value: Any, written: Any) -> str:
    """ResourceList: its amounts are rounded up to thousandths when defaults are set."""
    if value is None:
        return _NOTHING
    rows = sorted(value.items())
    return "map[" + " ".join(f"{key}:{_quantity(item, _child(written, key), rounded=True)}" for key, item in rows) + "]"


def _quantity(value: Any, written: Any, *, rounded: bool = False) -> str:
    """A Quantity's inside, which depends on how it was written (ParseQuantity)."""
    if isinstance(written, float) and written.is_integer():
        written = int(written)  # as JSON has a number, without a point
    text = str(written if written is not None else value if value is not None else "")
    if not text or (written is None and text == "0"):
        return _number(0, 0, "", "")
    if text == "0":
        return _number(0, 0, text, "DecimalSI")
    sign, digits, fraction, suffix = _parts(text)
    exponent, form = _exponent(suffix)
    scale = 0 if form == "BinarySI" else exponent
    if form == "BinarySI":
        room = -1 if fraction or exponent < 0 else 15 - len(digits) - int(exponent * 3 / 10) - 1
    else:
        room = _FAST_DIGITS - len(digits) - len(fraction)
    scale -= len(fraction)
    shifted = digits + fraction
    amount = int(shifted) << (exponent if form == "BinarySI" else 0)
    if room < 0 or scale < _NANO or amount >= 1 << 63:
        return _decimal(text, form, rounded=rounded)
    if form == "BinarySI":
        canonical = exponent % 10 == 0 and int(shifted) & 7 != 0
    else:
        canonical = scale % 3 == 0 and not shifted.endswith("000") and shifted[0] != "0"
    spelling = text if canonical else ""
    if rounded and scale < _MILLI:
        amount, scale, spelling = -(-amount // 10 ** (_MILLI - scale)), _MILLI, ""
    return _number(-amount if sign == "-" else amount, scale, spelling, form)


def _number(amount: int, scale: int, spelling: str, form: str, dec: str = _NOTHING) -> str:
    inside = f"{{value:(int64){amount} scale:(resource.Scale){scale}}}"
    return (
        f"{{i:(resource.int64Amount){inside} d:(resource.infDecAmount){{Dec:(*inf.Dec){dec}}} s:(string){spelling} "
        f"Format:(resource.Format){form}}}"
    )


def _decimal(text: str, form: str, *, rounded: bool) -> str:
    """What is too long or too fine for an int64: a decimal of 9 places, of 3 once it is rounded."""
    sign, digits, fraction, suffix = _parts(text)
    exponent, _ = _exponent(suffix)
    exact = Fraction(int(digits + fraction), 10 ** len(fraction))
    exact *= Fraction(2 if form == "BinarySI" else 10) ** exponent
    exact = min(exact, Fraction((1 << 63) - 1)) if form == "BinarySI" else exact
    if form == "BinarySI" and 0 < exact < 1:
        form = "DecimalSI"
    unscaled, places = -(-exact.numerator * 10**9 // exact.denominator), 9
    if rounded:
        unscaled, places = -(-unscaled // 10**6), 3
    words = []
    while unscaled:
        words.append(str(unscaled & ((1 << 64) - 1)))
        unscaled >>= 64
    integer = f"{{neg:(bool){'true' if sign == '-' else 'false'} abs:(big.nat)[{' '.join(words)}]}}"
    return _number(0, 0, "", form, f"{{unscaled:(big.Int){integer} scale:(inf.Scale){places}}}")


def _parts(text: str) -> tuple[str, str, str, str]:
    """(sign, digits before the point without leading zeros, digits after it, suffix)."""
    match = _QUANTITY.fullmatch(text)
    assert match is not None
    return match[1], match[2] or "0", match[3] or "", match[4]


def _exponent(suffix: str) -> tuple[int, str]:
    """(exponent of ten or two, Go's Format)."""
    if suffix in _BINARY:
        return _BINARY[suffix], "BinarySI"
    if suffix in _DECIMAL:
        return _DECIMAL[suffix], "DecimalSI"
    return int(suffix[1:]), "DecimalExponent"


def _int_or_string(value: Any, _written: Any) -> str:
    is_text = isinstance(value, str)
    number, text = (0, value) if is_text else (value or 0, "")
    return f"{{Type:(intstr.Type){int(is_text)} IntVal:(int32){number} StrVal:(string){text}}}"


def _time(_value: Any, _written: Any) -> str:
    return _ZERO_TIME


_SPECIAL: dict[str, Callable[[Any, Any], str]] = {
    "core.ResourceList": _amounts,
    "core.ResourceRequirements": _resources,
    "intstr.IntOrString": _int_or_string,
    "resource.Quantity": _quantity,
    "v1.Time": _time,
}
