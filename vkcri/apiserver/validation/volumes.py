"""Volumes: a name and exactly one source each, and paths that stay inside the volume. Pure.

Sources that only a storage driver can mount are stored when they name what they must; the bridge says FailedMount.
Source: core/validation's ValidateVolumes.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from vkcri.api import quantities
from vkcri.apiserver import schema
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import environment, fields, storage

Errors = Iterator[FieldError]
_HOST_PATH_TYPES: Final = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_PROJECTIONS: Final = (
    "secret",
    "configMap",
    "downwardAPI",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
)
# What another source cannot do without; storage has what more it must be.
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


def validate_all(volumes: Sequence[Mapping[str, Any]]) -> tuple[list[FieldError], dict[str, Mapping[str, Any]]]:
    """What is wrong with a pod's volumes, and those that are sound by name: only these can be mounted."""
    wrong: list[FieldError] = []
    sound: dict[str, Mapping[str, Any]] = {}
    for index, volume in enumerate(volumes):
        errors = list(_volume(f"spec.volumes[{index}]", volume, sound))
        wrong += errors
        if not errors:
            sound[volume["name"]] = volume
    return wrong, sound


def _volume(path: str, volume: Mapping[str, Any], others: Collection[str]) -> Errors:
    name = volume.get("name") or ""
    yield from _source(path, volume)
    if not name:
        yield fields.required(f"{path}.name")
    else:
        yield from fields.dns_label(f"{path}.name", name)
    if name in others:
        yield fields.duplicate(f"{path}.name", name)


def _source(path: str, volume: Mapping[str, Any]) -> Errors:
    known = [name for name in schema.fields("Volume") if name != "name" and volume.get(name) is not None]
    if not known:
        yield fields.required(path, "must specify a volume type")
    for name in known[1:]:
        yield fields.forbidden(f"{path}.{name}", "may not specify more than 1 volume type")
    for name in known[:1]:
        for field in _NEEDED.get(name, ()):
            if not volume[name].get(field):
                yield fields.required(f"{path}.{name}.{field}")
        rule = _RULES.get(name) or storage.RULES.get(name)
        if rule is not None:
            yield from rule(f"{path}.{name}", volume[name])


def _empty_dir(path: str, source: Mapping[str, Any]) -> Errors:
    if quantities.parse(source.get("sizeLimit") or "0") < 0:
        yield fields.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _host_path(path: str, source: Mapping[str, Any]) -> Errors:
    if not source.get("path"):
        yield fields.required(f"{path}.path")
        return
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
    """Kubernetes names the volume and not the item in its errors."""
    yield from _mode(f"{path}.defaultMode", source.get("defaultMode"))
    for item in source.get("items") or []:
        if not item.get("path"):
            yield fields.required(f"{path}.path")
        else:
            yield from fields.local_path(f"{path}.path", item["path"])
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field is not None:
            yield from environment.field_ref(f"{path}.fieldRef", field, environment.VOLUME_FIELDS)
            if resource is not None:
                text = "fieldRef and resourceFieldRef can not be specified simultaneously"
                yield fields.invalid(path, "resource", text)
        elif resource is not None:
            yield from environment.resource_field_ref(f"{path}.resourceFieldRef", resource, in_volume=True)
        else:
            yield fields.required(path, "one of fieldRef and resourceFieldRef is required")
        yield from _mode(f"{path}.mode", item.get("mode"))


def _projected(path: str, source: Mapping[str, Any]) -> Errors:
    yield from _mode(f"{path}.defaultMode", source.get("defaultMode"))
    places: set[str] = set()
    for index, projection in enumerate(source.get("sources") or []):
        where = f"{path}.sources[{index}]"
        given = [name for name in schema.fields("VolumeProjection") if projection.get(name) is not None]
        for name in sorted(given, key=_PROJECTIONS.index):
            yield from _projection(path, where, name, projection[name])
            for place in _places(name, projection[name]):
                if place in places:
                    told = projection[name].get("name") or "" if name in ("configMap", "secret") else place
                    yield fields.invalid(path, told, "conflicting duplicate paths")
                places.add(place)
        if len(given) > 1:
            yield fields.forbidden(where, "may not specify more than 1 volume type per source")


def _projection(path: str, where: str, name: str, given: Mapping[str, Any]) -> Errors:
    """One source; `path` is the volume's, `where` the source's."""
    if name in ("configMap", "secret"):
        if not given.get("name"):
            yield fields.required(f"{where}.{name}.name")
        yield from _items(f"{where}.{name}", given)
    elif name == "downwardAPI":
        yield from _downward(f"{where}.{name}", given)
    elif name == "serviceAccountToken":
        yield from _token(path, f"{where}.{name}", given)
    elif name == "clusterTrustBundle":
        yield from _trust_bundle(f"{where}.{name}", given)


def _token(path: str, where: str, given: Mapping[str, Any]) -> Errors:
    seconds = given.get("expirationSeconds", 3600)
    if seconds < 600:
        yield fields.invalid(f"{where}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds > 1 << 32:
        text = "may not specify a duration larger than 2^32 seconds"
        yield fields.invalid(f"{where}.expirationSeconds", seconds, text)
    if not given.get("path"):
        yield fields.required(f"{path}.path")
    else:
        yield from fields.local_path(f"{path}.path", given["path"])


def _trust_bundle(path: str, given: Mapping[str, Any]) -> Errors:
    name, signer = given.get("name"), given.get("signerName")
    if name is not None and signer is not None:
        yield fields.invalid(path, given, "only one of name and signerName may be used")
    elif name is None and signer is None:
        yield fields.required(path, "either name or signerName must be specified")
    elif name == "":
        yield fields.required(f"{path}.name", "must be a valid object name")
    if name is not None and given.get("labelSelector") is not None:
        text = "labelSelector must be unset if name is specified"
        yield fields.invalid(f"{path}.labelSelector", given["labelSelector"], text)
    if not given.get("path"):
        yield fields.required(f"{path}.path")
    yield from fields.local_path(f"{path}.path", given.get("path") or "")


def _places(name: str, given: Mapping[str, Any]) -> Iterator[str]:
    """The files that a projection names."""
    if name == "clusterTrustBundle":
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
