"""Which pods the node has taken: admit, asked under one lock in order of creation.

A pod is offered when it is first heard of; its worker asks before its first action. Whoever asks settles every pod that
was created before, so that the order in which workers happen to run decides nothing. Pods that already have a sandbox
are counted first and never refused.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bridge.admit import Refusal, admit, wants_strict_groups
from vkcri.api import pods

Pod = Mapping[str, Any]


class Admission:
    """The one register of admitted pods. Thread-safe. allocatable() and node(): as `admit` takes them; strict_groups()
    too, and it is asked only for a pod that wants them, since it may raise Unavailable."""

    def __init__(
        self,
        allocatable: Callable[[], Mapping[str, Any]],
        node: Callable[[], Mapping[str, Any]],
        strict_groups: Callable[[], bool] = bool,
    ) -> None:
        self._strict_groups = strict_groups
        self._allocatable = allocatable
        self._node = node
        self._lock = threading.Lock()
        self._offered: dict[str, Pod] = {}
        self._admitted: dict[str, Pod] = {}
        self._refused: dict[str, Refusal] = {}

    def offer(self, uid: str, pod: Pod) -> None:
        """A pod that is to be judged, unless it was."""
        with self._lock:
            if uid in self._admitted:
                self._admitted[uid] = pod
            elif uid not in self._refused:
                self._offered[uid] = pod

    def count(self, found: Iterable[str]) -> None:
        """These have a sandbox: the node took them before."""
        with self._lock:
            for uid in found:
                pod = self._offered.pop(uid, None)
                if pod is not None:
                    self._admitted[uid] = pod
                    self._refused.pop(uid, None)

    def verdict(self, uid: str) -> Refusal | None:
        """None if the pod is taken; it must have been offered."""
        with self._lock:
            if uid in self._offered:
                self._settle(self._offered[uid])
            return self._refused.get(uid)

    def release(self, uid: str) -> None:
        """The pod has ended: what it asked for is free."""
        with self._lock:
            for table in (self._offered, self._admitted):
                table.pop(uid, None)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self.release(uid)
        with self._lock:
            self._refused.pop(uid, None)

    def _settle(self, last: Pod) -> None:
        """Judge every offered pod up to this one."""
        until = _order(last)
        for uid, pod in sorted(self._offered.items(), key=lambda item: _order(item[1])):
            if _order(pod) > until:
                return
            strict = wants_strict_groups(pod) and self._strict_groups()
            refusal = admit(pod, self._admitted.values(), self._allocatable(), self._node(), strict_groups=strict)
            del self._offered[uid]
            if refusal is None:
                self._admitted[uid] = pod
            else:
                self._refused[uid] = refusal


def _order(pod: Pod) -> tuple[str, str, str]:
    return str(pod["metadata"].get("creationTimestamp") or ""), pods.full_name(pod), pods.uid(pod)
