"""RuntimeClass admission: a pod that names a class gets the class' overhead and its place to be scheduled to.

Reads the store. Source: plugin/pkg/admission/runtimeclass; tolerations are joined as MergeTolerations joins them.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from vkcri.api import quantities
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.status import StatusError

Toleration = Mapping[str, Any]


def admit(pod: dict[str, Any], ctx: RequestContext) -> None:
    """Write overhead, nodeSelector and tolerations into the pod. Raises StatusError 403 for a class that there is not,
    for an overhead that is not its, and for a nodeSelector that contradicts it."""
    spec, pod_name = pod["spec"], str(pod["metadata"].get("name") or "")
    name = spec.get("runtimeClassName")
    found = ctx.store.get("node.k8s.io/runtimeclasses", "", name) if name else None
    if name and found is None:
        raise _rejected(pod_name, f'RuntimeClass "{name}" not found')
    _set_overhead(spec, found or {}, pod_name)
    if found and found.get("scheduling"):
        _set_scheduling(spec, found["scheduling"], pod_name)


def _rejected(pod_name: str, why: str) -> StatusError:
    return StatusError.forbidden("pods", pod_name, f"pod rejected: {why}")


def _set_overhead(spec: dict[str, Any], runtime_class: Mapping[str, Any], pod_name: str) -> None:
    own = spec.get("overhead") or {}
    if runtime_class.get("overhead") is None:
        if own:
            text = "Pod Overhead set without corresponding RuntimeClass defined Overhead"
            raise _rejected(pod_name, text)
        return
    fixed = runtime_class["overhead"].get("podFixed") or {}
    if own and _amounts(own) != _amounts(fixed):
        raise _rejected(pod_name, "Pod's Overhead doesn't match RuntimeClass's defined Overhead")
    if fixed:
        spec["overhead"] = dict(fixed)


def _amounts(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: quantities.parse(amount) for name, amount in given.items()}


def _set_scheduling(spec: dict[str, Any], scheduling: Mapping[str, Any], pod_name: str) -> None:
    selector = spec.get("nodeSelector") or {}
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if selector.get(key, value) != value:
            text = f"runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = "
            raise StatusError.forbidden("pods", pod_name, f"conflict: {text}{selector[key]}")
        selector = {**selector, key: value}
    merged = merge_tolerations([*(spec.get("tolerations") or []), *(scheduling.get("tolerations") or [])])
    for field, value in (("nodeSelector", selector), ("tolerations", merged)):
        if value:
            spec[field] = value


def merge_tolerations(given: list[Toleration]) -> list[dict[str, Any]]:
    """Those that no other covers, in their order; of equal ones the first."""
    return [copy.deepcopy(dict(item)) for item in _uncovered(given)]


def _uncovered(given: list[Toleration]) -> Iterator[Toleration]:
    kept: list[Toleration] = []
    for index, item in enumerate(given):
        later = (other for other in given[index + 1 :] if other != item)
        if not any(_covers(other, item) for other in (*kept, *later)):
            kept.append(item)
            yield item


def _covers(wide: Toleration, narrow: Toleration) -> bool:
    """Whether `wide` tolerates all that `narrow` does. An empty operator is Equal in the wide one only, as there."""
    if wide == narrow:
        return True
    operator = wide.get("operator") or "Equal"
    any_key = not wide.get("key") and operator == "Exists"
    if not any_key and (wide.get("key") or "") != (narrow.get("key") or ""):
        return False
    if wide.get("effect") and wide["effect"] != narrow.get("effect"):
        return False
    seconds, own = wide.get("tolerationSeconds"), narrow.get("tolerationSeconds")
    if wide.get("effect") == "NoExecute" and seconds is not None and (own is None or own > seconds):
        return False
    if operator == "Exists":
        return True
    return narrow.get("operator") == "Equal" and (wide.get("value") or "") == (narrow.get("value") or "")
