"""Kubernetes' protobuf encoding, to and from the JSON form that everything else here works on.

Pure, any thread; the generated modules are loaded with the first such body, for most guests never see one. Field names
in protos/vkcri/kube are JSON's, so descriptors drive the conversion; what differs (times, quantities, int-or-string,
base64) is told by message name. A field that is not in the definitions is refused, not dropped: it would be lost.
"""

import base64
import functools
import importlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from vkcri.api import times
from vkcri.apiserver.status import StatusError

if TYPE_CHECKING:
    from google.protobuf.message import Message

FieldDescriptor = Any  # protobuf has two classes of them, by implementation

MAGIC: Final = b"k8s\x00"
_AUTHENTICATION: Final = "authentication.k8s.io/v1"
_AUTHORIZATION: Final = "authorization.k8s.io/v1"
_MODULES: Final[dict[tuple[str, str], str]] = {
    ("v1", "DeleteOptions"): "meta",
    ("meta.k8s.io/v1", "DeleteOptions"): "meta",
    ("v1", "Status"): "meta",
    **{("v1", kind): "core" for kind in ("Binding", "ConfigMap", "Endpoints", "Event", "Namespace", "Secret")},
    **{("v1", kind): "core" for kind in ("Service", "ServiceAccount")},
    ("coordination.k8s.io/v1", "Lease"): "coordination",
    ("discovery.k8s.io/v1", "EndpointSlice"): "discovery",
    ("policy/v1", "Eviction"): "policy",
    ("policy/v1beta1", "Eviction"): "policy",
    **{(_AUTHENTICATION, kind): "authentication" for kind in ("SelfSubjectReview", "TokenRequest", "TokenReview")},
    **{(_AUTHORIZATION, f"{kind}Review"): "authorization" for kind in ("SubjectAccess", "LocalSubjectAccess")},
    **{(_AUTHORIZATION, f"SelfSubject{kind}Review"): "authorization" for kind in ("Access", "Rules")},
}


def decode(data: bytes) -> dict[str, Any]:
    """The object in a body. Raises StatusError 400 for what is not one, 415 for a kind without a definition here."""
    from google.protobuf.message import DecodeError

    if not data.startswith(MAGIC):
        raise StatusError.bad_request("the body does not begin as Kubernetes' protobuf does")
    envelope = _message("meta", "Unknown")
    try:
        envelope.ParseFromString(data[len(MAGIC) :])
        version, kind = envelope.typeMeta.apiVersion, envelope.typeMeta.kind  # type: ignore[attr-defined]
        message = _of_kind(version, kind)
        if message is None:
            raise StatusError.unsupported_media_type(
                f"{kind} in {version} is not read as protobuf here: send it as application/json"
            )
        message.ParseFromString(envelope.raw)  # type: ignore[attr-defined]
    except DecodeError as error:
        raise StatusError.bad_request(f"the body is not valid protobuf: {error}") from error
    return {"apiVersion": version, "kind": kind, **_read(message, kind)}


