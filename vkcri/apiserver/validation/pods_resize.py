"""What a resize may change of a pod: cpu and memory of its containers and of itself, within its QoS class. Pure.

Source: ValidatePodResize. What else the write carried was put back before (pod_resize.keep).
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.api import pods
from vkcri.apiserver.pod_resize import LISTS
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import containers, fields, resources

Errors = Iterator[FieldError]
Object = Mapping[str, Any]
_RESIZABLE: Final = ("cpu", "memory")
_PARTS: Final = ("requests", "limits")


def validate(new: Object, old: Object) -> Errors:
    """A write through the subresource `resize`."""
    if pods.is_mirror(old):
        yield fields.forbidden("", "static pods cannot be resized")
        return
    if pods.qos_class(new) != pods.qos_class(old):
        qos = (new.get("status") or {}).get("qosClass")
        yield fields.invalid("spec", qos, "Pod QOS Class may not change as a result of resizing")
    if not _supported(old):
        yield fields.forbidden("spec", "Pod running on node without support for resize")
    yield from _pod_level(new["spec"], old["spec"])
    wrong = list(_order(new["spec"], old["spec"]))
    yield from wrong
    if not wrong:
        yield from _containers(new["spec"], old["spec"])


def _supported(pod: Object) -> bool:
    """A node that knows resizes reports what its running containers have."""
    listed = pods.status(pod).get("containerStatuses") or []
    first = next((item for item in listed if (item.get("state") or {}).get("running") is not None), None)
    return first is None or first.get("resources") is not None


def _pod_level(spec: Object, before: Object) -> Errors:
    new, old = spec.get("resources"), before.get("resources")
    if new is None and old is None:
        return
    if new is None:
        yield fields.forbidden("spec.resources", "pod-level resources cannot be removed")
        return
    for part, word in (("requests", "requests"), ("limits", "limits")):
        if _removed(new.get(part), (old or {}).get(part)):
            yield fields.forbidden(f"spec.resources.{part}", f"pod-level resource {word} cannot be removed")
    if _masked(new, old or {}) != (old or {}):
        yield fields.forbidden("spec", "only cpu and memory resources are mutable at pod-level")
    yield from resources.validate_pod("spec.resources", spec)


def _order(spec: Object, before: Object) -> Errors:
    for field in LISTS:
        new, old = spec.get(field) or [], before.get(field) or []
        if len(new) != len(old):
            yield fields.forbidden(f"spec.{field}", f"{field} may not be added or removed on resize")
            continue
        for index, (container, was) in enumerate(zip(new, old, strict=True)):
            if container.get("name") != was.get("name"):
                text = f"{field} may not be renamed or reordered on resize"
                yield fields.forbidden(f"spec.{field}[{index}].name", text)


def _containers(spec: Object, before: Object) -> Errors:
    for field in LISTS:
        for index, (new, old) in enumerate(zip(spec.get(field) or [], before.get(field) or [], strict=True)):
            path = f"spec.{field}[{index}]"
            yield from _container(path, new, old, init=field == "initContainers")
            yield from resources.validate(f"{path}.resources", new.get("resources") or {})
            policies = new.get("resizePolicy") or []
            yield from containers.resize_policies(f"{path}.resizePolicy", policies, spec)


def _container(path: str, new: Object, old: Object, *, init: bool) -> Errors:
    wanted, held = new.get("resources") or {}, old.get("resources") or {}
    for part in _PARTS:
        if _removed(wanted.get(part), held.get(part)):
            yield fields.forbidden(f"{path}.resources.{part}", f"resource {part} cannot be removed")
    if {**new, "resources": _masked(wanted, held)} != {**old, "resources": dict(held)}:
        where = path if init else "spec"
        what = "resources for init or sidecar containers" if init else "resources"
        yield fields.forbidden(where, f"only cpu and memory {what} are mutable")
    restarts = any(policy.get("restartPolicy") == "RestartContainer" for policy in new.get("resizePolicy") or [])
    if init and not pods.is_sidecar(new) and restarts and wanted != held:
        text = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
        yield fields.forbidden(path, text)


def _removed(new: Object | None, old: Object | None) -> bool:
    return not set(old or {}) <= set(new or {})


def _masked(new: Object, old: Object) -> dict[str, Any]:
    """`new` with the cpu and memory of `old`."""
    same = copy.deepcopy(dict(new))
    for part in _PARTS:
        amounts = {key: value for key, value in (new.get(part) or {}).items() if key not in _RESIZABLE}
        amounts |= {key: value for key, value in (old.get(part) or {}).items() if key in _RESIZABLE}
        same.pop(part, None)
        if amounts:
            same[part] = amounts
    return same
