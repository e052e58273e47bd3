"""Volumes: a name and exactly one source each, and paths that stay inside the volume. Pure.

Sources that only a storage driver can mount are stored when they name what they must; the bridge says FailedMount.
Source: core/validation's ValidateVolumes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from vkcri.apiserver import schema
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import environment, fields

Errors = Iterator[FieldError]
_HOST_PATH_TYPES: Final = (
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
# What another source cannot do without.
_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "awsElasticBlockStore": ("volumeID",),
    "azureDisk": ("diskName", "diskURI"),
    "azureFile": ("secretName", "shareName"),
    "cephfs": ("monitors",),
    "cinder": ("volumeID",),
    "csi": ("driver",),
    "flexVolume": ("driver",),
    "gcePersistentDisk": ("pdName",),
    "gitRepo": ("repository",),
    "glusterfs": ("endpoints", "path"),
    "iscsi": ("targetPortal", "iqn"),
    "nfs": ("server", "path"),
    "persistentVolumeClaim": ("claimName",),
    "photonPersistentDisk": ("pdID",),
    "portworxVolume": ("volumeID",),
    "quobyte": ("registry", "volume"),
    "rbd": ("monitors", "image"),
    "scaleIO": ("gateway", "system", "volumeName"),
    "vsphereVolume": ("volumePath",),
}


def validate_all(volumes: Sequence[Mapping[str, Any]]) -> Errors:
    """A pod's volumes."""
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        path = f"spec.volumes[{index}]"
        name = volume.get("name") or ""
        if not name:
            yield fields.required(f"{path}.name")
        else:
            yield from fields.dns_label(f"{path}.name", name)
        if name and name in names:
            yield fields.duplicate(f"{path}.name", name)
        names.add(name)
        yield from _source(path, volume)


def _source(path: str, volume: Mapping[str, Any]) -> Errors:
    known = [name for name in schema.fields("Volume") if name != "name" and volume.get(name) is not None]
    if not known:
        yield fields.required(path, "must specify a volume type")
    for name in known[1:]:
        yield fields.forbidden(f"{path}.{name}", "may not specify more than 1 volume type")
    for name in known[:1]:
        rule = _RULES.get(name)
        if rule is not None:
            yield from rule(f"{path}.{name}", volume[name])
        for field in _NEEDED.get(name, ()):
            if not volume[name].get(field):
                yield fields.required(f"{path}.{name}.{field}")


def _empty_dir(path: str, source: Mapping[str, Any]) -> Errors:
    if source.get("sizeLimit") is not None:
        for error in fields.quantity(f"{path}.sizeLimit", source["sizeLimit"]):
            yield fields.forbidden(f"{path}.sizeLimit", f"SizeLimit field {error.detail}")
    if source.get("medium", "") not in ("", "Memory") and not source["medium"].startswith("HugePages"):
        yield FieldError("FieldValueNotSupported", f"{path}.medium", 'supported values: "", "Memory"', source["medium"])


def _host_path(path: str, source: Mapping[str, Any]) -> Errors:
    if not source.get("path"):
        yield fields.required(f"{path}.path")
    else:
        yield from fields.no_backsteps(f"{path}.path", source["path"])
    yield from fields.one_of(f"{path}.type", source.get("type"), _HOST_PATH_TYPES, optional=True)


def _mode(path: str, value: int | None) -> Errors:
    if value is not None and not 0 <= value <= 0o777:
        yield fields.invalid(path, value, "must be a number between 0 and 0777 (octal), both inclusive")


def _items(path: str, source: Mapping[str, Any]) -> Errors:
    """Keys and where they go."""
    for index, item in enumerate(source.get("items") or []):
        where = f"{path}.items[{index}]"
        if not item.get("key"):
            yield fields.required(f"{where}.key")
        if not item.get("path"):
            yield fields.required(f"{where}.path")
        else:
            yield from fields.local_path(f"{where}.path", item["path"])
        yield from _mode(f"{where}.mode", item.get("mode"))


