"""The env files of fileKeyRef: VAR='value', in a strict subset of the shell's own words. Pure.

    # a comment, or nothing
    VAR='value'         # whatever stands between the quotes, over as many lines as it takes
    VAR= 'value'        an empty value, as in a shell

The kubelet's parser (pkg/kubelet/util/env), with its errors: what comes before the wanted key must be well-formed,
what comes after is not read.
"""

from collections.abc import Iterable, Iterator

from vkcri.errors import Invalid

_BLANK = b" \t"
_MOST_BYTES = 1 << 20
"""Of a value. The kubelet has no such limit, the kernel has a lower one: 128 KiB a variable."""


def value(lines: Iterable[bytes], key: str) -> bytes:
    """The value of that key; empty where the file has none. Raises Invalid for a file of another form."""
    wanted, numbered = key.encode("utf-8", "surrogateescape"), _numbered(lines)
    for number, raw in numbered:
        line = raw.lstrip(_BLANK)
        if not line or line.startswith(b"#"):
            continue
        name, text = _split(line, number)
        if text.startswith((b" ", b"\t")):
            found = b""
        elif text.startswith(b"'"):
            found = _quoted(text[1:], numbered, number)
        else:
            raise _wrong(number, "value must be enclosed in single quotes")
        if name == wanted:
            return found
    return b""


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Each line with its number, without its end (a carriage return belongs to it)."""
    for number, line in enumerate(lines, 1):
        yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def _split(line: bytes, number: int) -> tuple[bytes, bytes]:
    """(name, what stands behind the "=")."""
    name, equals, text = line.partition(b"=")
    if not equals:
        raise _wrong(number, "missing '='")
    if not name.rstrip(_BLANK):
        raise _wrong(number, "empty variable name")
    if name != name.rstrip(_BLANK):
        raise _wrong(number, "whitespace before '=' is not allowed")
    return name, text


def _quoted(rest: bytes, numbered: Iterator[tuple[int, bytes]], first: int) -> bytes:
    """All up to the closing quote, which may stand in a later line."""
    number, parts, size = first, [], 0
    while b"'" not in rest:
        parts.append(rest)
        size += len(rest) + 1
        if size > _MOST_BYTES:
            raise _wrong(first, "value is too long")
        try:
            number, rest = next(numbered)
        except StopIteration:
            text = f"invalid environment variable format starting at line {first}: unclosed single quote"
            raise Invalid(text) from None
    last, _, after = rest.partition(b"'")
    after = after.lstrip(_BLANK)
    if after and not after.startswith(b"#"):
        raise _wrong(number, "unexpected content after closing quote")
    return b"\n".join([*parts, last])


def _wrong(number: int, what: str) -> Invalid:
    return Invalid(f"invalid environment variable format at line {number}: {what}")
