"""Services, Endpoints and EndpointSlices. Pure.

What depends on other services (is this address free?) is admission.addresses'. Source: ValidateService,
ValidateEndpoints, discovery's ValidateEndpointSlice.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_POLICIES: Final = ("Cluster", "Local")
_DISTRIBUTIONS: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")
_FAMILY_POLICIES: Final = ("PreferDualStack", "RequireDualStack", "SingleStack")
_MOST_ENDPOINTS: Final = 1000
_MOST_ADDRESSES: Final = 100


def service(obj: Mapping[str, Any]) -> Errors:
    spec = obj.get("spec") or {}
    kind, headless = spec.get("type") or "", spec.get("clusterIP") == "None"
    if not spec.get("ports") and not headless and kind != "ExternalName":
        yield fields.required("spec.ports")
    if kind == "ExternalName":
        yield from _external_name(spec)
    elif kind in ("NodePort", "LoadBalancer") and headless:
        text = f"may not be set to 'None' for {kind} services"
        yield fields.invalid("spec.clusterIPs[0]", "None", text)
    yield from _ports(spec)
    yield from fields.labels("spec.selector", spec.get("selector"))
    yield from _affinity(spec)
    yield from cluster_addresses(spec)
    for index, address in enumerate(spec.get("externalIPs") or []):
        yield from endpoint_address(f"spec.externalIPs[{index}]", address)
    yield from fields.one_of("spec.type", kind, _TYPES)
    yield from _repeated_ports(spec)
    yield from _load_balancer(spec)
    yield from _traffic(spec)


def _affinity(spec: Mapping[str, Any]) -> Errors:
    yield from fields.one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is not None and not 0 < seconds <= 86400:
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        yield fields.invalid(path, seconds, "must be greater than 0 and less than 86400")


def externally_accessible(spec: Mapping[str, Any]) -> bool:
    """Whether anything outside the cluster may reach the service."""
    kind = spec.get("type")
    return kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_check(spec: Mapping[str, Any]) -> bool:
    """Whether a load balancer must ask each node if it has an endpoint."""
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def _traffic(spec: Mapping[str, Any]) -> Errors:
    policy, path = spec.get("externalTrafficPolicy"), "spec.externalTrafficPolicy"
    if externally_accessible(spec):
        yield from fields.one_of(path, policy, _POLICIES)
    elif policy:
        yield fields.invalid(path, policy, "may only be set for externally-accessible services")
    port, path = spec.get("healthCheckNodePort") or 0, "spec.healthCheckNodePort"
    if needs_health_check(spec):
        yield from fields.port_number(path, port) if port else iter([fields.required(path)])
    elif port:
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        yield fields.invalid(path, port, text)
    inside = spec.get("internalTrafficPolicy")
    yield from fields.one_of("spec.internalTrafficPolicy", inside, _POLICIES, optional=True)
    given = spec.get("trafficDistribution")
    yield from fields.one_of("spec.trafficDistribution", given, _DISTRIBUTIONS, optional=True)


def _load_balancer(spec: Mapping[str, Any]) -> Errors:
    is_one, only = spec.get("type") == "LoadBalancer", "may only be used when `type` is 'LoadBalancer'"
    path = "spec.LoadBalancerSourceRanges"
    if spec.get("loadBalancerSourceRanges") and not is_one:
        yield fields.forbidden(path, only)
    for index, value in enumerate(spec.get("loadBalancerSourceRanges") or []):
        yield from fields.network(f"{path}[{index}]", value.strip())
    if spec.get("allocateLoadBalancerNodePorts") is not None and not is_one:
        yield fields.forbidden("spec.allocateLoadBalancerNodePorts", only)
    if spec.get("loadBalancerClass") is not None:
        if is_one:
            yield from fields.qualified_name("spec.loadBalancerClass", spec["loadBalancerClass"])
        else:
            yield fields.forbidden("spec.loadBalancerClass", only)


def _ports(spec: Mapping[str, Any]) -> Errors:
    ports = spec.get("ports") or []
    names: set[str] = set()
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        name = port.get("name") or ""
        if not name and len(ports) > 1:
            yield fields.required(f"{path}.name")
        elif name:
            yield from fields.dns_label(f"{path}.name", name)
            if name in names:
                yield fields.duplicate(f"{path}.name", name)
            names.add(name)
        yield from fields.port_number(f"{path}.port", port.get("port", 0))
        yield from fields.one_of(f"{path}.protocol", port.get("protocol"), _PROTOCOLS)
        if port.get("targetPort") is not None:
            yield from fields.port(f"{path}.targetPort", port["targetPort"])
        if port.get("appProtocol"):
            yield from fields.qualified_name(f"{path}.appProtocol", port["appProtocol"])


def _repeated_ports(spec: Mapping[str, Any]) -> Errors:
    """A port and its protocol once each, on the service's address as on the nodes."""
    ports = spec.get("ports") or []
    if spec.get("type") == "ClusterIP":
        for index, port in enumerate(ports):
            if port.get("nodePort"):
                yield fields.forbidden(f"spec.ports[{index}].nodePort", "may not be used when `type` is 'ClusterIP'")
    for field in ("nodePort", "port"):
        seen: set[tuple[Any, Any]] = set()
        for index, port in enumerate(ports):
            pair = (port.get("protocol"), port.get(field))
            if pair in seen and port.get(field):
                yield _repeated(index, field, port)
            seen.add(pair)


