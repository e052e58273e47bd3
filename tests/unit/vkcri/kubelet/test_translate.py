"""A WebSocket's channels as a runtime's streams and back, and a tunnel: byte by byte, against both other sides."""

import json
from typing import Any

import pytest

from tests.unit.vkcri.speaking import SpdyServer, control, masked, messages
from vkcri import splice, websocket
from vkcri.kubelet.translate import Channels, Tunnel

CUT = "log-server has ended"
SUCCESS = b'{"metadata":{},"status":"Success"}'


class Session:
    """Channels between a client and a runtime, whose streams are open."""

    def __init__(self, *, stdin: bool = True, stdout: bool = True, stderr: bool = True, tty: bool = False) -> None:
        self.channels = Channels(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty, cut=CUT)
        self.runtime = SpdyServer()
        self.opened = self.runtime.hear(self.asked())
        assert self.channels.opening
        self.established = self.told()
        self.channels.from_backend(self.runtime.reply())
        assert not self.channels.opening

    def asked(self) -> bytes:
        """What the runtime is sent."""
        sent = bytes(self.channels.to_backend)
        self.channels.to_backend.clear()
        return sent

    def told(self) -> list[tuple[int, bytes]]:
        """What the client is sent."""
        sent = bytes(self.channels.to_client)
        self.channels.to_client.clear()
        return list(messages(sent))

    def send(self, *payloads: bytes, opcode: int = websocket.BINARY) -> list[tuple[int, bytes, bool]]:
        """The client's messages; what data that makes for the runtime."""
        for payload in payloads:
            self.channels.from_client(masked(opcode, payload))
        return [(heard.stream, heard.data, heard.last) for heard in self.runtime.hear(self.asked())]

    def result(self) -> dict[str, Any]:
        """The Status at the end, behind which nothing comes but a normal close."""
        said, closed = self.told()
        assert self.channels.over
        assert (said[0], said[1][:1], closed) == (2, b"\x03", (8, b"\x03\xe8"))
        found = json.loads(said[1][1:])
        assert isinstance(found, dict)
        return found


@pytest.mark.parametrize(
    ("wanted", "kinds", "lowest"),
    [
        ({"tty": True, "stderr": False}, ["error", "stdin", "stdout", "resize"], 1),
        ({"stdin": False}, ["error", "stdout", "stderr"], 1),
        ({"stdin": False, "stdout": False}, ["error", "stderr"], 2),
        ({"stdout": False, "stderr": False}, ["error", "stdin"], 3),
    ],
)
def test_a_stream_is_opened_for_each_channel_wanted_and_the_client_told_that_it_is_established(
    wanted: dict[str, bool], kinds: list[str], lowest: int
) -> None:
    session = Session(**wanted)
    assert [heard.headers for heard in session.opened] == [{"streamtype": kind} for kind in kinds]
    assert [heard.stream for heard in session.opened] == [1, 3, 5, 7][: len(kinds)]
    assert session.established == [(2, bytes([lowest]))]


def test_the_channel_stands_before_a_message_and_its_end_is_a_signal() -> None:
    session = Session(tty=True, stderr=False)
    stdin, resize = session.runtime.streams["stdin"], session.runtime.streams["resize"]
    assert session.send(b"\x00hello", b"\x00", b"\x00\xff\x00") == [
        (stdin, b"hello", False),
        (stdin, b"\xff\x00", False),
    ]
    assert session.send(b'\x04{"Width":80,"Height":24}') == [(resize, b'{"Width":80,"Height":24}', False)]
    assert session.send(b"\x01output", b"\x09unknown", b"") == []
    assert session.send(b"\xff\x01", b"\xff\x00", b"\x00too late", b"\xff\x00") == [(stdin, b"", True)]
    assert not session.channels.over
    assert session.told() == []


def test_a_message_in_pieces_is_one() -> None:
    session = Session()
    sent = masked(2, b"", final=False) + masked(0, b"\x00ab", final=False) + masked(0, b"cd") + masked(2, b"\xff\x00")
    for byte in sent:
        session.channels.from_client(bytes([byte]))
    heard = session.runtime.hear(session.asked())
    assert b"".join(item.data for item in heard) == b"abcd"
    assert [item.last for item in heard] == [False] * (len(heard) - 1) + [True]


