"""The queue's messages as frames: the only module that knows protos/vkcri/queue.proto. Pure.

Errors travel by class name. Neither a value nor a body ever stands in an error's message or in a repr: they may be
Secrets and tokens.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from vkcri import errors
from vkcri.errors import Invalid, Unavailable, VkcriError
from vkcri.pb import queue_pb2 as pb
from vkcri.queue.framing import MAX_FRAME, frame

_M = TypeVar("_M", bound=Message)
_OVERHEAD = 64  # more than all tags and lengths around a key, a source and a value
_ERRORS: dict[str, type[VkcriError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, VkcriError)
}
PING = frame(pb.OwnerMessage(ping=pb.Ping()).SerializeToString())


@dataclass(frozen=True)
class Change:
    """One key's newest value; None: the key is gone."""

    topic: str
    key: str
    value: bytes | None = field(repr=False)
    source: str = ""


def check_size(topic: str, key: str, value: bytes, source: str) -> None:
    """Raises Invalid, naming topic and key, where the value would not fit into a frame."""
    size = len(key.encode()) + len(source.encode()) + len(value) + _OVERHEAD
    if size > MAX_FRAME:
        raise Invalid(f"{topic} {key}: {size} bytes with its key; the queue takes at most {MAX_FRAME}")


def subscribe(topic: str) -> bytes:
    return frame(pb.ClientMessage(subscribe=pb.Subscribe(topic=topic)).SerializeToString())


def request(name: str, body: Any, timeout: float) -> bytes:
    """Raises Invalid for a body that is not JSON or too large."""
    message = pb.Request(name=name, body=to_json(body, name), timeout_milliseconds=max(1, int(timeout * 1000)))
    return frame(pb.ClientMessage(request=message).SerializeToString())


def put(key: str, value: bytes, source: str) -> bytes:
    return frame(pb.OwnerMessage(put=pb.Put(key=key, value=value, source=source)).SerializeToString())


def delete(key: str) -> bytes:
    return frame(pb.OwnerMessage(delete=pb.Delete(key=key)).SerializeToString())


def synced(source: str) -> bytes:
    return frame(pb.OwnerMessage(synced=pb.Synced(source=source)).SerializeToString())


def answer(name: str, body: Any) -> bytes:
    """bytes are JSON already. Raises Invalid for a body that is not JSON or too large."""
    data = body if isinstance(body, bytes) else to_json(body, name)
    return frame(pb.OwnerMessage(answer=pb.Answer(body=data)).SerializeToString())


def failure(error: VkcriError) -> bytes:
    """An error as it travels; a subclass from elsewhere travels as the class of vkcri.errors that it is."""
    name = next((kind.__name__ for kind in type(error).__mro__ if _ERRORS.get(kind.__name__) is kind), "Unavailable")
    return frame(pb.OwnerMessage(failure=pb.Failure(error=name, message=str(error)[:4096])).SerializeToString())


def raise_failure(message: pb.Failure) -> None:
    """Raise what the owner raised; Unavailable for a class that this side does not know."""
    raise _ERRORS.get(message.error, Unavailable)(message.message)


def parse_client(payload: bytes) -> pb.ClientMessage:
    """Raises Invalid for what is none."""
    return _parse(pb.ClientMessage.FromString, payload)


def parse_owner(payload: bytes) -> pb.OwnerMessage:
    """Raises Invalid for what is none."""
    return _parse(pb.OwnerMessage.FromString, payload)


def to_json(body: Any, name: str) -> bytes:
    """Compact JSON in UTF-8. Raises Invalid, without the body, where it is not JSON."""
    try:
        return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise Invalid(f"{name}: the body is not JSON: {type(error).__name__}") from None


def from_json(data: bytes, name: str) -> Any:
    """Raises Invalid, without the body, where it is not JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Invalid(f"{name}: the body is not JSON") from None


def _parse(parse: Callable[[bytes], _M], payload: bytes) -> _M:
    try:
        message = parse(payload)
    except DecodeError:
        raise Invalid(f"a frame of {len(payload)} bytes that is no message") from None
    if not message.WhichOneof("kind"):
        raise Invalid(f"a message of {len(payload)} bytes of an unknown kind")
    return message
