"""Security contexts of pods and containers. Pure. Whether a host supports what is asked is the bridge's to say."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vkcri.apiserver import apparmor
from vkcri.apiserver.status import FieldError
from vkcri.apiserver.validation import fields

Errors = Iterator[FieldError]
_MOST_ID: Final = 2**31 - 1
_SYSCTL: Final = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?")
_PROFILES: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_IDS: Final = ("runAsUser", "runAsGroup", "fsGroup")


def validate_pod(spec: Mapping[str, Any]) -> Errors:
    context, path = spec.get("securityContext") or {}, "spec.securityContext"
    yield from _common(path, context)
    for index, group in enumerate(context.get("supplementalGroups") or []):
        yield from _identity(f"{path}.supplementalGroups[{index}]", group)
    policy = context.get("supplementalGroupsPolicy")
    yield from fields.one_of(f"{path}.supplementalGroupsPolicy", policy, ("Merge", "Strict"), optional=True)
    policy = context.get("fsGroupChangePolicy")
    yield from fields.one_of(f"{path}.fsGroupChangePolicy", policy, ("Always", "OnRootMismatch"), optional=True)
    names: set[str] = set()
    for index, sysctl in enumerate(context.get("sysctls") or []):
        where, name = f"{path}.sysctls[{index}].name", sysctl.get("name") or ""
        if not name:
            yield fields.required(where)
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            text = f"must have at most 253 characters and match regex ^{_SYSCTL.pattern}$"
            yield fields.invalid(where, name, text)
        elif name in names:
            yield fields.duplicate(where, name)
        if (name.startswith("net.") and spec.get("hostNetwork")) or (_is_ipc(name) and spec.get("hostIPC")):
            namespace = "hostNetwork" if name.startswith("net.") else "hostIPC"
            yield fields.invalid(where, name, f"may not be specified when '{namespace}' is true")
        names.add(name)


def _is_ipc(name: str) -> bool:
    return name.startswith(("kernel.shm", "kernel.msg", "fs.mqueue.")) or name == "kernel.sem"


def validate_container(path: str, container: Mapping[str, Any], spec: Mapping[str, Any]) -> Errors:
    context = container.get("securityContext") or {}
    yield from _common(path, context)
    added = (context.get("capabilities") or {}).get("add") or []
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            yield fields.invalid(path, context, text)
        if "CAP_SYS_ADMIN" in added:
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            yield fields.invalid(path, context, text)
    mount = context.get("procMount")
    yield from fields.one_of(f"{path}.procMount", mount, ("Default", "Unmasked"), optional=True)
    if mount == "Unmasked" and spec.get("hostUsers") is not False:
        yield fields.invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`")


def _common(path: str, context: Mapping[str, Any]) -> Errors:
    for name in _IDS:
        if context.get(name) is not None:
            yield from _identity(f"{path}.{name}", context[name])
    for name, told in (("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")):
        profile = context.get(name)
        if profile is None:
            continue
        where, kind = f"{path}.{name}", profile.get("type") or ""
        if not kind:
            yield fields.required(f"{where}.type", f"type is required when {name} is set")
        yield from fields.one_of(f"{where}.type", kind, _PROFILES, optional=True)
        local = profile.get("localhostProfile")
        if name == "appArmorProfile" and kind not in _PROFILES:
            continue
        if kind == "Localhost" and not local:
            yield fields.required(f"{where}.localhostProfile", f"must be set when {told} type is Localhost")
        elif kind != "Localhost" and local is not None:
            given = {"Type": kind, "LocalhostProfile": local}  # Go's whole struct
            text = f"can only be set when {told} type is Localhost"
            yield fields.invalid(f"{where}.localhostProfile", given if name == "seccompProfile" else local, text)
        elif local and name == "seccompProfile":
            yield from fields.local_path(f"{where}.localhostProfile", local)
        elif local:
            yield from _apparmor_name(f"{where}.localhostProfile", local)


def _apparmor_name(path: str, name: str) -> Errors:
    """Of a profile that the node has."""
    if name != name.strip():
        yield fields.invalid(path, name, "must not be padded with whitespace")
    if len(name.encode()) > apparmor.LONGEST_PROFILE:
        yield fields.too_long(path, apparmor.LONGEST_PROFILE)


def _identity(path: str, value: int) -> Errors:
    if not 0 <= value <= _MOST_ID:
        yield fields.invalid(path, value, "must be between 0 and 2147483647, inclusive")
