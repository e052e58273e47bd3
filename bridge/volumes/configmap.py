"""configMap volumes and projections: data and binaryData as files. On disk, as the kubelet keeps them."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from bridge.volumes.atomic import File
from bridge.volumes.source import Surroundings
from vkcri.errors import Invalid, NotFound

PLUGIN = "kubernetes.io/configmap"
IN_MEMORY = False


def payload(source: Mapping[str, Any], around: Surroundings, mode: int) -> dict[str, File]:
    """source is the volume's configMap (or a projection's). Raises NotFound where it or a key is missing and not
    optional."""
    name, optional = str(source.get("name") or ""), bool(source.get("optional"))
    try:
        found = around.find("configmaps", name)
    except NotFound:
        if optional:
            return {}
        raise
    entries = {key: str(value).encode("utf-8", "surrogatepass") for key, value in (found.get("data") or {}).items()}
    for key, value in (found.get("binaryData") or {}).items():
        entries[key] = decoded(value, f'configmap "{name}", key {key}')
    return chosen(entries, source.get("items"), mode, optional=optional, missing="references non-existent config key")


def chosen(entries: Mapping[str, bytes], items: Any, mode: int, *, optional: bool, missing: str) -> dict[str, File]:
    """All entries, or those that `items` [{key, path, mode}] picks. Raises NotFound for a key that is not there."""
    if not items:
        return {key: File(data, mode) for key, data in entries.items()}
    files = {}
    for item in items:
        key = str(item.get("key") or "")
        if key in entries:
            files[str(item.get("path") or "")] = File(entries[key], mode if item.get("mode") is None else item["mode"])
        elif not optional:
            raise NotFound(f"{missing}: {key}")
    return files


def decoded(value: str, where: str) -> bytes:
    """Raises Invalid on bad base64, without quoting it."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"{where} is not valid base64") from error
