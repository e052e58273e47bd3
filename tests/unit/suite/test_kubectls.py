"""What the flow tests leave out of a kubectl's standard error: one line of an old one's race, and nothing else."""

from tests.flow.kubectls import without_early_messages

EARLY = b"E1126 06:41:01.684372   22671 websocket.go:296] Unknown stream id 1, discarding message\n"
OTHERS = (
    b"E1126 06:41:01.684372   22671 websocket.go:296] Unknown stream id 1, discarding message, and more\n",
    b"E1126 06:41:01.684372   22671 v5.go:103] Unknown stream id 1, discarding message\n",
    b" E1126 06:41:01.684372   22671 websocket.go:296] Unknown stream id 1, discarding message\n",
    b"W1126 06:41:01.684372   22671 websocket.go:296] Unknown stream id 1, discarding message\n",
    b"E1126 06:41:01.684372   22671 websocket.go:296] Unknown stream id 1, discarding message",
    b"command terminated with exit code 4\n",
)


def test_a_message_that_came_too_early_is_left_out_wherever_it_stands() -> None:
    for release in (20, 32, 33):
        assert without_early_messages(EARLY, release) == b""
        assert without_early_messages(EARLY + b"err\n" + EARLY + b"\0\xff", release) == b"err\n\0\xff"


def test_every_other_line_stays() -> None:
    for line in OTHERS:
        assert without_early_messages(line, 32) == line
        assert without_early_messages(EARLY + line, 32) == line


def test_a_kubectl_without_the_race_is_taken_at_its_word() -> None:
    assert without_early_messages(EARLY, 34) == EARLY
