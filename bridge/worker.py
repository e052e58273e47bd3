"""One pod's worker: observe, decide, act, report. Its steps run on the scheduler's threads, one at a time.

The mailbox holds the newest desired state only. An action that may take long (a pull, a grace, a sandbox) runs as an
operation on a thread of its own and wakes the worker when it ends, so no step waits and a pod holds up no other. A bug
in one pod is logged with its traceback, shown in that pod's status and events, and retried with back-off.
"""

import json
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from bridge import report
from bridge.act import Actor
from bridge.actions import (
    REMOVE,
    SANDBOX,
    START,
    TEARDOWN,
    Action,
    BackOff,
    CancelStarts,
    Desired,
    Forget,
    Prior,
    Problem,
    RefreshVolumes,
    RemoveAll,
    RemoveContainer,
    ResizePod,
    RunSandbox,
    StartContainer,
    StopContainer,
    TearDown,
    Wait,
)
from bridge.admission import Admission
from bridge.conditions import OWNED
from bridge.decide import decide, ending
from bridge.events import STARTED, Hint
from bridge.grants import Grants
from bridge.guest import WARNING, Cancelled, Failure, Guest, Scope
from bridge.memory import Memory
from bridge.observe import Observed, Reader
from bridge.probes.view import View, is_probed, view
from bridge.resizing import Resized
from bridge.schedule import Scheduler
from bridge.spec.resources import pod_sizes
from vkcri.api import pods
from vkcri.backoff import Backoff
from vkcri.errors import Unavailable, VkcriError
from vkcri.lifecycle import Process
from vkcri.queue import Publisher

TOPIC = "pod-status"
HINTS = (0.02, 0.1, 0.5)
"""Seconds after an event at which its pod is read again, until CRI shows the change."""
OOM_LOOK = 0.5
KILLED = 137
STEP_RETRY = Backoff(first=0.5, factor=2.0, most=30.0)
OPERATION_SECONDS = {SANDBOX: 900.0, START: 4200.0, TEARDOWN: 900.0, REMOVE: 900.0}
log = logging.getLogger(__name__)


