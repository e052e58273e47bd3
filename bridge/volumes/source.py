"""What a volume module gets and may raise: the shared words of this package."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.spec.context import Objects, find_object
from vkcri.api import pods
from vkcri.errors import Unavailable

Tokens = Callable[[dict[str, Any]], dict[str, Any]]


class NotReady(Unavailable):
    """A volume cannot be set up now: FailedMount, and the pod waits in ContainerCreating. The message is the event's.
    `pending`: nothing is wrong, an object has only not been heard of yet; no event is due for that."""

    def __init__(self, message: str, *, pending: bool = False) -> None:
        super().__init__(message)
        self.pending = pending


@dataclass(frozen=True)
class Surroundings:
    """The pod that volumes are made for and what they draw on. `folder` is the pod's own, `now` is in seconds since the
    epoch, `allocatable` is the node's."""

    pod: pods.Pod
    folder: Path
    objects: Objects
    token: Callable[[Mapping[str, Any], Path], bytes]
    allocatable: Mapping[str, Any]

    def path(self, plugin: str, volume: str) -> Path:
        """<pod>/<plugin with ~ for />/<volume>, as the kubelet lays volumes out."""
        return self.folder / plugin.replace("/", "~") / volume

    def find(self, kind: str, name: str) -> dict[str, Any]:
        """A configMap or secret of the pod's namespace. Raises NotFound, Refused, Unavailable."""
        return find_object(self.objects, kind, pods.namespace(self.pod), name)


def frozen(objects: Objects, seen: dict[str, bytes]) -> Objects:
    """objects, save that one seen as immutable stays as it was seen: the pod keeps it even if it is deleted and made
    anew, as with a kubelet, which stops watching it."""

    def look(key: str) -> bytes | None:
        if key in seen:
            return seen[key]
        value = objects(key)
        if value is not None and b'"immutable"' in value and json.loads(value).get("immutable") is True:
            seen[key] = value
        return value

    return look
