"""What a pod's worker has under way: each action that may take long (a pull, a grace, a sandbox) on its own thread.

The end of an operation is noted in the worker's memory, under the worker's lock, and wakes it. One that is told to stop
while it only waits is left behind: its end counts for nothing any more.
"""

import logging
import threading
from collections.abc import Callable

from bridge.act import Actor
from bridge.actions import (
    REMOVE,
    SANDBOX,
    START,
    TEARDOWN,
    Desired,
    Problem,
    RefreshVolumes,
    RemoveAll,
    RemoveContainer,
    ResetContainers,
    ResizePod,
    RunSandbox,
    StartContainer,
    StopContainer,
    TearDown,
)
from bridge.grants import Grants
from bridge.guest import WARNING, Cancelled, Failure, Guest, Scope
from bridge.memory import Memory
from bridge.observe import Observed
from bridge.resizing import Resized
from bridge.spec.resources import pod_sizes
from vkcri.errors import VkcriError
from vkcri.lifecycle import Process

Operation = (
    RunSandbox
    | StartContainer
    | StopContainer
    | RemoveContainer
    | TearDown
    | RemoveAll
    | RefreshVolumes
    | ResizePod
    | ResetContainers
)
SECONDS = {SANDBOX: 900.0, START: 4200.0, TEARDOWN: 900.0, REMOVE: 900.0}
"""How long an operation may take before the process takes itself for stuck, by its key."""
SECONDS_OF_OTHERS = 900.0
SECONDS_BEYOND_GRACE = 300.0
log = logging.getLogger(__name__)


class Operations:
    """One pod's. name: for logs. memory and lock are the worker's; newest(): the pod as it is wanted now;
    ended(action): that one has."""

    def __init__(
        self,
        guest: Guest,
        process: Process,
        actor: Actor,
        grants: Grants,
        memory: Memory,
        lock: threading.Lock,
        name: str,
        newest: Callable[[], Desired],
        ended: Callable[[Operation], None],
    ) -> None:
        self._guest = guest
        self._process = process
        self._actor = actor
        self._grants = grants
        self._memory = memory
        self._lock = lock
        self._name = name
        self._newest = newest
        self._ended = ended
        self._scopes: dict[str, Scope] = {}

    def begin(self, action: Operation, desired: Desired, observed: Observed, now: float) -> None:
        """Start it, on its own thread."""
        scope = Scope()
        with self._lock:
            again = action.key in self._memory.busy
            key = f"{action.key}#{len(self._scopes)}" if again else action.key
            self._memory.begins(action, key, now)
            self._scopes[key] = scope

        def operation() -> None:
            what = f"{type(action).__name__} of pod {self._name}"
            with self._process.expect(what, _seconds(action)) as expectation:
                scope.progress = expectation.refresh
                self._operate(action, desired, observed, key, scope, again=again)

        try:
            self._process.start_thread(f"{action.key.partition(':')[0]} {self._name}", operation, may_end=True)
        except RuntimeError as error:  # the guest has no room for another thread: tried again as any failure is
            log.warning("pod %s: %s: %s", self._name, type(action).__name__, error)
            with self._lock:
                del self._scopes[key]
                self._memory.failed(action, key, now, None, None)
            self._ended(action)

    def cancel_starts(self) -> bool:
        """Tell starts to stop; whether one only waited, and so was left behind."""
        left = False
        with self._lock:
            for key in (START, SANDBOX):
                scope = self._scopes.get(key)
                if scope is not None and scope.cancel():
                    del self._scopes[key]
                    self._memory.busy.discard(key)
                    left = True
        return left

    def _operate(
        self, action: Operation, desired: Desired, observed: Observed, key: str, scope: Scope, *, again: bool
    ) -> None:
        """The body of an operation's thread: do it, note how it ended, wake the worker."""
        due: float | None = None
        sized: Resized | None = None
        failure: tuple[Problem | None, float | None] | None = None
        try:
            due, sized = self._perform(action, desired, observed, scope, again=again)
        except Cancelled:
            failure = (None, 0.0)
        except Failure as error:
            log.info("pod %s: %s", self._name, error)
            failure = (error.problem, error.retry)
        except VkcriError as error:
            log.info("pod %s: %s: %s", self._name, type(action).__name__, error)
            failure = (None, None)
        except Exception as error:
            log.exception("pod %s: %s failed", self._name, action)
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
        self._ended(action)

    def _perform(
        self, action: Operation, desired: Desired, observed: Observed, scope: Scope, *, again: bool
    ) -> tuple[float | None, Resized | None]:
        """Do it: after how many seconds volumes are to be refreshed, and what cgroups are held to by it."""
        actor = self._actor
        match action:
            case RunSandbox():
                actor.run_sandbox(desired, action, scope)
                return None, Resized(pod_sizes(desired.pod))
            case StartContainer():
                actor.start_container(desired, action, observed, scope)
            case StopContainer():
                actor.stop_container(desired, action, observed, again=again)
            case RemoveContainer():
                actor.remove_container(action)
            case ResetContainers():
                actor.reset_containers(desired, action, observed)
            case TearDown():
                actor.tear_down(desired, action, scope)
            case RemoveAll():
                actor.remove_all(action)
            case RefreshVolumes():
                return actor.refresh_volumes(self._newest()), None  # a change since the step counts as news
            case ResizePod():
                return None, self._grants.carry_out(actor, action, desired, observed)
        return None, None


def _seconds(action: Operation) -> float:
    """How long it may take."""
    if isinstance(action, StopContainer):
        return action.grace + SECONDS_BEYOND_GRACE
    return SECONDS.get(action.key, SECONDS_OF_OTHERS)
