"""The resources in a PodStatus: what the node has granted (allocatedResources) and what cgroups are held to
(resources). Pure; the kubelet's convertContainerStatusResources and convertToAPIPodLevelResourcesStatus.

An amount that comes out of a cgroup as it went in is shown in the pod's own words. Below the least that a cgroup can
hold, where the two always differ, the words count.
"""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from bridge.actions import Prior
from bridge.lives import Life
from bridge.resizing import running_sizes
from bridge.spec.resources import MIN_SHARES, Sizes, millis_of_quota, millis_of_shares
from vkcri.api import pods, quantities, resources

Pod = Mapping[str, Any]
Status = dict[str, Any]
MIN_LIMIT = 10
"""Thousandths of a CPU: the least that a quota can hold."""
_PARTS = ("requests", "limits")


def of_container(life: Life, prior: Prior) -> Status:
    """`resources` and `allocatedResources` of a ContainerStatus, for a container that CRI knows; its spec is as
    granted."""
    if life.run is None or life.remembered:
        return {}
    found = _plain(life.spec.get("resources"))
    status: Status = {"resources": found}
    if found.get("requests"):
        status["allocatedResources"] = dict(found["requests"])
    sizes = running_sizes(prior, life) if life.run.alive and life.kind != "ephemeral" else None
    if sizes is not None:
        _show(found, sizes, MIN_SHARES)
    return status


def of_pod(pod: Pod, prior: Prior, *, running: bool) -> Status:
    """The same of a PodStatus; with the overhead, which the pod's cgroup holds too."""
    requests, limits = _texts(resources.pod_requests(pod)), _texts(resources.pod_limits(pod))
    status: Status = {"allocatedResources": requests} if requests else {}
    if not running:
        return {**status, "resources": _plain({"requests": requests, "limits": limits})}
    if prior.pod_sized is None:
        known = prior.status.get("resources")
        return {**status, **({"resources": known} if known is not None else {})}
    found = {part: dict(amounts) for part, amounts in _plain(pods.spec(pod).get("resources")).items()}
    for part in _PARTS:
        found.setdefault(part, {})
    if "memory" in requests:
        found["requests"].setdefault("memory", requests["memory"])
    _show(found, prior.pod_sized, MIN_SHARES)
    for name, held in (("cpu", prior.pod_sized.quota), ("memory", prior.pod_sized.memory)):
        shown = ((prior.status.get("resources") or {}).get("limits") or {}).get(name)
        if held is None and shown is not None:  # the kubelet goes on showing a limit that no cgroup holds
            found["limits"][name] = shown
    return {**status, "resources": _plain(found)}


def _show(found: dict[str, dict[str, Any]], sizes: Sizes, least: int) -> None:
    """Put what the cgroup is held to into those parts that there are."""
    if "requests" in found:
        _set(found["requests"], "cpu", Fraction(millis_of_shares(sizes.shares), 1000), Fraction(least, 1000))
    if "limits" in found and sizes.quota is not None:
        _set(found["limits"], "cpu", Fraction(millis_of_quota(sizes.quota), 1000), Fraction(MIN_LIMIT, 1000))
    if "limits" in found and sizes.memory is not None:
        _set(found["limits"], "memory", Fraction(sizes.memory), Fraction(0))


def _set(amounts: dict[str, Any], name: str, actual: Fraction, least: Fraction) -> None:
    held = quantities.parse(amounts.get(name, "0"))
    if actual != held and max(actual, held) > least:
        amounts[name] = quantities.format(actual, binary=name == "memory")


def _texts(amounts: resources.Amounts) -> dict[str, str]:
    return {name: quantities.format(amount, binary=name != "cpu") for name, amount in amounts.items()}


def _plain(given: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    return {part: dict(amounts) for part, amounts in (given or {}).items() if part in _PARTS and amounts}
