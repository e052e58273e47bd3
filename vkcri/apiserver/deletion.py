"""When a deleted object goes: at once, after its grace, or once its finalizers are gone. Pure.

The rules are those of apiserver's rest.BeforeDelete and of the pod strategy's CheckGracefulDelete: a pod that no node
has, or that has ended, goes at once; a repeated deletion may shorten the grace, never lengthen it. A pod that goes at
once is marked all the same, with a grace of 0: watches see it marked, then gone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vkcri.api import pods, times
from vkcri.apiserver.resources import Resource
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]


def check_preconditions(resource: Resource, obj: Mapping[str, Any], preconditions: Mapping[str, Any] | None) -> None:
    """Raises StatusError 409, in the words that deletions have for it, unless `obj` is what the preconditions name."""
    metadata, wanted = obj["metadata"], preconditions or {}
    for field, label, happened in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        if wanted.get(field) is not None and wanted[field] != metadata.get(field):
            kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
            raise StatusError.conflict(
                kind,
                metadata["name"],
                f"the {label} in the precondition ({wanted[field]}) does not match the {label} in record "
                f"({metadata.get(field)}). The object might have been {happened}",
            )


class Decision(NamedTuple):
    """obj: what to store, equal to what is there where a deletion is under way and this one adds nothing; gone: it is
    to be removed then."""

    obj: Object
    gone: bool


def decide(resource: Resource, obj: Object, options: Object, now: str) -> Decision:
    """What a deletion comes to. `obj` is the caller's copy and may be changed; `now` RFC 3339."""
    metadata = obj["metadata"]
    graceful = resource.key == "/pods"
    held = bool(metadata.get("finalizers"))
    if resource.key == "/namespaces":
        held = held or bool((obj.get("spec") or {}).get("finalizers"))
    if metadata.get("deletionTimestamp"):
        return _again(obj, options.get("gracePeriodSeconds"), held, now)
    grace = _grace(obj, options) if graceful else 0
    gone = grace == 0 and not held
    if gone and not graceful:
        return Decision(obj, gone=True)
    metadata["deletionTimestamp"] = times.seconds(times.parse(now) + grace * times.NANO)
    metadata["deletionGracePeriodSeconds"] = grace
    if metadata.get("generation"):
        metadata["generation"] += 1
    if resource.key == "/namespaces":
        metadata.pop("deletionGracePeriodSeconds")
        obj.setdefault("status", {})["phase"] = "Terminating"
    return Decision(obj, gone)


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


def _again(obj: Object, asked: int | None, held: bool, now: str) -> Decision:
    """A deletion of what is being deleted: only a grace that is asked for, and shorter, changes anything. It counts
    from when the first one began; where it is over already, the node still has a second to say that it has ended."""
    metadata = obj["metadata"]
    given = metadata.get("deletionGracePeriodSeconds")
    if not given:
        return Decision(obj, gone=not held)
    grace = 1 if asked is not None and asked < 0 else asked
    if grace is None or grace >= given:
        return Decision(obj, gone=False)
    ends, present = times.parse(metadata["deletionTimestamp"]) - (given - grace) * times.NANO, times.parse(now)
    metadata["deletionTimestamp"] = times.seconds(max(ends, present))
    metadata["deletionGracePeriodSeconds"] = min(grace, 1) if ends < present else grace
    return Decision(obj, gone=grace == 0 and not held)
