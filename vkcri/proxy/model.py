"""What Services and EndpointSlices mean: for each service port, the addresses it has and where its traffic goes. Pure.

kube-proxy's behaviour is the specification. An endpoint takes traffic while it is ready; where none is, those that end
but still serve do. A policy of Local keeps only this node's endpoints, and where it has none the traffic is dropped
though others exist. `publishNotReadyAddresses` needs no look here: the slices then say ready. Whatever comes from the
queue is checked on the way in (addresses, names, numbers), since it becomes text of a rule.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vkcri.errors import Invalid

AFFINITY_SECONDS = 10800
PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
SKIP_LABELS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Port:
    """A port of a Service; node_port 0: none."""

    name: str
    protocol: str
    port: int
    node_port: int = 0


@dataclass(frozen=True)
class Service:
    """A Service as far as rules need it. Addresses are canonical text of either family."""

    key: str
    cluster_ips: tuple[str, ...]
    ports: tuple[Port, ...]
    external_ips: tuple[str, ...] = ()
    affinity_seconds: int = 0
    internal_local: bool = False
    external_local: bool = False
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """An address of a slice. local: it runs on this node."""

    address: str
    local: bool
    ready: bool
    serving: bool
    terminating: bool


@dataclass(frozen=True)
class Slice:
    """An EndpointSlice; ports by (name, protocol)."""

    service: str
    ports: tuple[tuple[str, str, int], ...]
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True)
class Targets:
    """Where traffic goes: (address, port) pairs, sorted. None of them: `dropped` silently, or else refused."""

    endpoints: tuple[tuple[str, int], ...] = ()
    dropped: bool = False


@dataclass(frozen=True)
class ServicePort:
    """One port of one Service in one address family."""

    key: str
    name: str
    protocol: str
    port: int
    node_port: int
    cluster_ips: tuple[str, ...]
    external_ips: tuple[str, ...]
    affinity_seconds: int
    internal: Targets
    external: Targets
    everywhere: Targets
    external_local: bool

    @property
    def identity(self) -> str:
        return f"{self.key}/{self.protocol}/{self.name or self.port}"


def parse_service(raw: Mapping[str, Any]) -> Service | None:
    """None for one that has no rules (headless, ExternalName, another proxy's). Raises Invalid."""
    metadata, spec = raw.get("metadata") or {}, raw.get("spec") or {}
    key = _key(metadata, metadata.get("name"))
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP")]
    if _skipped(metadata) or spec.get("type") == "ExternalName" or addresses[0] in (None, "", "None"):
        return None
    ingress = ((raw.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    balancers = [item["ip"] for item in ingress if item.get("ip") and item.get("ipMode", "VIP") == "VIP"]
    unsupported = [name for name in ("loadBalancerSourceRanges", "healthCheckNodePort") if spec.get(name)]
    unsupported += [f"trafficDistribution={spec['trafficDistribution']}"] if spec.get("trafficDistribution") else []
    if spec.get("loadBalancerSourceRanges"):
        balancers = []  # open to all would be more than was asked for
    return Service(
        key=key,
        cluster_ips=tuple(address(item) for item in addresses),
        ports=tuple(_port(item) for item in spec.get("ports") or []),
        external_ips=tuple(sorted({address(item) for item in [*(spec.get("externalIPs") or []), *balancers]})),
        affinity_seconds=_affinity(spec),
        internal_local=spec.get("internalTrafficPolicy") == "Local",
        external_local=spec.get("externalTrafficPolicy") == "Local",
        unsupported=tuple(unsupported),
    )


def parse_slice(raw: Mapping[str, Any], node: str) -> Slice | None:
    """None for one that belongs to no Service or to another proxy. Raises Invalid."""
    metadata = raw.get("metadata") or {}
    owner = (metadata.get("labels") or {}).get("kubernetes.io/service-name")
    if not owner or _skipped(metadata) or raw.get("addressType") not in ("IPv4", "IPv6"):
        return None
    ports = tuple(
        (item.get("name") or "", _protocol(item), _number(item["port"]))
        for item in raw.get("ports") or []
        if item.get("port") is not None
    )
    endpoints = tuple(_endpoint(item, node) for item in raw.get("endpoints") or [] if item.get("addresses"))
    return Slice(_key(metadata, owner), ports, endpoints)


def build(services: Iterable[Service], slices: Iterable[Slice]) -> tuple[ServicePort, ...]:
    """Every service port of either family, in the order of their keys."""
    found: dict[tuple[str, str, str], dict[tuple[str, int], Endpoint]] = {}
    for part in slices:
        for name, protocol, port in part.ports:
            known = found.setdefault((part.service, name, protocol), {})
            for endpoint in part.endpoints:
                held = known.get((endpoint.address, port))
                if held is None or (endpoint.ready and not held.ready):  # it may stand in two slices for a while
                    known[endpoint.address, port] = endpoint
    ports = []
    for service in sorted(services, key=lambda item: item.key):
        for wanted in (4, 6):
            cluster_ips = _of(service.cluster_ips, wanted)
            for item in service.ports if cluster_ips else ():
                endpoints = found.get((service.key, item.name, item.protocol), {})
                ports.append(_service_port(service, item, cluster_ips, endpoints, wanted))
    return tuple(ports)


def usable(endpoints: Mapping[tuple[str, int], Endpoint], *, local: bool) -> Targets:
    """The endpoints that take traffic now."""
    total = _pick(endpoints)
    chosen = _pick({pair: item for pair, item in endpoints.items() if item.local}) if local else total
    return Targets(chosen, dropped=local and not chosen and bool(total))


def subnets(node: Mapping[str, Any], default: str) -> tuple[str, ...]:
    """The Node's pod subnets, canonical; the default where it says none. Raises Invalid."""
    spec = node.get("spec") or {}
    found = spec.get("podCIDRs") or [spec.get("podCIDR") or default]
    try:
        return tuple(str(ipaddress.ip_network(item, strict=False)) for item in found)
    except ValueError as error:
        raise Invalid(f"podCIDRs {found!r:.100}: {error}") from error


def address(text: object) -> str:
    """An IP address as canonical text. Raises Invalid."""
    try:
        return str(ipaddress.ip_address(str(text)))
    except ValueError as error:
        raise Invalid(f"{text!r:.100} is no IP address") from error


def version(text: str) -> int:
    """4 or 6, of a canonical address."""
    return 6 if ":" in text else 4


def _service_port(
    service: Service,
    port: Port,
    cluster_ips: tuple[str, ...],
    endpoints: Mapping[tuple[str, int], Endpoint],
    wanted: int,
) -> ServicePort:
    mine = {pair: item for pair, item in endpoints.items() if version(pair[0]) == wanted}
    return ServicePort(
        key=service.key,
        name=port.name,
        protocol=port.protocol,
        port=port.port,
        node_port=port.node_port,
        cluster_ips=cluster_ips,
        external_ips=_of(service.external_ips, wanted),
        affinity_seconds=service.affinity_seconds,
        internal=usable(mine, local=service.internal_local),
        external=usable(mine, local=service.external_local),
        everywhere=usable(mine, local=False),
        external_local=service.external_local,
    )


def _pick(endpoints: Mapping[tuple[str, int], Endpoint]) -> tuple[tuple[str, int], ...]:
    ready = [pair for pair, item in endpoints.items() if item.ready]
    return tuple(sorted(ready or [pair for pair, item in endpoints.items() if item.serving and item.terminating]))


def _of(addresses: tuple[str, ...], wanted: int) -> tuple[str, ...]:
    return tuple(item for item in addresses if version(item) == wanted)


def _skipped(metadata: Mapping[str, Any]) -> bool:
    return any(label in (metadata.get("labels") or {}) for label in SKIP_LABELS)


def _key(metadata: Mapping[str, Any], name: object) -> str:
    namespace = metadata.get("namespace")
    for part in (namespace, name):
        if not isinstance(part, str) or not _NAME.fullmatch(part):
            raise Invalid(f"{part!r:.300} is no name")
    return f"{namespace}/{name}"


def _port(item: Mapping[str, Any]) -> Port:
    name = item.get("name") or ""
    if name and not _NAME.fullmatch(name):
        raise Invalid(f"{name!r:.300} is no port's name")
    node_port = item.get("nodePort") or 0
    return Port(name, _protocol(item), _number(item.get("port")), _number(node_port) if node_port else 0)


def _protocol(item: Mapping[str, Any]) -> str:
    protocol = item.get("protocol") or "TCP"
    if protocol not in PROTOCOLS:
        raise Invalid(f"{protocol!r:.100} is no protocol")
    return PROTOCOLS[protocol]


def _number(value: object) -> int:
    if not isinstance(value, int) or not 1 <= value <= 65535:
        raise Invalid(f"{value!r:.100} is no port")
    return value


def _affinity(spec: Mapping[str, Any]) -> int:
    """Seconds for which a client keeps its endpoint; 0: no affinity."""
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    seconds = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds", AFFINITY_SECONDS)
    if not isinstance(seconds, int) or not 1 <= seconds <= 86400:
        raise Invalid(f"{seconds!r:.100} is no session affinity timeout")
    return seconds


def _endpoint(item: Mapping[str, Any], node: str) -> Endpoint:
    conditions = item.get("conditions") or {}
    ready = conditions.get("ready") is not False
    serving = ready if conditions.get("serving") is None else bool(conditions["serving"])
    terminating = bool(conditions.get("terminating"))
    return Endpoint(address(item["addresses"][0]), item.get("nodeName") == node, ready, serving, terminating)
