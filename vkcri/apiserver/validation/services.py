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
_FAMILY_POLICIES: Final = ("PreferDualStack", "RequireDualStack", "SingleStack")
_MOST_ENDPOINTS: Final = 1000
_MOST_ADDRESSES: Final = 100


def service(obj: Mapping[str, Any]) -> Errors:
    spec = obj.get("spec") or {}
    kind, headless = spec.get("type"), spec.get("clusterIP") == "None"
    yield from fields.one_of("spec.type", kind, _TYPES)
    yield from fields.one_of("spec.sessionAffinity", spec.get("sessionAffinity"), ("ClientIP", "None"))
    if not spec.get("ports") and not headless and kind != "ExternalName":
        yield fields.required("spec.ports")
    yield from _ports(spec)
    yield from fields.labels("spec.selector", spec.get("selector"))
    yield from _addresses(spec)
    if kind == "ExternalName":
        yield from _external_name(spec)
    elif kind in ("NodePort", "LoadBalancer") and headless:
        text = f"may not be set to 'None' for {kind} services"
        yield fields.invalid("spec.clusterIPs[0]", "None", text)
    for field in ("internalTrafficPolicy", "externalTrafficPolicy"):
        yield from fields.one_of(f"spec.{field}", spec.get(field), _POLICIES, optional=True)
    if spec.get("externalTrafficPolicy") and kind == "ClusterIP" and not spec.get("externalIPs"):
        yield fields.invalid(
            "spec.externalTrafficPolicy",
            spec["externalTrafficPolicy"],
            "may only be set for externally-accessible services",
        )
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is not None and not 0 < seconds <= 86400:
        path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        yield fields.invalid(path, seconds, "must be greater than 0 and less than 86400")


def _ports(spec: Mapping[str, Any]) -> Errors:
    ports = spec.get("ports") or []
    names: set[str] = set()
    pairs: set[tuple[Any, Any]] = set()
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
        if spec.get("type") in ("ClusterIP", "ExternalName") and port.get("nodePort"):
            yield fields.forbidden(f"{path}.nodePort", f"may not be used when `type` is '{spec['type']}'")
        if port.get("appProtocol"):
            yield from fields.qualified_name(f"{path}.appProtocol", port["appProtocol"])
        pair = (port.get("protocol"), port.get("port"))
        if pair in pairs:
            yield fields.duplicate(path, {"protocol": pair[0], "port": pair[1]})
        pairs.add(pair)


def _addresses(spec: Mapping[str, Any]) -> Errors:
    given = spec.get("clusterIPs") or []
    if given and spec.get("clusterIP") != given[0]:
        yield fields.invalid("spec.clusterIPs", given, "first value must match `clusterIP`")
    for index, address in enumerate(given):
        if address != "None" and spec.get("type") != "ExternalName":
            yield from ip_address(f"spec.clusterIPs[{index}]", address)
    if len(given) > 2:
        yield fields.invalid("spec.clusterIPs", given, "may only hold up to 2 values")
    for index, address in enumerate(spec.get("externalIPs") or []):
        yield from ip_address(f"spec.externalIPs[{index}]", address)
    yield from fields.one_of("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), _FAMILY_POLICIES, optional=True)
    for index, family in enumerate(spec.get("ipFamilies") or []):
        yield from fields.one_of(f"spec.ipFamilies[{index}]", family, ("IPv4", "IPv6"))


def _external_name(spec: Mapping[str, Any]) -> Errors:
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        yield fields.required("spec.externalName")
    else:
        yield from fields.dns_subdomain("spec.externalName", name)
    if spec.get("clusterIP") or spec.get("clusterIPs"):
        yield fields.forbidden("spec.clusterIPs", "may not be set when `type` is 'ExternalName'")


def service_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    """A ClusterIP stays for as long as the service has one."""
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return
    if spec.get("clusterIP") != before.get("clusterIP"):
        yield fields.invalid("spec.clusterIPs[0]", spec.get("clusterIPs"), "may not change once set")


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
                yield from endpoint_address(f"{path}.{part}[{number}].ip", address.get("ip") or "")
        ports = subset.get("ports") or []
        for number, port in enumerate(ports):
            if len(ports) > 1 and not port.get("name"):
                yield fields.required(f"{path}.ports[{number}].name")
            yield from _endpoint_port(f"{path}.ports[{number}]", port)


def _endpoint_port(path: str, port: Mapping[str, Any]) -> Errors:
    if port.get("name"):
        yield from fields.dns_label(f"{path}.name", port["name"])
    if port.get("port") is not None:
        yield from fields.port_number(f"{path}.port", port["port"])
    yield from fields.one_of(f"{path}.protocol", port.get("protocol"), _PROTOCOLS)


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
            yield fields.required(path, "must contain at least 1 address")
        if len(addresses) > _MOST_ADDRESSES:
            yield FieldError("FieldValueTooMany", path, f"must have at most {_MOST_ADDRESSES} items", len(addresses))
        for number, address in enumerate(addresses):
            yield from _slice_address(f"{path}[{number}]", address, kind)
    names: set[str] = set()
    for index, port in enumerate(obj.get("ports") or []):
        if (port.get("name") or "") in names:
            yield fields.duplicate(f"ports[{index}].name", port.get("name") or "")
        names.add(port.get("name") or "")
        yield from _endpoint_port(f"ports[{index}]", port)


def _slice_address(path: str, address: str, kind: str) -> Errors:
    if kind == "FQDN":
        yield from fields.dns_subdomain(path, address)
        return
    wrong = list(endpoint_address(path, address))
    yield from wrong
    if not wrong and kind in ("IPv4", "IPv6") and (":" in address) != (kind == "IPv6"):
        yield fields.invalid(path, address, f"must be an {kind} address")


def endpoint_slice_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    if new.get("addressType") != old.get("addressType"):
        yield fields.invalid("addressType", new.get("addressType"), "field is immutable")
