"""Whether a Pod that came from the API server says anything that its worker did not put there itself."""

from collections.abc import Mapping
from typing import Any

from bridge.conditions import BY_KUBELET, DISRUPTED, REPORTED
from vkcri.api import pods


def is_echo(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the two differ in nothing but what our own report has put there."""
    return _essence(old) == _essence(new)


def _essence(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    metadata = {key: value for key, value in pod["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    status = pods.status(pod)
    foreign = [item for item in status.get("conditions") or [] if not _is_ours(item)]
    return metadata, pod.get("spec"), foreign, pods.is_terminal(status) and status.get("phase")


def _is_ours(condition: Mapping[str, Any]) -> bool:
    kind = condition.get("type")
    return kind in REPORTED or (kind == DISRUPTED and condition.get("reason") == BY_KUBELET)
