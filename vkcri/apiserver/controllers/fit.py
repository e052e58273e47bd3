"""Whether a pod fits a node, and if not why, in the scheduler's words. Pure.

The filters are those of kube-scheduler's default plugins that mean something on one guest: unschedulable, taints, node
selector and affinity, pod affinity, spread, host ports, resources. Preemption is not among them.
"""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from vkcri.api import pods, quantities, selectors
from vkcri.api.placement import NOT_MATCHED, PORTS_TAKEN, ports_clash, tolerates
from vkcri.api.selectors import LabelSelector, Requirement

Object = Mapping[str, Any]
Amounts = dict[str, Fraction]
Namespaces = Mapping[str, Mapping[str, str]]
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_HARD: Final = ("NoSchedule", "NoExecute")
_HARD_SPREAD: Final = "DoNotSchedule"
_BY_READINESS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_UNSCHEDULABLE: Final = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_NOT_READY: Final = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


def reasons(
    pod: Object, node: Object, placed: Sequence[Object], nodes: Sequence[Object], namespaces: Namespaces | None = None
) -> list[str]:
    """Why the pod cannot go to the node; empty where it can. `placed`: all bound pods that have not ended, on all
    `nodes`; `namespaces`: their labels by name. The first filter that refuses speaks, the resources all at once, as in
    kube-scheduler."""
    here = [item for item in placed if pods.spec(item).get("nodeName") == node["metadata"]["name"]]
    filters: tuple[Callable[[], list[str]], ...] = (
        lambda: _unschedulable(pod, node),
        lambda: _taints(pod, node),
        lambda: _affinity(pod, node),
        lambda: _host_ports(pod, here),
        lambda: _resources(pod, node, here),
        lambda: _spread(pod, node, placed, nodes),
        lambda: _pod_affinity(pod, node, placed, nodes, namespaces or {}),
    )
    return next((found for look in filters if (found := look())), [])


def helped_by_preemption(found: Sequence[str]) -> bool:
    """Whether removing pods could help at all: only against what pods take from each other."""
    taken = ("Insufficient ", "Too many pods", "node(s) didn't have free ports", "node(s) didn't satisfy existing")
    return all(reason.startswith(taken) or "anti-affinity" in reason for reason in found)


def total_requests(pod: Object) -> Amounts:
    """What a pod asks of its node: ordinary containers and sidecars summed, an ordinary init container at its peak with
    the sidecars before it, pod-level requests instead where set, overhead added."""
    spec = pods.spec(pod)
    running: Amounts = {}
    peak: Amounts = {}
    for container in spec.get("initContainers") or []:
        if pods.is_sidecar(container):
            running = _sum(running, _requests(container))
            peak = _most(peak, running)
        else:
            peak = _most(peak, _sum(running, _requests(container)))
    for container in spec.get("containers") or []:
        running = _sum(running, _requests(container))
    peak = _most(peak, running) | _requests(spec)
    return _sum(peak, _parsed(spec.get("overhead") or {}))


def held_requests(pod: Object) -> Amounts:
    """What a placed pod has of its node: the most of what it asks for, what the node has granted it and what it runs
    with, while a resize is under way."""
    found = total_requests(pod)
    for field in ("allocatedResources", "resources"):
        found = _most(found, total_requests(_with_status(pod, field)))
    return found


def _with_status(pod: Object, field: str) -> Object:
    """The pod as if it asked for what a field of its containers' statuses says."""
    status = pods.status(pod)
    listed = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    told = {item.get("name"): item[field] for item in listed if item.get(field)}
    spec = dict(pods.spec(pod))
    for kind in ("containers", "initContainers"):
        spec[kind] = [
            {**item, "resources": {"requests": _requests_told(told[item["name"]], field)}}
            if item["name"] in told
            else item
            for item in spec.get(kind) or []
        ]
    return {**pod, "spec": spec}


def _requests_told(told: Object, field: str) -> Object:
    return told if field == "allocatedResources" else told.get("requests") or {}


def _requests(holder: Object) -> Amounts:
    return _parsed((holder.get("resources") or {}).get("requests") or {})


