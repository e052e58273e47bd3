"""The security context of sandboxes and containers, pod level and container level joined as the kubelet joins them.
Pure.

A request that this runtime does not vouch for is refused here, never dropped.
"""

from collections.abc import Mapping
from typing import Any

from bridge.pb.runtime.v1 import api_pb2
from bridge.spec import names
from bridge.spec.context import Features, ImageRef, PodContext
from vkcri.api import pods
from vkcri.errors import Invalid
from vkcri.instance import Instance

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_APPARMOR_ANNOTATION = "container.apparmor.security.beta.kubernetes.io/"
_MOST_ID = 2**31 - 1
USER_IDS = 65536  # of a pod with users of its own, from 0 on
Context = Mapping[str, Any]


def sandbox_security(pod: pods.Pod, ctx: PodContext) -> api_pb2.LinuxSandboxSecurityContext:
    """Raises Invalid for what this runtime cannot do."""
    context = _pod_context(pod)
    formed = api_pb2.LinuxSandboxSecurityContext(
        privileged=any(
            (container.get("securityContext") or {}).get("privileged") for _, container in pods.all_containers(pod)
        ),
        namespace_options=namespaces(pod, ctx),
        supplemental_groups=_groups(pod, ctx),
        supplemental_groups_policy=_groups_policy(context, ctx),
        seccomp=api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.RuntimeDefault),
    )
    if context.get("runAsUser") is not None:
        formed.run_as_user.value = int(context["runAsUser"])
        formed.run_as_user.SetInParent()
        # containerd refuses a sandbox that has a group and no user; containers always have one, the image's at least.
        if context.get("runAsGroup") is not None:
            formed.run_as_group.value = int(context["runAsGroup"])
            formed.run_as_group.SetInParent()
    if context.get("seLinuxOptions"):
        formed.selinux_options.CopyFrom(_selinux(context["seLinuxOptions"]))
    return formed


def container_security(
    pod: pods.Pod, container: Mapping[str, Any], ctx: PodContext
) -> api_pb2.LinuxContainerSecurityContext:
    """Raises Invalid with the kubelet's message (runAsNonRoot, unknown profiles) or for what the runtime cannot do."""
    image = ctx.image or ImageRef("", "")
    effective = effective_context(pod, container)
    verify_non_root(pod, container, effective, image)
    apparmor, legacy_apparmor = _apparmor(pod, container)
    unmasked = effective.get("procMount") == "Unmasked"
    formed = api_pb2.LinuxContainerSecurityContext(
        privileged=bool(effective.get("privileged")),
        readonly_rootfs=bool(effective.get("readOnlyRootFilesystem")),
        no_new_privs=effective.get("allowPrivilegeEscalation") is False,
        namespace_options=_container_namespaces(pod, ctx),
        supplemental_groups=_groups(pod, ctx),
        supplemental_groups_policy=_groups_policy(_pod_context(pod), ctx),
        masked_paths=() if unmasked else MASKED_PATHS,
        readonly_paths=() if unmasked else READONLY_PATHS,
        seccomp=_seccomp(effective, ctx.instance),
        apparmor=apparmor,
        apparmor_profile=legacy_apparmor,
    )
    _set_identity(formed, effective, image)
    capabilities = effective.get("capabilities")
    if capabilities:
        formed.capabilities.add_capabilities.extend(capabilities.get("add") or [])
        formed.capabilities.drop_capabilities.extend(capabilities.get("drop") or [])
    if effective.get("seLinuxOptions"):
        formed.selinux_options.CopyFrom(_selinux(effective["seLinuxOptions"]))
    return formed


def effective_context(pod: pods.Pod, container: Mapping[str, Any]) -> dict[str, Any]:
    """The container's securityContext over the pod's, field by field."""
    own = {key: value for key, value in (container.get("securityContext") or {}).items() if value is not None}
    shared = {
        key: _pod_context(pod)[key]
        for key in ("runAsUser", "runAsGroup", "runAsNonRoot", "seLinuxOptions", "seccompProfile", "appArmorProfile")
        if _pod_context(pod).get(key) is not None
    }
    return {**shared, **own}


def verify_non_root(pod: pods.Pod, container: Mapping[str, Any], effective: Context, image: ImageRef) -> None:
    """Raises Invalid where runAsNonRoot is asked for and the user is root or cannot be told."""
    if not effective.get("runAsNonRoot"):
        return
    where = f'(pod: "{names.describe(pod)}", container: {container["name"]})'
    if effective.get("runAsUser") is not None:
        if int(effective["runAsUser"]) == 0:
            raise Invalid(f"container's runAsUser breaks non-root policy {where}")
        return
    uid, username = image.user
    if uid is None:
        raise Invalid(
            f"container has runAsNonRoot and image has non-numeric user ({username}), "
            f"cannot verify user is non-root {where}"
        )
    if uid == 0:
        raise Invalid(f"container has runAsNonRoot and image will run as root {where}")
    if not 0 < uid <= _MOST_ID:
        raise Invalid(
            f"container has runAsNonRoot and image has an invalid user id ({uid}). (Must be 1-({_MOST_ID})): "
            f"must be between 0 and {_MOST_ID}, inclusive {where}"
        )


def namespaces(pod: pods.Pod, ctx: PodContext) -> api_pb2.NamespaceOption:
    """Network, PID and IPC of the node or the pod; a PID namespace a container unless shareProcessNamespace; the pod's
    users, where they are not the node's. Raises Invalid with the kubelet's message where the runtime has none."""
    spec = pods.spec(pod)
    pid = api_pb2.POD if spec.get("shareProcessNamespace") else api_pb2.CONTAINER
    return api_pb2.NamespaceOption(
        network=api_pb2.NODE if spec.get("hostNetwork") else api_pb2.POD,
        pid=api_pb2.NODE if spec.get("hostPID") else pid,
        ipc=api_pb2.NODE if spec.get("hostIPC") else api_pb2.POD,
        userns_options=_own_users(ctx) if spec.get("hostUsers") is False else None,
    )


