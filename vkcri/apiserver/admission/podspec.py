"""What the server writes into pods and nodes besides plain defaults: priority, tolerations, first status, pod range.

Reads the store for a node's range only. Sources: the plugins Priority and DefaultTolerationSeconds, the pod strategy,
and the node IPAM controller (one node: its range is the instance's).
"""

import copy
from collections.abc import Mapping
from typing import Any, Final

from vkcri.api import pods
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.status import StatusError

_CLASSES: Final = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_PREEMPTION: Final = "PreemptLowerPriority"
_TAINTS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_TOLERATED_SECONDS: Final = 300


def set_priority(pod: dict[str, Any]) -> None:
    """The number behind priorityClassName; the two built-in classes are all there are. Raises StatusError 403."""
    spec, name = pod["spec"], str(pod["metadata"].get("name") or "")
    class_name = spec.get("priorityClassName") or ""
    if class_name and class_name not in _CLASSES:
        raise StatusError.forbidden("pods", name, f"no PriorityClass with name {class_name} was found")
    priority = _CLASSES.get(class_name, 0)
    if spec.get("priority") not in (None, priority):
        text = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            f"priority admission controller computed {priority} from the given PriorityClass name"
        )
        raise StatusError.forbidden("pods", name, text)
    if spec.get("preemptionPolicy") not in (None, _PREEMPTION):
        text = (
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
            f"priority admission controller computed {_PREEMPTION} from the given PriorityClass name"
        )
        raise StatusError.forbidden("pods", name, text)
    spec["priority"], spec["preemptionPolicy"] = priority, _PREEMPTION


def add_tolerations(pod: dict[str, Any]) -> None:
    """Five minutes on a node that is not ready or not reachable, unless the pod says otherwise."""
    tolerations = pod["spec"].setdefault("tolerations", [])
    given = list(tolerations)
    for taint in _TAINTS:
        if not any(_speaks_of(toleration, taint) for toleration in given):
            toleration = {"key": taint, "operator": "Exists", "effect": "NoExecute"}
            tolerations.append({**toleration, "tolerationSeconds": _TOLERATED_SECONDS})


def _speaks_of(toleration: Mapping[str, Any], taint: str) -> bool:
    return toleration.get("key") in (taint, "", None) and toleration.get("effect") in ("NoExecute", "", None)


def set_status(pod: dict[str, Any], ctx: RequestContext) -> None:
    """A new pod is Pending, with its QoS class; one with scheduling gates says that nobody schedules it yet."""
    status: dict[str, Any] = {"phase": "Pending", "qosClass": pods.qos_class(pod)}
    if pod["spec"].get("schedulingGates"):
        condition = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}
        condition["message"] = "Scheduling is blocked due to non-empty scheduling gates"
        status["conditions"] = [{**condition, "lastProbeTime": None, "lastTransitionTime": ctx.now()}]
    pod["status"] = status


def keep_on_update(pod: dict[str, Any], old: Mapping[str, Any]) -> None:
    """An update that leaves out what admission wrote keeps it; the QoS class never changes."""
    for field in ("priority", "preemptionPolicy", "serviceAccountName", "serviceAccount", "nodeName"):
        if pod["spec"].get(field) in (None, "") and field in old["spec"]:
            pod["spec"][field] = copy.deepcopy(old["spec"][field])
    if (old.get("status") or {}).get("qosClass"):
        pod.setdefault("status", {})["qosClass"] = old["status"]["qosClass"]


def add_not_ready_taint(node: dict[str, Any]) -> None:
    """A new node takes nobody before its agent has said that it is ready; the node lifecycle controller takes the taint
    away (the plugin TaintNodesByCondition)."""
    taints = node.setdefault("spec", {}).setdefault("taints", [])
    taint = {"key": _TAINTS[0], "effect": "NoSchedule"}
    if not any((item.get("key"), item.get("effect")) == tuple(taint.values()) for item in taints):
        taints.append(taint)


def set_pod_cidr(node: dict[str, Any], ctx: RequestContext) -> None:
    """The first node gets the instance's pod range; a further one gets none: this server is for one guest."""
    spec = node.setdefault("spec", {})
    subnet = str(ctx.settings.instance.pod_subnet)
    taken = [(item.get("spec") or {}).get("podCIDR") for item in ctx.store.list("/nodes")[0]]
    if not spec.get("podCIDR") and subnet not in taken:
        spec["podCIDR"], spec["podCIDRs"] = subnet, [subnet]
