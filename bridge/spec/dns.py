"""A pod's DNSConfig by dnsPolicy and dnsConfig, as the kubelet's network/dns forms it. Pure.

Where the cluster has no DNS server, ClusterFirst falls back to the node's resolv.conf and says so: the events come from
`findings`.
"""

from collections.abc import Iterable

from bridge.pb.runtime.v1 import api_pb2
from bridge.spec import names
from bridge.spec.context import Finding, PodContext, ResolvConf
from vkcri.api import pods

MAX_SERVERS = 3
MAX_SEARCHES = 32
MAX_SEARCH_CHARACTERS = 2048
MAX_SEARCH_NAME = 253
CLUSTER_OPTIONS = ("ndots:5",)
MAX_FILE = 10 << 20


def parse_resolv_conf(text: str) -> ResolvConf:
    """nameserver lines add up, the last search line wins, of options with one name the last wins."""
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str] = {}
    for line in text[:MAX_FILE].splitlines():
        words = line.split()
        if not words or words[0].startswith(("#", ";")):
            continue
        if words[0] == "nameserver":
            servers.extend(words[1:2])
        elif words[0] == "search":
            searches = [word.removesuffix(".") for word in words[1:] if word != "."]
        elif words[0] == "options":
            options.update({word.split(":")[0]: word for word in words[1:]})
    return ResolvConf(tuple(servers), tuple(searches), tuple(options.values()))


def dns_config(pod: pods.Pod, ctx: PodContext) -> api_pb2.DNSConfig:
    """What the sandbox gets, within the resolver's limits (3 servers, 32 searches of 2048 characters)."""
    formed = _formed(pod, ctx)
    servers, searches = _fitted(formed)
    return api_pb2.DNSConfig(servers=servers, searches=searches, options=formed.options)


def findings(pod: pods.Pod, ctx: PodContext) -> tuple[Finding, ...]:
    """The events that go with dns_config: MissingClusterDNS, of node and pod, and DNSConfigForming."""
    found = []
    if _is_cluster(pod) and not ctx.cluster_dns:
        message = (
            'kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. '
            'Falling back to "Default" policy.'
        )
        found.append(Finding("Warning", "MissingClusterDNS", message, of_node=True))
        found.append(Finding("Warning", "MissingClusterDNS", f'pod: "{names.describe(pod)}". {message}'))
    formed = _formed(pod, ctx)
    servers, searches = _fitted(formed)
    if servers != formed.servers:
        found.append(_omitted("Nameserver limits were exceeded, some nameservers have", "nameserver", servers))
    if searches != formed.searches:
        found.append(_omitted("Search Line limits were exceeded, some search paths have", "search", searches))
    return tuple(found)


def _is_cluster(pod: pods.Pod) -> bool:
    policy = pods.spec(pod).get("dnsPolicy") or "ClusterFirst"
    return policy not in ("None", "Default") and not (policy == "ClusterFirst" and pods.host_network(pod))


def _formed(pod: pods.Pod, ctx: PodContext) -> ResolvConf:
    """Base by policy, then the pod's dnsConfig on top, limits not yet applied."""
    base = ctx.resolv_conf
    if pods.spec(pod).get("dnsPolicy") == "None":
        base = ResolvConf()
    elif _is_cluster(pod) and ctx.cluster_dns:
        base = ResolvConf(ctx.cluster_dns, _cluster_searches(pod, ctx), CLUSTER_OPTIONS)
    extra = pods.spec(pod).get("dnsConfig")
    if not extra:
        return base
    options = {option.partition(":")[0]: option for option in base.options}
    for option in extra.get("options") or []:
        name, value = option.get("name", ""), option.get("value")
        options[name] = f"{name}:{value}" if value else name
    return ResolvConf(
        _unique((*base.servers, *(extra.get("nameservers") or ()))),
        _unique((*base.searches, *(extra.get("searches") or ()))),
        tuple(options.values()),
    )


def _cluster_searches(pod: pods.Pod, ctx: PodContext) -> tuple[str, ...]:
    if not ctx.cluster_domain:
        return ctx.resolv_conf.searches
    service = f"svc.{ctx.cluster_domain}"
    return _unique((f"{pods.namespace(pod)}.{service}", service, ctx.cluster_domain, *ctx.resolv_conf.searches))


def _fitted(formed: ResolvConf) -> tuple[tuple[str, ...], tuple[str, ...]]:
    searches = [name for name in formed.searches[:MAX_SEARCHES] if len(name) <= MAX_SEARCH_NAME]
    while len(" ".join(searches)) > MAX_SEARCH_CHARACTERS:
        searches.pop()
    return formed.servers[:MAX_SERVERS], tuple(searches)


def _omitted(what: str, line: str, applied: tuple[str, ...]) -> Finding:
    message = f"{what} been omitted, the applied {line} line is: {' '.join(applied)}"
    return Finding("Warning", "DNSConfigForming", message)


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))
