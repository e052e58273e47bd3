"""Topics `services`, `endpointslices` and `runtimeclasses`: kinds that are published whole, each object as it is.

One thread a topic, the reflector's. A node may read Services and RuntimeClasses by its own role but EndpointSlices only
as system:node-proxier; where that is not bound the topic stays as it is, a notice of the topic's name says what to do
(kube-proxy reads it too), and it is tried again.
"""

import logging
from collections.abc import Callable

from vkcri.errors import Invalid, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.reflector import Callbacks, Item, Reflector
from vkcri.queue import Publisher
from vkcri.watcher.access import Access
from vkcri.watcher.sizes import fitting

PATHS = {
    "services": "/api/v1/services",
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
    "runtimeclasses": "/apis/node.k8s.io/v1/runtimeclasses",
}
_REFUSED = {
    "services": "this user may not read Services, which will not work until an administrator types",
    "endpointslices": "this user may not read EndpointSlices, and Services will not work until an administrator types",
    "runtimeclasses": "pods with a RuntimeClass wait until this user may read them, as ClusterRole system:node may",
}
log = logging.getLogger(__name__)


class ResourceTopic:
    """All objects of one kind in the cluster, by NAMESPACE/NAME, or by NAME for a kind without namespaces."""

    def __init__(
        self,
        client: Client,
        publisher: Publisher,
        access: Access,
        topic: str,
        node_name: str,
        user: Callable[[], str] = lambda: "",
    ) -> None:
        """user: who we are to the API server; "" while that is not known: then the node's own identity is meant."""
        self._publisher = publisher
        self._access = access
        self._topic = topic
        self._node_name = node_name
        self._user = user
        callbacks = Callbacks(self._replace, self._upsert, self._delete, self._failed, self._recovered)
        self.reflector = Reflector(client, PATHS[topic], callbacks)

    def _replace(self, items: list[Item]) -> None:
        values = {_key(item): item.raw for item in items}
        self._publisher.replace(self._topic, fitting(self._publisher, self._topic, values))

    def _upsert(self, item: Item) -> None:
        try:
            self._publisher.put(self._topic, _key(item), item.raw)
        except Invalid as error:
            log.error("%s; the newest state of this object is left out", error)

    def _delete(self, item: Item) -> None:
        self._publisher.delete(self._topic, _key(item))

    def _failed(self, error: VkcriError) -> None:
        cure = "" if self._topic == "runtimeclasses" else proxier_binding(self._node_name, self._user())
        self._access.failed(self._topic, error, _REFUSED[self._topic], cure)

    def _recovered(self) -> None:
        self._access.given(self._topic)


def proxier_binding(node_name: str, user: str = "") -> str:
    """What lets a node read what kube-proxy needs."""
    return (
        f"kubectl create clusterrolebinding vkcri-proxy-{node_name} --clusterrole=system:node-proxier "
        f"--user={user or f'system:node:{node_name}'}"
    )


def _key(item: Item) -> str:
    return "/".join(filter(None, (item.metadata.get("namespace"), item.metadata.get("name"))))
