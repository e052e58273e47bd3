"""The annotations of a pod that mean something: which static pod it shows, and its containers' AppArmor profiles. Pure.

Source: ValidatePodSpecificAnnotations, ValidatePodSpecificAnnotationUpdates, and on creation
validateAppArmorAnnotationsAndFieldsMatchOnCreate. None of them changes in a pod's life, so an update looks at nothing
but that.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.api import pods
from vkcri.apiserver import apparmor
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_MISMATCH: Final = "apparmor {} in annotation and field must match"
_WORDS: Final = {"Unconfined": "unconfined", "RuntimeDefault": "runtime/default"}


def validate(pod: Mapping[str, Any]) -> Errors:
    """Of a new pod."""
    given = pods.annotations(pod)
    if pods.is_mirror(pod) and not pods.spec(pod).get("nodeName"):
        text = "must set spec.nodeName if mirror pod annotation is set"
        yield fields.invalid(_path(pods.MIRROR_ANNOTATION), given[pods.MIRROR_ANNOTATION], text)
    names = {container.get("name") for _, container in pods.all_containers(pod)}
    for key, profile in given.items():
        if not key.startswith(apparmor.PREFIX):
            continue
        if (name := key.removeprefix(apparmor.PREFIX)) not in names:
            yield fields.invalid(_path(key), name, "container not found")
        if not apparmor.is_profile(profile):
            yield fields.invalid(_path(key), profile, f"invalid AppArmor profile name: {_quoted(profile)}")
    yield from _fields_match(pod)


def validate_update(new: Mapping[str, Any], old: Mapping[str, Any]) -> Errors:
    """What came, went or changed."""
    now, before = pods.annotations(new), pods.annotations(old)
    for key in [*before, *(key for key in now if key not in before)]:
        if now.get(key) == before.get(key):
            continue
        verb = "remove or update" if key in before else "add"
        if key.startswith(apparmor.PREFIX):
            yield fields.forbidden(_path(key), f"may not {verb} AppArmor annotations")
        elif key == pods.MIRROR_ANNOTATION:
            yield fields.forbidden(_path(key), f"may not {verb} mirror pod annotation")


def _fields_match(pod: Mapping[str, Any]) -> Errors:
    """A container's profile, or the pod's, is what the annotation says where there are both."""
    shared = (pods.spec(pod).get("securityContext") or {}).get("appArmorProfile")
    for path, container, said in apparmor.annotated(pod):
        profile = (container.get("securityContext") or {}).get("appArmorProfile") or shared
        if profile is None:
            continue
        where, kind = f"{path}.securityContext.appArmorProfile", profile.get("type")
        local = said.startswith(apparmor.LOCALHOST)
        if kind == "Localhost" and local:
            if said.removeprefix(apparmor.LOCALHOST) != profile.get("localhostProfile"):
                yield fields.forbidden(f"{where}.localhostProfile", _MISMATCH.format("profile"))
        elif kind == "Localhost" or (kind in _WORDS and said != _WORDS[kind]):
            yield fields.forbidden(f"{where}.type", _MISMATCH.format("type"))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _path(key: str) -> str:
    return f"metadata.annotations[{key}]"
