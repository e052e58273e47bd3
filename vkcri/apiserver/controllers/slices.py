"""What EndpointSlices and Endpoints a Service should have, from its pods. Pure.

Source: Kubernetes' staging/src/k8s.io/endpointslice: which pods count, the three conditions, ports by name, slices of
at most 100 endpoints that share their ports.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from vkcri.api import pods

Object = dict[str, Any]
SERVICE: Final = "kubernetes.io/service-name"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
CONTROLLER: Final = "endpointslice-controller.k8s.io"
MIRROR: Final = "endpointslicemirroring-controller.k8s.io"
MANAGERS: Final = (CONTROLLER, MIRROR)
MANAGED_ENDPOINTS: Final = "endpoints.kubernetes.io/managed-by"
_HEADLESS: Final = "service.kubernetes.io/headless"
_SKIP_MIRROR: Final = "endpointslice.kubernetes.io/skip-mirror"
_MOST_ENDPOINTS: Final = 100
_MOST_LEGACY: Final = 1000


def relevant(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    """Everything of a pod that endpoints depend on, to be compared."""
    spec, status = pods.spec(pod), pods.status(pod)
    addresses = tuple(item.get("ip") for item in status.get("podIPs") or [])
    ports = tuple(
        (port.get("name"), port.get("containerPort"), port.get("protocol"))
        for _, container in pods.all_containers(pod)
        for port in container.get("ports") or []
    )
    return (
        dict(pods.labels(pod)),
        status.get("podIP"),
        addresses,
        status.get("phase"),
        is_ready(pod),
        pods.deletion_timestamp(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
        ports,
    )


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pods.status(pod).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def labels(service: Object) -> dict[str, str]:
    """A slice's labels: the service's own and those by which it is found."""
    found = dict(service["metadata"].get("labels") or {})
    found.pop(_HEADLESS, None)
    if service["spec"].get("clusterIP") == "None":
        found[_HEADLESS] = ""
    manager = CONTROLLER if service["spec"].get("selector") else MIRROR
    return found | {SERVICE: pods.name(service), MANAGED_BY: manager}


def legacy_labels(service: Object) -> dict[str, str]:
    """The labels of a service's Endpoints."""
    found = dict(service["metadata"].get("labels") or {})
    if service["spec"].get("clusterIP") == "None":
        found[_HEADLESS] = ""
    return found | {MANAGED_ENDPOINTS: "endpoint-controller"}


def is_ours(item: Object, service: str) -> bool:
    """Whether this slice of the service is a controller's."""
    found = item["metadata"].get("labels") or {}
    return found.get(SERVICE) == service and found.get(MANAGED_BY) in MANAGERS


def equal(item: Object, content: Object, wanted: Mapping[str, str]) -> bool:
    """Whether a stored slice says just that."""
    same = all((item.get(key) or None) == (content.get(key) or None) for key in ("addressType", "endpoints", "ports"))
    return same and (item["metadata"].get("labels") or {}) == wanted


def replaceable(item: Object, content: Object) -> bool:
    """Whether a stored slice may become this one: its address type cannot change."""
    return bool(item.get("addressType") == content["addressType"])


def of_pods(service: Object, chosen: Sequence[Object]) -> list[Object]:
    """The slices (addressType, endpoints, ports) of a service with a selector; with no endpoint, one empty slice."""
    found = []
    for family in service["spec"].get("ipFamilies") or ["IPv4"]:
        groups: dict[tuple[Any, ...], tuple[list[Object], list[Object]]] = {}
        for pod in sorted(chosen, key=lambda pod: str(pod["metadata"]["name"])):
            address = _address(pod, family)
            if address is None or pods.is_terminal(pods.status(pod)):
                continue
            ports = _ports(service, pod)
            key = tuple((port["name"], port["port"], port["protocol"]) for port in ports)
            groups.setdefault(key, (ports, []))[1].append(_endpoint(service, pod, address))
        for ports, endpoints in groups.values() or [([], [])]:
            found += list(_chunks(family, ports, endpoints))
    return found


def _chunks(family: str, ports: list[Object], endpoints: list[Object]) -> Iterator[Object]:
    for start in range(0, max(len(endpoints), 1), _MOST_ENDPOINTS):
        part = endpoints[start : start + _MOST_ENDPOINTS]
        yield {"addressType": family, "endpoints": part, "ports": ports}


