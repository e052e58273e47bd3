"""Accessors of a Pod as the API server sent it (a raw dict): what every process asks of a pod.

Pure. A field that is absent has Kubernetes' default here, because static pods and old servers leave them out.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from vkcri.api import quantities

Pod = Mapping[str, Any]
Kind = Literal["container", "init", "ephemeral"]

SOURCE_ANNOTATION = "kubernetes.io/config.source"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
DEFAULT_GRACE = 30
SYSTEM_CRITICAL = 2_000_000_000
"""The least priority of the system's own classes (scheduling.SystemCriticalPriority)."""
_LISTS: tuple[tuple[Kind, str], ...] = (
    ("init", "initContainers"),
    ("container", "containers"),
    ("ephemeral", "ephemeralContainers"),
)


def name(pod: Pod) -> str:
    return str(pod["metadata"]["name"])


def namespace(pod: Pod) -> str:
    return str(pod["metadata"].get("namespace") or "default")


def uid(pod: Pod) -> str:
    return str(pod["metadata"].get("uid") or "")


def full_name(pod: Pod) -> str:
    """NAMESPACE/NAME, for logs and messages."""
    return f"{namespace(pod)}/{name(pod)}"


def spec(pod: Pod) -> Mapping[str, Any]:
    return pod.get("spec") or {}


def status(pod: Pod) -> Mapping[str, Any]:
    return pod.get("status") or {}


def labels(pod: Pod) -> Mapping[str, str]:
    return pod["metadata"].get("labels") or {}


def annotations(pod: Pod) -> Mapping[str, str]:
    return pod["metadata"].get("annotations") or {}


def from_source(pod: Pod, source: str) -> dict[str, Any]:
    """The pod with its source written over whatever its own annotation says, as the kubelet does for each of its
    sources (pkg/kubelet/config): what an API pod's author writes there makes no static pod of it."""
    own = {**annotations(pod), SOURCE_ANNOTATION: source}
    return {**pod, "metadata": {**pod["metadata"], "annotations": own}}


def source(pod: Pod) -> str:
    """Where a pod that went through `from_source`, or was made from a manifest, came from, which is the queue's source
    too: "file" for a static pod, else "api"."""
    return "file" if annotations(pod).get(SOURCE_ANNOTATION) == "file" else "api"


def is_static(pod: Pod) -> bool:
    return source(pod) != "api"


def is_mirror(pod: Pod) -> bool:
    """Whether this is the API server's copy of a static pod, which no provider runs."""
    return MIRROR_ANNOTATION in annotations(pod)


def is_critical(pod: Pod) -> bool:
    """Whether the node must not end it for want of something: a static pod, or one of the system's priorities."""
    return is_static(pod) or is_mirror(pod) or int(spec(pod).get("priority") or 0) >= SYSTEM_CRITICAL


def deletion_timestamp(pod: Pod) -> str | None:
    stamp = pod["metadata"].get("deletionTimestamp")
    return str(stamp) if stamp else None


def is_terminal(status: Mapping[str, Any] | None) -> bool:
    """Whether a PodStatus is final: phase Succeeded or Failed."""
    return (status or {}).get("phase") in ("Succeeded", "Failed")


def grace_seconds(pod: Pod) -> int:
    """Seconds that a stop may take: the deletion's own grace, else the spec's, else 30."""
    for holder, field in (
        (pod["metadata"], "deletionGracePeriodSeconds"),
        (spec(pod), "terminationGracePeriodSeconds"),
    ):
        if holder.get(field) is not None:
            return max(int(holder[field]), 0)
    return DEFAULT_GRACE


def restart_policy(pod: Pod) -> str:
    return str(spec(pod).get("restartPolicy") or "Always")


def all_containers(pod: Pod) -> Iterator[tuple[Kind, dict[str, Any]]]:
    """(kind, container) of every container: init, ordinary, ephemeral, each kind in the spec's order."""
    for kind, field in _LISTS:
        for container in spec(pod).get(field) or []:
            yield kind, container


def container(pod: Pod, wanted: str) -> tuple[Kind, dict[str, Any]] | None:
    """The container of that name, with its kind; None if the pod has none."""
    return next((pair for pair in all_containers(pod) if pair[1].get("name") == wanted), None)


