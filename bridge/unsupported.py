"""Fields of a Pod that this version does not act upon. A pod that sets one is refused, never run without it. Pure.

The fields that the runtime may or may not vouch for are refused where its configuration is made (bridge.spec), and
volume kinds where volumes are made (bridge.volumes): both know more than the pod's text.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vkcri.api import pods

REASON = "UnsupportedField"
CONTAINER_FIELDS = ("livenessProbe", "readinessProbe", "startupProbe", "devices", "volumeDevices")
POD_FIELDS = ("resourceClaims", "runtimeClassName", "schedulingGates")
HOOKS = ("exec", "httpGet", "sleep")
"""What a postStart or preStop hook may do; tcpSocket is deprecated and does nothing in the kubelet either."""


def unsupported(pod: Mapping[str, Any]) -> list[str]:
    """The paths of all such fields that are set, in the spec's order; empty for a pod that may run."""
    return list(_find(pod))


def message(paths: list[str]) -> str:
    """What a person reads in the event and in the pod's status."""
    return f"not supported by this node: {', '.join(paths)}"


def _find(pod: Mapping[str, Any]) -> Iterator[str]:
    spec = pods.spec(pod)
    for field in POD_FIELDS:
        if spec.get(field):
            yield f"spec.{field}"
    if (spec.get("os") or {}).get("name") not in (None, "", "linux"):
        yield "spec.os.name"
    lists = {"init": "initContainers", "container": "containers", "ephemeral": "ephemeralContainers"}
    counts: dict[str, int] = {}
    for kind, container in pods.all_containers(pod):
        index = counts[kind] = counts.get(kind, -1) + 1
        for field in _find_in(container):
            yield f"spec.{lists[kind]}[{index}].{field}"


def _find_in(container: Mapping[str, Any]) -> Iterator[str]:
    for field in CONTAINER_FIELDS:
        if container.get(field):
            yield field
    if (container.get("resources") or {}).get("claims"):
        yield "resources.claims"
    for index, rule in enumerate(container.get("restartPolicyRules") or []):
        if rule.get("action") != "Restart":
            yield f"restartPolicyRules[{index}].action"
    for when in ("postStart", "preStop"):
        hook = (container.get("lifecycle") or {}).get(when) or {}
        for kind in hook:
            if kind not in HOOKS:
                yield f"lifecycle.{when}.{kind}"
