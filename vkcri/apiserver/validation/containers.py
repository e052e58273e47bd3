"""Containers: names, images, environment, mounts, ports, resources, probes, hooks. Pure.

Source: core/validation's validateContainers and its kin. `known` is the pod's volumes by name.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import environment, fields, probes, resources, security

Errors = Iterator[FieldError]
Volumes = Mapping[str, Mapping[str, Any]]
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES: Final = ("FallbackToLogsOnError", "File")
_PROPAGATIONS: Final = ("Bidirectional", "HostToContainer", "None")
_RESTART_RULES: Final = ("Always", "Never", "OnFailure")
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def validate_all(spec: Mapping[str, Any], known: Volumes) -> Errors:
    """Both lists of a pod's spec; names and host ports are unique among both."""
    if not spec.get("containers"):
        yield fields.required("spec.containers")
    names: set[str] = set()
    for field in ("containers", "initContainers"):
        host_ports: set[tuple[Any, ...]] = set()
        for index, container in enumerate(spec.get(field) or []):
            path = f"spec.{field}[{index}]"
            yield from _name(path, container, names)
            yield from _container(path, container, spec, known)
            yield from _init_rules(path, container) if field == "initContainers" else _ordinary_rules(path, container)
            # Init containers that end run one after another, so that two may use one port.
            if field == "containers" or container.get("restartPolicy") == "Always":
                yield from _host_ports(path, container, host_ports)


def _name(path: str, container: Mapping[str, Any], names: set[str]) -> Errors:
    name = container.get("name") or ""
    if not name:
        yield fields.required(f"{path}.name")
        return
    yield from fields.dns_label(f"{path}.name", name)
    if name in names:
        yield fields.duplicate(f"{path}.name", name)
    names.add(name)