@pytest.mark.parametrize("payload", [b"\xff", b"\xff\x05", b"\xff\x00\x00"])
def test_a_signal_that_makes_no_sense_ends_the_session(payload: bytes) -> None:
    session = Session()
    assert session.send(payload, b"\x00more") == []
    assert session.channels.over
    ((opcode, closed),) = session.told()
    assert (opcode, closed[:2]) == (8, (1002).to_bytes(2))


def test_a_stdin_that_nobody_asked_for_goes_nowhere() -> None:
    assert Session(stdin=False).send(b"\x00hello", b"\xff\x00", b'\x04{"Width":1,"Height":1}') == []


@pytest.mark.parametrize("step", [1, 5, 1000])
def test_output_comes_on_its_channel_and_the_result_last(step: int) -> None:
    session = Session()
    runtime = session.runtime
    said = runtime.say("stdout", b"out") + runtime.say("stderr", b"err") + runtime.say("stdout", b"", last=True)
    said += runtime.say("error", SUCCESS) + control(6, 2) + runtime.reset() + control(7, 0, bytes(4))
    for start in range(0, len(said), step):
        session.channels.from_backend(said[start : start + step])
    assert [heard[:2] for heard in session.runtime.hear(session.asked())] == [(6, 2)]  # its ping comes back
    *output, said_last, closed = session.told()
    for channel, text in ((1, b"out"), (2, b"err")):
        assert b"".join(data[1:] for opcode, data in output if (opcode, data[0]) == (2, channel)) == text
    assert (said_last[1][:1], json.loads(said_last[1][1:])) == (b"\x03", {"metadata": {}, "status": "Success"})
    assert (closed, session.channels.over) == ((8, b"\x03\xe8"), True)


def failure(**more: Any) -> bytes:
    return json.dumps({"metadata": {}, "status": "Failure", **more}).encode()


EXITED = {"reason": "NonZeroExitCode", "message": "as the runtime says it"}


