"""One pod's worker: observe, decide, act, report. Its steps run on the scheduler's threads, one at a time.

The mailbox holds the newest desired state only. An action that may take long runs as an operation (bridge.operations)
and wakes the worker when it ends, so no step waits and a pod holds up no other. A bug in one pod is logged with its
traceback, shown in that pod's status and events, and retried with back-off.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bridge import outcome, preemption, report
from bridge.act import Actor
from bridge.actions import Action, BackOff, CancelStarts, Desired, Eviction, Forget, Prior, Problem, ResizePod, Wait
from bridge.admission import Admission
from bridge.decide import decide, ending
from bridge.echo import is_echo
from bridge.events import Hint
from bridge.grants import Grants
from bridge.guest import NORMAL, WARNING, Guest
from bridge.looks import Looks, is_expected, is_listed, shows
from bridge.memory import Memory
from bridge.observe import Observed, Reader
from bridge.operations import Operation, Operations
from bridge.outcome import EVICTED
from bridge.probes.view import View, is_probed, view
from bridge.relist import Box
from bridge.schedule import Scheduler
from bridge.startup import Startup
from vkcri.api import pods
from vkcri.backoff import Backoff
from vkcri.errors import Unavailable, VkcriError
from vkcri.lifecycle import Process
from vkcri.queue import Publisher
from vkcri.queue.events import pod_reference

TOPIC = "pod-status"
STEP_RETRY = Backoff(first=0.5, factor=2.0, most=30.0)
log = logging.getLogger(__name__)


class Worker:
    """One pod. put, wake, hint, listed and try_now may be called on any thread; forget(worker) is called once nothing
    is left."""

    def __init__(
        self,
        guest: Guest,
        process: Process,
        scheduler: Scheduler,
        admission: Admission,
        publisher: Publisher,
        pod: Mapping[str, Any],
        forget: Callable[["Worker"], None],
    ) -> None:
        self.uid = pods.uid(pod)
        self.name = pods.full_name(pod)
        self._guest = guest
        self._scheduler = scheduler
        self._admission = admission
        self._publisher = publisher
        self._forget = forget
        self._actor = Actor(guest, self.uid)
        self._reader = Reader(guest.runtime, self.uid, guest.settings.instance.cri_label)
        self._lock = threading.Lock()
        self._pod = pod
        self._gone = False
        self._memory = Memory(dict(pods.status(pod)))
        self._grants = Grants(guest, admission, self._memory, self._lock, lambda when: scheduler.wake_at(self, when))
        self._operations = Operations(
            guest, process, self._actor, self._grants, self._memory, self._lock, self.name, self._desired, self._ended
        )
        self._observed = Observed()
        self._afresh = False
        self._view: View | None = None
        self._looks = Looks()
        self._failures = 0
        self._admitted = False
        self._late = False
        self._overdue: float | None = None
        self._finished = False
        self._forgotten = False
        self._seen = guest.clock()
        self.startup = Startup(pod)
        self._began = False

    @property
    def pod(self) -> Mapping[str, Any]:
        """The newest one heard of."""
        with self._lock:
            return self._pod

    @property
    def status(self) -> Mapping[str, Any]:
        """The last PodStatus."""
        with self._lock:
            return self._memory.status

    @property
    def over(self) -> bool:
        """Whether nothing of the pod is left on the guest but its ended containers."""
        with self._lock:
            return self._finished or self._forgotten

    @property
    def gone(self) -> bool:
        with self._lock:
            return self._gone

    @property
    def observed(self) -> Observed:
        """What the last step saw in CRI."""
        with self._lock:
            return self._observed

    def put(self, pod: Mapping[str, Any], *, gone: bool = False) -> None:
        """The newest desired state. Wakes the worker unless only what it reported itself has changed."""
        with self._lock:
            echo = not gone and not self._gone and is_echo(self._pod, pod)
            self._pod, self._gone = pod, gone
            if not echo:
                self._memory.changed()
        if not echo:
            self.wake()
        if (started := self.startup.seen(pod, self._guest.clock())) is not None:
            self._guest.metrics.starts.pod_started(started)

    def wake(self) -> None:
        self._scheduler.wake(self)

    def hint(self, hint: Hint) -> None:
        """An event says that something of the pod has changed: look at once, and again until CRI shows it. Not where it
        shows already, and not at once where an operation brings it about that wakes the worker at its end."""
        with self._lock:
            if shows(self._observed, hint):
                return
            expected = is_expected(hint, self._memory.busy)
        when = self._looks.add(hint, self._guest.clock(), expected=expected)
        if expected:
            self._scheduler.wake_at(self, when)
        else:
            self.wake()

    def listed(self, boxes: Iterable[Box]) -> None:
        """The relist shows these of the pod: look, unless the last step has seen the same."""
        with self._lock:
            if is_listed(self._observed, boxes):
                return
            self._afresh = True
        self.wake()

    def try_now(self) -> None:
        """Something that the pod refers to has changed."""
        with self._lock:
            self._memory.try_now()
        self.wake()

    def evict(self, eviction: Eviction) -> bool:
        """The node ends the pod. False where it does not: the pod has ended, is being evicted, or is critical (which
        only a pod of a higher priority may preempt)."""
        with self._lock:
            pod = self._pod
            over = pods.is_terminal(self._memory.status) or self._memory.eviction is not None
            if over or (eviction.reason == EVICTED and pods.is_critical(pod)):
                return False
            self._memory.eviction = eviction
            self._overdue = self._guest.clock() + preemption.patience(pod, eviction.grace)
        log.info("pod %s: %s: %s", self.name, eviction.reason, eviction.message)
        self._guest.recorder.event(pod_reference(dict(pod)), WARNING, eviction.reason, eviction.message, eviction.notes)
        self.wake()
        return True

    def step(self) -> None:
        """Once through the loop."""
        metrics = self._guest.metrics
        if not self._began:
            self._began = True
            metrics.starts.worker_seconds.observe(self._guest.clock() - self._seen)
            metrics.node.containers_per_pod.observe(len(pods.spec(self.pod).get("containers") or ()))
        try:
            with metrics.node.steps.time("sync"):
                self._step()
            self._failures = 0
        except VkcriError as error:
            self._step_failed(str(error), bug=not isinstance(error, Unavailable))
        except Exception as error:
            log.exception("pod %s: a step failed", self.name)
            self._step_failed(f"{type(error).__name__}: {error}", bug=True)

    def _step_failed(self, message: str, *, bug: bool) -> None:
        """Show it, and try again later."""
        delay = STEP_RETRY.delay(self._failures)
        self._failures += 1
        (log.warning if self._failures == 1 else log.debug)("pod %s: %s; again in %.1f s", self.name, message, delay)
        if bug:
            with self._lock:
                self._memory.problems[""] = Problem("InternalError", message)
                shown = {**self._memory.status, "reason": "InternalError", "message": message}
            self._guest.event(self.pod, WARNING, "FailedSync", f"error syncing pod, skipping: {message}")
            self._put_status({"phase": "Pending", **shown}, finished=False)
        self._scheduler.wake_at(self, self._guest.clock() + delay)

    def _ended(self, action: Operation) -> None:
        """An operation has, on its own thread."""
        if isinstance(action, ResizePod):
            with self._lock:
                self._afresh = True
        self.wake()

    def _desired(self) -> Desired:
        with self._lock:
            pod, gone = self._pod, self._gone
        ready = pods.is_static(pod) or self._guest.cluster.ready
        return Desired(pod, gone, may_create=ready, host_ips=self._guest.cluster.host_ips())

    def _step(self) -> None:
        if self._forgotten:
            return  # a wake that was under way: by now another worker may have that uid
        desired = self._desired()
        with self._lock:
            afresh, self._afresh = self._afresh, False
            self._memory.reads()
        observed = self._reader.read(afresh=afresh)
        now = self._guest.clock()
        look = self._looks.next(observed, now)
        if look is not None:
            self._scheduler.wake_at(self, look)
        probed = self._guest.prober.results(self.uid)
        with self._lock:
            self._observed = observed
            self._memory.probed = probed
            self._memory.seen(desired.pod, observed)
        if not self._admit(desired, observed, now):
            return
        desired = self._grants.grant(desired, observed, now)
        self._report(desired, observed, now)
        with self._lock:
            prior = self._memory.prior()
        self._show_prober(desired, prior, observed, now)
        again = False
        for action in decide(desired, prior, observed, now):
            log.debug("pod %s: %s", self.name, action)
            again |= self._take(action, desired, observed, now)
        if again:
            self.wake()

    def _admit(self, desired: Desired, observed: Observed, now: float) -> bool:
        """Whether the pod may go on. A refusal becomes its final status; one that cannot be judged yet waits, and so
        does one whose room others still hold."""
        if self._admitted:
            return True
        over = ending(desired) or pods.is_terminal(self._memory.status) or pods.is_terminal(pods.status(desired.pod))
        over = over or self._memory.eviction is not None
        if not over and not observed.sandboxes:
            if not desired.may_create:
                return False
            refusal = self._admission.verdict(self.uid)
            if refusal is not None:
                self._guest.metrics.node.rejections.add(refusal.reason)
                self._guest.event(desired.pod, WARNING, refusal.reason, refusal.message)
                with self._lock:
                    prior = self._memory.prior()
                    self._memory.status = report.rejected(desired, prior, refusal.reason, refusal.message, now)
            elif (until := self._admission.room(self.uid)) is not None:
                self._scheduler.wake_at(self, until)
                return False
        self._admitted = True
        return True

    def _report(self, desired: Desired, observed: Observed, now: float) -> None:
        with self._lock:
            prior = self._memory.prior()
        if ending(desired) and desired.gone:
            return
        status = dict(prior.status) if _was_rejected(prior.status) else report.report(desired, prior, observed, now)
        finished = report.finished(desired, prior, observed, status)
        if status.get("phase") == "Running" and prior.status.get("phase") in (None, "Pending"):
            self._guest.metrics.starts.seconds.observe(now - self._seen)
        self._guest.metrics.node.reported(prior.status, status)
        self._tell_deadline(desired, prior, now)
        self._tell_overdue(desired, observed, now)
        with self._lock:
            self._memory.status = status
            self._finished = finished
        self._put_status(status, finished=finished)
        if finished or pods.is_terminal(status):
            self._admission.release(self.uid)

    def _tell_deadline(self, desired: Desired, prior: Prior, now: float) -> None:
        """An event, once, when activeDeadlineSeconds ends the pod."""
        until = outcome.deadline(desired.pod, prior.status)
        if self._late or until is None or until > now or pods.is_terminal(prior.status) or ending(desired):
            return
        self._late = True
        self._guest.event(desired.pod, NORMAL, outcome.DEADLINE_EXCEEDED, outcome.DEADLINE_MESSAGE)

    def _tell_overdue(self, desired: Desired, observed: Observed, now: float) -> None:
        """An event, once, when what the node ends has not ended within its time (killPodNow)."""
        due = self._overdue
        if due is None or not observed.alive:
            return
        if due > now:
            self._scheduler.wake_at(self, due)
            return
        self._overdue = None
        self._guest.event(desired.pod, WARNING, outcome.GRACE_EXCEEDED, outcome.GRACE_MESSAGE)

    def _show_prober(self, desired: Desired, prior: Prior, observed: Observed, now: float) -> None:
        """Tell the prober how the pod is, where that is news to it."""
        if not is_probed(desired.pod):
            return
        seen = view(desired, prior, observed, now)
        if seen.ending and not observed.alive:
            if self._view is not None:
                self._guest.prober.forget(self.uid)
                self._view = None
        elif seen != self._view:
            self._view = seen
            self._guest.prober.update(self.uid, seen)

    def _put_status(self, status: Mapping[str, Any], *, finished: bool) -> None:
        pod = self.pod
        value = {
            "namespace": pods.namespace(pod),
            "name": pods.name(pod),
            "uid": self.uid,
            "status": status,
            "finished": finished,
        }
        self._publisher.put(TOPIC, self.uid, json.dumps(value, separators=(",", ":")).encode())

    def _take(self, action: Action, desired: Desired, observed: Observed, now: float) -> bool:
        """Begin it. Returns whether the next step should come at once."""
        if isinstance(action, Wait):
            self._scheduler.wake_at(self, action.until)
            return False
        if isinstance(action, BackOff):
            return self._back_off(action, desired)
        if isinstance(action, CancelStarts):
            return self._operations.cancel_starts()
        if isinstance(action, Forget):
            self._actor.forget(desired.pod)
            self._publisher.delete(TOPIC, self.uid)
            self._admission.forget(self.uid)
            self._guest.prober.forget(self.uid)
            self._forgotten = True
            self._scheduler.forget(self)
            self._forget(self)
            return False
        self._operations.begin(action, desired, observed, now)
        return False

    def _back_off(self, action: BackOff, desired: Desired) -> bool:
        message = f"Back-off restarting failed container {action.name} in pod {_described(desired.pod)}"
        self._guest.event(desired.pod, WARNING, "BackOff", message, action.name)
        with self._lock:
            self._memory.problems[action.name] = action.problem
        self._scheduler.wake_at(self, action.until)
        return True


def _described(pod: Mapping[str, Any]) -> str:
    return f"{pods.name(pod)}_{pods.namespace(pod)}({pods.uid(pod)})"


def _was_rejected(status: Mapping[str, Any]) -> bool:
    """Whether this is the status of a pod that was never admitted."""
    return pods.is_terminal(status) and str(status.get("message") or "").startswith("Pod was rejected: ")
