"""The env files of fileKeyRef, by the kubelet's parser."""

from collections.abc import Iterator

import pytest

from bridge.spec import envfile
from vkcri.errors import Invalid


def read(text: str | bytes, key: str = "A") -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return envfile.value(data.splitlines(keepends=True), key)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A='1'", b"1"),
        ("\n  \t\n# A='0'\n \tA='1' # A='2'\nA='3'\n", b"1"),
        ("B='x'\nA='1'\n", b"1"),
        ("A='$HOME \\n \"x\" = #'", b'$HOME \\n "x" = #'),
        ("A='one\n two\n\nthree'\n", b"one\n two\n\nthree"),
        ("B='x\ny'\nA='1'", b"1"),
        ("A='1'\r\n", b"1"),
        ("A='one\r\ntwo'", b"one\ntwo"),
        ("A= '1'\nA='2'", b""),
        ("A=\t'1'", b""),
        ("B= 'x'\nA='1'", b"1"),
        ("A=''", b""),
        ("A.b-c='1'\nA='2'", b"2"),
        ("B='1'", b""),
        ("", b""),
        (b"A='\xff\xfe'", b"\xff\xfe"),
        ("A='1'\nnonsense", b"1"),
    ],
)
def test_what_a_key_holds(text: str | bytes, found: bytes) -> None:
    assert read(text) == found


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nonsense", "at line 1: missing '='"),
        ("\n='1'", "at line 2: empty variable name"),
        ("A ='1'", "at line 1: whitespace before '=' is not allowed"),
        ("A=1", "at line 1: value must be enclosed in single quotes"),
        ('A="1"', "at line 1: value must be enclosed in single quotes"),
        ("A=", "at line 1: value must be enclosed in single quotes"),
        ("A='1'x", "at line 1: unexpected content after closing quote"),
        ("B='1\n2'x\nA='1'", "at line 2: unexpected content after closing quote"),
        ("\nA='1\n2\n", "starting at line 2: unclosed single quote"),
        ("B=1\nA='1'", "at line 1: value must be enclosed in single quotes"),
    ],
)
def test_what_is_no_such_file(text: str, error: str) -> None:
    with pytest.raises(Invalid, match=error):
        read(text)


def test_a_value_without_an_end_is_given_up() -> None:
    def endless() -> Iterator[bytes]:
        yield b"A='"
        while True:
            yield b"x" * 60000 + b"\n"

    with pytest.raises(Invalid, match="too long"):
        envfile.value(endless(), "A")
