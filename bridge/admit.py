"""Whether the node takes a pod: admit(pod, admitted, node) -> None or the kubelet's refusal. Pure.

Called under one lock in order of creation, before a pod's first action; a pod that already has a sandbox was admitted
once and is never refused after a restart. The reasons and messages are the kubelet's (lifecycle/predicate.go), because
controllers and people look for them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from bridge import unsupported
from bridge.spec import names, sysctls
from vkcri.api import placement, pods, quantities, resources, selectors
from vkcri.errors import Invalid

Pod = Mapping[str, Any]
_OUT_OF = {
    "pods": "OutOfpods",
    "cpu": "OutOfcpu",
    "memory": "OutOfmemory",
    "ephemeral-storage": "OutOfephemeral-storage",
}
NODE_AFFINITY = "NodeAffinity"
_OS_LABEL, _SYSTEM = "kubernetes.io/os", "linux"
_OPERATORS = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!", "Gt": ">", "Lt": "<"}


@dataclass(frozen=True)
class Refusal:
    """Why a pod is not taken: the status' reason and message, and the event's. missing: what the node has too little
    of, where that is why."""

    reason: str
    message: str
    missing: Mapping[str, Fraction] = field(default_factory=dict, compare=False)


def admit(
    pod: Pod,
    admitted: Iterable[Pod],
    allocatable: Mapping[str, Any],
    node: Mapping[str, Any],
    *,
    strict_groups: bool = False,
    allowed_sysctls: sysctls.Allowlist = sysctls.SAFE,
    requests: Callable[[Pod], resources.Amounts] = resources.pod_requests,
) -> Refusal | None:
    """None if the node takes the pod beside those admitted. allocatable: amounts by resource name; node: the Node;
    strict_groups: whether the runtime can leave out the groups that an image gives its user; allowed_sysctls: the
    kernel parameters that a pod may set; requests: `pod_requests`, or what remembers its answers for the pods
    admitted."""
    try:
        names.check_names(pod)
        _check_mounts(pod)
    except Invalid as error:
        return Refusal("InvalidPodSpec", str(error))
    elsewhere = _system(pod)
    if elsewhere is not None:
        return elsewhere
    missing = unsupported.unsupported(pod)
    if missing:
        return Refusal(unsupported.REASON, unsupported.message(missing))
    if wants_strict_groups(pod) and not strict_groups:
        message = "SupplementalGroupsPolicy=Strict is not supported in this node"
        return Refusal("SupplementalGroupsPolicyNotSupported", message)
    sysctl = sysctls.forbidden(pod, allowed_sysctls)
    if sysctl is not None:
        return Refusal("SysctlForbidden", sysctl)
    return fits(pod, admitted, allocatable, node, requests)


def fits(
    pod: Pod,
    admitted: Iterable[Pod],
    allocatable: Mapping[str, Any],
    node: Mapping[str, Any],
    requests: Callable[[Pod], resources.Amounts] = resources.pod_requests,
) -> Refusal | None:
    """None if there is room for the pod and it may be on this node: what a pod that runs is judged by when it asks for
    other resources. Whether it may run at all was settled when it was taken, perhaps by another version."""
    others = list(admitted)
    used = [requests(other) for other in others]
    room = {**_advertised(node), **allocatable}
    wanted = {name: amount for name, amount in resources.pod_requests(pod).items() if _is_counted(name, room)}
    return _resources(wanted, used, room) or place(pod, others, node)


def wants_strict_groups(pod: Pod) -> bool:
    """Whether the pod asks for what not every runtime can do: no groups but those that it names."""
    return (pods.spec(pod).get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict"


def _system(pod: Pod) -> Refusal | None:
    """A pod that its label or its spec says is for another operating system."""
    labels = pod["metadata"].get("labels") or {}
    if labels.get(_OS_LABEL, _SYSTEM) != _SYSTEM:
        message = f"Failed to admit pod as the `{_OS_LABEL}` label doesn't match node label"
        return Refusal("PodOSSelectorNodeLabelDoesNotMatch", message)
    if ((pods.spec(pod).get("os") or {}).get("name") or _SYSTEM) != _SYSTEM:
        return Refusal("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    return None


def _advertised(node: Mapping[str, Any]) -> dict[str, Any]:
    """The extended resources that the Node has: those of an administrator's patch stand there alone."""
    found = (node.get("status") or {}).get("allocatable") or {}
    return {name: amount for name, amount in found.items() if resources.is_extended(name)}