class Worker:
    """One pod. put, wake, hint and try_now may be called on any thread; forget(worker) is called once nothing is
    left."""

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
        self._process = process
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
        self._scopes: dict[str, Scope] = {}
        self._observed = Observed()
        self._view: View | None = None
        self._hints: list[tuple[float, Hint]] = []
        self._failures = 0
        self._admitted = False
        self._forgotten = False
        self._seen = guest.clock()
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
            echo = not gone and not self._gone and _is_echo(self._pod, pod)
            self._pod, self._gone = pod, gone
            if not echo:
                self._memory.changed()
        if not echo:
            self.wake()

    def wake(self) -> None:
        self._scheduler.wake(self)

    def hint(self, hint: Hint) -> None:
        """An event says that something of the pod has changed: look at once, and again until CRI shows it."""
        now = self._guest.clock()
        with self._lock:
            self._hints += [(now + delay, hint) for delay in HINTS]
        self.wake()

    def try_now(self) -> None:
        """Something that the pod refers to has changed."""
        with self._lock:
            self._memory.try_now()
        self.wake()

    def step(self) -> None:
        """Once through the loop."""
        metrics = self._guest.metrics
        if not self._began:
            self._began = True
            metrics.worker_starts.observe(self._guest.clock() - self._seen)
        try:
            with metrics.steps.time("sync"):
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

    def _desired(self) -> Desired:
        with self._lock:
            pod, gone = self._pod, self._gone
        ready = pods.is_static(pod) or self._guest.cluster.ready
        return Desired(pod, gone, may_create=ready, host_ips=self._guest.cluster.host_ips())

    def _step(self) -> None:
        if self._forgotten:
            return  # a wake that was under way: by now another worker may have that uid
        desired = self._desired()
        observed = self._reader.read()
        now = self._guest.clock()
        self._look_again(observed, now)
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

    def _look_again(self, observed: Observed, now: float) -> None:
        """Plan the further readings that a hint asks for, and one more where a container was killed: its OOMKilled may
        come after its exit."""
        with self._lock:
            self._hints = [(when, hint) for when, hint in self._hints if when > now and not _shows(observed, hint)]
            due = [when for when, _ in self._hints]
        for item in observed.containers:
            fresh = now - item.finished_at / 1e9 < OOM_LOOK
            if item.state == "exited" and item.exit_code == KILLED and item.reason != "OOMKilled" and fresh:
                due.append(now + OOM_LOOK)
        if due:
            self._scheduler.wake_at(self, min(due))

    def _admit(self, desired: Desired, observed: Observed, now: float) -> bool:
        """Whether the pod may go on. A refusal becomes its final status; one that cannot be judged yet waits."""
        if self._admitted:
            return True
        over = ending(desired) or pods.is_terminal(self._memory.status) or pods.is_terminal(pods.status(desired.pod))
        if not over and not observed.sandboxes:
            if not desired.may_create:
                return False
            refusal = self._admission.verdict(self.uid)
            if refusal is not None:
                self._guest.event(desired.pod, WARNING, refusal.reason, refusal.message)
                with self._lock:
                    prior = self._memory.prior()
                    self._memory.status = report.rejected(desired, prior, refusal.reason, refusal.message, now)
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
            self._guest.metrics.pod_starts.observe(now - self._seen)
        with self._lock:
            self._memory.status = status
        if finished or pods.is_terminal(status):
            self._admission.release(self.uid)
        self._put_status(status, finished=finished)

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
            return self._cancel_starts()
        if isinstance(action, Forget):
            self._actor.forget(desired.pod)
            self._publisher.delete(TOPIC, self.uid)
            self._admission.forget(self.uid)
            self._guest.prober.forget(self.uid)
            self._forgotten = True
            self._scheduler.forget(self)
            self._forget(self)
            return False
        self._begin(action, desired, observed, now)
        return False

    def _back_off(self, action: BackOff, desired: Desired) -> bool:
        message = f"Back-off restarting failed container {action.name} in pod {_described(desired.pod)}"
        self._guest.event(desired.pod, WARNING, "BackOff", message, action.name)
        with self._lock:
            self._memory.problems[action.name] = action.problem
        self._scheduler.wake_at(self, action.until)
        return True

    def _cancel_starts(self) -> bool:
        """Tell starts to stop; those that only wait are left behind."""
        left = False
        with self._lock:
            for key in (START, SANDBOX):
                scope = self._scopes.get(key)
                if scope is not None and scope.cancel():
                    del self._scopes[key]
                    self._memory.busy.discard(key)
                    left = True
        return left

    def _begin(
        self,
        action: RunSandbox
        | StartContainer
        | StopContainer
        | RemoveContainer
        | TearDown
        | RemoveAll
        | RefreshVolumes
        | ResizePod,
        desired: Desired,
        observed: Observed,
        now: float,
    ) -> None:
        """Start the operation, on its own thread."""
        scope = Scope()
        with self._lock:
            again = action.key in self._memory.busy
            key = f"{action.key}#{len(self._scopes)}" if again else action.key
            self._memory.begins(action, key, now)
            self._scopes[key] = scope
        seconds = OPERATION_SECONDS.get(action.key, 900.0)
        if isinstance(action, StopContainer):
            seconds = action.grace + 300.0

        def operation() -> None:
            with self._process.expect(f"{type(action).__name__} of pod {self.name}", seconds) as expectation:
                scope.progress = expectation.refresh
                self._operate(action, desired, observed, key, scope, again=again)

        self._process.start_thread(f"{action.key.partition(':')[0]} {self.name}", operation, may_end=True)

    def _operate(
        self, action: Action, desired: Desired, observed: Observed, key: str, scope: Scope, *, again: bool
    ) -> None:
        """The body of an operation's thread: do it, note how it ended, wake the worker."""
        due: float | None = None
        sized: Resized | None = None
        failure: tuple[Problem | None, float | None] | None = None
        try:
            if isinstance(action, ResizePod):
                sized = self._grants.carry_out(self._actor, action, desired, observed)
            else:
                due = self._perform(action, desired, observed, scope, again=again)
            if isinstance(action, RunSandbox):
                sized = Resized(pod_sizes(desired.pod))
        except Cancelled:
            failure = (None, 0.0)
        except Failure as error:
            log.info("pod %s: %s", self.name, error)
            failure = (error.problem, error.retry)
        except VkcriError as error:
            log.info("pod %s: %s: %s", self.name, type(action).__name__, error)
            failure = (None, None)
        except Exception as error:
            log.exception("pod %s: %s failed", self.name, action)
            message = f"{type(action).__name__}: {type(error).__name__}: {error}"
            self._guest.event(desired.pod, WARNING, "FailedSync", f"error syncing pod, skipping: {message}")
            failure = (Problem("InternalError", message), None)
        now = self._guest.clock()
        with self._lock:
            if self._scopes.get(key) is not scope:
                return  # left behind
            del self._scopes[key]
            if failure is None:
                self._memory.done(action, key, now, due, sized)
            else:
                self._memory.failed(action, key, now, *failure)
        self.wake()

    def _perform(
        self, action: Action, desired: Desired, observed: Observed, scope: Scope, *, again: bool
    ) -> float | None:
        actor = self._actor
        match action:
            case RunSandbox():
                actor.run_sandbox(desired, action, scope)
            case StartContainer():
                actor.start_container(desired, action, observed, scope)
            case StopContainer():
                actor.stop_container(desired, action, observed, again=again)
            case RemoveContainer():
                actor.remove_container(action)
            case TearDown():
                actor.tear_down(desired, action, scope)
            case RemoveAll():
                actor.remove_all(action)
            case RefreshVolumes():
                return actor.refresh_volumes(self._desired())  # the newest: a change since this step counts as news
        return None


def _shows(observed: Observed, hint: Hint) -> bool:
    """Whether CRI shows what the hint is about."""
    for box in observed.sandboxes:
        if box.id == hint.id:
            return box.ready == (hint.kind == STARTED)
    for item in observed.containers:
        if item.id == hint.id:
            return item.state == "exited" or (hint.kind == STARTED and item.state == "running")
    return False


def _described(pod: Mapping[str, Any]) -> str:
    return f"{pods.name(pod)}_{pods.namespace(pod)}({pods.uid(pod)})"


def _was_rejected(status: Mapping[str, Any]) -> bool:
    """Whether this is the status of a pod that was never admitted."""
    return pods.is_terminal(status) and str(status.get("message") or "").startswith("Pod was rejected: ")


def _is_echo(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the two differ in nothing but what our own report has put there."""
    return _essence(old) == _essence(new)


def _essence(pod: Mapping[str, Any]) -> tuple[Any, ...]:
    metadata = {key: value for key, value in pod["metadata"].items() if key not in ("resourceVersion", "managedFields")}
    status = pods.status(pod)
    foreign = [item for item in status.get("conditions") or [] if item.get("type") not in OWNED]
    return metadata, pod.get("spec"), foreign, pods.is_terminal(status) and status.get("phase")
