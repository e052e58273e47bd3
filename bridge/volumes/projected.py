"""projected volumes: configMaps, secrets, downward API and service-account tokens in one folder, on tmpfs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bridge.volumes import configmap, downward, ownership, secret
from bridge.volumes.atomic import File, check_path
from bridge.volumes.source import Surroundings
from vkcri.errors import Invalid, Refused

PLUGIN = "kubernetes.io/projected"
IN_MEMORY = True
_Source = Callable[[Mapping[str, Any], Surroundings, int], dict[str, File]]
_SOURCES: dict[str, _Source] = {
    "configMap": configmap.payload,
    "secret": secret.payload,
    "downwardAPI": downward.payload,
}


def payload(source: Mapping[str, Any], around: Surroundings, mode: int, folder: Path) -> dict[str, File]:
    """All sources in their order. folder: the volume's own, where a token that is still good may lie. Raises NotFound,
    Invalid, Unavailable; Refused for a kind of source that this node does not offer."""
    files: dict[str, File] = {}
    for projection in source.get("sources") or []:
        for kind, value in projection.items():
            if value is None:
                continue
            if kind == "serviceAccountToken":
                files.update(_token(value, around, mode, folder))
            elif kind in _SOURCES:
                files.update(_SOURCES[kind](value, around, mode))
            else:
                raise Refused(f"projected source {kind} is not supported by this node")
    return files


def _token(source: Mapping[str, Any], around: Surroundings, mode: int, folder: Path) -> dict[str, File]:
    """The token is the one user's alone where all containers share one, or the group's where the pod has an fsGroup."""
    path = str(source.get("path") or "")
    if not path:
        raise Invalid("serviceAccountToken.path must not be empty")
    check_path(path)
    user = ownership.common_user(around.pod)
    private = user is not None or ownership.fs_group(around.pod) is not None
    return {path: File(around.token(source, folder / path), 0o600 if private else mode, user)}
