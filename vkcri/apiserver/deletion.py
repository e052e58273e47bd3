"""When a deleted object goes: at once, after its grace, or once its finalizers are gone. Pure.

The rules are those of apiserver's rest.BeforeDelete and of the pod strategy's CheckGracefulDelete: a pod that no node
has, or that has ended, goes at once; a repeated deletion may shorten the grace, never lengthen it.
"""

from typing import Any

from vkcri.api import pods, times
from vkcri.apiserver.resources import Resource

Object = dict[str, Any]


def decide(resource: Resource, obj: Object, options: Object, now: str) -> Object | None:
    """None: remove now. Otherwise the object to store; `obj` itself, unchanged, where a deletion is under way already
    and this one adds nothing. `obj` is the caller's copy and may be changed; `now` RFC 3339."""
    metadata = obj["metadata"]
    grace = _grace(obj, options) if resource.key == "/pods" else 0
    held = bool(metadata.get("finalizers"))
    if resource.key == "/namespaces":
        held = held or bool((obj.get("spec") or {}).get("finalizers"))
    if metadata.get("deletionTimestamp"):
        return _again(obj, options, grace, held)
    if grace == 0 and not held:
        return None
    metadata["deletionTimestamp"] = times.seconds(times.parse(now) + grace * times.NANO)
    metadata["deletionGracePeriodSeconds"] = grace
    if metadata.get("generation"):
        metadata["generation"] += 1
    if resource.key == "/namespaces":
        metadata.pop("deletionGracePeriodSeconds")
        obj.setdefault("status", {})["phase"] = "Terminating"
    return obj


def _grace(obj: Object, options: Object) -> int:
    """Seconds from now that a pod gets."""
    asked = options.get("gracePeriodSeconds")
    if asked is None:
        asked = pods.spec(obj).get("terminationGracePeriodSeconds")
        asked = pods.DEFAULT_GRACE if asked is None else asked
    if asked < 0:
        asked = 1
    if not pods.spec(obj).get("nodeName") or pods.is_terminal(pods.status(obj)):
        return 0
    return int(asked)


def _again(obj: Object, options: Object, grace: int, held: bool) -> Object | None:
    """A deletion of what is being deleted: only a grace that is asked for, and shorter, changes anything."""
    metadata = obj["metadata"]
    given = metadata.get("deletionGracePeriodSeconds")
    if not given:
        return obj if held else None
    if options.get("gracePeriodSeconds") is None or grace >= given:
        return obj
    if grace == 0 and not held:
        return None
    stamp = times.parse(metadata["deletionTimestamp"]) - (given - grace) * times.NANO
    metadata["deletionTimestamp"] = times.seconds(stamp)
    metadata["deletionGracePeriodSeconds"] = grace
    return obj
