"""The limits of a pod's local storage that nothing but an eviction holds: emptyDir's sizeLimit, and ephemeral-storage
of the pod and of its containers. Pure.

Source: localStorageEviction in pkg/kubelet/eviction/eviction_manager.go, its order included.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.stats.disk import Taken
from bridge.stats.summary import ContainerUse, PodUse, ephemeral_storage
from vkcri.api import pods, quantities, resources

STORAGE = "ephemeral-storage"
Pod = Mapping[str, Any]


@dataclass(frozen=True)
class Excess:
    """What a pod has too much of. signal: the kubelet's name of the limit, for the metric; message: its words."""

    signal: str
    message: str


def limited(pod: Pod) -> bool:
    """Whether there is a limit to look after."""
    return any(True for _ in _size_limits(pod)) or STORAGE in resources.pod_limits(pod)


def excess(pod: Pod, use: PodUse, *, images_apart: bool) -> Excess | None:
    """The first limit that the pod is over, None where it is over none. images_apart: writable layers lie on another
    device than logs and volumes, and then do not count for a container."""
    return _volume(pod, use) or _total(pod, use) or _container(pod, use, images_apart)


def _volume(pod: Pod, use: PodUse) -> Excess | None:
    taken = {item.name: item.taken.bytes for item in use.volumes}
    for name, limit in _size_limits(pod):
        if taken.get(name, 0) > quantities.parse(limit):
            text = quantities.canonical(limit)
            return Excess("emptydirfs.limit", f'Usage of EmptyDir volume "{name}" exceeds the limit "{text}". ')
    return None


def _total(pod: Pod, use: PodUse) -> Excess | None:
    limit = resources.pod_limits(pod).get(STORAGE)
    if limit is None or _bytes(ephemeral_storage(use)) <= limit:
        return None
    text = quantities.format(limit, binary=_binary(pod))
    message = f"Pod ephemeral local storage usage exceeds the total limit of containers {text}. "
    return Excess("ephemeralpodfs.limit", message)


def _container(pod: Pod, use: PodUse, images_apart: bool) -> Excess | None:
    limits = dict(_container_limits(pod))
    for item in use.containers:
        limit = limits.get(item.name)
        if limit is not None and _taken(item, images_apart) > quantities.parse(limit):
            text = quantities.canonical(limit)
            message = f'Container {item.name} exceeded its local ephemeral storage limit "{text}". '
            return Excess("ephemeralcontainerfs.limit", message)
    return None


def _taken(item: ContainerUse, images_apart: bool) -> int:
    return _bytes(item.logs) + (0 if images_apart else _bytes(item.rootfs))


def _size_limits(pod: Pod) -> Iterator[tuple[str, str]]:
    """(name, limit) of each emptyDir that has one. Those in memory are among them: their tmpfs is no larger, so that
    they are never over."""
    for volume in pods.spec(pod).get("volumes") or []:
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit is not None and quantities.parse(limit) > 0:
            yield str(volume["name"]), str(limit)


def _container_limits(pod: Pod) -> Iterator[tuple[str, str]]:
    """(name, limit) of each ordinary container and sidecar that has one: an init container is over soon."""
    for kind, container in pods.all_containers(pod):
        if kind == "container" or (kind == "init" and pods.is_sidecar(container)):
            limit = ((container.get("resources") or {}).get("limits") or {}).get(STORAGE)
            if limit is not None and quantities.parse(limit) != 0:
                yield str(container["name"]), str(limit)


def _binary(pod: Pod) -> bool:
    """Whether a sum of the pod's limits is printed with Ki, Mi, ...: as the first that is added is written."""
    for _, container in pods.all_containers(pod):
        limit = ((container.get("resources") or {}).get("limits") or {}).get(STORAGE)
        if limit is not None:
            return str(limit).endswith("i")
    return True


def _bytes(taken: Taken | None) -> int:
    return 0 if taken is None else taken.bytes