def _own_users(ctx: PodContext) -> api_pb2.UserNamespace:
    if ctx.first_id is None:
        raise Invalid(no_user_namespaces(ctx.features))
    mapping = api_pb2.IDMapping(host_id=ctx.first_id, container_id=0, length=USER_IDS)
    return api_pb2.UserNamespace(mode=api_pb2.POD, uids=[mapping], gids=[mapping])


def no_user_namespaces(features: Features) -> str:
    """Why hostUsers: false cannot be had, in the kubelet's words."""
    who = f'RuntimeClass handler "{features.handler}"' if features.handler else "runtime"
    return f"can't set `spec.hostUsers: false`, {who} does not support user namespaces"


def _pod_context(pod: pods.Pod) -> Context:
    return pods.spec(pod).get("securityContext") or {}


def _set_identity(formed: api_pb2.LinuxContainerSecurityContext, effective: Context, image: ImageRef) -> None:
    """Who runs it: the spec's ids, else the image's user by number or by name."""
    if effective.get("runAsUser") is not None:
        formed.run_as_user.value = int(effective["runAsUser"])
        formed.run_as_user.SetInParent()
    else:
        uid, formed.run_as_username = image.user
        if uid is not None:
            formed.run_as_user.value = uid
            formed.run_as_user.SetInParent()
    if effective.get("runAsGroup") is not None:
        formed.run_as_group.value = int(effective["runAsGroup"])
        formed.run_as_group.SetInParent()


def _container_namespaces(pod: pods.Pod, ctx: PodContext) -> api_pb2.NamespaceOption:
    options = namespaces(pod, ctx)
    if ctx.target_container_id and options.pid == api_pb2.CONTAINER:
        options.pid = api_pb2.TARGET
        options.target_id = ctx.target_container_id
    return options


def _groups(pod: pods.Pod, ctx: PodContext) -> list[int]:
    """fsGroup, the pod's supplementalGroups, and the volumes' own."""
    context = _pod_context(pod)
    groups = [int(context["fsGroup"])] if context.get("fsGroup") is not None else []
    groups += [int(group) for group in context.get("supplementalGroups") or []]
    groups += [group for volume in ctx.volumes.values() for group in volume.groups]
    return list(dict.fromkeys(groups))


def _groups_policy(context: Context, ctx: PodContext) -> api_pb2.SupplementalGroupsPolicy:
    policy = context.get("supplementalGroupsPolicy") or "Merge"
    if policy not in ("Merge", "Strict"):
        raise Invalid(f"unsupported supplementalGroupsPolicy: {policy}")
    if policy == "Strict" and not ctx.features.supplemental_groups_policy:
        raise Invalid("supplementalGroupsPolicy=Strict is not supported by this node's runtime")
    return api_pb2.Strict if policy == "Strict" else api_pb2.Merge


def _seccomp(effective: Context, instance: Instance) -> api_pb2.SecurityProfile:
    """Unconfined where neither level names one; a Localhost profile lies below the state folder's seccomp/."""
    profile = effective.get("seccompProfile") or {}
    kind = profile.get("type") or "Unconfined"
    if kind == "RuntimeDefault":
        return api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.RuntimeDefault)
    if kind == "Unconfined":
        return api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.Unconfined)
    if kind != "Localhost":
        raise Invalid(f'unknown seccomp profile type: "{kind}"')
    name = profile.get("localhostProfile")
    if not name:
        raise Invalid("localhostProfile must be set if seccompProfile type is Localhost.")
    if name.startswith("/") or ".." in name.split("/"):
        raise Invalid(f'localhostProfile: Invalid value: "{name}": must be a path below the profile folder')
    path = instance.state_dir / "seccomp" / name
    return api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.Localhost, localhost_ref=str(path))


def _apparmor(pod: pods.Pod, container: Mapping[str, Any]) -> tuple[api_pb2.SecurityProfile | None, str]:
    """The profile, new style and old style; (None, "") leaves it to the runtime. Before the field there was an
    annotation a container, which still counts where no field is set."""
    profile = effective_context(pod, container).get("appArmorProfile")
    if not profile:
        profile = _apparmor_of_annotation(pods.annotations(pod).get(f"{_APPARMOR_ANNOTATION}{container['name']}"))
    if not profile:
        return None, ""
    kind = profile.get("type")
    if kind == "RuntimeDefault":
        return api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.RuntimeDefault), "runtime/default"
    if kind == "Unconfined":
        return api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.Unconfined), "unconfined"
    if kind != "Localhost":
        raise Invalid(f'unknown apparmor profile type: "{kind}"')
    name = profile.get("localhostProfile")
    if not name:
        raise Invalid("missing localhost apparmor profile name")
    formed = api_pb2.SecurityProfile(profile_type=api_pb2.SecurityProfile.Localhost, localhost_ref=name)
    return formed, f"localhost/{name}"


def _apparmor_of_annotation(value: str | None) -> dict[str, str] | None:
    if not value:
        return None
    if value.startswith("localhost/"):
        return {"type": "Localhost", "localhostProfile": value.removeprefix("localhost/")}
    return {"type": {"runtime/default": "RuntimeDefault", "unconfined": "Unconfined"}.get(value, value)}


def _selinux(options: Context) -> api_pb2.SELinuxOption:
    return api_pb2.SELinuxOption(
        user=options.get("user") or "",
        role=options.get("role") or "",
        type=options.get("type") or "",
        level=options.get("level") or "",
    )
