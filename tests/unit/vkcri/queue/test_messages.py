"""Errors and bodies over the wire; nothing of a value in a message for people."""

import pytest

from vkcri import errors
from vkcri.queue import messages
from vkcri.queue.framing import MAX_FRAME, Decoder
from vkcri.queue.messages import Change


def unframe(data: bytes) -> bytes:
    decoder = Decoder()
    decoder.feed(data)
    (payload,) = decoder
    return payload


@pytest.mark.parametrize(
    "kind",
    [errors.NotFound, errors.Invalid, errors.Unavailable, errors.Conflict, errors.Refused, errors.ConfigError],
)
def test_an_error_arrives_as_the_class_that_was_raised(kind: type[errors.VkcriError]) -> None:
    message = messages.parse_owner(unframe(messages.failure(kind("the reason"))))
    with pytest.raises(kind, match=r"^the reason$"):
        messages.raise_failure(message.failure)


def test_an_error_of_an_unknown_class_arrives_as_unavailable() -> None:
    class Special(errors.Conflict):
        pass

    message = messages.parse_owner(unframe(messages.failure(Special("x"))))
    assert message.failure.error == "Conflict"
    message.failure.error = "SomethingNewer"
    with pytest.raises(errors.Unavailable):
        messages.raise_failure(message.failure)


@pytest.mark.parametrize("payload", [b"", b"\xff\xff\xff", b"\x0a\x7fabc", b"\x7a\x00"])
def test_what_is_no_message_is_invalid(payload: bytes) -> None:
    with pytest.raises(errors.Invalid):
        messages.parse_client(payload)
    with pytest.raises(errors.Invalid):
        messages.parse_owner(payload)


def test_a_value_stands_in_no_repr_and_no_error() -> None:
    secret = b"hunter2"
    assert "hunter2" not in repr(Change("objects", "secrets/a/b", secret))
    with pytest.raises(errors.Invalid) as raised:
        messages.check_size("objects", "secrets/a/b", secret * MAX_FRAME, "")
    assert "secrets/a/b" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(errors.Invalid) as raised:
        messages.from_json(b'{"token": "hunter2', "token")
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None
    with pytest.raises(errors.Invalid, match="TypeError"):
        messages.to_json({"token": secret}, "token")


def test_a_value_that_passes_the_size_check_fits_into_a_frame() -> None:
    value = bytes(MAX_FRAME - len(b"key") - len(b"source") - 64)
    messages.check_size("pods", "key", value, "source")
    assert messages.put("key", value, "source")