def _container(path: str, container: Mapping[str, Any], spec: Mapping[str, Any], known: Volumes) -> Errors:
    image = container.get("image") or ""
    if not image:
        yield fields.required(f"{path}.image")
    elif image.strip() != image:
        yield fields.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    yield from fields.one_of(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES)
    policy = container.get("terminationMessagePolicy")
    yield from fields.one_of(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    yield from _ports(f"{path}.ports", container.get("ports") or [], host_network=bool(spec.get("hostNetwork")))
    yield from environment.validate(path, container)
    yield from volume_mounts(f"{path}.volumeMounts", container.get("volumeMounts") or [], known, container)
    yield from _volume_devices(f"{path}.volumeDevices", container, known)
    yield from resources.validate(f"{path}.resources", container.get("resources") or {})
    yield from resize_policies(f"{path}.resizePolicy", container.get("resizePolicy") or [], spec)
    yield from security.validate_container(f"{path}.securityContext", container, spec)


def _ordinary_rules(path: str, container: Mapping[str, Any]) -> Errors:
    yield from _restart_policy(path, container, init=False)
    yield from _checks(path, container)


def _init_rules(path: str, container: Mapping[str, Any]) -> Errors:
    """An init container that is no sidecar ends, so nothing can look after it while it runs."""
    yield from _restart_policy(path, container, init=True)
    for index, policy in enumerate(container.get("resizePolicy") or []):
        if policy.get("restartPolicy") == "RestartContainer" and container.get("restartPolicy") != "Always":
            where = f"{path}.resizePolicy[{index}].restartPolicy"
            text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            yield fields.invalid(where, policy["restartPolicy"], text)
    if container.get("restartPolicy") == "Always":
        yield from _checks(path, container)
        return
    for field in ("lifecycle", *_PROBES):
        if container.get(field) is not None:
            yield fields.forbidden(f"{path}.{field}", "may not be set for init containers without restartPolicy=Always")


def _restart_policy(path: str, container: Mapping[str, Any], *, init: bool) -> Errors:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    yield from fields.one_of(f"{path}.restartPolicy", policy, _RESTART_RULES, optional=True)
    if rules and not policy:
        yield fields.required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    if rules and init and policy == "Always":
        text = "not supported for sidecar containers"
        yield fields.forbidden(f"{path}.restartPolicyRules", text)
    for index, rule in enumerate(rules):
        where = f"{path}.restartPolicyRules[{index}]"
        yield from fields.one_of(f"{where}.action", rule.get("action"), ("Restart", "RestartAllContainers"))
        if rule.get("exitCodes") is None:
            yield fields.required(f"{where}.exitCodes", "must be specified")
        else:
            operator = rule["exitCodes"].get("operator")
            yield from fields.one_of(f"{where}.exitCodes.operator", operator, ("In", "NotIn"))


def _checks(path: str, container: Mapping[str, Any]) -> Errors:
    for field in _PROBES:
        if container.get(field) is not None:
            yield from probes.probe(f"{path}.{field}", container[field], kind=field)
    yield from probes.lifecycle(f"{path}.lifecycle", container.get("lifecycle") or {})


def _ports(path: str, ports: Sequence[Mapping[str, Any]], *, host_network: bool) -> Errors:
    names: set[str] = set()
    for index, port in enumerate(ports):
        where = f"{path}[{index}]"
        name = port.get("name") or ""
        if name:
            yield from fields.port_name(f"{where}.name", name)
            if name in names:
                yield fields.duplicate(f"{where}.name", name)
            names.add(name)
        if not port.get("containerPort"):
            yield fields.required(f"{where}.containerPort")
        else:
            yield from fields.port_number(f"{where}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            yield from fields.port_number(f"{where}.hostPort", port["hostPort"])
            if host_network and port["hostPort"] != port.get("containerPort"):
                text = "must match `hostPort` when `hostNetwork` is true"
                yield fields.invalid(f"{where}.containerPort", port.get("containerPort"), text)
        yield from fields.one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)


def _host_ports(path: str, container: Mapping[str, Any], seen: set[tuple[Any, ...]]) -> Errors:
    for index, port in enumerate(container.get("ports") or []):
        if not port.get("hostPort"):
            continue
        key = (port.get("protocol"), port.get("hostIP") or "", port["hostPort"])
        if key in seen:
            yield fields.duplicate(f"{path}.ports[{index}].hostPort", "/".join(str(part) for part in key))
        seen.add(key)


def volume_mounts(
    path: str, mounts: Sequence[Mapping[str, Any]], known: Volumes, container: Mapping[str, Any]
) -> Errors:
    """Each mount of a volume that the pod has, at a place of its own."""
    places: set[str] = set()
    for index, mount in enumerate(mounts):
        where = f"{path}[{index}]"
        name, place = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            yield fields.required(f"{where}.name")
        elif name not in known:
            yield fields.not_found(f"{where}.name", name)
        if not place:
            yield fields.required(f"{where}.mountPath")
        elif posixpath.normpath(place) in places or place in places:
            yield fields.invalid(f"{where}.mountPath", place, "must be unique")
        places |= {place, posixpath.normpath(place)} if place else set()
        yield from _sub_path(where, mount)
        yield from _propagation(where, mount, container)
    for index, device in enumerate(container.get("volumeDevices") or []):
        if device.get("devicePath") in places:
            text = "must not already exist as a path in volumeMounts"
            yield fields.invalid(
                f"{path.removesuffix('Mounts')}Devices[{index}].devicePath", device["devicePath"], text
            )


def _sub_path(path: str, mount: Mapping[str, Any]) -> Errors:
    if mount.get("subPath"):
        yield from fields.relative_path(f"{path}.subPath", mount["subPath"])
    if mount.get("subPathExpr"):
        if mount.get("subPath"):
            text = "subPathExpr and subPath are mutually exclusive"
            yield fields.invalid(f"{path}.subPathExpr", mount["subPathExpr"], text)
        yield from fields.relative_path(f"{path}.subPathExpr", mount["subPathExpr"])


def _propagation(path: str, mount: Mapping[str, Any], container: Mapping[str, Any]) -> Errors:
    given = mount.get("mountPropagation")
    yield from fields.one_of(f"{path}.mountPropagation", given, _PROPAGATIONS, optional=True)
    privileged = (container.get("securityContext") or {}).get("privileged")
    if given == "Bidirectional" and not privileged:
        text = "Bidirectional mount propagation is available only to privileged containers"
        yield fields.forbidden(f"{path}.mountPropagation", text)
    recursive = mount.get("recursiveReadOnly")
    if recursive is None:
        return
    yield from fields.one_of(f"{path}.recursiveReadOnly", recursive, ("Disabled", "Enabled", "IfPossible"))
    if recursive != "Disabled" and not mount.get("readOnly"):
        text = "may only be specified when readOnly is true"
        yield fields.forbidden(f"{path}.recursiveReadOnly", text)
    if recursive != "Disabled" and given not in (None, "", "None"):
        text = "may only be specified when mountPropagation is None or not specified"
        yield fields.forbidden(f"{path}.recursiveReadOnly", text)


def _volume_devices(path: str, container: Mapping[str, Any], known: Volumes) -> Errors:
    for index, device in enumerate(container.get("volumeDevices") or []):
        where = f"{path}[{index}]"
        name = device.get("name") or ""
        volume = known.get(name)
        if volume is None:
            yield fields.not_found(f"{where}.name", name) if name else fields.required(f"{where}.name")
        elif "persistentVolumeClaim" not in volume and "ephemeral" not in volume:
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            yield fields.invalid(f"{where}.name", name, text)
        if not device.get("devicePath"):
            yield fields.required(f"{where}.devicePath")
        else:
            yield from fields.no_backsteps(f"{where}.devicePath", device["devicePath"])


def resize_policies(path: str, policies: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> Errors:
    """One a resource; none that restarts a container of a pod that never restarts one."""
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        where, name = f"{path}[{index}]", policy.get("resourceName") or ""
        if name in seen:
            yield fields.duplicate(f"{where}.resourceName", name)
        seen.add(name)
        yield from fields.one_of(f"{where}.resourceName", name, ("cpu", "memory"))
        yield from fields.one_of(
            f"{where}.restartPolicy", policy.get("restartPolicy"), ("NotRequired", "RestartContainer")
        )
        if spec.get("restartPolicy") == "Never" and policy.get("restartPolicy") == "RestartContainer":
            text = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            yield fields.invalid(path, policy["restartPolicy"], text)