def _config_map(path: str, source: Mapping[str, Any]) -> Errors:
    if not source.get("name"):
        yield fields.required(f"{path}.name")
    yield from _mode(f"{path}.defaultMode", source.get("defaultMode"))
    yield from _items(path, source)


def _secret(path: str, source: Mapping[str, Any]) -> Errors:
    if not source.get("secretName"):
        yield fields.required(f"{path}.secretName")
    yield from _mode(f"{path}.defaultMode", source.get("defaultMode"))
    yield from _items(path, source)


def _downward(path: str, source: Mapping[str, Any]) -> Errors:
    yield from _mode(f"{path}.defaultMode", source.get("defaultMode"))
    for index, item in enumerate(source.get("items") or []):
        where = f"{path}.items[{index}]"
        if not item.get("path"):
            yield fields.required(f"{where}.path")
        else:
            yield from fields.local_path(f"{where}.path", item["path"])
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field is not None and resource is not None:
            yield fields.invalid(where, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
        elif field is not None:
            yield from environment.field_ref(f"{where}.fieldRef", field, environment.VOLUME_FIELDS)
        elif resource is not None:
            yield from environment.resource_field_ref(f"{where}.resourceFieldRef", resource, in_volume=True)
        else:
            yield fields.required(f"{where}.fieldRef", "one of fieldRef and resourceFieldRef is required")
        yield from _mode(f"{where}.mode", item.get("mode"))


def _projected(path: str, source: Mapping[str, Any]) -> Errors:
    yield from _mode(f"{path}.defaultMode", source.get("defaultMode"))
    places: set[str] = set()
    for index, projection in enumerate(source.get("sources") or []):
        where = f"{path}.sources[{index}]"
        given = [name for name in schema.fields("VolumeProjection") if projection.get(name) is not None]
        if not given:
            yield fields.required(where, "must specify one of: secret, downwardAPI, configMap, serviceAccountToken")
        for name in given[1:]:
            yield fields.forbidden(f"{where}.{name}", "may not specify more than 1 volume type")
        for name in given[:1]:
            yield from _projection(f"{where}.{name}", name, projection[name])
            for place in _places(name, projection[name]):
                if place in places:
                    yield fields.invalid(where, place, "conflicting duplicate paths")
                places.add(place)


def _projection(path: str, name: str, given: Mapping[str, Any]) -> Errors:
    if name in ("configMap", "secret"):
        if not given.get("name"):
            yield fields.required(f"{path}.name")
        yield from _items(path, given)
    elif name == "downwardAPI":
        yield from _downward(path, given)
    elif name == "serviceAccountToken":
        seconds = given.get("expirationSeconds", 3600)
        if seconds < 600:
            text = "may not specify a duration less than 10 minutes"
            yield fields.invalid(f"{path}.expirationSeconds", seconds, text)
        elif seconds > 1 << 32:
            text = "may not specify a duration larger than 2^32 seconds"
            yield fields.invalid(f"{path}.expirationSeconds", seconds, text)
        if not given.get("path"):
            yield fields.required(f"{path}.path")
        else:
            yield from fields.local_path(f"{path}.path", given["path"])


def _places(name: str, given: Mapping[str, Any]) -> Iterator[str]:
    """The files that a projection names."""
    if name == "serviceAccountToken":
        yield given.get("path") or ""
    for item in given.get("items") or []:
        if item.get("path"):
            yield item["path"]


def _image(path: str, source: Mapping[str, Any]) -> Errors:
    if not source.get("reference"):
        yield fields.required(f"{path}.reference")
    yield from fields.one_of(f"{path}.pullPolicy", source.get("pullPolicy"), ("Always", "IfNotPresent", "Never"))


_RULES: Final[dict[str, Callable[[str, Mapping[str, Any]], Errors]]] = {
    "configMap": _config_map,
    "downwardAPI": _downward,
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "image": _image,
    "projected": _projected,
    "secret": _secret,
}
