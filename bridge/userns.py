"""Ranges of ids for pods with a user namespace of their own (`hostUsers: false`), as the kubelet's userns manager gives
them: 65,536 ids a pod, users and groups alike, from the container's 0 on, none of them below 65,536 on the guest.

Which pod has which range stands in an annotation of its sandboxes, so that a bridge that starts again reads it in CRI;
here is only what no reading shows yet. A range is a pod's until the pod is forgotten. Thread-safe; reads no runtime.
"""

import threading
from collections.abc import Callable, Iterable

from bridge.relist import Listing
from bridge.spec import names
from bridge.spec.security import USER_IDS
from vkcri.errors import Unavailable
from vkcri.instance import Instance

RANGES = 655
"""For each instance: a hundred of them fit into 32 bits, so that no two pods of a guest share an id."""


class UserNamespaces:
    """The instance's ranges. listing(): the last reading of the runtime."""

    def __init__(self, instance: Instance, listing: Callable[[], Listing]) -> None:
        self._first = 1 + instance.index * RANGES
        self._listing = listing
        self._lock = threading.Lock()
        self._given: dict[str, int] = {}

    def range_of(self, uid: str) -> int:
        """The first id on the guest of the pod's range. Raises Unavailable where all are taken."""
        with self._lock:
            held = {**_listed(self._listing()), **self._given}
            if uid not in held:
                held[uid] = self._free(held.values())
            self._given[uid] = held[uid]
            return held[uid]

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        with self._lock:
            self._given.pop(uid, None)

    def _free(self, taken: Iterable[int]) -> int:
        used = set(taken)
        for number in range(self._first, self._first + RANGES):
            if number * USER_IDS not in used:
                return number * USER_IDS
        raise Unavailable("could not find an empty slot to allocate a user namespace")


def _listed(listing: Listing) -> dict[str, int]:
    """Pod UID -> first id, of the sandboxes that have one."""
    found = {}
    for uid, boxes in listing.items():
        for box in boxes:
            first = box.annotations.get(names.FIRST_ID, "") if box.is_sandbox else ""
            if first.isdecimal():
                found[uid] = int(first)
    return found
