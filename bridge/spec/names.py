"""Names, labels and annotations of CRI objects, and where their files lie: the words by which a pod is found again.

Pure. What must outlive the API object (grace, preStop, restart count, termination message) stands in annotations under
the kubelet's keys (kuberuntime/labels.go), so that a restarted bridge stops an orphan as its spec asked.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.pb.runtime.v1 import api_pb2
from vkcri.api import pods
from vkcri.errors import Invalid
from vkcri.instance import Instance

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
INSTANCE = "vkcri.instance"
FIRST_ID = "vkcri/user-namespace"  # of a sandbox: the first id on the guest of its pod's range
IMAGE_VOLUMES = "vkcri/image-volumes"  # of a container: ids of the images that it mounts, by comma
DELETION_GRACE = "io.kubernetes.pod.deletionGracePeriod"
TERMINATION_GRACE = "io.kubernetes.pod.terminationGracePeriod"
HASH = "io.kubernetes.container.hash"
RESTART_COUNT = "io.kubernetes.container.restartCount"
MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
PRE_STOP = "io.kubernetes.container.preStopHandler"
PORTS = "io.kubernetes.container.ports"
DEFAULT_MESSAGE_PATH = "/dev/termination-log"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_UID = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,127}")


def check_names(pod: pods.Pod) -> None:
    """Raises Invalid for a pod, container or volume whose name is not a DNS name: such a name would leave its
    folder."""
    if not _SUBDOMAIN.fullmatch(pods.name(pod)) or len(pods.name(pod)) > 253:
        raise Invalid(f"metadata.name: Invalid value: {pods.name(pod)!r}: not a DNS-1123 subdomain")
    if not _LABEL.fullmatch(pods.namespace(pod)):
        raise Invalid(f"metadata.namespace: Invalid value: {pods.namespace(pod)!r}: not a DNS-1123 label")
    if not _UID.fullmatch(pods.uid(pod)) or ".." in pods.uid(pod):
        raise Invalid(f"metadata.uid: Invalid value: {pods.uid(pod)!r}")
    seen: set[str] = set()
    for _, container in pods.all_containers(pod):
        check_label("containers[].name", str(container.get("name", "")))
        if container["name"] in seen:
            raise Invalid(f"spec.containers[].name: Duplicate value: {container['name']!r}")
        seen.add(container["name"])
    volumes: set[str] = set()
    for volume in pods.spec(pod).get("volumes") or []:
        check_label("volumes[].name", str(volume.get("name", "")))
        if volume["name"] in volumes:
            raise Invalid(f"spec.volumes[].name: Duplicate value: {volume['name']!r}")
        volumes.add(volume["name"])


def check_label(field: str, name: str) -> None:
    """Raises Invalid unless name is a DNS-1123 label."""
    if not _LABEL.fullmatch(name):
        raise Invalid(
            f"spec.{field}: Invalid value: {name!r}: a lowercase RFC 1123 label must consist of lower case "
            "alphanumeric characters or '-', and must start and end with an alphanumeric character"
        )


def describe(pod: pods.Pod) -> str:
    """NAME_NAMESPACE(UID), as the kubelet's messages call a pod."""
    return f"{pods.name(pod)}_{pods.namespace(pod)}({pods.uid(pod)})"


def sandbox_labels(pod: pods.Pod, instance: Instance) -> dict[str, str]:
    """The pod's own labels, then the kubelet's, then ours."""
    return {**pods.labels(pod), **_identity(pod, instance)}


def sandbox_annotations(pod: pods.Pod, first_id: int | None = None) -> dict[str, str]:
    """The pod's annotations, its source, the grace that an orphan is stopped with, and its range of ids."""
    found = {**pods.annotations(pod), pods.SOURCE_ANNOTATION: pods.source(pod), **_grace(pod)}
    found.pop(FIRST_ID, None)
    return found if first_id is None else {**found, FIRST_ID: str(first_id)}


def container_labels(pod: pods.Pod, container: Mapping[str, Any], instance: Instance) -> dict[str, str]:
    return {**_identity(pod, instance), CONTAINER_NAME: str(container["name"])}


