"""A container's environment: names, and one source each. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_SOURCES: Final = ("configMapKeyRef", "fieldRef", "fileKeyRef", "resourceFieldRef", "secretKeyRef")
ENV_FIELDS: Final = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS: Final = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_POD_FIELDS: Final = frozenset(
    {*ENV_FIELDS, *VOLUME_FIELDS, "spec.host", "spec.restartPolicy", "spec.schedulerName", "status.phase"}
)
_RESOURCES: Final = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)


def validate(path: str, container: Mapping[str, Any]) -> Errors:
    """env and envFrom of the container at `path`."""
    for index, entry in enumerate(container.get("env") or []):
        where = f"{path}.env[{index}]"
        yield from fields.environment_name(f"{where}.name", entry.get("name") or "")
        if entry.get("valueFrom") is not None:
            yield from _value_from(f"{where}.valueFrom", entry)
    for index, entry in enumerate(container.get("envFrom") or []):
        yield from _env_from(f"{path}.envFrom", index, entry)


def _value_from(path: str, entry: Mapping[str, Any]) -> Errors:
    source = entry["valueFrom"]
    given = [name for name in _SOURCES if source.get(name) is not None]
    if source.get("fieldRef") is not None:
        yield from field_ref(f"{path}.fieldRef", source["fieldRef"], ENV_FIELDS)
    if source.get("resourceFieldRef") is not None:
        yield from resource_field_ref(f"{path}.resourceFieldRef", source["resourceFieldRef"], in_volume=False)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if source.get(name) is not None:
            yield from _key_ref(f"{path}.{name}", source[name])
    if source.get("fileKeyRef") is not None:
        yield from _file_key_ref(f"{path}.fileKeyRef", source["fileKeyRef"])
    if not given:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        yield fields.invalid(path, "", text)
    elif entry.get("value"):
        yield fields.invalid(path, "", "may not be specified when `value` is not empty")
    elif len(given) > 1:
        yield fields.invalid(path, "", "may not have more than one field specified at a time")


def _key_ref(path: str, reference: Mapping[str, Any]) -> Errors:
    yield from fields.dns_subdomain(f"{path}.name", reference.get("name") or "")
    if not reference.get("key"):
        yield fields.required(f"{path}.key")
    else:
        yield from fields.config_key(f"{path}.key", reference["key"])


def _file_key_ref(path: str, reference: Mapping[str, Any]) -> Errors:
    key, volume, file = (reference.get(name) or "" for name in ("key", "volumeName", "path"))
    yield from fields.environment_name(f"{path}.key", key) if key else (fields.required(f"{path}.key"),)
    yield from fields.dns_label(f"{path}.volumeName", volume) if volume else (fields.required(f"{path}.volumeName"),)
    yield from fields.no_backsteps(f"{path}.path", file) if file else (fields.required(f"{path}.path"),)


def file_volumes(spec: Mapping[str, Any]) -> Errors:
    """The files of fileKeyRef lie in emptyDir volumes of the pod."""
    volumes = {item.get("name"): item for item in spec.get("volumes") or []}
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for number, container in enumerate(spec.get(field) or []):
            for index, entry in enumerate(container.get("env") or []):
                reference = (entry.get("valueFrom") or {}).get("fileKeyRef")
                if reference is None:
                    continue
                path = f"spec.{field}[{number}].env[{index}].valueFrom.fileKeyRef.volumeName"
                name = reference.get("volumeName") or ""
                if name not in volumes:
                    yield fields.not_found(path, name)
                elif volumes[name].get("emptyDir") is None:
                    yield fields.invalid(path, name, "referenced volume must be of type emptyDir")


def field_ref(path: str, reference: Mapping[str, Any], supported: tuple[str, ...]) -> Errors:
    """A downward reference; labels and annotations also one by one, as metadata.labels['KEY']."""
    version, wanted = reference.get("apiVersion") or "", reference.get("fieldPath") or ""
    if not version or not wanted:
        yield fields.required(f"{path}.fieldPath" if version else f"{path}.apiVersion")
        return
    holder, key = _subscript(wanted)
    problem = _unknown(version, wanted, holder)
    if problem:
        yield fields.invalid(f"{path}.fieldPath", wanted, f"error converting fieldPath: {problem}")
    elif holder:
        yield from fields.qualified_name(path, key.lower() if holder == "metadata.annotations" else key)
    elif wanted not in supported:
        yield from fields.one_of(f"{path}.fieldPath", "spec.nodeName" if wanted == "spec.host" else wanted, supported)


def _subscript(wanted: str) -> tuple[str, str]:
    """(`metadata.labels`, KEY) of `metadata.labels['KEY']`; two empty texts without a subscript."""
    holder, bracket, key = wanted.partition("['")
    return (holder, key.removesuffix("']")) if holder and bracket and key.endswith("']") else ("", "")


def _unknown(version: str, wanted: str, holder: str) -> str:
    """Why a Pod of this version has no such field; empty where it has."""
    if version != "v1":
        return f"unsupported pod version: {version}"
    if holder:
        known = holder in ("metadata.annotations", "metadata.labels")
        return "" if known else f"field label does not support subscript: {wanted}"
    return "" if wanted in _POD_FIELDS else f"field label not supported: {wanted}"


def resource_field_ref(path: str, reference: Mapping[str, Any], *, in_volume: bool) -> Errors:
    wanted = reference.get("resource") or ""
    if in_volume and not reference.get("containerName"):
        yield fields.required(f"{path}.containerName")
    elif not wanted:
        yield fields.required(f"{path}.resource")
    elif not wanted.startswith(_HUGE_PAGES):
        yield from fields.one_of(f"{path}.resource", wanted, _RESOURCES)
    yield from _divisor(f"{path}.divisor", wanted, reference.get("divisor") or "0")


def _divisor(path: str, wanted: str, divisor: str) -> Errors:
    kind = next((name for end, name in _DIVIDED if wanted.endswith(end)), "")
    kind = "hugepages" if wanted.startswith(_HUGE_PAGES) else kind
    allowed = ("1m", "1") if kind == "cpu" else _BYTES
    if kind and divisor != "0" and divisor not in allowed:
        listed = " and ".join(allowed) if kind == "cpu" else ", ".join(allowed)
        text = f"only divisor's values {listed} are supported with the {kind} resource"
        yield fields.invalid(path, wanted, text)


_HUGE_PAGES: Final = ("limits.hugepages-", "requests.hugepages-")
_DIVIDED: Final = ((".cpu", "cpu"), (".memory", "memory"), (".ephemeral-storage", "local ephemeral storage"))
_BYTES: Final = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def _env_from(path: str, index: int, entry: Mapping[str, Any]) -> Errors:
    where = f"{path}[{index}]"
    if entry.get("prefix"):
        yield from fields.environment_name(f"{where}.prefix", entry["prefix"])
    given = [name for name in ("configMapRef", "secretRef") if entry.get(name) is not None]
    for name in given:
        if not entry[name].get("name"):
            yield fields.required(f"{where}.{name}.name")
        else:
            yield from fields.dns_subdomain(f"{where}.{name}.name", entry[name]["name"])
    if not given:
        yield fields.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
    elif len(given) > 1:
        yield fields.invalid(path, "", "may not have more than one field specified at a time")
