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
        yield from _env_from(f"{path}.envFrom[{index}]", entry)


def _value_from(path: str, entry: Mapping[str, Any]) -> Errors:
    source = entry["valueFrom"]
    given = [name for name in _SOURCES if source.get(name) is not None]
    if not given:
        text = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        yield fields.invalid(path, source, text)
    elif entry.get("value"):
        yield fields.invalid(path, source, "may not be specified when `value` is not empty")
    elif len(given) > 1:
        yield fields.invalid(path, source, "may not have more than one field specified at a time")
    if source.get("fieldRef") is not None:
        yield from field_ref(f"{path}.fieldRef", source["fieldRef"], ENV_FIELDS)
    if source.get("resourceFieldRef") is not None:
        yield from resource_field_ref(f"{path}.resourceFieldRef", source["resourceFieldRef"], in_volume=False)
    for name in ("configMapKeyRef", "secretKeyRef"):
        if source.get(name) is not None:
            yield from _key_ref(f"{path}.{name}", source[name])


def _key_ref(path: str, reference: Mapping[str, Any]) -> Errors:
    if reference.get("name"):
        yield from fields.dns_subdomain(f"{path}.name", reference["name"])
    if not reference.get("key"):
        yield fields.required(f"{path}.key")
    else:
        yield from fields.config_key(f"{path}.key", reference["key"])


def field_ref(path: str, reference: Mapping[str, Any], supported: tuple[str, ...]) -> Errors:
    """A downward reference; labels and annotations also one by one, as metadata.labels['KEY']."""
    wanted = reference.get("fieldPath") or ""
    if not reference.get("apiVersion"):
        yield fields.required(f"{path}.apiVersion")
    elif reference["apiVersion"] != "v1":
        yield fields.invalid(f"{path}.apiVersion", reference["apiVersion"], "unsupported version")
    if not wanted:
        yield fields.required(f"{path}.fieldPath")
        return
    holder, bracket, key = wanted.partition("['")
    if bracket and key.endswith("']") and holder in ("metadata.annotations", "metadata.labels"):
        key = key.removesuffix("']")
        yield from fields.qualified_name(path, key.lower() if holder.endswith("annotations") else key)
        return
    yield from fields.one_of(f"{path}.fieldPath", wanted, supported)


def resource_field_ref(path: str, reference: Mapping[str, Any], *, in_volume: bool) -> Errors:
    if in_volume and not reference.get("containerName"):
        yield fields.required(f"{path}.containerName")
    wanted = reference.get("resource") or ""
    if not wanted:
        yield fields.required(f"{path}.resource")
    elif not wanted.startswith(("limits.hugepages-", "requests.hugepages-")):
        yield from fields.one_of(f"{path}.resource", wanted, _RESOURCES)
    divisor = reference.get("divisor") or "0"
    allowed = ("0", "1", "1m") if wanted.endswith(".cpu") else _BYTES
    if divisor not in allowed:
        kind = "cpu" if wanted.endswith(".cpu") else "memory"
        listed = "1m and 1 are" if kind == "cpu" else "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are"
        yield fields.invalid(
            f"{path}.divisor", divisor, f"only divisor's values {listed} supported with the {kind} resource"
        )


_BYTES: Final = ("0", "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def _env_from(path: str, entry: Mapping[str, Any]) -> Errors:
    if entry.get("prefix"):
        yield from fields.environment_name(f"{path}.prefix", entry["prefix"])
    given = [name for name in ("configMapRef", "secretRef") if entry.get(name) is not None]
    if not given:
        yield fields.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`")
    elif len(given) > 1:
        yield fields.invalid(path, "", "may not have more than one field specified at a time")
    for name in given:
        if not entry[name].get("name"):
            yield fields.required(f"{path}.{name}.name")
        else:
            yield from fields.dns_subdomain(f"{path}.{name}.name", entry[name]["name"])
