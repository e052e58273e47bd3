"""A container's environment: envFrom, env with all its sources, service variables. Pure.

Resolved once the sandbox has its address. Values are str with surrogates for bytes that are no UTF-8 (a secret may hold
anything); CRI takes bytes. Values of secrets are never put into a message.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bridge.spec import envfile, expansion, fields
from bridge.spec.context import Finding, PodContext, find_object
from vkcri.api import pods
from vkcri.errors import Invalid, NotFound

Environment = dict[str, str]


def environment(pod: pods.Pod, container: Mapping[str, Any], ctx: PodContext) -> Environment:
    """All variables by name. Raises Invalid or NotFound with the kubelet's message, Unavailable while an object is not
    known yet, Refused where it is forbidden."""
    links = pods.spec(pod).get("enableServiceLinks") is not False
    services = service_variables(ctx.services, pods.namespace(pod), links=links)
    found, _ = _from_objects(pod, container, ctx)
    for entry in container.get("env") or []:
        value = _entry_value(pod, container, entry, ctx, (found, services))
        if value is not None:
            found[str(entry["name"])] = value
    for name, value in found.items():
        if "\0" in value:
            raise Invalid(f'environment variable "{name}" contains a NUL byte')
    return {**services, **found}


def findings(pod: pods.Pod, container: Mapping[str, Any], ctx: PodContext) -> tuple[Finding, ...]:
    """Events of envFrom: keys that cannot stand in an environment and were skipped."""
    return tuple(_from_objects(pod, container, ctx)[1])


def service_variables(services: Sequence[Mapping[str, Any]], namespace: str, *, links: bool = True) -> Environment:
    """The variables of the namespace's services (with links), and those of default/kubernetes always."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for service in services:
        name, home = service["metadata"]["name"], service["metadata"].get("namespace") or "default"
        spec = service.get("spec") or {}
        if spec.get("clusterIP") in (None, "", "None") or not spec.get("ports"):
            continue
        if home == "default" and name == "kubernetes":
            chosen.setdefault(name, spec)
        elif home == namespace and links:
            chosen[name] = spec
    variables: Environment = {}
    for name in sorted(chosen):
        variables.update(_service(name.upper().replace("-", "_"), chosen[name]))
    return variables


