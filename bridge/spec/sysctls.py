"""Which kernel parameters a pod may set: the safe ones, and those that the node's setting allows. Pure.

Source: pkg/kubelet/sysctl and component-helpers' node/util/sysctl. Only a parameter of a namespace is allowed at all:
any other would change the node. One of a namespace that the pod shares with the node is refused.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from vkcri.api import pods
from vkcri.errors import ConfigError

_SAFE: Final = (
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
    "net.ipv4.tcp_notsent_lowat",
)
_UTS, _IPC, _NET, _USER = "UTS", "IPC", "Net", "User"
_NAMESPACES: Final = {
    "kernel.domainname": _UTS,
    **dict.fromkeys(("kernel.sem", "kernel.shm", "kernel.msg"), _IPC),
    **dict.fromkeys(("kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"), _IPC),
    **dict.fromkeys(("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni"), _IPC),
}
_PREFIXES: Final = {"net.": _NET, "fs.mqueue.": _IPC, "user.": _USER}
_SEGMENT: Final = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_PATTERN: Final = re.compile(rf"({_SEGMENT}[./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]")
_LONGEST: Final = 253


@dataclass(frozen=True)
class Allowlist:
    """Names and beginnings of names, each with its namespace."""

    names: Mapping[str, str]
    prefixes: Mapping[str, str]

    def namespace(self, name: str) -> str:
        """The namespace of a parameter that may be set; empty for one that may not."""
        if name in self.names:
            return self.names[name]
        return next((kind for prefix, kind in self.prefixes.items() if name.startswith(prefix)), "")


def normal(name: str) -> str:
    """`net/ipv4/conf/eth0.100/x` and `net.ipv4.x` as one spelling: the first separator decides, as in sysctl(8)."""
    slash, dot = name.find("/"), name.find(".")
    if slash < 0 or (0 <= dot < slash):
        return name
    return name.translate(str.maketrans("/.", "./"))


def _namespace(name: str) -> str:
    found = (kind for prefix, kind in _PREFIXES.items() if name.startswith(prefix))
    return _NAMESPACES.get(name) or next(found, "")


def allowlist(setting: str = "") -> Allowlist:
    """The safe ones, and those of the setting: NAME or PREFIX*, by comma. Raises ConfigError."""
    names = {name: _namespace(name) for name in _SAFE}
    prefixes: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in setting.split(","))):
        name, star, _ = normal(part).partition("*")
        if len(part) > _LONGEST or not _PATTERN.fullmatch(part):
            raise ConfigError(f"allowed_unsafe_sysctls: {part!r} is no parameter's name, with a * at its end or not")
        if not (kind := _namespace(name)):
            raise ConfigError(f"allowed_unsafe_sysctls: {part!r} is not known to have a namespace of a pod's own")
        (prefixes if star else names)[name] = kind
    return Allowlist(names, prefixes)


SAFE: Final = allowlist()


def set_by(pod: pods.Pod) -> dict[str, str]:
    """The pod's sysctls, with dots as separators."""
    listed = (pods.spec(pod).get("securityContext") or {}).get("sysctls") or []
    return {normal(str(item["name"])): str(item["value"]) for item in listed}


def forbidden(pod: pods.Pod, allowed: Allowlist = SAFE) -> str | None:
    """The message of a SysctlForbidden refusal, or None."""
    shared = dict(_shared(pod))
    for name in set_by(pod):
        kind = allowed.namespace(name)
        if not kind:
            return f'forbidden sysctl: "{name}" not allowlisted'
        if shared.get(kind):
            return f'forbidden sysctl: "{name}" not allowed with host {kind} enabled'
    return None


def _shared(pod: pods.Pod) -> Iterator[tuple[str, bool]]:
    """Each namespace, and whether the pod has the node's."""
    spec = pods.spec(pod)
    yield _IPC, bool(spec.get("hostIPC"))
    yield _NET, bool(spec.get("hostNetwork"))
    yield _USER, spec.get("hostUsers") is not False