def _is_counted(name: str, room: Mapping[str, Any]) -> bool:
    """An extended resource that the node does not have is the cluster's own affair: whoever bound the pod has counted
    it."""
    return name in room or not resources.is_extended(name)


def _resources(
    wanted: resources.Amounts, admitted: list[resources.Amounts], allocatable: Mapping[str, Any]
) -> Refusal | None:
    figures: list[tuple[str, Fraction, Fraction, Fraction]] = []  # of what is short: name, asked, used, capacity
    limit = Fraction(int(quantities.parse(allocatable.get("pods", "110"))))
    if len(admitted) + 1 > limit:
        figures.append(("pods", Fraction(1), Fraction(len(admitted)), limit))
    used: dict[str, Fraction] = {}
    for other in admitted:
        for name, amount in other.items():
            used[name] = used.get(name, Fraction(0)) + amount
    for name, asked in sorted(wanted.items()):
        capacity = quantities.parse(allocatable.get(name, "0"))
        if asked > 0 and used.get(name, Fraction(0)) + asked > capacity:
            figures.append((name, asked, used.get(name, Fraction(0)), capacity))
    if not figures:
        return None
    missing = {name: asked + taken - capacity for name, asked, taken, capacity in figures}
    return replace(_out_of(*figures[0]), missing=missing)


def _out_of(name: str, asked: Fraction, used: Fraction, capacity: Fraction) -> Refusal:
    """The kubelet counts cpu in thousandths and everything else in units."""
    scale = 1000 if name == "cpu" else 1
    figures = [int(amount * scale) for amount in (asked, used, capacity)]
    message = "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}".format(name, *figures)
    return Refusal(_OUT_OF.get(name, f"OutOf{name}"), message)


def place(pod: Pod, others: Iterable[Pod], node: Mapping[str, Any]) -> Refusal | None:
    """Everything but room that a pod bound by hand may not meet: node affinity, the ports of the node that others have,
    and taints, of which a kubelet is interested in NoExecute, and for static pods in none."""
    if not _matches(pod, node):
        return _predicate(NODE_AFFINITY, placement.NOT_MATCHED)
    if placement.ports_clash(pod, others):
        return _predicate("NodePorts", placement.PORTS_TAKEN)
    taints = [taint for taint in (node.get("spec") or {}).get("taints") or [] if taint.get("effect") == "NoExecute"]
    if not pods.is_static(pod) and not all(placement.tolerates(pod, taint) for taint in taints):
        return _predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None


def _predicate(name: str, why: str) -> Refusal:
    return Refusal(name, f"Predicate {name} failed: {why}")


def _matches(pod: Pod, node: Mapping[str, Any]) -> bool:
    """By nodeSelector and required node affinity. Without a Node there is nothing to match."""
    if not node:
        return True
    labels = (node.get("metadata") or {}).get("labels") or {}
    name = (node.get("metadata") or {}).get("name", "")
    wanted = pods.spec(pod).get("nodeSelector") or {}
    affinity = ((pods.spec(pod).get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    fits = all(labels.get(key) == value for key, value in wanted.items())
    if fits and affinity is not None:
        fits = any(_term(term, labels, name) for term in affinity.get("nodeSelectorTerms") or [])
    return fits


def _term(term: Mapping[str, Any], labels: Mapping[str, str], name: str) -> bool:
    """Whether one nodeSelectorTerm holds; an empty one never does."""
    by_label, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not by_label and not by_field:
        return False
    fields = {"metadata.name": name}
    return all(_holds(item, labels) for item in by_label) and all(_holds(item, fields) for item in by_field)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    operator = _OPERATORS.get(str(expression.get("operator")))
    if operator is None:
        return False
    values = tuple(str(value) for value in expression.get("values") or ())
    return selectors.Requirement(str(expression.get("key")), operator, values).matches(labels)


def _check_mounts(pod: Pod) -> None:
    """Raises Invalid for a mount path that stands twice in a container, as the API server would have."""
    lists = {"init": "initContainers", "container": "containers", "ephemeral": "ephemeralContainers"}
    for kind, container in pods.all_containers(pod):
        seen: set[str] = set()
        for index, mount in enumerate(container.get("volumeMounts") or []):
            path = str(mount.get("mountPath") or "")
            where = f"spec.{lists[kind]}[{container['name']}].volumeMounts[{index}].mountPath"
            if not path:
                raise Invalid(f"{where}: Required value")
            if path in seen:
                raise Invalid(f'{where}: Invalid value: "{path}": must be unique')
            seen.add(path)