def encode(obj: dict[str, Any]) -> bytes:
    """An object's body. Raises StatusError 406 for a kind without a definition here."""
    version, kind = obj.get("apiVersion", ""), obj.get("kind", "")
    message = _of_kind(version, kind)
    if message is None:
        raise StatusError.not_acceptable(
            f"{kind} in {version} is not written as protobuf here: accept application/json"
        )
    _write(message, {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")})
    envelope = _message("meta", "Unknown")
    envelope.typeMeta.apiVersion, envelope.typeMeta.kind = version, kind  # type: ignore[attr-defined]
    envelope.raw = message.SerializeToString()  # type: ignore[attr-defined]
    return MAGIC + envelope.SerializeToString()


@functools.cache
def _class(module: str, name: str) -> "type[Message]":
    found: type[Message] = getattr(importlib.import_module(f"vkcri.pb.kube.{module}_pb2"), name)
    return found


def _message(module: str, name: str) -> "Message":
    return _class(module, name)()


def _of_kind(version: str, kind: str) -> "Message | None":
    module = _MODULES.get((version, kind))
    return None if module is None else _message(module, kind)


def _read(message: "Message", path: str) -> dict[str, Any]:
    """A message as its JSON object; empty messages are what Go writes for an absent struct, and are left out."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    unknown_fields: Any = UnknownFieldSet(message)
    for unknown in unknown_fields:
        raise StatusError.bad_request(
            f"{path}: protobuf field {unknown.field_number} is not known here: send the object as application/json"
        )
    result: dict[str, Any] = {}
    field: FieldDescriptor
    for field, value in message.ListFields():
        where = f"{path}.{field.name}"
        if _is_map(field):
            result[field.name] = {
                key: _read_value(field.message_type.fields_by_name["value"], value[key], where) for key in value
            }
        elif field.is_repeated:
            result[field.name] = [_read_value(field, item, where) for item in value]
        else:
            plain = _read_value(field, value, where)
            if plain not in ({}, None):
                result[field.name] = plain
    return result


def _read_value(field: FieldDescriptor, value: Any, path: str) -> Any:
    if field.message_type is not None:
        special = _READERS.get(field.message_type.name)
        return _read(value, path) if special is None else special(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _write(message: "Message", obj: dict[str, Any]) -> None:
    """Fill a message from its JSON object; what the definition lacks (a newer field) cannot be written."""
    fields: dict[str, FieldDescriptor] = dict(message.DESCRIPTOR.fields_by_name)
    for name, value in obj.items():
        field = fields.get(name)
        if field is None or value is None:
            continue
        target = getattr(message, name)
        if _is_map(field):
            entry = field.message_type.fields_by_name["value"]
            for key, item in value.items():
                if entry.message_type is None:
                    target[key] = _plain(entry, item)
                else:
                    _write_message(target[key], item)
        elif field.is_repeated and field.message_type is None:
            target.extend(value)
        elif field.is_repeated:
            for item in value:
                _write_message(target.add(), item)
        elif field.message_type is not None:
            target.SetInParent()
            _write_message(target, value)
        else:
            setattr(message, name, _plain(field, value))


def _write_message(message: "Message", value: Any) -> None:
    special = _WRITERS.get(message.DESCRIPTOR.name)
    if special is None:
        _write(message, value)
    else:
        special(message, value)


def _plain(field: FieldDescriptor, value: Any) -> Any:
    return base64.b64decode(value) if field.type == field.TYPE_BYTES else value


def _is_map(field: FieldDescriptor) -> bool:
    return bool(field.message_type is not None and field.message_type.GetOptions().map_entry)


def _read_time(message: Any) -> str | None:
    """metav1.Time; the zero message is Go's zero time, which JSON leaves out."""
    if not message.seconds and not message.nanos:
        return None
    return times.seconds(message.seconds * times.NANO)


def _read_micro_time(message: Any) -> str | None:
    if not message.seconds and not message.nanos:
        return None
    return times.micros(message.seconds * times.NANO + message.nanos)


def _write_time(message: Any, value: str) -> None:
    message.seconds, message.nanos = divmod(times.parse(value), times.NANO)


def _read_int_or_string(message: Any) -> int | str:
    return str(message.strVal) if message.type == 1 else int(message.intVal)


def _write_int_or_string(message: Any, value: int | str) -> None:
    if isinstance(value, str):
        message.type, message.strVal = 1, value
    else:
        message.intVal = value


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "Time": _read_time,
    "MicroTime": _read_micro_time,
    "IntOrString": _read_int_or_string,
    "FieldsV1": lambda message: json.loads(message.Raw or b"{}"),
    "ExtraValue": lambda message: list(message.items),
    "AttestationValue": lambda message: list(message.items),
}
_WRITERS: Final[dict[str, Callable[[Any, Any], None]]] = {
    "Time": _write_time,
    "MicroTime": _write_time,
    "IntOrString": _write_int_or_string,
    "FieldsV1": lambda message, value: setattr(message, "Raw", json.dumps(value).encode()),
    "ExtraValue": lambda message, value: message.items.extend(value),
    "AttestationValue": lambda message, value: message.items.extend(value),
}
