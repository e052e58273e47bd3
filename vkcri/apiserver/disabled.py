"""Fields of features that are off by default in Kubernetes 1.37: taken out of a new pod, as its API server does.

Pure; changes the object in place. Source: dropDisabledFields in pkg/api/pod/util.go, the defaults in pkg/features.
"""

from collections.abc import Iterator
from typing import Any, Final

from vkcri.api import pods

Object = dict[str, Any]
_SPEC: Final = ("evictionResponders", "schedulingGroup")
_OWNED: Final = ("configMap", "downwardAPI", "projected", "secret")  # whose files a user may own
_ACTIONS: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def drop(pod: Object) -> None:
    """Take them out of a Pod."""
    spec = pod.get("spec") or {}
    for field in _SPEC:
        spec.pop(field, None)
    for _, container in pods.all_containers(pod):
        _container(container)
    for volume in spec.get("volumes") or []:
        (volume.get("emptyDir") or {}).pop("mode", None)
        for source in _OWNED:
            (volume.get(source) or {}).pop("defaultUser", None)
        for item in _files(volume):
            item.pop("user", None)


def _container(container: Object) -> None:
    for mount in container.get("volumeMounts") or []:
        mount.pop("bindMountOptions", None)
    lifecycle = container.get("lifecycle")
    if lifecycle is not None and lifecycle.pop("stopSignal", None) is not None and not lifecycle:
        del container["lifecycle"]
    handlers = [container.get(name) for name in _ACTIONS] + list((lifecycle or {}).values())
    for handler in handlers:
        if isinstance(handler, dict):
            (handler.get("grpc") or {}).pop("mode", None)
            (handler.get("httpGet") or {}).pop("protocol", None)


def _files(volume: Object) -> Iterator[Object]:
    """Everything of a volume that says whose a file is to be."""
    for source in _OWNED:
        yield from (volume.get(source) or {}).get("items") or []
    for projection in (volume.get("projected") or {}).get("sources") or []:
        for source in projection.values():
            if isinstance(source, dict):
                yield source
                yield from source.get("items") or []
