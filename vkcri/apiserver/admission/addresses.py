"""A Service's addresses: ClusterIPs from the instance's range, node ports from 30000-32767, both unique.

Reads all services inside the request's transaction; there is no allocation map that could go out of step. As in
Kubernetes, addresses are drawn at random from the upper part of the range, so that people may fix ones in the lower.
"""

import ipaddress
import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.status import FieldError, StatusError
from vkcri.apiserver.validation import services

NODE_PORTS: Final = range(30000, 32768)
_HEADLESS: Final = "None"
_FAMILIES: Final = ("ClusterIP", "NodePort", "LoadBalancer")


def allocate(service: dict[str, Any], old: Mapping[str, Any] | None, ctx: RequestContext) -> None:
    """Fill in clusterIP, clusterIPs, ipFamilies, ipFamilyPolicy, nodePorts and a new service's empty status; what the
    stored service `old` has is kept where the new one is silent. Raises StatusError 422."""
    spec = service["spec"]
    if old is None:
        service["status"] = {"loadBalancer": {}}
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    if spec["type"] == "ExternalName":
        for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            if not spec.get(field) or old is not None:
                spec.pop(field, None)
        return
    _keep(spec, (old or {}).get("spec") or {})
    others = [item for item in ctx.store.list("/services")[0] if old is None or not _same(item, service)]
    for step in (
        lambda: _prepare_families(spec),
        lambda: _set_families(spec),
        lambda: (
            spec["type"] in _FAMILIES
            and [
                *_set_cluster_ip(spec, others, ctx.settings.instance.service_range),
                *_set_node_ports(spec, others),
                *_set_health_check_port(spec, others),
            ]
        ),
    ):
        errors = list(step() or [])
        if errors:
            raise StatusError.invalid("Service", str(service["metadata"].get("name") or ""), errors)


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    a, b = one["metadata"], other["metadata"]
    return bool(a["name"] == b.get("name") and a.get("namespace") == b.get("namespace"))


def _keep(spec: dict[str, Any], old: Mapping[str, Any]) -> None:
    if old.get("type") not in _FAMILIES:
        return
    if not spec.get("clusterIP") and not spec.get("clusterIPs"):
        for field in ("clusterIP", "clusterIPs"):
            if field in old:
                spec[field] = old[field]
    for field in ("ipFamilies", "ipFamilyPolicy"):
        if not spec.get(field) and field in old:
            spec[field] = old[field]
    if not spec.get("healthCheckNodePort") and services.needs_health_check(spec) and services.needs_health_check(old):
        spec["healthCheckNodePort"] = old["healthCheckNodePort"]
    ports = {(port.get("protocol"), port.get("port")): port.get("nodePort") for port in old.get("ports") or []}
    if spec["type"] != "ClusterIP":
        for port in spec.get("ports") or []:
            kept = ports.get((port.get("protocol"), port.get("port")))
            if not port.get("nodePort") and kept:
                port["nodePort"] = kept


def _prepare_families(spec: dict[str, Any]) -> Iterator[FieldError]:
    """The policy where none is given, and whatever makes no sense before an address is drawn."""
    free = spec.get("clusterIP") == _HEADLESS and not spec.get("selector")
    spec.setdefault("ipFamilyPolicy", "RequireDualStack" if free else "SingleStack")
    wrong = list(services.cluster_addresses(spec))
    yield from wrong
    if wrong or spec["ipFamilyPolicy"] != "SingleStack":
        return
    for field, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
        if len(spec.get(field) or []) == 2:
            text = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            yield FieldError("FieldValueInvalid", "spec.ipFamilyPolicy", text, "SingleStack")


def _set_families(spec: dict[str, Any]) -> Iterator[FieldError]:
    """One family, IPv4; a headless service without a selector may name both, as its endpoints are its owner's."""
    if spec.get("clusterIP") == _HEADLESS and not spec.get("selector"):
        families = spec.setdefault("ipFamilies", ["IPv4"])
        if len(families) == 1 and spec["ipFamilyPolicy"] != "SingleStack":
            families.append("IPv6" if families == ["IPv4"] else "IPv4")
        return
    for index, address in enumerate(spec.get("clusterIPs") or []):
        if address != _HEADLESS and ":" in address and index >= len(spec.get("ipFamilies") or []):
            text = "IPv6 is not configured on this cluster"
            yield FieldError("FieldValueInvalid", f"spec.clusterIPs[{index}]", text, spec["clusterIPs"])
    if spec["ipFamilyPolicy"] == "RequireDualStack":
        text = "this cluster is not configured for dual-stack services"
        yield FieldError("FieldValueInvalid", "spec.ipFamilyPolicy", text, "RequireDualStack")
    for index, family in enumerate(spec.setdefault("ipFamilies", ["IPv4"])):
        if family == "IPv6":
            yield FieldError("FieldValueInvalid", f"spec.ipFamilies[{index}]", "not configured on this cluster", family)


