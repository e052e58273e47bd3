"""What a pod's CRI configuration depends on besides the pod: one immutable value, so that the package stays pure.

Built by the pod's worker for each sandbox or container that it makes; nothing here reads a file, a clock or a socket.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vkcri.errors import NotFound, Refused, Unavailable
from vkcri.instance import Instance

ABSENT = b"absent"
FORBIDDEN = b"forbidden"
_KIND_WORDS = {"configmaps": "configmap", "secrets": "secret"}

Objects = Callable[[str], bytes | None]


class NotHeardOf(Unavailable):
    """The topic `objects` has no entry for the object yet: wait, nothing is wrong."""


@dataclass(frozen=True)
class Prepared:
    """A volume that is on the guest and may be mounted. `path` is the host path of its root; `read_only` volumes are
    mounted read-only whatever the mount says; `groups` join the supplemental groups of every container of the pod. An
    image has no path: the runtime mounts it, by the id that `image` has once it was pulled, and the name that it was
    asked for by."""

    path: str
    kind: str = "emptyDir"
    read_only: bool = False
    groups: tuple[int, ...] = ()
    image: str = ""
    image_name: str = ""


@dataclass(frozen=True)
class ContainerFiles:
    """The host files made for one attempt of one container (bridge.volumes makes them). `subpaths` maps the index of a
    volumeMount that has a subPath to the host path that is bound to it, of an image to the path inside it; empty
    strings mean: not mounted."""

    hosts: str = ""
    termination: str = ""
    subpaths: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageRef:
    """An image on the guest. `name`: as CRI knows it and the pod asked for it; `ref`: the id that CreateContainer gets;
    `digest`: a repository digest where there is one (status.imageID); uid and username as CRI's Image has them (uid
    None: unset)."""

    name: str
    ref: str
    digest: str = ""
    uid: int | None = None
    username: str = ""

    @property
    def user(self) -> tuple[int | None, str]:
        """(uid, name) that the image runs as: root where it names nobody."""
        if self.uid is not None:
            return self.uid, ""
        return (None, self.username) if self.username else (0, "")


@dataclass(frozen=True)
class ResolvConf:
    """The node's resolv.conf, parsed (bridge.spec.dns.parse_resolv_conf)."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class CgroupFacts:
    """What the guest's cgroups can do: version 1 or 2, whether swap is accounted, the huge page sizes ("2MB",
    "1GB")."""

    version: int = 1
    swap: bool = False
    hugepages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Features:
    """What this runtime vouches for, by CRI's Status and its version, where a pod runs by `handler` (empty: the default
    one). What is not vouched for is refused, since a runtime drops fields that it does not know without a word."""

    handler: str = ""
    user_namespaces: bool = False
    recursive_read_only: bool = False
    supplemental_groups_policy: bool = False
    image_volumes: bool = False
    image_sub_paths: bool = False


@dataclass(frozen=True)
class Finding:
    """An event to record about the pod: its type (Normal, Warning), reason and message. of_node: about the node, a
    Warning."""

    type: str
    reason: str
    message: str
    of_node: bool = False


def _no_file(volume: str, path: str) -> Iterator[bytes]:
    raise NotFound(f"no file {path} in volume {volume}")


@dataclass(frozen=True)
class PodContext:
    """Everything that a pod's configuration needs. `objects` looks a key of topic `objects` up; `services` are Service
    dicts of every namespace; `node` is the Node; `image` and `files` belong to the container at hand."""

    instance: Instance
    node: Mapping[str, Any]
    host_ip: str
    objects: Objects
    pod_ips: tuple[str, ...] = ()
    host_ips: tuple[str, ...] = ()
    services: Sequence[Mapping[str, Any]] = ()
    volumes: Mapping[str, Prepared] = field(default_factory=dict)
    files: ContainerFiles = field(default_factory=ContainerFiles)
    image: ImageRef | None = None
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    resolv_conf: ResolvConf = field(default_factory=ResolvConf)
    cgroup_parent: str = ""
    cgroups: CgroupFacts = field(default_factory=CgroupFacts)
    features: Features = field(default_factory=Features)
    target_container_id: str = ""
    volume_file: Callable[[str, str], Iterator[bytes]] = _no_file
    """(volume, path) -> the lines of that file in the volume, read as they are asked for. Raises NotFound, Invalid."""
    first_id: int | None = None
    """On the guest, of the pod's range of ids (bridge.userns); None for a pod in the guest's own user namespace."""

    @property
    def all_host_ips(self) -> tuple[str, ...]:
        return self.host_ips or ((self.host_ip,) if self.host_ip else ())

    @property
    def capacity(self) -> Mapping[str, Any]:
        """The node's capacity, by resource name."""
        return (self.node.get("status") or {}).get("capacity") or {}

    @property
    def allocatable(self) -> Mapping[str, Any]:
        return (self.node.get("status") or {}).get("allocatable") or self.capacity


def find_object(objects: Objects, kind: str, namespace: str, name: str) -> dict[str, Any]:
    """The configMap or secret (kind: "configmaps", "secrets"). Raises NotFound with the kubelet's message, Refused
    where the API server forbids it to this node, NotHeardOf while nothing is known yet."""
    value = objects(f"{kind}/{namespace}/{name}")
    word = _KIND_WORDS[kind]
    if value is None:
        raise NotHeardOf(f"{word} {namespace}/{name} has not been read from the API server yet")
    if value == ABSENT:
        raise NotFound(f'{word} "{name}" not found')
    if value == FORBIDDEN:
        raise Refused(f'{word} "{name}" is forbidden to this node: no relationship found between it and the pod')
    found: dict[str, Any] = json.loads(value)
    return found
