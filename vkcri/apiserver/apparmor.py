"""A container's AppArmor profile by the annotation that was there before the field: a new pod's field is set from it.
Pure.

Source: the pod registry's applyAppArmorVersionSkew. What sets both differently is refused by validation.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.api import pods

Object = dict[str, Any]
PREFIX: Final = "container.apparmor.security.beta.kubernetes.io/"
LOCALHOST: Final = "localhost/"
LONGEST_PROFILE: Final = 4095  # PATH_MAX less one
_TYPES: Final = {"unconfined": "Unconfined", "runtime/default": "RuntimeDefault"}


def apply(pod: Object) -> list[str]:
    """Set the field of each container of a new pod that has the annotation and no profile; what to tell its writer."""
    spec = pods.spec(pod)
    shared = (spec.get("securityContext") or {}).get("appArmorProfile")
    told = []
    for _, container, annotation in annotated(pod):
        if (container.get("securityContext") or {}).get("appArmorProfile") is not None:
            continue
        profile = profile_of(annotation)
        if profile is not None and profile == shared:
            continue
        key = f"{PREFIX}{container['name']}"
        told.append(f'metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead')
        if profile is not None:
            container["securityContext"] = {**(container.get("securityContext") or {}), "appArmorProfile": profile}
    return told


def annotated(pod: Mapping[str, Any]) -> Iterator[tuple[str, Object, str]]:
    """(path, container, annotation) of those that have one; none of a pod for Windows."""
    spec, given = pods.spec(pod), pods.annotations(pod)
    if (spec.get("os") or {}).get("name") == "windows":
        return
    for field in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(field) or []):
            annotation = given.get(f"{PREFIX}{container['name']}") if container.get("name") else None
            if annotation is not None:
                yield f"spec.{field}[{index}]", container, annotation


def profile_of(annotation: str) -> dict[str, str] | None:
    """The AppArmorProfile that the annotation means; None for one that is no valid profile."""
    if annotation in _TYPES:
        return {"type": _TYPES[annotation]}
    name = annotation.removeprefix(LOCALHOST)
    if name == annotation or not name or name != name.strip() or len(name.encode()) > LONGEST_PROFILE:
        return None
    return {"type": "Localhost", "localhostProfile": name}


def is_profile(annotation: str) -> bool:
    """Whether it has the form of one."""
    return annotation in ("", *_TYPES) or annotation.startswith(LOCALHOST)