def container_annotations(pod: pods.Pod, container: Mapping[str, Any], attempt: int) -> dict[str, str]:
    """What stopping, restarting and reporting this container needs once the API object is gone."""
    annotations = {
        HASH: container_hash(container),
        RESTART_COUNT: str(attempt),
        MESSAGE_PATH: message_path(container),
        MESSAGE_POLICY: str(container.get("terminationMessagePolicy") or "File"),
        **_grace(pod),
    }
    pre_stop = (container.get("lifecycle") or {}).get("preStop")
    if pre_stop:
        annotations[PRE_STOP] = json.dumps(pre_stop, separators=(",", ":"))
    if container.get("ports"):
        annotations[PORTS] = json.dumps(container["ports"], separators=(",", ":"))
    return annotations


def container_hash(container: Mapping[str, Any]) -> str:
    """FNV-1a (32 bits, hexadecimal) of name and image: a container whose hash differs is replaced. Only these two
    fields count, as in the kubelet: resources and everything else that may change in place do not restart a
    container."""
    value = 2166136261
    text = json.dumps({"image": container.get("image", ""), "name": container.get("name", "")}, sort_keys=True)
    for byte in text.encode():
        value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return f"{value:x}"


def message_path(container: Mapping[str, Any]) -> str:
    return str(container.get("terminationMessagePath") or DEFAULT_MESSAGE_PATH)


def log_directory(pod: pods.Pod, instance: Instance) -> Path:
    """CRI's log_directory: <pod logs>/NAMESPACE_NAME_UID."""
    return instance.pod_logs_dir / f"{pods.namespace(pod)}_{pods.name(pod)}_{pods.uid(pod)}"


def log_path(container: Mapping[str, Any], attempt: int) -> str:
    """CRI's log_path, below the log directory: NAME/ATTEMPT.log."""
    return f"{container['name']}/{attempt}.log"


def hostname(pod: pods.Pod, cluster_domain: str) -> tuple[str, str]:
    """(host name, domain or ""), by hostname, subdomain and hostnameOverride. Raises Invalid."""
    spec = pods.spec(pod)
    if spec.get("hostnameOverride") is not None:
        override = str(spec["hostnameOverride"])
        if not _SUBDOMAIN.fullmatch(override) or len(override) > 253:
            raise Invalid(f'pod HostnameOverride "{override}" is not a valid DNS subdomain')
        return _truncated(override), ""
    for field in ("hostname", "subdomain"):
        if spec.get(field) and not _LABEL.fullmatch(spec[field]):
            raise Invalid(f'pod {field.capitalize()} "{spec[field]}" is not a valid DNS label')
    name = _truncated(spec.get("hostname") or pods.name(pod))
    domain = f"{spec['subdomain']}.{pods.namespace(pod)}.svc.{cluster_domain}" if spec.get("subdomain") else ""
    return name, domain


def kernel_hostname(pod: pods.Pod, cluster_domain: str) -> str:
    """The sandbox's host name: the full name with setHostnameAsFQDN, which the kernel holds to 64 bytes. Raises
    Invalid."""
    name, domain = hostname(pod, cluster_domain)
    if not (domain and pods.spec(pod).get("setHostnameAsFQDN")):
        return name
    full = f"{name}.{domain}"
    if len(full) > 64:
        raise Invalid(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"(64 characters is the max, {len(full)} characters requested)"
        )
    return full


def _truncated(name: str) -> str:
    return name if len(name) <= 63 else name[:63].rstrip("-.")


def _identity(pod: pods.Pod, instance: Instance) -> dict[str, str]:
    return {
        POD_NAME: pods.name(pod),
        POD_NAMESPACE: pods.namespace(pod),
        POD_UID: pods.uid(pod),
        INSTANCE: instance.cri_label,
    }


def _grace(pod: pods.Pod) -> dict[str, str]:
    found = {}
    if pod["metadata"].get("deletionGracePeriodSeconds") is not None:
        found[DELETION_GRACE] = str(pod["metadata"]["deletionGracePeriodSeconds"])
    if pods.spec(pod).get("terminationGracePeriodSeconds") is not None:
        found[TERMINATION_GRACE] = str(pods.spec(pod)["terminationGracePeriodSeconds"])
    return found


def note_image_volumes(config: api_pb2.ContainerConfig) -> None:
    """Say in the container's annotations which images it mounts: image garbage collection reads them in CRI's list."""
    images = sorted({mount.image.image for mount in config.mounts if mount.HasField("image")})
    if images:
        config.annotations[IMAGE_VOLUMES] = ",".join(images)