def _parsed(amounts: Mapping[str, Any]) -> Amounts:
    return {name: quantities.parse(amount) for name, amount in amounts.items()}


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, Fraction(0)) + other.get(name, Fraction(0)) for name in one | other}


def _most(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, Fraction(0)), other.get(name, Fraction(0))) for name in one | other}


def is_ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def _unschedulable(pod: Object, node: Object) -> list[str]:
    if (node.get("spec") or {}).get("unschedulable") and not tolerates(pod, _UNSCHEDULABLE):
        return ["node(s) were unschedulable"]
    return []


def _taints(pod: Object, node: Object) -> list[str]:
    """The first taint that the pod does not tolerate. A node that is not ready takes nobody here, tolerant or not: it
    has no agent that would start the pod."""
    if not is_ready(node):
        return [_untolerated(_NOT_READY)]
    for taint in (node.get("spec") or {}).get("taints") or []:
        if taint.get("key") in _BY_READINESS and taint.get("effect") == "NoSchedule":
            continue  # left of a moment ago, when it was not ready
        if taint.get("effect") in _HARD and not tolerates(pod, taint):
            return [_untolerated(taint)]
    return []


def _untolerated(taint: Mapping[str, Any]) -> str:
    return f"node(s) had untolerated taint {{{taint.get('key')}: {taint.get('value') or ''}}}"


def _affinity(pod: Object, node: Object) -> list[str]:
    spec = pods.spec(pod)
    labels = node["metadata"].get("labels") or {}
    fits = selectors.from_map(spec.get("nodeSelector")).matches(labels)
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    if fits and required is not None:
        fits = any(_term_matches(term, node) for term in required.get("nodeSelectorTerms") or [])
    return [] if fits else [NOT_MATCHED]


_OPERATORS: Final = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": ">", "Lt": "<"}


def _term_matches(term: Object, node: Object) -> bool:
    """All of a term's requirements; a term without any matches nothing."""
    expressions, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not by_field:
        return False
    labels = node["metadata"].get("labels") or {}
    names = {"metadata.name": node["metadata"]["name"]}
    return _all_match(expressions, labels) and _all_match(by_field, names)


def _all_match(expressions: Sequence[Object], labels: Mapping[str, str]) -> bool:
    requirements = tuple(
        Requirement(item["key"], _OPERATORS[item["operator"]], tuple(item.get("values") or ())) for item in expressions
    )
    return LabelSelector(requirements).matches(labels)


def _host_ports(pod: Object, here: Sequence[Object]) -> list[str]:
    return [PORTS_TAKEN] if ports_clash(pod, here) else []


def _resources(pod: Object, node: Object, here: Sequence[Object]) -> list[str]:
    allocatable = _parsed((node.get("status") or {}).get("allocatable") or {})
    found = []
    if len(here) + 1 > allocatable.get("pods", Fraction(0)):
        found.append("Too many pods")
    used: Amounts = {}
    for item in here:
        used = _sum(used, held_requests(item))
    for name, amount in sorted(total_requests(pod).items()):
        if amount > 0 and used.get(name, Fraction(0)) + amount > allocatable.get(name, Fraction(0)):
            found.append(f"Insufficient {name}")
    return found


def _spread(pod: Object, node: Object, placed: Sequence[Object], nodes: Sequence[Object]) -> list[str]:
    text = "node(s) didn't match pod topology spread constraints"
    for constraint in pods.spec(pod).get("topologySpreadConstraints") or []:
        if constraint.get("whenUnsatisfiable") != _HARD_SPREAD:
            continue
        key = constraint["topologyKey"]
        domain = _topology(node, key)
        if domain is None:
            return [f"{text} (missing required label)"]
        selector = selectors.from_object(constraint.get("labelSelector"))
        counted = [item for item in nodes if _counts_for_spread(constraint, pod, item)]
        counts = {value: 0 for item in counted if (value := _topology(item, key)) is not None}
        for other in _same_namespace(pod, placed):
            where = _topology_of_pod(other, counted, key)
            if where is not None and selector.matches(pods.labels(other)) and not pods.deletion_timestamp(other):
                counts[where] += 1
        least = 0 if len(counts) < (constraint.get("minDomains") or 1) else min(counts.values())
        if counts.get(domain, 0) + selector.matches(pods.labels(pod)) - least > constraint["maxSkew"]:
            return [text]
    return []