def _set_cluster_ip(
    spec: dict[str, Any], others: list[dict[str, Any]], subnet: ipaddress.IPv4Network
) -> Iterator[FieldError]:
    given = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or []), "")
    taken = {item["spec"].get("clusterIP") for item in others}
    if given and given != _HEADLESS:
        problem = _problem(given, subnet, taken)
        if problem:
            text = f"failed to allocate IP {given}: {problem}"
            yield FieldError("FieldValueInvalid", "spec.clusterIPs", text, spec.get("clusterIPs") or [given])
    elif not given:
        given = _free_address(subnet, taken)
        if not given:
            yield FieldError("InternalError", "spec.clusterIPs", "failed to allocate a serviceIP: range is full")
            return
    spec["clusterIP"] = given
    if not spec.get("clusterIPs"):
        spec["clusterIPs"] = [given]


def _problem(address: str, subnet: ipaddress.IPv4Network, taken: set[Any]) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return ""  # validation has the words for a text that is no address
    edges = (subnet.network_address, subnet.broadcast_address)
    if parsed not in subnet or parsed in edges:
        valid = f"The range of valid IPs is {subnet}"
        return f"the provided IP ({address}) is not in the valid range. {valid}"
    return "provided IP is already allocated" if address in taken else ""


def _free_address(subnet: ipaddress.IPv4Network, taken: set[Any]) -> str:
    """A free address, at random above the static band, in the band where nothing else is left; "" if full."""
    size = subnet.num_addresses
    band = min(max(16, size // 16), 256)
    for first, last in ((band + 1, size - 1), (1, min(band + 1, size - 1))):
        free = [offset for offset in range(first, last) if str(subnet[offset]) not in taken]
        if free:
            return str(subnet[random.choice(free)])
    return ""


def _set_node_ports(spec: dict[str, Any], others: list[dict[str, Any]]) -> Iterator[FieldError]:
    wants = spec["type"] == "NodePort" or (
        spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts", True)
    )
    if spec["type"] == "ClusterIP":
        return
    taken = _taken_ports(others)
    for index, port in enumerate(spec.get("ports") or []):
        path, given = f"spec.ports[{index}].nodePort", port.get("nodePort")
        if given and given not in NODE_PORTS:
            text = "provided port is not in the valid range. The range of valid ports is 30000-32767"
            yield FieldError("FieldValueInvalid", path, text, given)
        elif given and (port.get("protocol"), given) in taken:
            yield FieldError("FieldValueInvalid", path, "provided port is already allocated", given)
        elif not given and wants:
            free = [number for number in NODE_PORTS if (port.get("protocol"), number) not in taken]
            if not free:
                yield FieldError("InternalError", path, "failed to allocate a nodePort: range is full")
                continue
            port["nodePort"] = random.choice(free)
        taken.add((port.get("protocol"), port.get("nodePort")))


def _taken_ports(others: list[dict[str, Any]]) -> set[tuple[Any, Any]]:
    """(protocol, node port) of every other service; a health check's port is one of TCP."""
    ports = [
        (port.get("protocol"), port["nodePort"])
        for item in others
        for port in item["spec"].get("ports") or []
        if port.get("nodePort")
    ]
    return {*ports, *(("TCP", item["spec"].get("healthCheckNodePort")) for item in others)}


def _set_health_check_port(spec: dict[str, Any], others: list[dict[str, Any]]) -> Iterator[FieldError]:
    """Where a load balancer asks each node if it has an endpoint of a service that keeps traffic on its node."""
    path, given = "spec.healthCheckNodePort", spec.get("healthCheckNodePort")
    if not services.needs_health_check(spec):
        return
    taken = _taken_ports([*others, {"spec": {"ports": spec.get("ports")}}])
    if given and given not in NODE_PORTS:
        text = "provided port is not in the valid range. The range of valid ports is 30000-32767"
        yield FieldError("FieldValueInvalid", path, f"failed to allocate requested HealthCheck NodePort: {text}", given)
    elif given and ("TCP", given) in taken:
        text = "failed to allocate requested HealthCheck NodePort: provided port is already allocated"
        yield FieldError("FieldValueInvalid", path, text, given)
    elif not given:
        free = [number for number in NODE_PORTS if ("TCP", number) not in taken]
        if not free:
            yield FieldError("InternalError", path, "failed to allocate a HealthCheck NodePort: range is full")
            return
        spec["healthCheckNodePort"] = random.choice(free)
