"""Whether a Pod that came from the API server says anything that its worker did not put there itself."""

from collections.abc import Mapping
from typing import Any

from bridge.conditions import OWNED
from vkcri.api import pods


def is_echo(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the two differ in nothing but what our own report has put there."""
    return _essence(old) == _essence(new)


def _essence(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    metadata = {key: value for key, value in pod["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    status = pods.status(pod)
    foreign = [item for item in status.get("conditions") or [] if item.get("type") not in OWNED]
    return metadata, pod.get("spec"), foreign, pods.is_terminal(status) and status.get("phase")
