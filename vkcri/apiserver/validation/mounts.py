"""A container's mounts and devices: volumes that the pod has, each at a place of its own. Pure.

Source: core/validation's ValidateVolumeMounts and ValidateVolumeDevices, whose paths name the list and not its item
where a sub-path or a propagation is wrong.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_PROPAGATIONS: Final = ("Bidirectional", "HostToContainer", "None")
_FOR_DEVICES: Final = ("persistentVolumeClaim", "ephemeral")


def validate(path: str, container: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Errors:
    """volumeMounts and volumeDevices of the container at `path`; `known` is the pod's volumes by name."""
    yield from _mounts(f"{path}.volumeMounts", container, known)
    yield from _devices(f"{path}.volumeDevices", container, known)


def _mounts(path: str, container: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Errors:
    places: set[str] = set()
    devices = {item.get("name"): item.get("devicePath") or "" for item in container.get("volumeDevices") or []}
    for index, mount in enumerate(container.get("volumeMounts") or []):
        where = f"{path}[{index}]"
        name, place = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield fields.required(f"{where}.name")
        if name not in known:
            yield fields.not_found(f"{where}.name", name)
        if not place:
            yield fields.required(f"{where}.mountPath")
        if place in places:
            yield fields.invalid(f"{where}.mountPath", place, "must be unique")
        places.add(place)
        if name in devices:
            yield fields.invalid(f"{where}.name", name, "must not already exist in volumeDevices")
        if place in devices.values():
            yield fields.invalid(f"{where}.mountPath", place, "must not already exist as a path in volumeDevices")
        yield from _sub_path(path, where, mount)
        yield from _propagation(path, mount, container)


def _sub_path(path: str, where: str, mount: Mapping[str, Any]) -> Errors:
    if mount.get("subPath"):
        yield from fields.relative_path(f"{path}.subPath", mount["subPath"])
    if mount.get("subPathExpr"):
        if mount.get("subPath"):
            text = "subPathExpr and subPath are mutually exclusive"
            yield fields.invalid(f"{where}.subPathExpr", mount["subPathExpr"], text)
        yield from fields.relative_path(f"{path}.subPathExpr", mount["subPathExpr"])


def _propagation(path: str, mount: Mapping[str, Any], container: Mapping[str, Any]) -> Errors:
    given = mount.get("mountPropagation")
    yield from fields.one_of(f"{path}.mountPropagation", given, _PROPAGATIONS, optional=True)
    privileged = (container.get("securityContext") or {}).get("privileged")
    if given == "Bidirectional" and not privileged:
        text = "Bidirectional mount propagation is available only to privileged containers"
        yield fields.forbidden(f"{path}.mountPropagation", text)
    recursive = mount.get("recursiveReadOnly")
    if recursive is None or recursive == "Disabled":
        return
    if recursive not in ("Enabled", "IfPossible"):
        yield from fields.one_of(f"{path}.recursiveReadOnly", recursive, ("Disabled", "Enabled", "IfPossible"))
        return
    if not mount.get("readOnly"):
        yield fields.forbidden(f"{path}.recursiveReadOnly", "may only be specified when readOnly is true")
    if given not in (None, "None"):
        text = "may only be specified when mountPropagation is None or not specified"
        yield fields.forbidden(f"{path}.recursiveReadOnly", text)


def _devices(path: str, container: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Errors:
    names: set[str] = set()
    places: set[str] = set()
    mounted = {item.get("name"): item.get("mountPath") or "" for item in container.get("volumeMounts") or []}
    for index, device in enumerate(container.get("volumeDevices") or []):
        where = f"{path}[{index}]"
        name, place = device.get("name") or "", device.get("devicePath") or ""
        if not name:
            yield fields.required(f"{where}.name")
        if name in names:
            yield fields.invalid(f"{where}.name", name, "must be unique")
        volume = known.get(name)
        if volume is None:
            yield fields.not_found(f"{where}.name", name)
        elif not any(volume.get(kind) is not None for kind in _FOR_DEVICES):
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            yield fields.invalid(f"{where}.name", name, text)
        yield from _device_path(f"{where}.devicePath", place, places)
        if name in mounted:
            yield fields.invalid(f"{where}.name", name, "must not already exist in volumeMounts")
        if place in mounted.values():
            text = "must not already exist as a path in volumeMounts"
            yield fields.invalid(f"{where}.devicePath", place, text)
        if name:
            names.add(name)


def _device_path(path: str, place: str, places: set[str]) -> Errors:
    if not place:
        yield fields.required(path)
    if place in places:
        yield fields.invalid(path, place, "must be unique")
    if ".." in place.split("/"):
        yield fields.invalid(path, place, "can not contain backsteps ('..')")
    else:
        places.add(place)