def container_field(pod: Pod, wanted: str) -> str:
    """The field of the spec that has the container of that name; "containers" if none has."""
    found = container(pod, wanted)
    return dict(_LISTS)[found[0]] if found else "containers"


def is_sidecar(container: Mapping[str, Any]) -> bool:
    """Whether an init container is a native sidecar (restartPolicy: Always)."""
    return container.get("restartPolicy") == "Always"


def host_network(pod: Pod) -> bool:
    return bool(spec(pod).get("hostNetwork"))


def runtime_class(pod: Pod) -> str:
    """The name of its RuntimeClass; "" for the runtime's default handler."""
    return str(spec(pod).get("runtimeClassName") or "")


def service_account(pod: Pod) -> str:
    return str(spec(pod).get("serviceAccountName") or spec(pod).get("serviceAccount") or "default")


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort, by GetPodQOS: pod-level resources decide where set, else all containers.

    Only cpu and memory count, and only amounts above zero."""
    level = spec(pod).get("resources") or {}
    if _compute_resources(level.get("requests")) or _compute_resources(level.get("limits")):
        return _qos([level])
    return _qos([item.get("resources") or {} for kind, item in all_containers(pod) if kind != "ephemeral"])


def references(pod: Pod) -> set[str]:
    """The keys of topic `objects` that the pod needs: "configmaps/NAMESPACE/NAME" and "secrets/NAMESPACE/NAME" of
    volumes, projected sources, env and envFrom of every kind of container, and imagePullSecrets."""
    found = {("secrets", secret.get("name")) for secret in spec(pod).get("imagePullSecrets") or []}
    for volume in spec(pod).get("volumes") or []:
        found.update(_volume_references(volume))
    for _, item in all_containers(pod):
        found.update(_container_references(item))
    return {f"{kind}/{namespace(pod)}/{object_name}" for kind, object_name in found if object_name}


def _volume_references(volume: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    if "configMap" in volume:
        yield "configmaps", (volume["configMap"] or {}).get("name")
    if "secret" in volume:
        yield "secrets", (volume["secret"] or {}).get("secretName")
    for projection in (volume.get("projected") or {}).get("sources") or []:
        yield "configmaps", (projection.get("configMap") or {}).get("name")
        yield "secrets", (projection.get("secret") or {}).get("name")
    for plugin, field in _SECRET_REFS:
        yield "secrets", ((volume.get(plugin) or {}).get(field) or {}).get("name")


_SECRET_REFS = (
    ("csi", "nodePublishSecretRef"),
    ("cephfs", "secretRef"),
    ("flexVolume", "secretRef"),
    ("iscsi", "secretRef"),
    ("rbd", "secretRef"),
    ("scaleIO", "secretRef"),
    ("storageos", "secretRef"),
)


def _container_references(item: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for entry in item.get("envFrom") or []:
        yield "configmaps", (entry.get("configMapRef") or {}).get("name")
        yield "secrets", (entry.get("secretRef") or {}).get("name")
    for entry in item.get("env") or []:
        origin = entry.get("valueFrom") or {}
        yield "configmaps", (origin.get("configMapKeyRef") or {}).get("name")
        yield "secrets", (origin.get("secretKeyRef") or {}).get("name")


def _compute_resources(amounts: Mapping[str, Any] | None) -> dict[str, Any]:
    """The cpu and memory entries above zero, as exact amounts."""
    parsed = {key: quantities.parse(amount) for key, amount in (amounts or {}).items() if key in ("cpu", "memory")}
    return {key: amount for key, amount in parsed.items() if amount > 0}


def _qos(resources: list[Mapping[str, Any]]) -> str:
    guaranteed, best_effort = bool(resources), True
    for item in resources:
        limits = _compute_resources(item.get("limits"))
        requests = {**limits, **_compute_resources(item.get("requests"))}
        if limits or _compute_resources(item.get("requests")):
            best_effort = False
        if set(limits) != {"cpu", "memory"} or requests != limits:
            guaranteed = False
    if best_effort:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
