"""Service ports as nft text: a whole table, or the difference between two. Pure; vkcri.proxy.apply runs it.

One table a family. Two verdict maps lead to a chain a service port: `service-ips` by address, protocol and port, and
`node-ports` by protocol and port; the chain picks an endpoint by `numgen random` and rewrites the destination (nat
hooks see a connection's first packet only). What has a ClusterIP and no endpoint, or the wrong port, is refused behind
the nat hooks, where only unserved traffic still has that address. Masqueraded is: a pod that reaches itself, what comes
to a ClusterIP from off the pod subnets (or, without br_netfilter, from anywhere: else the answer of a pod on the same
bridge would bypass the rewriting), and what came to a node port or an external address and may leave to another node.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vkcri.proxy.model import ServicePort, Targets, version

MASQUERADE_MARK = "0x4000"  # Kubernetes' own bit
BATCH = 500
MAPS = {
    "service-ips": "map",
    "node-ports": "map",
    "unserved-ips": "map",
    "unserved-ports": "map",
    "cluster-ips": "set",
    "hairpins": "set",
}


@dataclass(frozen=True)
class Ruleset:
    """A table's wanted content. base: rules that no Service changes. chains: name -> rules. elements: name of a map or
    set -> key -> verdict ("" in a set). affinity: name of a set of clients -> seconds that it remembers them."""

    family: str
    table: str
    base: Mapping[str, tuple[str, ...]]
    chains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    elements: dict[str, dict[str, str]] = field(default_factory=lambda: {name: {} for name in MAPS})
    affinity: dict[str, int] = field(default_factory=dict)


def ruleset(
    family: str, table: str, ports: Iterable[ServicePort], subnets: Iterable[str], *, masquerade_all: bool = False
) -> Ruleset:
    """The rules of one family, `ip` or `ip6`. ports and subnets of the other are passed over."""
    wanted = 6 if family == "ip6" else 4
    mine = tuple(sorted(item for item in subnets if version(item) == wanted))
    rules = Ruleset(family, table, _base(family, () if masquerade_all else mine))
    for port in ports:
        if version(port.cluster_ips[0]) == wanted:
            _add(rules, port, mine)
    return rules


def whole(rules: Ruleset, standing: Ruleset | None = None) -> str:
    """The table anew in one transaction. With what stands, not by way of deletion, so that the clients' affinity lasts;
    what is there and unknown to us then stays, unreferenced."""
    table = f"{rules.family} {rules.table}"
    lines = [f"add table {table}"]
    lines += [f"flush table {table}"] if standing else [f"delete table {table}", f"add table {table}"]
    lines += [_declare(rules, name) for name in MAPS]
    if standing:
        lines += [f"flush {kind} {table} {name}" for name, kind in MAPS.items()]
        lines += _delete_gone(standing, rules)
    lines += _add_affinity(rules, rules.affinity)
    lines += [f"add chain {table} {name}" for name in rules.chains]
    lines += [f"add chain {table} {name} {hook}".rstrip() for name, hook in HOOKS.items()]
    lines += [f"add rule {table} {name} {rule}" for name, chain in rules.base.items() for rule in chain]
    lines += _add_rules(rules, rules.chains)
    for name, elements in rules.elements.items():
        lines += _elements("add", rules, name, elements)
    return "\n".join(lines) + "\n"


def difference(old: Ruleset, new: Ruleset) -> str:
    """What makes `new` of `old`, in one transaction; empty where nothing differs. Both have the same base."""
    table = f"{new.family} {new.table}"
    fresh = [name for name in new.chains if name not in old.chains]
    changed = [name for name, chain in new.chains.items() if name in old.chains and old.chains[name] != chain]
    lines = _add_affinity(new, {name: value for name, value in new.affinity.items() if name not in old.affinity})
    lines += [f"add chain {table} {name}" for name in fresh]
    lines += [f"flush chain {table} {name}" for name in changed]
    lines += _add_rules(new, [*fresh, *changed])
    for name, elements in new.elements.items():
        before = old.elements[name]
        lines += _elements("delete", old, name, {k: v for k, v in before.items() if elements.get(k) != v})
        lines += _elements("add", new, name, {k: v for k, v in elements.items() if before.get(k) != v})
    lines += _delete_gone(old, new)
    return "\n".join(lines) + "\n" if lines else ""


def removal(table: str) -> str:
    """Both families' tables gone, whether they exist or not."""
    return "".join(f"add table {family} {table}\ndelete table {family} {table}\n" for family in ("ip", "ip6"))