@pytest.mark.parametrize(
    ("said", "reason", "message"),
    [
        (
            failure(**EXITED, details={"causes": [{"reason": "Odd"}, {"reason": "ExitCode", "message": "7"}]}),
            "NonZeroExitCode",
            "command terminated with non-zero exit code: command terminated with exit code 7",
        ),
        (failure(message="it broke"), "InternalError", "Internal error occurred: it broke"),
        (failure(**EXITED), "InternalError", "Internal error occurred: error stream protocol error: "),
        (b'{"status":"Odd"}', "InternalError", "Internal error occurred: error stream protocol error: unknown error"),
        (b"[]", "InternalError", "Internal error occurred: error stream protocol error: []"),
        (b"\xff rubbish", "InternalError", "Internal error occurred: error stream protocol error: \ufffd rubbish"),
        (
            b"",
            "InternalError",
            "Internal error occurred: error stream protocol error: the runtime's stream server ended",
        ),
    ],
)
def test_a_failure_is_said_in_the_kubelets_words(said: bytes, reason: str, message: str) -> None:
    session = Session()
    session.channels.from_backend(session.runtime.say("error", said) + session.runtime.reset())
    found = session.result()
    assert (found["status"], found["reason"]) == ("Failure", reason)
    assert found["message"].startswith(message)
    if reason == "NonZeroExitCode":
        assert found["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
        assert "code" not in found
    else:
        assert found["code"] == 500


def test_a_runtime_that_is_gone_has_not_said_that_it_went_well() -> None:
    session = Session()
    session.channels.from_backend(session.runtime.say("stdout", b"half of it"))
    assert session.told() == [(2, b"\x01half of it")]
    session.channels.backend_ended()
    assert session.result()["status"] == "Failure"


def test_the_connections_end_is_the_result_of_what_was_said_before() -> None:
    session = Session()
    session.channels.from_backend(session.runtime.say("error", SUCCESS))
    session.channels.backend_ended()
    assert session.result()["status"] == "Success"


def test_pings_are_answered_and_are_no_content() -> None:
    session = Session()
    assert session.channels.stirred() is False
    assert session.send(b"are you there", opcode=websocket.PING) == []
    assert session.send(b"unasked", opcode=websocket.PONG) == []
    assert session.told() == [(websocket.PONG, b"are you there")]
    assert session.channels.stirred() is False
    session.send(b"\x00x")
    assert (session.channels.stirred(), session.channels.stirred()) == (True, False)


def test_pongs_that_nobody_reads_do_not_pile_up() -> None:
    channels = Session().channels
    for _ in range(20_000):
        channels.from_client(masked(websocket.PING, b"x" * 100))
    assert len(channels.to_client) < 600_000


def test_a_client_that_is_slower_than_the_output_has_its_pongs() -> None:
    """kubectl's connection ends without; its bytes wait up to splice's buffer and what one read brings."""
    session = Session()
    session.channels.to_client += websocket.frame(websocket.BINARY, b"\x01" + bytes(splice.BUFFER + 64 * 1024))
    session.channels.from_client(masked(websocket.PING, b"are you there"))
    assert session.told()[-1] == (websocket.PONG, b"are you there")


def test_behind_an_error_nothing_is_kept() -> None:
    channels = Session().channels
    channels.from_client(b"\x89\x7f" + (1 << 60).to_bytes(8) + b"?")  # an endless ping without a mask
    assert channels.over
    held = len(channels.to_client)
    for _ in range(100):
        channels.from_client(bytes(64 * 1024))
    assert len(channels.to_client) == held
    assert channels._reader._control == b""


def test_a_client_that_closes_is_answered() -> None:
    session = Session()
    session.send(b"\x03\xe8bye", b"\x00more", opcode=websocket.CLOSE)
    assert (session.told(), session.channels.over) == ([(8, b"\x03\xe8")], True)


def test_a_session_that_is_cut_is_told_so_behind_a_normal_close() -> None:
    said, closed = messages(Session().channels.last_words())
    assert (said[1][:1], json.loads(said[1][1:])["message"]) == (b"\x03", CUT)
    assert closed == (8, b"\x03\xe8")


def test_a_session_that_could_not_be_opened_says_why() -> None:
    channels = Channels(stdin=True, stdout=True, stderr=False, tty=False, cut=CUT)
    established, said, _closed = messages(channels.failed("it is not there"))
    assert established == (2, b"\x01")
    assert json.loads(said[1][1:])["message"] == "Internal error occurred: it is not there"


def test_a_tunnels_content_is_the_connections() -> None:
    tunnel = Tunnel(CUT)
    tunnel.from_client(masked(2, b"one ", final=False) + masked(0, b"two") + masked(9, b"?") + masked(2, b" three"))
    tunnel.from_backend(b"back")
    assert bytes(tunnel.to_backend) == b"one two three"
    assert list(messages(bytes(tunnel.to_client))) == [(10, b"?"), (2, b"back")]
    tunnel.to_client.clear()
    tunnel.from_client(masked(8, b"\x03\xe8") + masked(2, b"late"))
    assert (bytes(tunnel.to_backend), tunnel.left, tunnel.over) == (b"one two three", True, False)
    assert list(messages(bytes(tunnel.to_client))) == [(8, b"\x03\xe8")]


def test_a_tunnel_ends_with_its_backend_and_says_when_it_is_cut() -> None:
    tunnel = Tunnel(CUT)
    tunnel.backend_ended()
    assert (list(messages(bytes(tunnel.to_client))), tunnel.over) == ([(8, b"\x03\xe8")], True)
    assert list(messages(Tunnel(CUT).last_words())) == [(8, (1001).to_bytes(2) + CUT.encode())]


def test_text_in_a_tunnel_is_refused() -> None:
    tunnel = Tunnel(CUT)
    tunnel.from_client(masked(1, b"text"))
    assert (tunnel.over, bytes(tunnel.to_backend)) == (True, b"")
