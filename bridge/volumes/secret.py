"""secret volumes and projections. On tmpfs only; a value never reaches a message or a log."""

from collections.abc import Mapping
from typing import Any

from bridge.volumes.atomic import File
from bridge.volumes.configmap import chosen, decoded
from bridge.volumes.source import Surroundings
from vkcri.errors import NotFound

PLUGIN = "kubernetes.io/secret"
IN_MEMORY = True


def payload(source: Mapping[str, Any], around: Surroundings, mode: int) -> dict[str, File]:
    """source is the volume's secret (secretName) or a projection's (name). Raises NotFound where it or a key is missing
    and not optional."""
    name, optional = str(source.get("secretName") or source.get("name") or ""), bool(source.get("optional"))
    try:
        found = around.find("secrets", name)
    except NotFound:
        if optional:
            return {}
        raise
    entries = {key: decoded(value, f'secret "{name}", key {key}') for key, value in (found.get("data") or {}).items()}
    return chosen(entries, source.get("items"), mode, optional=optional, missing="references non-existent secret key")
