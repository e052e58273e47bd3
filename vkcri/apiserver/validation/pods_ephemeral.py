"""What may become of a pod's ephemeral containers: others join them, none of them changes or goes. Pure.

Source: ValidatePodEphemeralContainersUpdate. What else the write carried was put back before (pod_ephemeral.keep).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vkcri.api import pods
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import containers, environment, fields, volumes
from vkcri.apiserver.validation.pods_update import difference

Errors = Iterator[FieldError]
Object = Mapping[str, Any]
_PATH = "spec.ephemeralContainers"


def validate(new: Object, old: Object) -> Errors:
    """A write through the subresource `ephemeralcontainers`."""
    if pods.is_mirror(old):
        yield fields.forbidden("", "static pods do not support ephemeral containers")
        return
    spec = new["spec"]
    _, known = volumes.validate_all(spec.get("volumes") or [])
    yield from containers.validate_ephemeral(spec, known)
    yield from environment.file_volumes(spec)
    given = {item.get("name"): item for item in spec.get("ephemeralContainers") or []}
    for was in old["spec"].get("ephemeralContainers") or []:
        name = was.get("name")
        if name not in given:
            yield fields.forbidden(_PATH, f'existing ephemeral containers "{name}" may not be removed\n')
        elif given[name] != was:
            text = f'existing ephemeral containers "{name}" may not be changed\n{difference(given[name], was)}'
            yield fields.forbidden(_PATH, text)
