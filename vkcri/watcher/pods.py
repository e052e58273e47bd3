"""Topic `pods`: the pods bound to this node, and who else is told of each.

One thread, the reflector's. It reads nothing before the node is ours, so that the topic is never synced on behalf of
another agent. The newest bytes are published whatever changed in them; what a change means is the readers' business.
Source `file`, the static pods, is staticpods'; their mirror pods are published here like any other pod.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

from vkcri.api import pods as api
from vkcri.errors import Invalid, VkcriError
from vkcri.kube.client import Client
from vkcri.kube.reflector import Callbacks, Item, Reflector
from vkcri.queue import Publisher
from vkcri.watcher.access import Access
from vkcri.watcher.sizes import fitting
from vkcri.watcher.versions import version

TOPIC = "pods"
SOURCES = ("api", "file")
_REFUSED = (
    "this user may not read this node's pods, and none is run until it may, as ClusterRole system:node may; better: "
    "the node's own identity, BOOTSTRAP_KUBECONFIG=FILE"
)
log = logging.getLogger(__name__)


class Pods:
    """Publishes pods. changed(uid, pod) is called for each new state, gone(uid) for each pod that is no more, listed()
    once they were called for all of a list."""

    def __init__(
        self,
        client: Client,
        publisher: Publisher,
        access: Access,
        node_name: str,
        *,
        changed: Callable[[str, dict[str, Any]], None],
        gone: Callable[[str], None],
        listed: Callable[[], None] = lambda: None,
    ) -> None:
        self._publisher = publisher
        self._access = access
        self._changed = changed
        self._gone = gone
        self._listed = listed
        self._versions: dict[str, str] = {}
        callbacks = Callbacks(self._replace, self._upsert, self._delete, self._failed, self._recovered)
        self.reflector = Reflector(client, "/api/v1/pods", callbacks, {"fieldSelector": f"spec.nodeName={node_name}"})

    def get(self, uid: str) -> dict[str, Any] | None:
        """The newest state of a pod that the API server has; None where it has none."""
        held = self._publisher.get(TOPIC, uid) if uid in self._versions else None  # a static pod is in the topic too
        pod: dict[str, Any] | None = json.loads(held) if held is not None else None
        return pod

    def _replace(self, items: list[Item]) -> None:
        """A whole list. A pod whose version is known keeps its bytes, which a list would spell differently."""
        values: dict[str, bytes] = {}
        fresh: list[Item] = []
        for item in items:
            uid = api.uid(item.parsed)
            held = self._publisher.get(TOPIC, uid) if self._versions.get(uid) == version(item.parsed) else None
            values[uid] = held or item.raw
            if held is None:
                fresh.append(item)
        values = fitting(self._publisher, TOPIC, values, source="api")
        fresh = [item for item in fresh if values.get(api.uid(item.parsed)) is item.raw]
        gone = set(self._versions) - set(values)
        self._publisher.replace(TOPIC, values, source="api")
        self._versions = {uid: self._versions.get(uid, "") for uid in values}
        for item in fresh:
            self._note(item)
        for uid in gone:
            self._gone(uid)
        self._listed()
        log.info("%d pods of this node read from the API server", len(values))

    def _upsert(self, item: Item) -> None:
        uid = api.uid(item.parsed)
        try:
            self._publisher.put(TOPIC, uid, item.raw, source="api")
        except Invalid as error:
            log.error("pod %s cannot be published: %s", api.full_name(item.parsed), error)
            return
        self._note(item)

    def _note(self, item: Item) -> None:
        """This state is published."""
        uid = api.uid(item.parsed)
        self._versions[uid] = version(item.parsed)
        self._changed(uid, item.parsed)

    def _delete(self, item: Item) -> None:
        uid = api.uid(item.parsed)
        self._versions.pop(uid, None)
        self._publisher.delete(TOPIC, uid, source="api")
        self._gone(uid)

    def _failed(self, error: VkcriError) -> None:
        self._access.failed(TOPIC, error, _REFUSED)

    def _recovered(self) -> None:
        self._access.given(TOPIC)
