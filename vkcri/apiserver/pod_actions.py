"""POST pods/NAME/binding and pods/NAME/eviction: the two writes to a pod that are not an update of it.

Runs in the caller's thread (a request's, the scheduler's), each as one store transaction. There are no disruption
budgets here, so that an eviction is a graceful deletion.
"""

from collections.abc import Mapping
from typing import Any

from vkcri.api import pods
from vkcri.apiserver import deletion
from vkcri.apiserver.admission.node_restriction import admit_eviction
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import by_key
from vkcri.apiserver.status import FieldError, StatusError, success
from vkcri.apiserver.storage import check_preconditions

Object = dict[str, Any]


def bind(namespace: str, name: str, binding: Mapping[str, Any], ctx: RequestContext) -> tuple[int, Object]:
    """Give a pod its node, once. Raises StatusError 404, 409 where it has one or is being deleted, 422."""
    target = binding.get("target") or {}
    errors = []
    if target.get("kind") not in ("Node", "", None):
        errors.append(FieldError("FieldValueNotSupported", "target.kind", 'supported values: "Node"', target["kind"]))
    if not target.get("name"):
        errors.append(FieldError("FieldValueRequired", "target.name"))
    if errors:
        raise StatusError.invalid("Binding", name, errors)
    metadata = binding.get("metadata") or {}

    def change(pod: Object) -> Object:
        check_preconditions("/pods", pod, {key: metadata[key] for key in ("uid", "resourceVersion") if key in metadata})
        _check_bindable(pod)
        pod["spec"]["nodeName"] = target["name"]
        for holder in ("labels", "annotations"):
            if metadata.get(holder):
                pod["metadata"].setdefault(holder, {}).update(metadata[holder])
        set_condition(pod, {"type": "PodScheduled", "status": "True"}, ctx.now())
        return pod

    if ctx.dry_run:
        with ctx.store.transaction():
            change(_existing(ctx, namespace, name))
    else:
        ctx.store.modify("/pods", namespace, name, change)
    return 201, success(code=201)


def _check_bindable(pod: Object) -> None:
    name = pods.name(pod)
    if pods.deletion_timestamp(pod):
        text = f"pod {name} is being deleted, cannot be assigned to a host"
        raise StatusError.conflict("pods/binding", name, text)
    if pod["spec"].get("nodeName"):
        text = f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"'
        raise StatusError.conflict("pods/binding", name, text)
    if pod["spec"].get("schedulingGates"):
        text = f"pod {name} has non-empty .spec.schedulingGates"
        raise StatusError.conflict("pods/binding", name, text)


def evict(namespace: str, name: str, eviction: Mapping[str, Any], ctx: RequestContext) -> tuple[int, Object]:
    """Delete a pod with its grace, or the one in `deleteOptions`. Raises StatusError 400, 403, 404, 409."""
    given = (eviction.get("metadata") or {}).get("name")
    if given and given != name:
        raise StatusError.bad_request("name in URL does not match name in Eviction object")
    options = eviction.get("deleteOptions") or {}
    with ctx.store.transaction():
        pod = _existing(ctx, namespace, name)
        deletion.check_preconditions(by_key("/pods"), pod, options.get("preconditions"))
        admit_eviction(pod, ctx)
        if ctx.dry_run or options.get("dryRun"):
            return 201, success(code=201)
        decided = deletion.decide(by_key("/pods"), pod, dict(options), ctx.now())
        ctx.store.update("/pods", decided.obj, expected=None)
        if decided.gone:
            ctx.store.delete("/pods", namespace, name)
    return 201, success(code=201)


def set_condition(pod: Object, condition: Mapping[str, str], now: str) -> None:
    """Put a pod condition in the place of the one of its type; the transition time moves with `status` only."""
    conditions = pod.setdefault("status", {}).setdefault("conditions", [])
    old = next((item for item in conditions if item.get("type") == condition["type"]), None)
    moved = old is None or old.get("status") != condition["status"]
    since = now if moved or old is None else old.get("lastTransitionTime") or now
    new = {**condition, "lastProbeTime": None, "lastTransitionTime": since}
    if old is None:
        conditions.append(new)
    else:
        conditions[conditions.index(old)] = new


def _existing(ctx: RequestContext, namespace: str, name: str) -> Object:
    pod = ctx.store.get("/pods", namespace, name)
    if pod is None:
        raise StatusError.not_found("pods", name)
    return pod
