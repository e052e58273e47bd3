"""What a worker remembers of its pod between steps, and how the ends of actions change it.

Everything here is lost when the process ends, and may be: the API server has the status, CRI the rest. Not thread-safe:
its worker holds a lock, since actions end on threads of their own.
"""

from collections.abc import Mapping
from typing import Any

from bridge.actions import (
    START,
    Action,
    Eviction,
    Prior,
    Probed,
    Problem,
    RefreshVolumes,
    ResetContainers,
    RunSandbox,
    StartContainer,
    StopContainer,
    TearDown,
)
from bridge.allocation import Allocation
from bridge.observe import Observed
from bridge.resizing import Resized, notes_of
from bridge.spec.resources import Sizes
from vkcri.api import pods
from vkcri.backoff import BackoffTable

RETRY_FIRST, RETRY_MOST = 1.0, 10.0
REFRESH_AFTER_START = 5.0
_REFRESHED = ("configMap", "secret", "downwardAPI", "projected")


class Memory:
    """One pod's. `prior()` is the immutable view of it that decide and report get."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        self.status = status
        self.problems: dict[str, Problem] = {}
        self.busy: set[str] = set()
        self.retry: dict[str, float] = {}
        self.stopping: dict[str, float] = {}
        self.apart: set[str] = set()
        self.replaced: set[str] = set()
        self.probed: Mapping[str, Probed] = {}
        self.down = False
        self.refresh_at: float | None = 0.0
        self.allocation: Allocation | None = None
        self.notes = notes_of(status)
        self.pod_sized: Sizes | None = None
        self.sized: dict[str, Sizes] = {}
        self.eviction: Eviction | None = None
        self._backoff = BackoffTable(RETRY_FIRST, RETRY_MOST)
        self._news = 0
        self._began: dict[str, int] = {}
        self._busy_at_reading: frozenset[str] = frozenset()
        self._problems_at_reading: dict[str, Problem] = {}

    def reads(self) -> None:
        """CRI is about to be read. What is under way now may end before, within or after the reading, so that in the
        step made of it it counts as under way still: its end brings another one. So does what a start was to mend."""
        self._busy_at_reading = frozenset(self.busy)
        self._problems_at_reading = dict(self.problems) if START in self.busy else {}

    def prior(self) -> Prior:
        return Prior(
            status=self.status,
            problems={**self._problems_at_reading, **self.problems},
            busy=self._busy_at_reading.union(self.busy),
            retry=dict(self.retry),
            stopping=dict(self.stopping),
            apart=frozenset(self.apart),
            replaced=frozenset(self.replaced),
            down=self.down,
            refresh_at=self.refresh_at,
            probed=self.probed,
            notes=self.notes,
            pod_sized=self.pod_sized,
            sized=dict(self.sized),
            eviction=self.eviction,
        )

    def seen(self, pod: Mapping[str, Any], observed: Observed) -> None:
        """Forget what CRI's answer has made pointless."""
        alive = {item.id for item in observed.alive}
        self.stopping = {key: value for key, value in self.stopping.items() if key in alive}
        self.apart &= alive
        self.replaced &= {item.id for item in observed.containers}
        self.sized = {key: value for key, value in self.sized.items() if key in alive}
        if not _refreshable(pod):
            self.refresh_at = None

    def begins(self, action: Action, key: str, now: float) -> None:
        self.busy.add(key)
        self._began[key] = self._news
        if isinstance(action, RunSandbox):
            self.down = False
        elif isinstance(action, StopContainer):
            self.stopping[action.id] = now + action.grace
            if action.because:
                self.apart.add(action.id)
            if action.replace:
                self.replaced.add(action.id)

    def done(
        self, action: Action, key: str, now: float, due: float | None = None, sized: Resized | None = None
    ) -> None:
        """It succeeded. due: seconds until volumes are to be refreshed. sized: what cgroups are held to by it."""
        news = self._ends(key)
        name = retry_key(action)
        self.retry.pop(name, None)
        self._backoff.reset(name)
        self.problems.pop("", None)
        if isinstance(action, StartContainer):
            self.problems.pop(action.name, None)
        elif isinstance(action, RunSandbox):
            self.refresh_at = 0.0 if news else now + REFRESH_AFTER_START
        elif isinstance(action, RefreshVolumes):
            self.refresh_at = 0.0 if news else None if due is None else now + due
        elif isinstance(action, TearDown):
            self.down = True
        elif isinstance(action, ResetContainers):
            self.problems.clear()
            self.retry.clear()
        if sized is not None:
            self.pod_sized = sized.pod
            self.sized |= sized.containers

    def failed(self, action: Action, key: str, now: float, problem: Problem | None, delay: float | None) -> float:
        """It failed; the time of the next try. problem: what the container's (or the pod's) status shows."""
        news = self._ends(key)
        name = retry_key(action)
        again = self._backoff.next(name, now) if delay is None else delay
        self.retry[name] = now if news else now + again
        if problem is not None:
            self.problems[action.name if isinstance(action, StartContainer) else ""] = problem
        return self.retry[name]

    def try_now(self) -> None:
        """Something that a start may have waited for has changed."""
        self.changed()
        self.retry.clear()

    def changed(self) -> None:
        """The pod has changed, and volumes may show its own fields."""
        self._news += 1
        self.refresh_at = 0.0

    def _ends(self, key: str) -> bool:
        """The action is no longer under way. Whether there was news since it began, which it may not have seen."""
        self.busy.discard(key)
        return self._began.pop(key, self._news) != self._news


def retry_key(action: Action) -> str:
    """Under which name the retry of an action is kept: a container's name, else the action's key."""
    return action.name if isinstance(action, StartContainer) else str(getattr(action, "key", ""))


def _refreshable(pod: Mapping[str, Any]) -> bool:
    return any(kind in volume for volume in pods.spec(pod).get("volumes") or [] for kind in _REFRESHED)
