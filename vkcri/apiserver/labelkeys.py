"""matchLabelKeys and mismatchLabelKeys: what a new pod's own labels say is written into its selectors. Pure.

The scheduler then reads selectors alone. Source: the pod strategy's applyMatchLabelKeysAndMismatchLabelKeys and its
counterpart for topology spread constraints.
"""

from collections.abc import Iterator
from typing import Any, Final

from vkcri.api import pods

Object = dict[str, Any]
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"


def apply(pod: Object) -> None:
    """Extend the label selectors of a Pod's affinity terms and spread constraints."""
    labels = pods.labels(pod)
    for holder in _holders(pod.get("spec") or {}):
        selector = holder.get("labelSelector")
        if selector is None:
            continue
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")):
            for key in holder.get(field) or []:
                if key in labels:
                    requirement = {"key": key, "operator": operator, "values": [labels[key]]}
                    selector.setdefault("matchExpressions", []).append(requirement)


def _holders(spec: Object) -> Iterator[Object]:
    yield from spec.get("topologySpreadConstraints") or []
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity = (spec.get("affinity") or {}).get(kind) or {}
        yield from affinity.get(_REQUIRED) or []
        yield from (item["podAffinityTerm"] for item in affinity.get(_PREFERRED) or [] if item.get("podAffinityTerm"))
