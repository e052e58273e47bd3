"""ConfigMaps and Secrets: keys, sizes, the fields that known types need, immutability. Pure."""

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
MOST_BYTES: Final = 1024 * 1024
_IMMUTABLE: Final = "field is immutable when `immutable` is set"
_REQUIRED_KEYS: Final = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
    "kubernetes.io/ssh-auth": "ssh-privatekey",
}
_BASIC_AUTH: Final = ("username", "password")
_TLS: Final = ("tls.crt", "tls.key")


def config_map(obj: Mapping[str, Any]) -> Errors:
    """Keys are file names, and at most once in data and binaryData together; 1 MiB in all."""
    text, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for key in text:
        yield from fields.config_key(f"data[{key}]", key)
        if key in binary:
            yield fields.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    for key in binary:
        yield from fields.config_key(f"binaryData[{key}]", key)
    total = sum(len(value.encode()) for value in text.values())
    total += sum(len(base64.b64decode(value)) for value in binary.values())
    if total > MOST_BYTES:
        yield fields.too_long("", MOST_BYTES)


def config_map_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    yield from _immutable(new, old, ("data", "binaryData"))


def secret(obj: Mapping[str, Any]) -> Errors:
    """Keys as a ConfigMap's, and the keys without which a known type is of no use."""
    data = obj.get("data") or {}
    total = 0
    for key, value in data.items():
        yield from fields.config_key(f"data[{key}]", key)
        total += len(base64.b64decode(value))
    if total > MOST_BYTES:
        yield fields.too_long("data", MOST_BYTES)
    kind = obj.get("type") or "Opaque"
    if kind == "kubernetes.io/service-account-token":
        path = "metadata.annotations[kubernetes.io/service-account.name]"
        if not (obj["metadata"].get("annotations") or {}).get("kubernetes.io/service-account.name"):
            yield fields.required(path)
    elif kind in _REQUIRED_KEYS:
        yield from _needs_json_or_text(data, _REQUIRED_KEYS[kind])
    elif kind == "kubernetes.io/basic-auth" and not any(key in data for key in _BASIC_AUTH):
        for key in _BASIC_AUTH:
            yield fields.required(f"data[{key}]")
    elif kind == "kubernetes.io/tls":
        for key in _TLS:
            if key not in data:
                yield fields.required(f"data[{key}]")


def _needs_json_or_text(data: Mapping[str, str], key: str) -> Errors:
    if not data.get(key):
        yield fields.required(f"data[{key}]")
    elif key.startswith(".docker"):
        try:
            json.loads(base64.b64decode(data[key]))
        except ValueError as error:
            yield fields.invalid(f"data[{key}]", "<secret contents redacted>", str(error).partition(":")[0])


def secret_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    if new.get("type") != old.get("type"):
        yield fields.invalid("type", new.get("type"), "field is immutable")
    yield from _immutable(new, old, ("data",))


def _immutable(new: Mapping[str, Any], old: Mapping[str, Any], parts: tuple[str, ...]) -> Errors:
    """An object once marked immutable stays so, with its data."""
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        yield fields.forbidden("immutable", _IMMUTABLE)
    for part in parts:
        if (new.get(part) or {}) != (old.get(part) or {}):
            yield fields.forbidden(part, _IMMUTABLE)
