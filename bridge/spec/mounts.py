"""A container's mounts: volumes, subPaths, the hosts file and the termination-message file. Pure.

The host side is made by bridge.volumes; here is decided what is bound where. Every path that comes from a pod is
checked again, although an API server did so before: a pod over the queue must not leave its volume.
"""

import posixpath
from collections.abc import Mapping
from typing import Any

from bridge.pb.runtime.v1 import api_pb2
from bridge.spec import env, expansion, names
from bridge.spec.context import Features, PodContext
from vkcri.api import pods
from vkcri.errors import Invalid

_PROPAGATION = {
    "None": api_pb2.PROPAGATION_PRIVATE,
    "HostToContainer": api_pb2.PROPAGATION_HOST_TO_CONTAINER,
    "Bidirectional": api_pb2.PROPAGATION_BIDIRECTIONAL,
}


def mounts(container: Mapping[str, Any], ctx: PodContext) -> list[api_pb2.Mount]:
    """All mounts in the order that the kubelet has. Raises Invalid with its message."""
    if container.get("volumeDevices"):
        raise Invalid(f"volumeDevices of container {container['name']} are not supported: no block volumes here")
    check_paths(container)
    found = [
        _volume_mount(container, index, mount, ctx) for index, mount in enumerate(container.get("volumeMounts") or [])
    ]
    if ctx.files.hosts:
        found.append(api_pb2.Mount(container_path="/etc/hosts", host_path=ctx.files.hosts))
    if ctx.files.termination:
        path = _absolute(names.message_path(container))
        found.append(api_pb2.Mount(container_path=path, host_path=ctx.files.termination))
    return found


def check_paths(container: Mapping[str, Any]) -> None:
    """Raises Invalid for a mount path that is used twice, empty, or holds a colon."""
    seen: set[str] = set()
    for mount in container.get("volumeMounts") or []:
        path = str(mount.get("mountPath") or "")
        if not path or ":" in path:
            raise Invalid(f"spec.containers[{container['name']}].volumeMounts.mountPath: Invalid value: {path!r}")
        normal = posixpath.normpath(_absolute(path))
        if normal in seen:
            raise Invalid(
                f'spec.containers[{container["name"]}].volumeMounts.mountPath: Invalid value: "{path}": must be unique'
            )
        seen.add(normal)


def subpaths(pod: pods.Pod, container: Mapping[str, Any], ctx: PodContext) -> dict[int, str]:
    """Index of each volumeMount with a subPath or subPathExpr -> the relative path inside its volume, expanded and
    checked. Raises Invalid with the kubelet's message."""
    found: dict[int, str] = {}
    environment: dict[str, str] | None = None
    for index, mount in enumerate(container.get("volumeMounts") or []):
        path = str(mount.get("subPath") or "")
        if mount.get("subPathExpr"):
            if path:
                raise Invalid("subPathExpr and subPath are mutually exclusive")
            environment = env.environment(pod, container, ctx) if environment is None else environment
            path = expansion.expand_strict(str(mount["subPathExpr"]), environment)
        if path:
            found[index] = _checked_subpath(path)
    return found


def _checked_subpath(path: str) -> str:
    if path.startswith("/"):
        raise Invalid(f"error SubPath `{path}` must not be an absolute path")
    if ".." in path.split("/"):
        raise Invalid(f"unable to provision SubPath `{path}`: must not contain '..'")
    if "\0" in path:
        raise Invalid("unable to provision SubPath: must not contain NUL")
    return path


def _volume_mount(container: Mapping[str, Any], index: int, mount: Mapping[str, Any], ctx: PodContext) -> api_pb2.Mount:
    volume = ctx.volumes.get(mount.get("name", ""))
    if volume is None:
        raise Invalid(f'cannot find volume "{mount.get("name")}" to mount into container "{container["name"]}"')
    host_path = volume.path
    if volume.kind == "image":
        check_image(mount, ctx.features)
    if mount.get("subPath") or mount.get("subPathExpr"):
        host_path = ctx.files.subpaths.get(index, "")
        if not host_path:
            raise Invalid(
                f'failed to prepare subPath for volumeMount "{mount["name"]}" of container "{container["name"]}"'
            )
    mode = mount.get("mountPropagation") or "None"
    if mode not in _PROPAGATION:
        raise Invalid(f'invalid MountPropagation mode: "{mode}"')
    privileged = bool((container.get("securityContext") or {}).get("privileged"))
    if mode == "Bidirectional" and not privileged:
        raise Invalid("Bidirectional mount propagation is available only to privileged containers")
    made = api_pb2.Mount(
        container_path=_absolute(str(mount["mountPath"])),
        readonly=bool(mount.get("readOnly")) or volume.read_only,
        recursive_read_only=_recursive_read_only(mount, ctx.features),
        propagation=_PROPAGATION[mode],
    )
    if volume.kind != "image":
        made.host_path = host_path
        return made
    spec = api_pb2.ImageSpec(image=volume.image, user_specified_image=volume.image_name)
    spec.runtime_handler = ctx.features.handler
    made.image.CopyFrom(spec)
    made.image_sub_path = host_path
    return made


def check_image(mount: Mapping[str, Any], features: Features) -> None:
    """Raises Invalid where the runtime would drop the mount of an image, or its subPath, without a word."""
    if not features.image_volumes:
        raise Invalid(f'volume "{mount["name"]}": image volumes are not supported by this node\'s runtime')
    if (mount.get("subPath") or mount.get("subPathExpr")) and not features.image_sub_paths:
        raise Invalid(f'volume "{mount["name"]}": subPath of an image is not supported by this node\'s runtime')


def _recursive_read_only(mount: Mapping[str, Any], features: Features) -> bool:
    mode = mount.get("recursiveReadOnly") or "Disabled"
    if mode == "Disabled":
        return False
    problem = ""
    if mode not in ("IfPossible", "Enabled"):
        problem = f'unknown recursive read-only mode "{mode}"'
    elif not mount.get("readOnly"):
        problem = "it is not read-only"
    elif (mount.get("mountPropagation") or "None") != "None":
        problem = f"it is not compatible with propagation {mount['mountPropagation']}"
    elif mode == "Enabled" and not features.recursive_read_only:
        problem = "it is not supported by the runtime"
    if problem:
        wanted = f'volume "{mount["name"]}" requested recursive read-only mode, but {problem}'
        raise Invalid(f"failed to resolve recursive read-only mode: {wanted}")
    return features.recursive_read_only


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"