def decoded(value: str, where: str) -> bytes:
    """A Secret's value. Raises Invalid on bad base64, without quoting it."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"{where} is not valid base64") from error


def _service(prefix: str, spec: Mapping[str, Any]) -> Environment:
    address, ports = str(spec["clusterIP"]), spec["ports"]
    host = f"[{address}]" if ":" in address else address
    found = {f"{prefix}_SERVICE_HOST": address, f"{prefix}_SERVICE_PORT": str(ports[0]["port"])}
    for index, port in enumerate(ports):
        protocol, number = str(port.get("protocol") or "TCP"), str(port["port"])
        url = f"{protocol.lower()}://{host}:{number}"
        base = f"{prefix}_PORT_{number}_{protocol.upper()}"
        if port.get("name"):
            found[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = number
        if index == 0:
            found[f"{prefix}_PORT"] = url
        found |= {base: url, f"{base}_PROTO": protocol.lower(), f"{base}_PORT": number, f"{base}_ADDR": address}
    return found


def _from_objects(pod: pods.Pod, container: Mapping[str, Any], ctx: PodContext) -> tuple[Environment, list[Finding]]:
    """The variables of envFrom, later entries over earlier ones, and what was skipped."""
    found: Environment = {}
    skipped: list[Finding] = []
    for entry in container.get("envFrom") or []:
        for kind, field in (("configmaps", "configMapRef"), ("secrets", "secretRef")):
            reference = entry.get(field)
            if not reference:
                continue
            values = {
                f"{entry.get('prefix') or ''}{key}": value
                for key, value in _object_values(pod, kind, reference, ctx).items()
            }
            found.update({key: value for key, value in values.items() if _is_name(key)})
            bad = sorted(key for key in values if not _is_name(key))
            if bad:
                skipped.append(_skipped(pod, kind, str(reference.get("name", "")), bad))
    return found, skipped


def _object_values(pod: pods.Pod, kind: str, reference: Mapping[str, Any], ctx: PodContext) -> Environment:
    """data of the configMap or secret, decoded; nothing where it is absent and optional."""
    name = str(reference.get("name", ""))
    try:
        data = find_object(ctx.objects, kind, pods.namespace(pod), name).get("data") or {}
    except NotFound:
        if reference.get("optional"):
            return {}
        raise
    if kind == "configmaps":
        return {key: str(value) for key, value in data.items()}
    return {key: _text(decoded(value, f"secret {name}, key {key}")) for key, value in data.items()}


def _entry_value(
    pod: pods.Pod,
    container: Mapping[str, Any],
    entry: Mapping[str, Any],
    ctx: PodContext,
    known: Iterable[Environment],
) -> str | None:
    """One env entry's value; None leaves the variable out (optional and absent)."""
    literal, origin = entry.get("value"), entry.get("valueFrom") or {}
    if literal:
        return expansion.expand(str(literal), *known)
    if origin.get("fieldRef"):
        return fields.env_value(pod, str(origin["fieldRef"].get("fieldPath", "")), ctx)
    if origin.get("resourceFieldRef"):
        return fields.resource_value(pod, origin["resourceFieldRef"], str(container["name"]), ctx.allocatable)
    if origin.get("configMapKeyRef"):
        return _key(pod, "configmaps", "ConfigMap", origin["configMapKeyRef"], ctx)
    if origin.get("secretKeyRef"):
        return _key(pod, "secrets", "Secret", origin["secretKeyRef"], ctx)
    if origin.get("fileKeyRef"):
        return _from_file(origin["fileKeyRef"], ctx)
    if origin:
        raise Invalid(f'environment variable "{entry["name"]}": {next(iter(origin))} is not supported')
    return ""


def _key(pod: pods.Pod, kind: str, word: str, reference: Mapping[str, Any], ctx: PodContext) -> str | None:
    values = _object_values(pod, kind, reference, ctx)
    key = str(reference.get("key", ""))
    if key in values:
        return values[key]
    if reference.get("optional"):
        return None
    raise NotFound(f"couldn't find key {key} in {word} {pods.namespace(pod)}/{reference.get('name')}")


def _from_file(reference: Mapping[str, Any], ctx: PodContext) -> str | None:
    """The key of a file in a volume, as it is now. What is wrong with the file goes to the log and not into the status,
    as with the kubelet: it might quote a value. A file that is missing is an error even where the key is optional."""
    volume, path, key = (str(reference.get(name) or "") for name in ("volumeName", "path", "key"))
    if volume not in ctx.volumes:
        raise Invalid(f'cannot find the volume "{volume}" referenced by FileKeyRef')
    if not ctx.volumes[volume].path:
        raise Invalid(f'failed to get host path for volume "{volume}": path is empty')
    try:
        value = envfile.value(ctx.volume_file(volume, path), key)
    except (Invalid, NotFound) as error:
        raise Invalid("couldn't parse env file") from error
    if value:
        return _text(value)
    if reference.get("optional"):
        return None
    raise Invalid(f'environment variable key "{key}" not found in file "{ctx.volumes[volume].path}/{path}"')


def _is_name(key: str) -> bool:
    """Whether an environment can hold it; Kubernetes has allowed all else since 1.34."""
    return bool(key) and "=" not in key and "\0" not in key


def _skipped(pod: pods.Pod, kind: str, name: str, keys: list[str]) -> Finding:
    word = "configMap" if kind == "configmaps" else "secret"
    message = (
        f"Keys [{', '.join(keys)}] from the EnvFrom {word} {pods.namespace(pod)}/{name} were skipped since they are "
        "considered invalid environment variable names."
    )
    return Finding("Warning", "InvalidEnvironmentVariableNames", message)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