HOOKS = {
    "services": "",
    "refused": "",
    "unserved": "",
    "nat-prerouting": "{ type nat hook prerouting priority -100; policy accept; }",
    "nat-output": "{ type nat hook output priority -100; policy accept; }",
    "nat-postrouting": "{ type nat hook postrouting priority 100; policy accept; }",
    "unserved-prerouting": "{ type filter hook prerouting priority -90; policy accept; }",
    "unserved-output": "{ type filter hook output priority 0; policy accept; }",
}


def _base(family: str, subnets: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The chains of HOOKS, filled. No subnets: whatever comes to a ClusterIP is masqueraded."""
    loopback = "::1" if family == "ip6" else "127.0.0.0/8"
    local = f"{family} daddr != {loopback} fib daddr type local meta l4proto . th dport vmap"
    address = f"{family} daddr . meta l4proto . th dport vmap"
    outside = f"{family} saddr != {{ {', '.join(subnets)} }} " if subnets else ""
    return {
        "services": (f"{address} @service-ips", f"{local} @node-ports"),
        "refused": ("reject",),
        "unserved": (f"{address} @unserved-ips", f"{local} @unserved-ports", f"{family} daddr @cluster-ips reject"),
        "nat-prerouting": ("jump services",),
        "nat-output": ("jump services",),
        "nat-postrouting": (
            f"ct status dnat {family} saddr . {family} daddr @hairpins masquerade fully-random",
            f"ct status dnat ct original {family} daddr @cluster-ips {outside}masquerade fully-random",
            f"ct status dnat meta mark and {MASQUERADE_MARK} == {MASQUERADE_MARK} masquerade fully-random",
        ),
        "unserved-prerouting": ("ct state new jump unserved",),
        "unserved-output": ("ct state new jump unserved",),
    }


def _add(rules: Ruleset, port: ServicePort, subnets: tuple[str, ...]) -> None:
    """A service port's chains and elements."""
    inside = _chain_name("svc", port)
    for item in port.cluster_ips:
        rules.elements["cluster-ips"][item] = ""
        if port.internal.endpoints:
            rules.elements["service-ips"][_at(item, port)] = f"goto {inside}"
        elif port.internal.dropped:
            rules.elements["unserved-ips"][_at(item, port)] = "drop"
    if port.internal.endpoints:
        rules.chains[inside] = tuple(_balance(rules, port, port.internal))
    if port.external_ips or port.node_port:
        _add_external(rules, port, subnets)
    for targets in (port.internal, port.external, port.everywhere):
        rules.elements["hairpins"].update((f"{item} . {item}", "") for item, _ in targets.endpoints)


def _add_external(rules: Ruleset, port: ServicePort, subnets: tuple[str, ...]) -> None:
    """Node port and external addresses: masqueraded, unless the policy keeps the client's address by staying here."""
    outside = _chain_name("ext", port)
    served, verdict = bool(port.everywhere.endpoints), f"goto {outside}"
    if served and port.external_local:
        rules.chains[f"all-{outside}"] = (_mark(), *_balance(rules, port, port.everywhere))
        own = [f"{rules.family} saddr {subnet} goto all-{outside}" for subnet in subnets]
        # Without an endpoint here the packet goes on as it is, to the map of what is unserved.
        rest = _balance(rules, port, port.external) if port.external.endpoints else ()
        rules.chains[outside] = (*own, f"fib saddr type local goto all-{outside}", *rest)
    elif served:
        rules.chains[outside] = (_mark(), *_balance(rules, port, port.external))
    unserved = "drop" if served else "goto refused"
    for item in port.external_ips:
        rules.elements["service-ips"].update({_at(item, port): verdict} if served else {})
        if not port.external.endpoints:
            rules.elements["unserved-ips"][_at(item, port)] = unserved
    if port.node_port:
        key = f"{port.protocol} . {port.node_port}"
        rules.elements["node-ports"].update({key: verdict} if served else {})
        if not port.external.endpoints:
            rules.elements["unserved-ports"][key] = unserved


def _balance(rules: Ruleset, port: ServicePort, targets: Targets) -> Iterator[str]:
    """The rules that choose one of the targets."""
    if port.affinity_seconds:
        yield from _balance_by_client(rules, port, targets)
        return
    protocol = f"meta l4proto {port.protocol} dnat"
    if len(targets.endpoints) == 1:
        yield f"{protocol} to {_socket(*targets.endpoints[0])}"
        return
    choices = ", ".join(f"{number} : {item} . {to}" for number, (item, to) in enumerate(targets.endpoints))
    yield f"{protocol} {rules.family} addr . port to numgen random mod {len(targets.endpoints)} map {{ {choices} }}"


def _balance_by_client(rules: Ruleset, port: ServicePort, targets: Targets) -> Iterator[str]:
    """A chain and a set of clients for each endpoint: who is in the set goes there again."""
    names = []
    for endpoint in targets.endpoints:
        digest = _digest(port.identity, str(port.affinity_seconds), *map(str, endpoint))
        clients, chain = f"clients-{digest}", f"ep-{digest}"
        rules.affinity[clients] = port.affinity_seconds
        rules.chains[chain] = (
            f"update @{clients} {{ {rules.family} saddr }}",
            f"meta l4proto {port.protocol} dnat to {_socket(*endpoint)}",
        )
        yield f"{rules.family} saddr @{clients} goto {chain}"
        names.append(chain)
    choices = ", ".join(f"{number} : goto {chain}" for number, chain in enumerate(names))
    yield f"numgen random mod {len(names)} vmap {{ {choices} }}"


def _mark() -> str:
    return f"meta mark set meta mark or {MASQUERADE_MARK}"


def _at(item: str, port: ServicePort) -> str:
    return f"{item} . {port.protocol} . {port.port}"


def _socket(item: str, port: int) -> str:
    return f"[{item}]:{port}" if version(item) == 6 else f"{item}:{port}"


def _chain_name(prefix: str, port: ServicePort) -> str:
    """Readable, unique and below the kernel's 128 characters."""
    return f"{prefix}-{_digest(port.identity)}-{port.identity}"[:120].rstrip("/.-")


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _declare(rules: Ruleset, name: str) -> str:
    address = "ipv6_addr" if rules.family == "ip6" else "ipv4_addr"
    types = {
        "service-ips": f"{address} . inet_proto . inet_service : verdict",
        "unserved-ips": f"{address} . inet_proto . inet_service : verdict",
        "node-ports": "inet_proto . inet_service : verdict",
        "unserved-ports": "inet_proto . inet_service : verdict",
        "cluster-ips": address,
        "hairpins": f"{address} . {address}",
    }
    return f"add {MAPS[name]} {rules.family} {rules.table} {name} {{ type {types[name]}; }}"


def _add_affinity(rules: Ruleset, sets: Mapping[str, int]) -> list[str]:
    address = "ipv6_addr" if rules.family == "ip6" else "ipv4_addr"
    return [
        f"add set {rules.family} {rules.table} {name} "
        f"{{ type {address}; size 65535; flags dynamic,timeout; timeout {seconds}s; }}"
        for name, seconds in sets.items()
    ]


def _add_rules(rules: Ruleset, names: Iterable[str]) -> list[str]:
    table = f"{rules.family} {rules.table}"
    return [f"add rule {table} {name} {rule}" for name in names for rule in rules.chains[name]]


def _delete_gone(old: Ruleset, new: Ruleset) -> list[str]:
    """Chains and affinity sets that nothing refers to any more."""
    table = f"{new.family} {new.table}"
    gone = [name for name in old.chains if name not in new.chains]
    return [
        *(f"flush chain {table} {name}" for name in gone),
        *(f"delete chain {table} {name}" for name in gone),
        *(f"delete set {table} {name}" for name in old.affinity if name not in new.affinity),
    ]


def _elements(verb: str, rules: Ruleset, name: str, elements: Mapping[str, str]) -> list[str]:
    items = [f"{key} : {value}" if value else key for key, value in elements.items()]
    table = f"{rules.family} {rules.table}"
    return [
        f"{verb} element {table} {name} {{ {', '.join(items[start : start + BATCH])} }}"
        for start in range(0, len(items), BATCH)
    ]
