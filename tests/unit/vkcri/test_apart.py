"""A function in a process of its own: its outcome comes back, what it imported does not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.vkcri.signer import Signer
from vkcri import apart, signing
from vkcri.errors import Invalid
from vkcri.signing import Pair, Subject

ME = Subject.of_node("n1")


def test_what_a_function_returns_comes_back_from_another_process() -> None:
    assert apart.call(os.getpid) != os.getpid()
    assert apart.call(json.dumps, {"a": [1, 2]}) == '{"a": [1, 2]}'


def test_an_error_of_ours_comes_back_as_itself() -> None:
    with pytest.raises(Invalid, match=r"^not a PEM certificate: "):
        apart.call(signing.read, b"rubbish")


@pytest.mark.parametrize("program", ["/bin/false", "/does/not/exist", "/bin/true"])
def test_where_no_process_does_it_it_is_done_here(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    assert apart.call(os.getpid) == os.getpid()
    assert "getpid could not be run in a process of its own" in caplog.text


def test_a_certificate_is_asked_for_taken_and_read_without_cryptography_here(tmp_path: Path) -> None:
    signer = Signer()
    script = (
        "import sys; from pathlib import Path; from vkcri import apart; from vkcri.signing import Pair, Subject\n"
        f"pair, me = Pair(Path({str(tmp_path)!r}), 'a', apart.call), Subject.of_node('n1')\n"
        "print(pair.request(me).decode(), flush=True)\n"
        "issued = sys.stdin.buffer.read()\n"
        "made = pair.accept(issued, 0.0)\n"
        "assert pair.issued() == made\n"
        "sys.exit('cryptography' in sys.modules)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            request = b"".join(iter(process.stdout.readline, b"\n"))
            process.communicate(signer.sign(request))
        finally:
            process.kill()
    assert process.returncode == 0
    assert (held := Pair(tmp_path, "a").issued()) is not None
    assert held.subject == ME


def test_a_text_is_read_once_however_often_it_is_asked_about(tmp_path: Path) -> None:
    calls: list[str] = []

    def run(function: object, *arguments: object) -> object:
        calls.append(function.__name__)  # type: ignore[attr-defined]
        return function(*arguments)  # type: ignore[operator]

    pair, signer = Pair(tmp_path, "a", run), Signer()  # type: ignore[arg-type]
    first = pair.request(ME)
    assert [pair.request(ME) for _ in range(3)] == [first] * 3
    assert calls == ["signing_request", "requested"]
    made = pair.accept(signer.sign(first), 0.0)
    assert [pair.issued() for _ in range(3)] == [made] * 3
    assert calls[2:] == ["answering", "read"]
    other = signer.sign(pair.request(ME))
    pair.accept(other, 0.0)
    assert pair.issued() != made
