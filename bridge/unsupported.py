"""Fields of a Pod that this version does not act upon. A pod that sets one is refused, never run without it. Pure.

The fields that the runtime may or may not vouch for are refused where its configuration is made (bridge.spec), and
volume kinds where volumes are made (bridge.volumes): both know more than the pod's text. tests/data/pod-fields.tsv has
a row for every field, and a test walks the whole schema: one that Kubernetes adds must be sorted.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vkcri.api import pods, restarts

REASON = "UnsupportedField"
REFUSED: Mapping[str, tuple[str, ...]] = {
    "PodSpec": ("resourceClaims", "schedulingGates"),
    "PodSecurityContext": ("windowsOptions",),
    "Container": ("devices", "volumeDevices"),
    "SecurityContext": ("windowsOptions",),
    "ResourceRequirements": ("claims",),
    "VolumeMount": ("bindMountOptions",),
    "EmptyDirVolumeSource": ("mode",),
    "ConfigMapVolumeSource": ("defaultUser",),
    "SecretVolumeSource": ("defaultUser",),
    "DownwardAPIVolumeSource": ("defaultUser",),
    "ProjectedVolumeSource": ("defaultUser",),
    "KeyToPath": ("user",),
    "DownwardAPIVolumeFile": ("user",),
    "ServiceAccountTokenProjection": ("user",),
}
"""By definition: whatever their value, if they are set."""
HOOKS = ("exec", "httpGet", "sleep")
"""What a postStart or preStop hook may do; tcpSocket is deprecated and does nothing in the kubelet either."""
_VOLUMES = {
    "configMap": "ConfigMapVolumeSource",
    "secret": "SecretVolumeSource",
    "downwardAPI": "DownwardAPIVolumeSource",
    "projected": "ProjectedVolumeSource",
    "emptyDir": "EmptyDirVolumeSource",
    "serviceAccountToken": "ServiceAccountTokenProjection",
}


def unsupported(pod: Mapping[str, Any]) -> list[str]:
    """The paths of all such fields that are set, in the spec's order; empty for a pod that may run."""
    return [f"spec.{path}" for path in _find(pod)]


def message(paths: list[str]) -> str:
    """What a person reads in the event and in the pod's status."""
    return f"not supported by this node: {', '.join(paths)}"


def _find(pod: Mapping[str, Any]) -> Iterator[str]:
    spec = pods.spec(pod)
    yield from _refused("PodSpec", spec)
    yield from _refused("ResourceRequirements", spec.get("resources"), "resources.")
    yield from _refused("PodSecurityContext", spec.get("securityContext"), "securityContext.")
    if (spec.get("securityContext") or {}).get("seLinuxChangePolicy") not in (None, "", "MountOption"):
        yield "securityContext.seLinuxChangePolicy"
    lists = {"init": "initContainers", "container": "containers", "ephemeral": "ephemeralContainers"}
    counts: dict[str, int] = {}
    for kind, container in pods.all_containers(pod):
        index = counts[kind] = counts.get(kind, -1) + 1
        yield from (f"{lists[kind]}[{index}].{path}" for path in _find_in(container))
    for index, volume in enumerate(spec.get("volumes") or []):
        yield from (f"volumes[{index}].{path}" for path in _find_in_volume(volume))


def _find_in(container: Mapping[str, Any]) -> Iterator[str]:
    yield from _refused("Container", container)
    yield from _refused("ResourceRequirements", container.get("resources"), "resources.")
    yield from _refused("SecurityContext", container.get("securityContext"), "securityContext.")
    for index, mount in enumerate(container.get("volumeMounts") or []):
        yield from _refused("VolumeMount", mount, f"volumeMounts[{index}].")
    for index, rule in enumerate(container.get("restartPolicyRules") or []):
        if rule.get("action") not in restarts.ACTIONS:
            yield f"restartPolicyRules[{index}].action"
    for when in ("postStart", "preStop"):
        hook = (container.get("lifecycle") or {}).get(when) or {}
        for kind in hook:
            if kind not in HOOKS:
                yield f"lifecycle.{when}.{kind}"
        if (hook.get("httpGet") or {}).get("protocol") not in (None, "HTTP1"):
            yield f"lifecycle.{when}.httpGet.protocol"  # only probes speak HTTP/2 without being asked


def _find_in_volume(volume: Mapping[str, Any]) -> Iterator[str]:
    """A volume's, or a projected volume's source's: both hold one thing under its kind."""
    for kind, source in volume.items():
        if kind not in _VOLUMES or not isinstance(source, Mapping):
            continue
        yield from _refused(_VOLUMES[kind], source, f"{kind}.")
        item_kind = "DownwardAPIVolumeFile" if kind == "downwardAPI" else "KeyToPath"
        for index, item in enumerate(source.get("items") or []):
            yield from _refused(item_kind, item, f"{kind}.items[{index}].")
        for index, projection in enumerate(source.get("sources") or []):
            yield from (f"{kind}.sources[{index}].{path}" for path in _find_in_volume(projection))


def _refused(kind: str, value: Mapping[str, Any] | None, prefix: str = "") -> Iterator[str]:
    """The refused fields of that definition that are set; a user 0 is."""
    for field in REFUSED[kind]:
        held = (value or {}).get(field)
        if held or (held == 0 and held is not False):
            yield f"{prefix}{field}"
