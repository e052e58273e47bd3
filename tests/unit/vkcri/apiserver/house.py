"""A server without HTTP: a real store in a scratch folder, requests as strategy sees them, a clock that tests set."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vkcri.api import times
from vkcri.apiserver import internal, strategy
from vkcri.apiserver.authn import User
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import by_key
from vkcri.apiserver.status import StatusError
from vkcri.apiserver.storage import Store
from vkcri.config import ApiServerSettings
from vkcri.instance import Instance

Object = dict[str, Any]
NODE = "n1"
NODE_USER = User(f"system:node:{NODE}", groups=("system:nodes", "system:authenticated"))
START = 1_795_000_000


@dataclass(frozen=True)
class ScratchInstance(Instance):
    """An instance whose files are in the test's own folder."""

    root: Path = Path("/nowhere")

    @property
    def state_dir(self) -> Path:
        return self.root


@dataclass
class House:
    """`seconds` is the time; move it."""

    store: Store
    settings: ApiServerSettings
    seconds: float = START
    user: User = field(default=internal.SERVER)

    @property
    def ctx(self) -> RequestContext:
        return internal.context(self.store, self.settings, now=self.now, user=self.user)

    def as_node(self, name: str = NODE) -> RequestContext:
        user = User(f"system:node:{name}", groups=("system:nodes", "system:authenticated"))
        return internal.context(self.store, self.settings, now=self.now, user=user)

    def now(self) -> str:
        return times.seconds(times.of(self.seconds))

    def create(self, key: str, obj: Object, ctx: RequestContext | None = None) -> Object:
        return internal.create(ctx or self.ctx, key, obj)

    def update(self, key: str, obj: Object, *, subresource: str | None = None) -> Object:
        """Write a whole object over the stored one, as PUT does."""
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or ""
        return internal.update(self.ctx, key, namespace, metadata["name"], lambda _: obj, subresource=subresource)

    def delete(self, key: str, namespace: str, name: str, **options: Any) -> Object | None:
        internal.delete(self.ctx, key, namespace, name, options)
        return self.store.get(key, namespace, name)

    def get(self, key: str, namespace: str, name: str) -> Object | None:
        return self.store.get(key, namespace, name)

    def namespace(self, name: str) -> None:
        """A namespace as the controllers furnish it."""
        self.create("/namespaces", {"metadata": {"name": name}})
        self.create("/serviceaccounts", {"metadata": {"name": "default", "namespace": name}})

    def pod(self, name: str = "p", *, namespace: str = "default", **spec: Any) -> Object:
        """Create a pod with one container unless `spec` says otherwise."""
        return self.create("/pods", pod(name, namespace=namespace, **spec))

    def node(self, name: str = NODE, *, ready: bool = True, **changes: Any) -> Object:
        return self.create("/nodes", node(name, ready=ready, **changes))

    def errors(self, key: str, obj: Object) -> dict[str, str]:
        """What is wrong with an object to create: path -> text; empty when it is stored (in a dry run)."""
        try:
            with self.store.transaction():
                strategy.prepare_create(by_key(key), obj, self.ctx)
        except StatusError as error:
            if error.code != 422:
                raise
            found: dict[str, str] = {}
            for cause in (error.details or {})["causes"]:
                found[cause["field"]] = "; ".join(filter(None, (found.get(cause["field"]), cause["message"])))
            return found
        return {}


def open_house(folder: Path) -> House:
    """A house with the namespace default."""
    instance = ScratchInstance("kinds-81", root=folder)
    settings = ApiServerSettings(instance=instance, node_name=NODE, pod_ip="192.0.2.7")
    house = House(Store(folder / "store.db"), settings)
    house.namespace("default")
    return house


def pod(name: str = "p", *, namespace: str = "default", labels: dict[str, str] | None = None, **spec: Any) -> Object:
    """A pod as a person writes it."""
    metadata: Object = {"name": name, "namespace": namespace}
    if labels:
        metadata["labels"] = labels
    return {"metadata": metadata, "spec": {"containers": [{"name": "main", "image": "busybox:1.37"}], **spec}}


def container(**fields: Any) -> Object:
    return {"name": "main", "image": "busybox:1.37", **fields}


def node(name: str = NODE, *, ready: bool = True, **changes: Any) -> Object:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    resources = {"cpu": "2", "memory": "4Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    status = {"conditions": conditions, "capacity": resources, "allocatable": resources}
    metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}}
    return {"metadata": metadata, "spec": changes.pop("spec", {}), "status": {**status, **changes}}


def seconds_between(earlier: str, later: str) -> float:
    return (times.parse(later) - times.parse(earlier)) / times.NANO