def _repeated(index: int, field: str, port: Mapping[str, Any]) -> FieldError:
    """A port is told as Go prints the whole struct with these two fields set."""
    if field == "nodePort":
        return fields.duplicate(f"spec.ports[{index}].nodePort", port["nodePort"])
    told = {"Name": "", "Protocol": port.get("protocol"), "AppProtocol": None, "Port": port.get("port")}
    return fields.duplicate(f"spec.ports[{index}]", {**told, "TargetPort": 0, "NodePort": 0})


def cluster_addresses(spec: Mapping[str, Any]) -> Errors:
    """clusterIPs and their families: what must hold before an address is drawn."""
    if spec.get("type") == "ExternalName":
        return
    given, path = spec.get("clusterIPs") or [], "spec.clusterIPs"
    if given and not spec.get("clusterIP"):
        yield fields.invalid(path, given, "must be empty when `clusterIP` is not specified")
    elif given and spec.get("clusterIP") != given[0]:
        yield fields.invalid(path, given, "first value must match `clusterIP`")
    for index, family in enumerate(spec.get("ipFamilies") or []):
        yield from fields.one_of(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6"))
        if family in spec["ipFamilies"][:index]:
            yield fields.duplicate(f"spec.ipFamilies[{index}]", family)
    yield from fields.one_of("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), _FAMILY_POLICIES, optional=True)
    if given[:1] == ["None"]:
        if len(given) > 1:
            yield fields.invalid(path, given, "'None' must be the first and only value")
        return
    for index, address in enumerate(given):
        yield from ip_address(f"{path}[{index}]", address)
    if len(given) > 2:
        yield fields.invalid(path, given, "may only hold up to 2 values")


def _external_name(spec: Mapping[str, Any]) -> Errors:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            yield fields.forbidden(f"spec.{field}", "may not be set for ExternalName services")
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        yield fields.required("spec.externalName")
    else:
        yield from fields.dns_subdomain("spec.externalName", name)


def service_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    """A ClusterIP stays for as long as the service has one."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return
    if spec.get("clusterIP") != before.get("clusterIP"):
        yield fields.invalid("spec.clusterIPs[0]", spec.get("clusterIPs"), "may not change once set")
    checked = needs_health_check(before) and needs_health_check(spec)
    if checked and spec.get("healthCheckNodePort") != before.get("healthCheckNodePort"):
        yield fields.forbidden("spec.healthCheckNodePort", "field is immutable")


def ip_address(path: str, value: str) -> Errors:
    """Any IP address, in its canonical form."""
    try:
        parsed = ipaddress.ip_address(value)
    except ValueError:
        yield fields.invalid(path, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
        return
    if str(parsed) != value:
        yield fields.invalid(path, value, f'must be in canonical form ("{parsed}")')


def endpoint_address(path: str, value: str) -> Errors:
    """An address that another host can answer at: no wildcard, loopback, link-local or multicast."""
    wrong = list(ip_address(path, value))
    yield from wrong
    if wrong:
        return
    parsed = ipaddress.ip_address(value)
    for refused, what in (
        (parsed.is_unspecified, f"may not be unspecified ({value})"),
        (parsed.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (parsed.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (parsed.is_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ):
        if refused:
            yield fields.invalid(path, value, what)


def endpoints(obj: Mapping[str, Any]) -> Errors:
    for index, subset in enumerate(obj.get("subsets") or []):
        path = f"subsets[{index}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield fields.required(path, "must specify `addresses` or `notReadyAddresses`")
        for part in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(subset.get(part) or []):
                yield from _endpoints_address(f"{path}.{part}[{number}]", address)
        ports = subset.get("ports") or []
        for number, port in enumerate(ports):
            if len(ports) > 1 and not port.get("name"):
                yield fields.required(f"{path}.ports[{number}].name")
            yield from fields.port_number(f"{path}.ports[{number}].port", port.get("port") or 0)
            yield from _endpoint_port(f"{path}.ports[{number}]", port)


def _endpoints_address(path: str, address: Mapping[str, Any]) -> Errors:
    given = address.get("ip") or ""
    yield from endpoint_address(f"{path}.ip", given)
    if any(ip_address("", given)):
        yield fields.invalid(f"{path}.ip", given, "must be a valid IP address")  # said twice, as Kubernetes does
    if address.get("hostname"):
        yield from fields.dns_label(f"{path}.hostname", address["hostname"])
    if address.get("nodeName") is not None:
        yield from fields.dns_subdomain(f"{path}.nodeName", address["nodeName"])


def _endpoint_port(path: str, port: Mapping[str, Any]) -> Errors:
    if port.get("name"):
        yield from fields.dns_label(f"{path}.name", port["name"])
    yield from fields.one_of(f"{path}.protocol", port.get("protocol"), _PROTOCOLS)
    if port.get("appProtocol") is not None:
        yield from fields.qualified_name(f"{path}.appProtocol", port["appProtocol"])


def endpoint_slice(obj: Mapping[str, Any]) -> Errors:
    kind = obj.get("addressType") or ""
    yield from fields.one_of("addressType", kind, ("FQDN", "IPv4", "IPv6"))
    if len(obj.get("endpoints") or []) > _MOST_ENDPOINTS:
        text = f"must have at most {_MOST_ENDPOINTS} items"
        yield FieldError("FieldValueTooMany", "endpoints", text, len(obj["endpoints"]))
    for index, endpoint in enumerate(obj.get("endpoints") or []):
        addresses = endpoint.get("addresses") or []
        path = f"endpoints[{index}].addresses"
        if not addresses:
            yield fields.required(path)
        if len(addresses) > _MOST_ADDRESSES:
            yield FieldError("FieldValueTooMany", path, f"must have at most {_MOST_ADDRESSES} items", len(addresses))
        for number, address in enumerate(addresses):
            yield from _slice_address(path, number, address, kind)
        if endpoint.get("nodeName") is not None:
            yield from fields.dns_subdomain(f"endpoints[{index}].nodeName", endpoint["nodeName"])
        if endpoint.get("hostname") is not None:
            yield from fields.dns_label(f"endpoints[{index}].hostname", endpoint["hostname"])
    names: set[str] = set()
    for index, port in enumerate(obj.get("ports") or []):
        if (port.get("name") or "") in names:
            yield fields.duplicate(f"ports[{index}].name", port.get("name") or "")
        names.add(port.get("name") or "")
        yield from _endpoint_port(f"ports[{index}]", port)


def _slice_address(path: str, number: int, address: str, kind: str) -> Errors:
    where = f"{path}[{number}]"
    if kind == "FQDN":
        yield from fields.dns_subdomain(where, address)
    elif kind in ("IPv4", "IPv6"):
        wrong = list(ip_address(where, address))
        yield from wrong or endpoint_address(where, address)
        if not wrong and (":" in address) != (kind == "IPv6"):
            yield fields.invalid(path, address, f"must be an {kind} address")


def endpoint_slice_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    if new.get("addressType") != old.get("addressType"):
        yield fields.invalid("addressType", new.get("addressType"), "field is immutable")
