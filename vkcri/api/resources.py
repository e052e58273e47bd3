"""What a whole pod asks for and may use: sums over its containers, by Kubernetes' component-helpers/resource. Pure.

Init containers run one after another, so the largest counts; a sidecar goes on running, so it adds to everything after
it. Pod-level resources override the sums, overhead comes on top.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Literal

from vkcri.api import pods, quantities

Amounts = dict[str, Fraction]
Field = Literal["requests", "limits"]


def container_amounts(container: Mapping[str, Any], field: Field) -> Amounts:
    """One container's requests or limits as exact amounts. A request left out is its limit, as the API server
    defaults."""
    resources = container.get("resources") or {}
    amounts = {name: quantities.parse(text) for name, text in (resources.get(field) or {}).items()}
    if field == "requests":
        limits = {name: quantities.parse(text) for name, text in (resources.get("limits") or {}).items()}
        amounts = {**limits, **amounts}
    return amounts


def pod_requests(pod: pods.Pod, *, overhead: bool = True) -> Amounts:
    """What the scheduler and admission count for the pod."""
    total = {**_aggregate(pod, "requests"), **_pod_level(pod, "requests")}
    return _added(total, _parsed(pods.spec(pod).get("overhead"))) if overhead else total


def pod_limits(pod: pods.Pod, *, overhead: bool = True) -> Amounts:
    """The pod's limits; a resource that some container leaves unlimited still has the sum of the others here, so ask
    `limits_declared` before enforcing it. Overhead is added to limits that are there."""
    total = {**_aggregate(pod, "limits"), **_pod_level(pod, "limits")}
    if overhead:
        for name, amount in _parsed(pods.spec(pod).get("overhead")).items():
            if total.get(name):
                total[name] += amount
    return total


def limits_declared(pod: pods.Pod, name: str) -> bool:
    """Whether the pod as a whole is limited in this resource: by itself or by every container and init container."""
    if _pod_level(pod, "limits").get(name):
        return True
    return all(
        container_amounts(container, "limits").get(name)
        for kind, container in pods.all_containers(pod)
        if kind != "ephemeral"
    )


def has_pod_level(pod: pods.Pod, field: Field) -> bool:
    return bool(_pod_level(pod, field))


def is_extended(name: str) -> bool:
    """Whether this is a resource that somebody advertises (a device plugin, an administrator's patch of the Node), and
    not one of Kubernetes' own."""
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


def _aggregate(pod: pods.Pod, field: Field) -> Amounts:
    total: Amounts = {}
    for container in pods.spec(pod).get("containers") or []:
        total = _added(total, container_amounts(container, field))
    sidecars: Amounts = {}
    largest: Amounts = {}
    for container in pods.spec(pod).get("initContainers") or []:
        amounts = container_amounts(container, field)
        if pods.is_sidecar(container):
            total, sidecars = _added(total, amounts), _added(sidecars, amounts)
            largest = _largest(largest, sidecars)
        else:
            largest = _largest(largest, _added(sidecars, amounts))
    return _largest(total, largest)


def _pod_level(pod: pods.Pod, field: Field) -> Amounts:
    level = (pods.spec(pod).get("resources") or {}).get(field)
    return {name: amount for name, amount in _parsed(level).items() if _is_pod_level(name)}


def _is_pod_level(name: str) -> bool:
    return name in ("cpu", "memory") or name.startswith("hugepages-")


def _parsed(amounts: Mapping[str, Any] | None) -> Amounts:
    return {name: quantities.parse(text) for name, text in (amounts or {}).items()}


def _added(left: Amounts, right: Amounts) -> Amounts:
    return {name: left.get(name, Fraction(0)) + right.get(name, Fraction(0)) for name in {**left, **right}}


def _largest(left: Amounts, right: Amounts) -> Amounts:
    return {name: max(left.get(name, Fraction(0)), right.get(name, Fraction(0))) for name in {**left, **right}}
