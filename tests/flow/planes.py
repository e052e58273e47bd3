"""Which API server a flow test's nodes belong to: each node's own embedded one, or a real control plane.

`pytest --cluster=real` picks the real one, one a worker, since a test kills its API server. There each node joins
as system:node:NAME with a kubeconfig of its own, and has a namespace of its own: PodNodeSelector keeps what is created
in it on that node, however many have joined, and it is the default of the kubeconfig that the test's kubectl uses. So a
test says `node.namespace` where a namespace is shown, and little else tells the two apart.
"""

import json
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.cluster import objects
from tests.cluster.control import Cluster, claimed
from vkcri.config import default_address
from vkcri.instance import Instance

_NODE_SELECTOR = "scheduler.alpha.kubernetes.io/node-selector"  # the annotation that PodNodeSelector reads


@dataclass(frozen=True)
class Place:
    """One node's place at an API server: what its programs get, and how the test speaks to that server.

    `kubeconfig` is an administrator's. `cluster`: the real control plane, where it is one."""

    kubeconfig: Path
    server: str
    namespace: str = "default"
    environment: Mapping[str, str] = field(default_factory=dict)
    cluster: Cluster | None = None

    @property
    def told(self) -> str:
        """The kubeconfig that make run tells a person to use: FILE, for one of theirs, where the node's is its own."""
        return "FILE" if self.cluster is not None else str(self.kubeconfig)

    @property
    def embedded(self) -> bool:
        """Whether the node brings its own API server."""
        return "KUBECONFIG" not in self.environment


class Plane(Protocol):
    """Where the nodes of a test belong: `place` gives a node its place and takes away what it leaves there."""

    def place(self, instance: Instance) -> AbstractContextManager[Place]: ...


def embedded_place(instance: Instance) -> Place:
    """The place of a node that brings its own API server."""
    return Place(instance.admin_kubeconfig, f"https://{default_address()}:{instance.apiserver_port}")


class EmbeddedPlane:
    """Every node brings an API server of its own."""

    @contextmanager
    def place(self, instance: Instance) -> Iterator[Place]:
        yield embedded_place(instance)


@contextmanager
def real_plane(kubernetes: str = "") -> Iterator["RealPlane"]:
    """A control plane on a number of its own, gone at the end. `kubernetes`: as a person types it, such as 1.34."""
    flags = {"kube-apiserver": {"enable-admission-plugins": "NodeRestriction,PodNodeSelector"}}
    with claimed(kubernetes, flags) as cluster:
        cluster.start()
        yield RealPlane(cluster)


class RealPlane:
    """Every node joins one control plane, without vkcri's taint, as end-to-end tests want their nodes."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    @contextmanager
    def place(self, instance: Instance) -> Iterator[Place]:
        node = instance.name
        namespace = f"{node}-{secrets.token_hex(2)}"  # the one of an earlier node may still be emptied
        self._apply(_namespace(namespace, node))
        with tempfile.TemporaryDirectory(prefix=f"{node}-") as folder:
            yield Place(
                self._kubeconfig(Path(folder), namespace),
                self._cluster.server,
                namespace,
                {"KUBECONFIG": str(self._cluster.node_kubeconfig(node)), "VKUBELET_DISABLE_TAINT": "true"},
                self._cluster,
            )
        self._kubectl("delete", "pods", "--all", "-n", namespace, "--force", "--grace-period=0")
        self._kubectl("delete", "namespace", namespace, "--wait=false")
        self._kubectl("delete", "node", node, "--ignore-not-found")
        self._kubectl("delete", "lease", "-n", "kube-node-lease", node, "--ignore-not-found")
        self._kubectl("delete", "clusterrolebinding", objects.proxier(node)["metadata"]["name"])  # of node_kubeconfig

    def _kubeconfig(self, folder: Path, namespace: str) -> Path:
        """The administrator's kubeconfig with this default namespace."""
        path = folder / "admin.conf"
        shutil.copy(self._cluster.admin_kubeconfig, path)
        self._kubectl("config", "set-context", "--current", f"--namespace={namespace}", kubeconfig=path)
        return path

    def _apply(self, *items: dict[str, Any]) -> None:
        self._kubectl("apply", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))

    def _kubectl(self, *arguments: str, text: str | None = None, kubeconfig: Path | None = None) -> None:
        command = ["kubectl", f"--kubeconfig={kubeconfig or self._cluster.admin_kubeconfig}", *arguments]
        done = subprocess.run(
            command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout}"


def _namespace(name: str, node: str) -> dict[str, Any]:
    metadata = {"name": name, "annotations": {_NODE_SELECTOR: f"kubernetes.io/hostname={node}"}}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
