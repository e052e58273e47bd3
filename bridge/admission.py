"""Which pods the node has taken, and what it has granted them: admit, asked under one lock in order of creation.

A pod is offered when it is first heard of; its worker asks before its first action. Whoever asks settles every pod that
was created before, so that the order in which workers happen to run decides nothing. Pods that already have a sandbox
are counted first and never refused.

A critical pod for which there is no room ends others (bridge.preemption), as the kubelet has it. Their room is given
away at once, so that the order of the verdicts stays, and is used once they have ended: `room`. The kubelet takes no
pod at all meanwhile; here only those wait that do not fit beside the ones that end. So it is with a pod whose object is
gone before it has ended (a forced delete, a manifest that was removed): nobody is refused for its sake.

A pod that does not match the Node's labels may have come before the Node's newest copy, by a watch of its own: it is
judged again for some seconds. The kubelet asks the API server for the Node then.

What a pod was granted (bridge.allocation) stays when it asks for other resources, until these fit beside what the
others were granted. Resizes that wait are looked at in the kubelet's order each time one is asked for or room is made.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bridge import preemption
from bridge.admit import NODE_AFFINITY, Refusal, admit, fits, place, wants_strict_groups
from bridge.allocation import Allocation, allocation_of, applied, order, remembered
from bridge.eviction import pressure
from bridge.outcome import EVICTED
from bridge.spec.sysctls import SAFE, Allowlist
from vkcri.api import pods, resources

Pod = Mapping[str, Any]
NODE_SECONDS = 5.0
"""How long a pod that does not match the Node waits for another copy of it."""
NODE_LOOK = 0.25


@dataclass(frozen=True)
class _Leaving:
    """A pod that ends and whose room is given away, with what it was granted; until when others wait for it, by the
    clock."""

    pod: Pod
    until: float


class Admission:
    """The one register of admitted pods. Thread-safe. allocatable() and node(): as `admit` takes them; strict_groups()
    too, and it is asked only for a pod that wants them, since it may raise Unavailable. on_granted(uid): what the pod
    had waited for may be there, a resize or its room; called on the thread that made the room. on_preempted(uid,
    resource): the pod must end for a critical one that lacks the resource first of all; called on the thread that asked
    for that one. pressures(): what the node is short of; allowed_sysctls: as `admit` takes them; clock(): seconds since
    the epoch."""

    def __init__(
        self,
        allocatable: Callable[[], Mapping[str, Any]],
        node: Callable[[], Mapping[str, Any]],
        strict_groups: Callable[[], bool] = bool,
        on_granted: Callable[[str], None] = lambda _uid: None,
        *,
        on_preempted: Callable[[str, str], None] = lambda _uid, _resource: None,
        pressures: Callable[[], Collection[str]] = tuple,
        clock: Callable[[], float] = time.time,
        allowed_sysctls: Allowlist = SAFE,
    ) -> None:
        self._sysctls = allowed_sysctls
        self._clock = clock
        self._pressures = pressures
        self._strict_groups = strict_groups
        self._allocatable = allocatable
        self._node = node
        self._on_granted = on_granted
        self._on_preempted = on_preempted
        self._lock = threading.Lock()
        self._offered: dict[str, Pod] = {}
        self._admitted: dict[str, Pod] = {}
        self._refused: dict[str, Refusal] = {}
        self._released: set[str] = set()
        self._granted: dict[str, Allocation] = {}
        self._deferred: dict[str, str] = {}  # since when, RFC 3339
        self._preempted: list[tuple[str, str]] = []  # not told yet
        self._leaving: dict[str, _Leaving] = {}
        self._waiting: set[str] = set()  # of the admitted, for the end of some that leave
        self._doubted: dict[str, float] = {}  # of the offered, since when the Node does not match
        self._requests: dict[str, tuple[Pod, resources.Amounts]] = {}  # of the newest copy that was asked about

    def offer(self, uid: str, pod: Pod) -> None:
        """A pod that is to be judged, unless it was. One that has ended is not, though an older copy of it may come
        after its end: it would take room from who comes next."""
        with self._lock:
            if uid in self._released:
                return
            if self._leaving.pop(uid, None) is not None or uid in self._admitted:
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
                    self._granted[uid] = remembered(pod, pods.status(pod))
                    self._refused.pop(uid, None)

    def verdict(self, uid: str) -> Refusal | None:
        """None if the pod is taken, or not judged yet, which `room` tells; it must have been offered."""
        with self._lock:
            if uid in self._offered:
                self._settle(self._offered[uid])
            refusal = self._refused.get(uid)
            preempted, self._preempted = self._preempted, []
        for other, resource in preempted:
            self._on_preempted(other, resource)
        return refusal

    def room(self, uid: str) -> float | None:
        """None where a pod that was not refused may begin. Else when to ask for the verdict again, by the clock: the
        Node may be old, or others that still end hold the pod's room; on_granted(uid) is called once one has ended."""
        with self._lock:
            now = self._clock()
            if uid in self._offered:
                return now + NODE_LOOK
            left = [leaving for leaving in self._leaving.values() if leaving.until > now]
            if uid in self._waiting and left and not self._fits_beside(uid, left):
                return min(leaving.until for leaving in left)
            self._waiting.discard(uid)
            return None

    def leave(self, uid: str) -> None:
        """The pod's object is gone, and the pod is to end."""
        with self._lock:
            self._offered.pop(uid, None)
            if uid in self._admitted:
                self._leaves(uid)

    def resize(self, uid: str, pod: Pod, since: str) -> tuple[Allocation, Refusal | None]:
        """What the pod is granted, and why that is not what it asks for now, None where it is. since: when it first
        asked for it, RFC 3339."""
        asked = allocation_of(pod)
        with self._lock:
            if uid not in self._admitted:
                return self._granted.get(uid, asked), None
            self._admitted[uid] = pod
            if self._granted[uid] == asked:
                self._deferred.pop(uid, None)
                return asked, None
            self._deferred[uid] = since
            refusals, granted = self._settle_resizes()
            answer = self._granted[uid], refusals.get(uid)
        for other in granted - {uid}:
            self._on_granted(other)
        return answer

    def release(self, uid: str) -> None:
        """The pod has ended: what it was granted is free, until it is forgotten."""
        with self._lock:
            self._released.add(uid)
            held = self._admitted.pop(uid, None) or self._leaving.pop(uid, None)
            self._waiting.discard(uid)
            for table in (self._offered, self._deferred, self._requests, self._doubted):
                table.pop(uid, None)
            granted = self._settle_resizes()[1] | self._waiting if held is not None else set()
        for other in granted:
            self._on_granted(other)

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        self.release(uid)
        with self._lock:
            self._refused.pop(uid, None)
            self._granted.pop(uid, None)
            self._released.discard(uid)

    def _settle(self, last: Pod) -> None:
        """Judge every offered pod up to this one."""
        until = _order(last)
        for uid, pod in sorted(self._offered.items(), key=lambda item: _order(item[1])):
            if _order(pod) > until:
                return
            refusal = self._admit(uid, pod)
            if refusal is not None and self._is_doubtful(uid, refusal):
                continue
            del self._offered[uid]
            if refusal is None:
                self._admitted[uid] = pod
                self._granted[uid] = allocation_of(pod)
                if self._leaving and not self._fits_beside(uid, self._leaving.values()):
                    self._waiting.add(uid)
            else:
                self._refused[uid] = refusal

    def _is_doubtful(self, uid: str, refusal: Refusal) -> bool:
        """Whether another copy of the Node may be under way that the pod matches."""
        now = self._clock()
        return refusal.reason == NODE_AFFINITY and now < self._doubted.setdefault(uid, now) + NODE_SECONDS

    def _admit(self, uid: str, pod: Pod) -> Refusal | None:
        """Judge the pod beside the others that were taken, as they were granted. The lock is held."""
        short = pressure.refusal(pod, self._pressures())
        if short:
            return Refusal(EVICTED, short)
        strict = wants_strict_groups(pod) and self._strict_groups()
        refusal = admit(
            pod,
            self._others(uid),
            self._allocatable(),
            self._node(),
            strict_groups=strict,
            allowed_sysctls=self._sysctls,
            requests=self._requests_of,
        )
        return self._preempt(pod, refusal) if refusal is not None and pods.is_critical(pod) else refusal

    def _preempt(self, pod: Pod, refusal: Refusal) -> Refusal | None:
        """Make room for a critical pod that lacks nothing but that. The lock is held."""
        if not refusal.missing:
            return refusal
        elsewhere = place(pod, self._others(), self._node())
        if elsewhere is not None:
            return elsewhere
        missing = dict(refusal.missing)
        admitted = {other: applied(held, self._granted[other]) for other, held in self._admitted.items()}
        found = preemption.victims(pod, admitted, missing)
        if found is None:
            return preemption_failed(preemption.unmet(admitted, pod, missing))
        for uid in found:
            self._leaves(uid)
            self._released.add(uid)  # it is not judged again
            self._preempted.append((uid, next(iter(missing))))
        return None

    def _leaves(self, uid: str) -> None:
        """Its room may be given away, and is free once it has ended. The lock is held."""
        pod = applied(self._admitted.pop(uid), self._granted[uid])
        self._leaving[uid] = _Leaving(pod, self._clock() + preemption.patience(pod))
        self._deferred.pop(uid, None)
        self._waiting.discard(uid)

    def _fits_beside(self, uid: str, left: Iterable[_Leaving]) -> bool:
        """Whether there is room for a pod that was taken beside those that have begun and these. The lock is held."""
        holders = self._others(uid, *self._waiting) + [leaving.pod for leaving in left]
        pod = applied(self._admitted[uid], self._granted[uid])
        return fits(pod, holders, self._allocatable(), self._node(), self._requests_of) is None

    def _others(self, *without: str) -> list[Pod]:
        return [applied(held, self._granted[uid]) for uid, held in self._admitted.items() if uid not in without]

    def _requests_of(self, pod: Pod) -> resources.Amounts:
        """What a pod that was taken requests, summed up once for each copy of it: else a burst of pods would do it
        anew, for all of them, at each."""
        uid = pods.uid(pod)
        held = self._requests.get(uid)
        if held is None or held[0] is not pod:
            held = self._requests[uid] = pod, resources.pod_requests(pod)
        return held[1]

    def _settle_resizes(self) -> tuple[dict[str, Refusal], set[str]]:
        """Grant what fits of the resizes that are asked for: (who is refused and why, who was granted)."""
        asking = [(uid, self._admitted[uid]) for uid in self._deferred]
        asking.sort(key=lambda item: order(item[1], self._granted[item[0]], self._deferred[item[0]]))
        left = [leaving.pod for leaving in self._leaving.values()]
        refusals: dict[str, Refusal] = {}
        granted: set[str] = set()
        for uid, pod in asking:
            refusal = fits(pod, self._others(uid) + left, self._allocatable(), self._node(), self._requests_of)
            if refusal is None:
                self._granted[uid] = allocation_of(pod)
                del self._deferred[uid]
                granted.add(uid)
            else:
                refusals[uid] = refusal
        return refusals, granted


def preemption_failed(missing: Mapping[str, Fraction]) -> Refusal:
    """The refusal of a critical pod for which not even all others would make room, in the kubelet's words."""
    amounts = ((name, -(-amount * (1000 if name == "cpu" else 1) // 1)) for name, amount in missing.items())
    listed = "".join(f"(res: {name}, q: {amount}), " for name, amount in amounts)
    message = (
        "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods "
        f"to preempt: no set of running pods found to reclaim resources: [{listed}]"
    )
    return Refusal("UnexpectedAdmissionError", message)


def _order(pod: Pod) -> tuple[str, str, str]:
    return str(pod["metadata"].get("creationTimestamp") or ""), pods.full_name(pod), pods.uid(pod)