def _address(pod: Object, family: str) -> str | None:
    status = pods.status(pod)
    addresses = [item.get("ip") for item in status.get("podIPs") or []] or [status.get("podIP")]
    return next((ip for ip in addresses if ip and (":" in ip) == (family == "IPv6")), None)


def _ports(service: Object, pod: Object) -> list[Object]:
    """The service's ports as this pod has them; a name that the pod lacks leaves the port out."""
    found = []
    for port in service["spec"].get("ports") or []:
        number = _target(port, pod)
        if number is None:
            continue
        entry = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol") or "TCP"}
        if port.get("appProtocol"):
            entry["appProtocol"] = port["appProtocol"]
        found.append(entry)
    return found


def _target(port: Object, pod: Object) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    for kind, container in pods.all_containers(pod):
        if kind == "ephemeral" or (kind == "init" and not pods.is_sidecar(container)):
            continue
        for candidate in container.get("ports") or []:
            same_protocol = (candidate.get("protocol") or "TCP") == (port.get("protocol") or "TCP")
            if candidate.get("name") == target and same_protocol:
                return int(candidate["containerPort"])
    return None


def _endpoint(service: Object, pod: Object, address: str) -> Object:
    serving, terminating = is_ready(pod), pods.deletion_timestamp(pod) is not None
    ready = bool(service["spec"].get("publishNotReadyAddresses")) or (serving and not terminating)
    endpoint: Object = {
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": _reference(pod),
    }
    if pods.spec(pod).get("nodeName"):
        endpoint["nodeName"] = pods.spec(pod)["nodeName"]
    hostname = pods.spec(pod).get("hostname")
    if hostname and pods.spec(pod).get("subdomain") == pods.name(service):
        endpoint["hostname"] = hostname
    return endpoint


def _reference(pod: Object) -> Object:
    return {"kind": "Pod", "namespace": pods.namespace(pod), "name": pods.name(pod), "uid": pods.uid(pod)}


def legacy(service: Object, chosen: Sequence[Object]) -> list[Object]:
    """The subsets of a service's Endpoints: pods that are going are left out, at most 1,000 addresses."""
    groups: dict[tuple[Any, ...], Object] = {}
    count = 0
    unready_too = bool(service["spec"].get("publishNotReadyAddresses"))
    for pod in sorted(chosen, key=lambda pod: str(pod["metadata"]["name"])):
        address = _address(pod, (service["spec"].get("ipFamilies") or ["IPv4"])[0])
        if address is None or pods.is_terminal(pods.status(pod)) or (pods.deletion_timestamp(pod) and not unready_too):
            continue
        if count == _MOST_LEGACY:
            break
        count += 1
        ports = [_without_empty_name(port) for port in _ports(service, pod)]
        key = tuple((port.get("name"), port["port"], port["protocol"]) for port in ports)
        subset = groups.setdefault(key, {"ports": ports} if ports else {})
        part = "addresses" if unready_too or is_ready(pod) else "notReadyAddresses"
        entry: Object = {"ip": address, "targetRef": _reference(pod)}
        if pods.spec(pod).get("nodeName"):
            entry["nodeName"] = pods.spec(pod)["nodeName"]
        hostname = pods.spec(pod).get("hostname")
        if hostname and pods.spec(pod).get("subdomain") == pods.name(service):
            entry["hostname"] = hostname
        subset.setdefault(part, []).append(entry)
    return list(groups.values())


def _without_empty_name(port: Object) -> Object:
    return {key: value for key, value in port.items() if key != "name" or value}


def of_endpoints(written: Object | None) -> list[Object]:
    """The slices that mirror hand-written Endpoints; none where they ask not to be mirrored."""
    if written is None or (written["metadata"].get("labels") or {}).get(_SKIP_MIRROR) == "true":
        return []
    found = []
    for subset in written.get("subsets") or []:
        ports = [{"name": "", "protocol": "TCP", **port} for port in subset.get("ports") or []]
        for family in ("IPv4", "IPv6"):
            endpoints = []
            for part, ready in (("addresses", True), ("notReadyAddresses", False)):
                for address in subset.get(part) or []:
                    if (":" in address["ip"]) == (family == "IPv6"):
                        endpoints.append(_mirrored(address, ready))
            if endpoints:
                found += list(_chunks(family, ports, endpoints))
    return found


def _mirrored(address: Object, ready: bool) -> Object:
    endpoint: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for field in ("hostname", "nodeName", "targetRef"):
        if address.get(field):
            endpoint[field] = address[field]
    return endpoint
