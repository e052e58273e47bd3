"""Containers: names, images, environment, mounts, ports, resources, probes, hooks. Pure.

Source: core/validation's validateContainers and its kin. `known` is the pod's volumes by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from vkcri.api import restarts
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import environment, fields, mounts, probes, resources, security

Errors = Iterator[FieldError]
Volumes = Mapping[str, Mapping[str, Any]]
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_MESSAGE_POLICIES: Final = ("File", "FallbackToLogsOnError")
_RESTART_RULES: Final = ("Always", "Never", "OnFailure")
_MOST_RULES: Final = 20
_MOST_CODES: Final = 255
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_NEVER_EPHEMERAL: Final = (
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    *_PROBES,
    "lifecycle",
)


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
            rules = _init_rules if field == "initContainers" else _ordinary_rules
            yield from rules(path, container, spec)
            # Init containers that end run one after another, so that two may use one port.
            if field == "containers" or container.get("restartPolicy") == "Always":
                yield from _host_ports(path, container, host_ports)


def validate_ephemeral(spec: Mapping[str, Any], known: Volumes) -> Errors:
    """The ephemeral containers of a pod's spec, whose names are unique among all of its containers. The pod's service
    never depends on one, so much of what a container may have is refused."""
    others = {item.get("name") or "" for field in ("containers", "initContainers") for item in spec.get(field) or []}
    names = set(others)
    for index, container in enumerate(spec.get("ephemeralContainers") or []):
        path = f"spec.ephemeralContainers[{index}]"
        yield from _name(path, container, names)
        yield from _container(path, container, spec, known)
        target = container.get("targetContainerName") or ""
        if target and target not in others:
            yield fields.not_found(f"{path}.targetContainerName", target)
        text = "cannot be set for an Ephemeral Container"
        for field in _NEVER_EPHEMERAL:
            if container.get(field) or (field in (*_PROBES, "lifecycle") and container.get(field) is not None):
                yield fields.forbidden(f"{path}.{field}", text)
        for number, mount in enumerate(container.get("volumeMounts") or []):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    yield fields.forbidden(f"{path}.volumeMounts[{number}].{field}", text)


def _name(path: str, container: Mapping[str, Any], names: set[str]) -> Errors:
    name = container.get("name") or ""
    if not name:
        yield fields.required(f"{path}.name")
    else:
        yield from fields.dns_label(f"{path}.name", name)
    if name in names:
        yield fields.duplicate(f"{path}.name", name)
    names.add(name)


def _claims(spec: Mapping[str, Any]) -> set[str]:
    """What the pod calls the devices that it claims."""
    return {claim.get("name") or "" for claim in spec.get("resourceClaims") or []}


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
    yield from mounts.validate(path, container, known)
    yield from resources.validate(f"{path}.resources", container.get("resources") or {}, _claims(spec))
    yield from resize_policies(f"{path}.resizePolicy", container.get("resizePolicy") or [], spec)
    yield from security.validate_container(f"{path}.securityContext", container, spec)


def _ordinary_rules(path: str, container: Mapping[str, Any], spec: Mapping[str, Any]) -> Errors:
    yield from _restart_policy(path, container)
    yield from _checks(path, container, spec)


def _init_rules(path: str, container: Mapping[str, Any], spec: Mapping[str, Any]) -> Errors:
    """An init container that is no sidecar ends, so nothing can look after it while it runs."""
    yield from _restart_policy(path, container)
    for index, policy in enumerate(container.get("resizePolicy") or []):
        if policy.get("restartPolicy") == "RestartContainer" and container.get("restartPolicy") != "Always":
            where = f"{path}.resizePolicy[{index}].restartPolicy"
            text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            yield fields.invalid(where, policy["restartPolicy"], text)
    if container.get("restartPolicy") == "Always":
        yield from _checks(path, container, spec)
        return
    for field in ("lifecycle", *_PROBES):
        if container.get(field) is not None:
            yield fields.forbidden(f"{path}.{field}", "may not be set for init containers without restartPolicy=Always")


def _restart_policy(path: str, container: Mapping[str, Any]) -> Errors:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    yield from fields.one_of(f"{path}.restartPolicy", policy, _RESTART_RULES, optional=True)
    if rules and not policy:
        yield fields.required(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used")
    if len(rules) > _MOST_RULES:
        yield fields.too_many(f"{path}.restartPolicyRules", len(rules), _MOST_RULES)
    for index, rule in enumerate(rules):
        where = f"{path}.restartPolicyRules[{index}]"
        yield from fields.one_of(f"{where}.action", rule.get("action"), restarts.ACTIONS)
        if rule.get("exitCodes") is None:
            yield fields.required(f"{where}.exitCodes", "must be specified")
        else:
            operator = rule["exitCodes"].get("operator")
            yield from fields.one_of(f"{where}.exitCodes.operator", operator, ("In", "NotIn"))
            values = rule["exitCodes"].get("values") or []
            if len(values) > _MOST_CODES:
                yield fields.too_many(f"{where}.exitCodes.values", len(values), _MOST_CODES)


def _checks(path: str, container: Mapping[str, Any], spec: Mapping[str, Any]) -> Errors:
    for field in _PROBES:
        if container.get(field) is not None:
            yield from probes.probe(f"{path}.{field}", container[field], kind=field)
    yield from probes.lifecycle(f"{path}.lifecycle", container.get("lifecycle") or {}, spec)


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
        if host_network and (port.get("hostPort") or 0) != (port.get("containerPort") or 0):
            text = "must match `containerPort` when `hostNetwork` is true"
            yield fields.invalid(f"{where}.hostPort", port.get("hostPort") or 0, text)
        yield from fields.one_of(f"{where}.protocol", port.get("protocol"), _PROTOCOLS)


def _host_ports(path: str, container: Mapping[str, Any], seen: set[tuple[Any, ...]]) -> Errors:
    for index, port in enumerate(container.get("ports") or []):
        if not port.get("hostPort"):
            continue
        key = (port.get("protocol"), port.get("hostIP") or "", port["hostPort"])
        if key in seen:
            yield fields.duplicate(f"{path}.ports[{index}].hostPort", "/".join(str(part) for part in key))
        seen.add(key)


def resize_policies(path: str, policies: Sequence[Mapping[str, Any]], spec: Mapping[str, Any]) -> Errors:
    """One a resource; none that restarts a container of a pod that never restarts one."""
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        name, restart = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in seen:
            yield fields.duplicate(f"{path}[{index}]", name)
        seen.add(name)
        yield from fields.one_of(path, name, ("cpu", "memory"))
        yield from fields.one_of(path, restart, ("NotRequired", "RestartContainer"))
        if spec.get("restartPolicy") == "Never" and restart != "NotRequired":
            yield fields.invalid(path, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")
