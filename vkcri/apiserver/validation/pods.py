"""A Pod's spec as a whole: what its containers, volumes and policies must be to each other. Pure.

containers, volumes, scheduling and security look at the parts. Source: core/validation's ValidatePodSpec.
Fields of features that a kubelet of today supports are looked at; the rest is stored as a typed object.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import (
    containers,
    environment,
    fields,
    pods_annotations,
    resources,
    scheduling,
    security,
    volumes,
)

Errors = Iterator[FieldError]
_RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_DNS_POLICIES: Final = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PREEMPTION: Final = ("Never", "PreemptLowerPriority")
_MOST_NAMESERVERS: Final = 3
_MOST_SEARCHES: Final = 32
_SEARCH_BYTES: Final = 2048


def validate(pod: Mapping[str, Any]) -> Errors:
    """A new pod."""
    spec = pod.get("spec") or {}
    wrong, known = volumes.validate_all(spec.get("volumes") or [])
    yield from wrong
    yield from containers.validate_all(spec, known)
    if spec.get("ephemeralContainers"):
        text = "cannot be set on create"
        yield fields.forbidden("spec.ephemeralContainers", text)
    yield from environment.file_volumes(spec)
    yield from validate_policies(spec)
    yield from resources.validate_pod("spec.resources", spec)
    yield from _names(spec)
    yield from scheduling.validate(spec)
    yield from security.validate_pod(spec)
    yield from _dns(spec)
    yield from _host(spec)
    yield from pods_annotations.validate(pod)


def validate_policies(spec: Mapping[str, Any]) -> Errors:
    """The spec's plain fields."""
    yield from fields.one_of("spec.restartPolicy", spec.get("restartPolicy"), _RESTART_POLICIES)
    yield from fields.one_of("spec.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES)
    yield from fields.one_of("spec.preemptionPolicy", spec.get("preemptionPolicy"), _PREEMPTION, optional=True)
    yield from fields.not_negative("spec.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        text = "must be between 1 and 2147483647, inclusive"
        yield fields.invalid("spec.activeDeadlineSeconds", deadline, text)
    for index, gate in enumerate(spec.get("readinessGates") or []):
        yield from fields.qualified_name(f"spec.readinessGates[{index}].conditionType", gate.get("conditionType") or "")
    if (spec.get("os") or {}).get("name") is not None:
        yield from fields.one_of("spec.os.name", spec["os"]["name"], ("linux", "windows"))


def _names(spec: Mapping[str, Any]) -> Errors:
    for field in ("serviceAccountName", "nodeName", "runtimeClassName", "schedulerName", "priorityClassName"):
        if spec.get(field):
            yield from fields.dns_subdomain(f"spec.{field}", spec[field])
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            yield from fields.dns_label(f"spec.{field}", spec[field])
    # A pull secret without a name is allowed and warned of, as in Kubernetes.
    gates = [gate.get("name") or "" for gate in spec.get("schedulingGates") or []]
    for index, name in enumerate(gates):
        yield from fields.qualified_name(f"spec.schedulingGates[{index}]", name)
        if name in gates[:index]:
            yield fields.duplicate(f"spec.schedulingGates[{index}]", name)
    if gates and spec.get("nodeName"):
        text = "cannot be set until all schedulingGates have been cleared"
        yield fields.forbidden("spec.nodeName", text)


def _dns(spec: Mapping[str, Any]) -> Errors:
    config, path = spec.get("dnsConfig"), "spec.dnsConfig"
    servers = (config or {}).get("nameservers") or []
    if spec.get("dnsPolicy") == "None" and not servers:
        if config is None:
            yield fields.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
        else:
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            yield fields.required(f"{path}.nameservers", text)
        return
    if config is None:
        return
    if len(servers) > _MOST_NAMESERVERS:
        yield fields.invalid(f"{path}.nameservers", servers, f"must not have more than {_MOST_NAMESERVERS} nameservers")
    for index, server in enumerate(servers):
        try:
            ipaddress.ip_address(server)
        except ValueError:
            text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            yield fields.invalid(f"{path}.nameservers[{index}]", server, text)
    searches = config.get("searches") or []
    if len(searches) > _MOST_SEARCHES:
        yield fields.invalid(f"{path}.searches", searches, f"must not have more than {_MOST_SEARCHES} search paths")
    if len(" ".join(searches)) > _SEARCH_BYTES:
        text = f"must not have more than {_SEARCH_BYTES} characters (including spaces) in the search list"
        yield fields.invalid(f"{path}.searches", searches, text)
    for index, search in enumerate(searches):
        if search != ".":
            yield from fields.dns_search(f"{path}.searches[{index}]", search.removesuffix("."))
    for index, option in enumerate(config.get("options") or []):
        if not option.get("name"):
            yield fields.required(f"{path}.options[{index}]", "must not be empty")


def _host(spec: Mapping[str, Any]) -> Errors:
    for index, alias in enumerate(spec.get("hostAliases") or []):
        path = f"spec.hostAliases[{index}]"
        try:
            ipaddress.ip_address(alias.get("ip") or "")
        except ValueError:
            text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            yield fields.invalid(f"{path}.ip", alias.get("ip") or "", text)
        for number, name in enumerate(alias.get("hostnames") or []):
            yield from fields.dns_subdomain(f"{path}.hostnames[{number}]", name)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        yield fields.invalid("spec.shareProcessNamespace", True, text)
    if spec.get("hostUsers") is False:
        for field, told in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
            if spec.get(field):
                yield fields.forbidden(f"spec.{told}", "when `hostUsers` is false")
