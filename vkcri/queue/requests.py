"""Ask an owner something: one connection, one request, one answer, one deadline. Runs on the caller's thread."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vkcri.errors import Invalid, Unavailable
from vkcri.queue import messages
from vkcri.queue.channel import Channel


def request(path: Path, name: str, body: Mapping[str, Any], *, timeout: float) -> Any:
    """The answer's JSON. Raises what the owner raised (a class of vkcri.errors), Unavailable for an owner that is away,
    gone or slower than `timeout` seconds, Invalid for a body that is no JSON or above 8 MiB."""
    return messages.from_json(request_bytes(path, name, body, timeout=timeout), name)


def request_bytes(path: Path, name: str, body: Mapping[str, Any], *, timeout: float) -> bytes:
    """As `request`: the answer's JSON as it came, for one who only passes it on."""
    until = time.monotonic() + timeout
    data = messages.request(name, body, timeout)
    channel = Channel.connect(path, timeout)
    try:
        channel.send(data, stall=timeout, until=until)
        payload = channel.receive(silence=timeout, until=until)
    except Unavailable as error:
        raise Unavailable(f"{name}: {error} (within {timeout:g} s)") from error
    finally:
        channel.close()
    if payload is None:
        raise Unavailable(f"{name}: {path.name} closed the connection without an answer")
    message = messages.parse_owner(payload)
    if message.HasField("failure"):
        messages.raise_failure(message.failure)
    if not message.HasField("answer"):
        raise Invalid(f"{name}: {path.name} sent no answer but a {message.WhichOneof('kind')}")
    return bytes(message.answer.body)
