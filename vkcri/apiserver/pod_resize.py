"""What a write through `pods/resize` carries over into the pod: resources and resizePolicy, and nothing else. Pure.

Source: the pod registry's podResizeStrategy. Containers that were added, removed or renamed are left as they came, so
that validation names them.
"""

import copy
from collections.abc import Mapping
from typing import Any, Final

Object = dict[str, Any]
LISTS: Final = ("containers", "initContainers")
_CARRIED: Final = ("resources", "resizePolicy")


def keep(new: Object, old: Mapping[str, Any]) -> None:
    """Put everything of `new` but what a resize may change back to what it was in `old`, in place."""
    spec, before = new["spec"], old["spec"]
    if any(len(spec.get(field) or []) != len(before.get(field) or []) for field in LISTS):
        return
    kept: Object = copy.deepcopy(dict(before))
    for field in LISTS:
        if before.get(field):
            kept[field] = _merged(spec[field], before[field])
    if spec.get("resources") is not None:  # a client that does not know the field leaves it out
        kept["resources"] = spec["resources"]
    new["spec"] = kept
    keep_metadata(new, old)


def keep_metadata(new: Object, old: Mapping[str, Any]) -> None:
    """Put the metadata of `new` that a user may change back to what it was in `old`, in place."""
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        if field in old["metadata"]:
            new["metadata"][field] = copy.deepcopy(old["metadata"][field])
        else:
            new["metadata"].pop(field, None)


def _merged(given: list[Object], before: list[Object]) -> list[Object]:
    """The old containers with the new ones' resources; the new ones as they are where the names differ."""
    if [item.get("name") for item in given] != [item.get("name") for item in before]:
        return given
    return [
        {**{key: value for key, value in old.items() if key not in _CARRIED}, **_carried(new)}
        for new, old in zip(given, before, strict=True)
    ]


def _carried(container: Object) -> Object:
    return {field: container[field] for field in _CARRIED if field in container}
