"""Topics `services`, `endpointslices` and `runtimeclasses`: kinds that are published whole, each object as it is.

One thread a topic, the reflector's. A node may read Services and RuntimeClasses by its own role but EndpointSlices only
as system:node-proxier; where that is not bound the topic stays unsynced, one line says what to do, and it is tried
again.
"""

import logging

from vkcri.errors import Invalid, Refused, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.reflector import Callbacks, Item, Reflector
from vkcri.queue import Publisher
from vkcri.watcher.sizes import fitting

PATHS = {
    "services": "/api/v1/services",
    "endpointslices": "/apis/discovery.k8s.io/v1/endpointslices",
    "runtimeclasses": "/apis/node.k8s.io/v1/runtimeclasses",
}
_PROXIER = (
    "Services will not work until: kubectl create clusterrolebinding vkcri-proxy-{node} "
    "--clusterrole=system:node-proxier --user=system:node:{node}"
)
_REFUSED = {
    "services": _PROXIER,
    "endpointslices": _PROXIER,
    "runtimeclasses": "pods with a RuntimeClass wait until this node may read them, as ClusterRole system:node may",
}
"""What a refusal means, and its cure."""
log = logging.getLogger(__name__)


class ResourceTopic:
    """All objects of one kind in the cluster, by NAMESPACE/NAME, or by NAME for a kind without namespaces."""

    def __init__(self, client: Client, publisher: Publisher, topic: str, node_name: str) -> None:
        self._publisher = publisher
        self._topic = topic
        self._node_name = node_name
        self._refused = False
        callbacks = Callbacks(self._replace, self._upsert, self._delete, self._failed)
        self.reflector = Reflector(client, PATHS[topic], callbacks)

    def _replace(self, items: list[Item]) -> None:
        values = {_key(item): item.raw for item in items}
        self._publisher.replace(self._topic, fitting(self._publisher, self._topic, values))
        self._refused = False

    def _upsert(self, item: Item) -> None:
        try:
            self._publisher.put(self._topic, _key(item), item.raw)
        except Invalid as error:
            log.error("%s; the newest state of this object is left out", error)

    def _delete(self, item: Item) -> None:
        self._publisher.delete(self._topic, _key(item))

    def _failed(self, error: VkcriError) -> None:
        if not isinstance(error, Refused) or self._refused:
            return
        self._refused = True
        log.warning("%s; %s", error, _REFUSED[self._topic].format(node=self._node_name))


def _key(item: Item) -> str:
    return "/".join(filter(None, (item.metadata.get("namespace"), item.metadata.get("name"))))
