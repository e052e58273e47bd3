"""Which cgroup driver the runtime has. Ours are cgroupfs paths; a runtime with the systemd driver takes slice names
only and refuses every sandbox, so it is named at the start with the cure.

Asked by RuntimeConfig, which containerd has from 2.0 on; an older one tells it in its verbose Status.
"""

from collections.abc import Mapping
from typing import Any

from bridge.images_local import status_info
from bridge.pb.runtime.v1 import api_pb2
from bridge.runtime import Runtime
from vkcri.errors import Refused

_SECONDS = 10.0
_CURE = (
    "the runtime's cgroup driver is systemd, and vkcri makes cgroups by itself: set SystemdCgroup = false for its runc "
    "(/etc/containerd/config.toml) and restart it, or name a socket that nobody serves in CONTAINER_RUNTIME_ENDPOINT, "
    "and vkcri runs a containerd of its own there"
)


def refuse_systemd(runtime: Runtime) -> None:
    """Raises Refused, with the cure, where the driver is systemd; Unavailable where the runtime does not answer."""
    try:
        answer = runtime.runtime_config(api_pb2.RuntimeConfigRequest(), seconds=_SECONDS)
    except Refused:
        systemd = systemd_in(status_info(runtime).get("config", {}))
    else:
        systemd = answer.HasField("linux") and answer.linux.cgroup_driver == api_pb2.SYSTEMD
    if systemd:
        raise Refused(_CURE)


def systemd_in(config: Mapping[str, Any]) -> bool:
    """Whether containerd 1's configuration, as its verbose Status has it, says systemd for the default handler."""
    containerd = config.get("containerd") or {}
    handler = (containerd.get("runtimes") or {}).get(containerd.get("defaultRuntimeName")) or {}
    return bool((handler.get("options") or {}).get("SystemdCgroup") or config.get("systemdCgroup"))