def _counts_for_spread(constraint: Object, pod: Object, node: Object) -> bool:
    """Whether a node's pods and its domain count: by nodeAffinityPolicy (Honor, if nothing is said) where the pod's
    node affinity takes it, by nodeTaintsPolicy (Ignore) where the pod tolerates its taints; and only if it has the
    topology of every such constraint."""
    for item in pods.spec(pod)["topologySpreadConstraints"]:
        if item.get("whenUnsatisfiable") == _HARD_SPREAD and _topology(node, item["topologyKey"]) is None:
            return False
    if constraint.get("nodeAffinityPolicy") != "Ignore" and _affinity(pod, node):
        return False
    if constraint.get("nodeTaintsPolicy") != "Honor":
        return True
    taints = [item for item in (node.get("spec") or {}).get("taints") or [] if item.get("effect") in _HARD]
    return all(tolerates(pod, taint) for taint in taints)


def _same_namespace(pod: Object, placed: Sequence[Object]) -> list[Object]:
    return [item for item in placed if pods.namespace(item) == pods.namespace(pod)]


def _topology(node: Object, key: str) -> str | None:
    labels: Mapping[str, str] = node["metadata"].get("labels") or {}
    return labels.get(key)


def _topology_of_pod(pod: Object, nodes: Sequence[Object], key: str) -> str | None:
    name = pods.spec(pod).get("nodeName")
    return next((_topology(node, key) for node in nodes if node["metadata"]["name"] == name), None)


def _pod_affinity(
    pod: Object, node: Object, placed: Sequence[Object], nodes: Sequence[Object], namespaces: Namespaces
) -> list[str]:
    for other in placed:
        if any(
            _term_takes(term, other, pod, namespaces) and _together(term, other, node, nodes)
            for term in _terms(other, "podAntiAffinity")
        ):
            return ["node(s) didn't satisfy existing pods anti-affinity rules"]
    for term in _terms(pod, "podAffinity"):
        matching = [other for other in placed if _term_takes(term, pod, other, namespaces)]
        first = (
            not matching
            and _term_takes(term, pod, pod, namespaces)
            and _topology(node, term["topologyKey"]) is not None
        )
        if not first and not any(_together(term, other, node, nodes) for other in matching):
            return ["node(s) didn't match pod affinity rules"]
    for term in _terms(pod, "podAntiAffinity"):
        taken = [other for other in placed if _term_takes(term, pod, other, namespaces)]
        if any(_together(term, other, node, nodes) for other in taken):
            return ["node(s) didn't match pod anti-affinity rules"]
    return []


def _terms(pod: Object, kind: str) -> list[Object]:
    return ((pods.spec(pod).get("affinity") or {}).get(kind) or {}).get(_REQUIRED) or []


def _term_takes(term: Object, owner: Object, other: Object, namespaces: Namespaces) -> bool:
    """Whether a term of `owner` is about the pod `other`: in a namespace that it names or selects by labels, in the
    owner's own if it does neither."""
    named, selector = term.get("namespaces") or [], term.get("namespaceSelector")
    if not named and selector is None:
        named = [pods.namespace(owner)]
    selected = selector is not None and selectors.from_object(selector).matches(
        namespaces.get(pods.namespace(other)) or {}
    )
    if pods.namespace(other) not in named and not selected:
        return False
    return selectors.from_object(term.get("labelSelector")).matches(pods.labels(other))


def _together(term: Object, other: Object, node: Object, nodes: Sequence[Object]) -> bool:
    """Whether the node is in the topology domain of the pod `other`."""
    domain = _topology(node, term["topologyKey"])
    return domain is not None and domain == _topology_of_pod(other, nodes, term["topologyKey"])
