"""What may change of a pod that exists: images, some deadlines and tolerations, metadata, and its status. Pure.

Source: ValidatePodUpdate and ValidatePodStatusUpdate. An old pod with a field that a newer rule refuses stays
updatable: only what changes is looked at.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.api import restarts
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields, pods_annotations, scheduling

Errors = Iterator[FieldError]
_MUTABLE: Final = (
    "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, "
    "`spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing tolerations), "
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_LISTS: Final = ("containers", "initContainers")


def validate(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    """An update of a pod itself."""
    yield from pods_annotations.validate_update(new, old)
    spec, before = new.get("spec") or {}, old.get("spec") or {}
    for field in _LISTS:
        if len(spec.get(field) or []) != len(before.get(field) or []):
            yield fields.forbidden(f"spec.{field}", "pod updates may not add or remove containers")
            return
    yield from _images(spec)
    yield from _deadline(spec, before)
    yield from _tolerations(spec, before)
    yield from _gates(spec, before)
    allowed = _with_allowed_changes(spec, before)
    if allowed != before:
        yield fields.forbidden("spec", f"{_MUTABLE}\n{difference(allowed, before)}")


def _images(spec: Mapping[str, Any]) -> Errors:
    for field in _LISTS:
        for index, container in enumerate(spec.get(field) or []):
            image = container.get("image") or ""
            if not image:
                yield fields.required(f"spec.{field}[{index}].image")
            elif image.strip() != image:
                path = f"spec.{field}[{index}].image"
                yield fields.invalid(path, image, "must not have leading or trailing whitespace")


def _deadline(spec: Mapping[str, Any], before: Mapping[str, Any]) -> Errors:
    now, old, path = (
        spec.get("activeDeadlineSeconds"),
        before.get("activeDeadlineSeconds"),
        "spec.activeDeadlineSeconds",
    )
    if now is not None and not 1 <= now <= 2**31 - 1:
        yield fields.invalid(path, now, "must be between 1 and 2147483647, inclusive")
    if old is not None and now is None:
        yield fields.invalid(path, None, "must not update from a positive integer to nil value")
    elif old is not None and now is not None and now > old:
        text = "must be less than or equal to previous value"
        yield fields.invalid(path, now, text)


def _tolerations(spec: Mapping[str, Any], before: Mapping[str, Any]) -> Errors:
    """Additions only, save for tolerationSeconds."""
    now = spec.get("tolerations") or []
    yield from scheduling.tolerations("spec.tolerations", now)
    kept = [_timeless(item) for item in now]
    for index, toleration in enumerate(before.get("tolerations") or []):
        if _timeless(toleration) not in kept:
            text = "existing toleration can not be modified except its tolerationSeconds"
            yield fields.forbidden(f"spec.tolerations[{index}]", text)


def _timeless(toleration: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in toleration.items() if key != "tolerationSeconds"}


def _gates(spec: Mapping[str, Any], before: Mapping[str, Any]) -> Errors:
    old = [gate.get("name") for gate in before.get("schedulingGates") or []]
    for index, gate in enumerate(spec.get("schedulingGates") or []):
        if gate.get("name") not in old:
            text = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            yield fields.forbidden(f"spec.schedulingGates[{index}]", text)


def _with_allowed_changes(spec: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """The new spec with everything that may change set back to what it was."""
    same = copy.deepcopy(dict(spec))
    for field in _LISTS:
        for container, old in zip(same.get(field) or [], before.get(field) or [], strict=True):
            container["image"] = old.get("image")
    for field in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        _set_back(same, before, field)
    if (before.get("terminationGracePeriodSeconds") or 0) < 0 and same.get("terminationGracePeriodSeconds") == 1:
        same["terminationGracePeriodSeconds"] = before["terminationGracePeriodSeconds"]
    if before.get("schedulingGates"):  # a pod that nobody schedules yet may still narrow where it goes
        for field in ("nodeSelector", "affinity"):
            _set_back(same, before, field)
    return same


def _set_back(same: dict[str, Any], before: Mapping[str, Any], field: str) -> None:
    if field in before:
        same[field] = copy.deepcopy(before[field])
    else:
        same.pop(field, None)


def difference(new: Mapping[str, Any], old: Mapping[str, Any]) -> str:
    """The fields that differ, one a line, old with "-" and new with "+"."""
    lines = []
    for key in sorted(new.keys() | old.keys()):
        if new.get(key) != old.get(key):
            lines += [f"-  {key}: {_text(old.get(key))}", f"+  {key}: {_text(new.get(key))}"]
    return "\n".join(lines)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)[:500]


def validate_status(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    """Addresses at most one of each family; a status never brings a container that has ended back to life where
    nothing restarts it."""
    yield from pods_annotations.validate_update(new, old)
    yield from _addresses(new.get("status") or {})
    spec = old.get("spec") or {}
    if restarts.may_restart_all(spec):
        return
    status, before = new.get("status") or {}, old.get("status") or {}
    for part, field in (("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")):
        specs = {item.get("name"): item for item in spec.get(field) or []}
        alive = {item.get("name") for item in status.get(part) or [] if _ended(item) is None}
        for index, item in enumerate(before.get(part) or []):
            ended, name = _ended(item), item.get("name")
            if ended is None or name not in alive:
                continue
            if name not in specs or not restarts.restarts(specs[name], spec, int(ended.get("exitCode") or 0)):
                text = "may not be transitioned to non-terminated state"
                yield fields.forbidden(f"status.{part}[{index}].state", text)


def _ended(status: Mapping[str, Any]) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = (status.get("state") or {}).get("terminated")
    return found


def _addresses(status: Mapping[str, Any]) -> Errors:
    generation = status.get("observedGeneration")
    if generation is not None and generation < 0:
        yield fields.invalid("status.observedGeneration", generation, "must be a non-negative integer")
    listed = [str(item.get("ip") or "") for item in status.get("podIPs") or []]
    families = [":" in address for address in listed]
    if len(set(families)) < len(families):
        shown = [{"IP": address} for address in listed]
        yield fields.invalid("status.podIPs", shown, "may specify no more than one IP for each IP family")
