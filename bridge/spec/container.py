"""One attempt of one container as CRI's ContainerConfig. Pure.

Source: the kubelet's generateContainerConfig. Everything that is wrong with the spec leaves as Invalid, which becomes
CreateContainerConfigError; Unavailable means that an object has not been heard of yet: try again.
"""

from collections.abc import Mapping
from typing import Any, cast

from bridge.pb.runtime.v1 import api_pb2
from bridge.spec import env, expansion, mounts, names, resources, security
from bridge.spec.context import Finding, ImageRef, PodContext
from vkcri.api import pods
from vkcri.errors import Invalid, NotFound, Refused


def container_config(
    pod: pods.Pod, container: dict[str, Any], ctx: PodContext, attempt: int
) -> api_pb2.ContainerConfig:
    """The configuration. Raises Invalid with the kubelet's message, Unavailable while an object is not known."""
    try:
        return _config(pod, container, ctx, attempt)
    except (NotFound, Refused) as error:
        raise Invalid(str(error)) from error


def findings(pod: pods.Pod, container: dict[str, Any], ctx: PodContext) -> tuple[Finding, ...]:
    """The events that go with the container: InvalidEnvironmentVariableNames."""
    return env.findings(pod, container, ctx)


def _config(pod: pods.Pod, container: dict[str, Any], ctx: PodContext, attempt: int) -> api_pb2.ContainerConfig:
    names.check_names(pod)
    _check_supported(container)
    image = ctx.image or ImageRef("", "")
    environment = env.environment(pod, container, ctx)
    config = api_pb2.ContainerConfig(
        metadata=api_pb2.ContainerMetadata(name=container["name"], attempt=attempt),
        image=api_pb2.ImageSpec(image=image.ref, user_specified_image=str(container.get("image") or "")),
        command=expansion.expand_all(container.get("command"), environment),
        args=expansion.expand_all(container.get("args"), environment),
        working_dir=str(container.get("workingDir") or ""),
        mounts=mounts.mounts(container, ctx),
        labels=names.container_labels(pod, container, ctx.instance),
        annotations=names.container_annotations(pod, container, attempt),
        log_path=names.log_path(container, attempt),
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        stop_signal=_stop_signal(container),  # looked for in the runtime's answer: bridge.launch
        linux=api_pb2.LinuxContainerConfig(
            resources=resources.container_resources(pod, container, ctx),
            security_context=security.container_security(pod, container, ctx),
        ),
    )
    users = config.linux.security_context.namespace_options.userns_options
    for mount in config.mounts:  # files of volumes belong to the ids that the container sees
        mount.uidMappings.extend(users.uids)
        mount.gidMappings.extend(users.gids)
    names.note_image_volumes(config)
    for name, value in environment.items():
        config.envs.add(key=name, value=value.encode("utf-8", "surrogateescape"))
    return config


def _check_supported(container: Mapping[str, Any]) -> None:
    """Refuse what would be dropped: fields that this node does not honour."""
    if (container.get("resources") or {}).get("claims"):
        raise Invalid(f"container {container['name']}: resources.claims are not supported by this node")


def _stop_signal(container: Mapping[str, Any]) -> api_pb2.Signal:
    signal = (container.get("lifecycle") or {}).get("stopSignal")
    if not signal:
        return api_pb2.SIGNAL_RUNTIME_DEFAULT
    name = f"SIGNAL_{signal}".replace("+", "PLUS").replace("-", "MINUS")
    if name not in api_pb2.Signal.keys():  # noqa: SIM118 - a protobuf enum is no mapping
        raise Invalid(f'lifecycle.stopSignal: Unsupported value: "{signal}"')
    return cast(api_pb2.Signal, api_pb2.Signal.Value(name))
