"""What a write through `pods/ephemeralcontainers` carries over into the pod: those containers, and nothing else. Pure.

Source: the pod registry's podEphemeralContainersStrategy.
"""

import copy
from collections.abc import Mapping
from typing import Any

from vkcri.apiserver import pod_resize

Object = dict[str, Any]


def keep(new: Object, old: Mapping[str, Any]) -> None:
    """Put everything of `new` but its ephemeral containers back to what it was in `old`, in place."""
    given = (new.get("spec") or {}).get("ephemeralContainers")
    spec = copy.deepcopy(dict(old["spec"]))
    spec.pop("ephemeralContainers", None)
    if given:
        spec["ephemeralContainers"] = given
    new["spec"] = spec
    pod_resize.keep_metadata(new, old)
