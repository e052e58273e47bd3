"""PodResizeValidator: a bound pod is not resized beyond what its node could ever give. Reads the store.

Source: plugin/pkg/admission/podresize. Whether the node can give it now is the node's to say (PodResizePending).
"""

from collections.abc import Mapping
from typing import Any

from vkcri.api import pods, quantities, resources
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.status import StatusError


def admit(pod: Mapping[str, Any], old: Mapping[str, Any], ctx: RequestContext) -> None:
    """Raise StatusError 403 where the requests exceed the node's allocatable, or there is no such node."""
    node_name, name = str(pods.spec(pod).get("nodeName") or ""), pods.name(pod)
    if not node_name or pods.spec(pod) == pods.spec(old):
        return
    node = ctx.store.get("/nodes", "", node_name)
    if node is None:
        raise StatusError.forbidden("pods", name, f'node "{node_name}" not found')
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    wanted = resources.pod_requests(pod)
    beyond = []
    for resource, scale in (("cpu", 1000), ("memory", 1)):
        asked, there = wanted.get(resource, 0), quantities.parse(allocatable.get(resource, "0"))
        if asked > there:
            beyond.append(f"{resource}, requested: {int(asked * scale)}, allocatable: {int(there * scale)}")
    if beyond:
        text = f"node didn't have enough allocatable resources: {'; '.join(beyond)}"
        error = StatusError.forbidden("pods", name, text)
        error.details = {**(error.details or {}), "causes": [{"reason": "NodeCapacity"}]}
        raise error
