"""The scheduler: a pod without a node gets one that takes it, or hears why none does.

A pod is looked at when it appears, and all waiting pods when a node changes or a pod gives something back. There is no
queue of priorities and no preemption: on one guest the pod with the higher priority goes first, then the older.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from vkcri.api import pods
from vkcri.apiserver import internal, pod_actions
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.controllers import events, fit
from vkcri.apiserver.controllers.loop import KeysOf
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
NAME: Final = "default-scheduler"
_EVERYTHING: Final = "waiting"
_SPEAK_AGAIN: Final = 300.0  # seconds between two looks at a pod that nothing happened to


class Scheduler:
    """One key: all waiting pods, in order."""

    name = "scheduler"

    def __init__(self, ctx: RequestContext) -> None:
        self._ctx = ctx
        self._told: dict[str, str] = {}
        self.sources: Mapping[str, KeysOf] = {
            "/nodes": lambda _obj, _gone: [_EVERYTHING],
            "/namespaces": lambda _obj, _gone: [_EVERYTHING] if self._told else [],
            "/pods": self._of_pod,
        }

    def all_keys(self) -> Iterable[str]:
        return [_EVERYTHING]

    def _of_pod(self, pod: Object, gone: bool) -> Iterable[str]:
        """A pod that waits, or one that has ended or is gone and so gives back what it had; while others wait, any: it
        may have been resized."""
        given_back = gone or pods.is_terminal(pods.status(pod)) or pods.deletion_timestamp(pod)
        return [_EVERYTHING] if waits(pod) or given_back or self._told else []

    def reconcile(self, _key: str) -> float | None:
        found = self._ctx.store.list("/pods")[0]
        nodes = self._ctx.store.list("/nodes")[0]
        labels = {item["metadata"]["name"]: pods.labels(item) for item in self._ctx.store.list("/namespaces")[0]}
        placed = [pod for pod in found if pods.spec(pod).get("nodeName") and not pods.is_terminal(pods.status(pod))]
        waiting = sorted(filter(waits, found), key=_order)
        self._told = {uid: text for uid, text in self._told.items() if uid in {pods.uid(pod) for pod in waiting}}
        for pod in waiting:
            node = self._place(pod, placed, nodes, labels)
            if node is not None:
                pod["spec"]["nodeName"] = node
                placed.append(pod)
        return _SPEAK_AGAIN if waiting else None

    def _place(self, pod: Object, placed: list[Object], nodes: list[Object], namespaces: fit.Namespaces) -> str | None:
        """Bind the pod, and return its node; or tell it why not."""
        missing = _without_support(pod) or self._missing_claim(pod)
        verdicts = {node["metadata"]["name"]: fit.reasons(pod, node, placed, nodes, namespaces) for node in nodes}
        fitting = [name for name, why in verdicts.items() if not why]
        if missing or not fitting:
            self._refuse(pod, _message(missing, verdicts))
            return None
        load = Counter(str(pods.spec(item).get("nodeName")) for item in placed)
        node: str = min(fitting, key=lambda name: (load[name], name))
        try:
            binding = {"metadata": {"uid": pods.uid(pod)}, "target": {"kind": "Node", "name": node}}
            pod_actions.bind(pods.namespace(pod), pods.name(pod), binding, self._ctx)
        except StatusError as error:
            if internal.absent(error):
                return None  # deleted, or bound by somebody else, since it was read
            raise
        text = f"Successfully assigned {pods.full_name(pod)} to {node}"
        self._event(pod, "Normal", "Scheduled", text)
        return node

    def _missing_claim(self, pod: Object) -> str:
        """A claim that the pod mounts or uses: there are no claims of any kind here, so each is missing."""
        for volume in pods.spec(pod).get("volumes") or []:
            if volume.get("persistentVolumeClaim") is not None:
                return f'persistentvolumeclaim "{volume["persistentVolumeClaim"].get("claimName")}" not found'
            if volume.get("ephemeral") is not None:
                claim = f"{pods.name(pod)}-{volume['name']}"
                return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{claim}"'
        for claim in pods.spec(pod).get("resourceClaims") or []:
            if claim.get("resourceClaimName"):
                return f'resourceclaim "{claim["resourceClaimName"]}" not found'
            return f'waiting for dynamic resource controller to create the resourceclaim "{claim.get("name")}"'
        return ""

    def _refuse(self, pod: Object, message: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}

        def change(current: Object) -> Object | None:
            if not waits(current):
                return None
            pod_actions.set_condition(current, condition, self._ctx.now())
            return current

        try:
            internal.update(self._ctx, "/pods", pods.namespace(pod), pods.name(pod), change, subresource="status")
        except StatusError as error:
            if not internal.absent(error):
                raise
            return
        if self._told.get(pods.uid(pod)) != message:
            self._told[pods.uid(pod)] = message
            self._event(pod, "Warning", "FailedScheduling", message)

    def _event(self, pod: Object, type_: str, reason: str, message: str) -> None:
        try:
            events.record(self._ctx, pod, type_, reason, message, component=NAME)
        except StatusError as error:
            if error.code not in (403, 404):  # its namespace is going, or gone
                raise


def _without_support(pod: Object) -> str:
    """What the pod asks of a scheduler that this one cannot do, so that it never runs as if it had not asked."""
    if pods.spec(pod).get("schedulingGroup"):
        return "this scheduler places pod by pod and knows no schedulingGroup"
    return ""


def waits(pod: Object) -> bool:
    """Whether the pod is this scheduler's to place."""
    spec = pods.spec(pod)
    return bool(
        not spec.get("nodeName")
        and spec.get("schedulerName") == NAME
        and not spec.get("schedulingGates")
        and not pods.deletion_timestamp(pod)
        and not pods.is_terminal(pods.status(pod))
    )


def _order(pod: Object) -> tuple[int, str, int]:
    created = str(pod["metadata"]["creationTimestamp"])
    return -int(pods.spec(pod).get("priority") or 0), created, int(pod["metadata"]["resourceVersion"])


def _message(missing: str, verdicts: Mapping[str, list[str]]) -> str:
    """FitError's text: how many nodes, why not, and that nobody is preempted for it."""
    total = len(verdicts)
    if not total:
        return "no nodes available to schedule pods"
    if missing:
        return f"0/{total} nodes are available: {missing}."
    counted = Counter(reason for why in verdicts.values() for reason in why)
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in counted.items()))
    in_vain = sum(not fit.helped_by_preemption(why) for why in verdicts.values())
    parts = []
    if total - in_vain:
        parts.append(f"{total - in_vain} No preemption victims found for incoming pod")
    if in_vain:
        parts.append(f"{in_vain} Preemption is not helpful for scheduling")
    tail = f"preemption: 0/{total} nodes are available: {', '.join(parts)}."
    return f"0/{total} nodes are available: {listed}. {tail}"
