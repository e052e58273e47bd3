"""The life of each container of a pod: its spec, its runs in CRI, and what our own last status remembers. Pure.

decide and report both look at a pod through this, so that they cannot disagree on whether a container has run. CRI wins
wherever it knows a run at least as new as the remembered one. Where it does not, the memory counts: a container that
was Running and is gone has run and ended, 137 (ContainerStatusUnknown); one that was Terminated stays so. That is why a
pod that may run once does not run twice when its sandbox was removed behind our back.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bridge.actions import Prior, Probed
from bridge.observe import Container, Observed
from bridge.spec import names
from vkcri.api import pods, restarts

BACKOFF_FIRST = 10.0
BACKOFF_MOST = 300.0
BACKOFF_RESET = 2 * BACKOFF_MOST
SETTLE = 0.5
UNKNOWN_CODE = 137
RESTARTING = "AllContainersRestarting"
"""The condition: all containers are being removed, to be started anew (bridge.restarting)."""
REMOVED = "RestartingAllContainers"
"""The reason that a container removed for it shows."""
_NANO = 1_000_000_000
Kind = Literal["init", "sidecar", "container", "ephemeral"]
_STATUS_FIELDS = {
    "init": "initContainerStatuses",
    "sidecar": "initContainerStatuses",
    "container": "containerStatuses",
    "ephemeral": "ephemeralContainerStatuses",
}


@dataclass(frozen=True)
class Life:
    """One container of the spec. `run`: the newest that runs or ran; `previous`: the one before; `made`: created and
    never started; `prior`: its remembered status; `policy`: Always, OnFailure or Never; `replaced`: we stopped it to
    replace it; `probed`: what the probes of `run` have said; `removed`: its runs were removed so that all containers
    start anew, and it counts as one that never ran."""

    kind: Kind
    spec: Mapping[str, Any]
    policy: str = "Always"
    run: Container | None = None
    previous: Container | None = None
    made: tuple[Container, ...] = ()
    prior: Mapping[str, Any] = field(default_factory=dict)
    replaced: bool = False
    probed: Probed = field(default_factory=Probed)
    removed: bool = False

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def remembered(self) -> bool:
        """Whether our memory knows of a newer run than CRI does."""
        return not self.removed and _outdated(self.run, self.prior)

    @property
    def lost(self) -> bool:
        """It was Running when last seen, and CRI has it no more."""
        return self.remembered and (self.prior.get("state") or {}).get("running") is not None

    @property
    def state(self) -> Literal["none", "running", "exited"]:
        if self.remembered:
            return "exited"
        if self.run is None:
            return "none"
        return "running" if self.run.alive else "exited"

    @property
    def exit_code(self) -> int:
        """Of a life whose state is exited."""
        if self.remembered:
            return UNKNOWN_CODE if self.lost else int(_last_end(self.prior).get("exitCode") or 0)
        return self.run.exit_code if self.run else 0

    @property
    def succeeded(self) -> bool:
        return self.state == "exited" and self.exit_code == 0

    @property
    def failed(self) -> bool:
        return self.state == "exited" and self.exit_code != 0

    @property
    def started(self) -> bool:
        """Whether its startup probe has succeeded, or it has none."""
        return self.run is None or self._said("startupProbe", self.probed.startup, "started")

    @property
    def ready(self) -> bool:
        """Whether it runs, has started and its readiness probe has succeeded last, or it has none."""
        if self.state != "running" or not self.started:
            return False
        return self._said("readinessProbe", self.probed.readiness, "ready")

    def _said(self, probe: str, result: bool | None, field_name: str) -> bool:
        """What the probe says of this run, True where there is none. Until it says something, what was last reported of
        this very run counts: so a container that was ready before this process began stays ready until it fails."""
        if not self.spec.get(probe) or self.run is None:
            return True
        if result is not None:
            return result
        same = str(self.prior.get("containerID") or "").endswith(f"//{self.run.id}")
        return same and bool(self.prior.get(field_name))

    @property
    def changed(self) -> bool:
        """It runs by another definition than the spec's (kubelet: the container's hash)."""
        return self.run is not None and self.run.hash != names.container_hash(self.spec)

    @property
    def wants_start(self) -> bool:
        """Whether it is not running and, by its policy, ought to (ShouldContainerBeRestarted)."""
        if self.state == "none":
            return True
        if self.state == "running" or self.kind == "ephemeral":
            return False
        if self.kind == "init":
            return self.exit_code != 0 and self._restarts()
        return self.kind == "sidecar" or self.replaced or self._restarts()

    @property
    def next_count(self) -> int:
        """The restart count of its next run."""
        if self.removed:
            return self.removed_count
        if self.remembered:
            return int(self.prior.get("restartCount") or 0) + 1
        return self.run.restart_count + 1 if self.run else 0

    @property
    def just_removed(self) -> bool:
        """Whether our last status does not show yet that it was removed."""
        return self.removed and (self.prior.get("state") or {}).get("waiting") is None

    @property
    def removed_count(self) -> int:
        """The restart count of one that was removed: its removal counts once."""
        return int(self.prior.get("restartCount") or 0) + self.just_removed

    @property
    def backoff_until(self) -> float:
        """When it may be started again, seconds since the epoch; 0: at once."""
        run = self.run
        if run is None or self.remembered or self.changed or self.state != "exited" or self._ran_well():
            return 0.0
        if self.replaced and self._outlived(run.backoff):
            return 0.0
        return run.finished_at / _NANO + run.backoff if run.backoff else 0.0

    @property
    def settled_at(self) -> float:
        """When its end may be followed by a start, seconds since the epoch: containers of a sandbox that goes down end
        a moment before CRI shows the sandbox's own end, and a start into it would fail and count."""
        run = self.run
        if run is None or self.remembered or self.replaced or self.state != "exited":
            return 0.0
        return run.finished_at / _NANO + SETTLE

    @property
    def next_backoff(self) -> float:
        """The delay that its next run is annotated with: nothing after the first run, then 10 s doubling up to 300 s,
        from the start after ten good minutes."""
        if self.state == "none" or self.changed:
            return 0.0
        if self.run is None or self.remembered or self._ran_well() or not self.run.backoff:
            return BACKOFF_FIRST
        return min(2 * self.run.backoff, BACKOFF_MOST)

    def in_sandbox(self, sandbox_id: str) -> bool:
        """Whether its newest run was in that sandbox."""
        return not self.remembered and self.run is not None and self.run.sandbox_id == sandbox_id

    def _outlived(self, backoff: float) -> bool:
        """Whether more than that lies between the end of the run before and the end of this one: what was stopped for a
        failed probe is started at once then (the kubelet's doBackOff looks at the last run that had ended before)."""
        before = self.previous.finished_at if self.previous is not None else 0
        return self.run is not None and self.run.finished_at - before > backoff * _NANO

    def _ran_well(self) -> bool:
        run = self.run
        return run is not None and run.finished_at - run.created_at > BACKOFF_RESET * _NANO

    def _restarts(self) -> bool:
        """By restartPolicyRules, then restartPolicy, of a container that has ended and is no sidecar."""
        return restarts.restarts(self.spec, {"restartPolicy": self.policy}, self.exit_code)


def lives(pod: Mapping[str, Any], prior: Prior, observed: Observed) -> tuple[Life, ...]:
    """Every container of the spec: init containers and sidecars, then ordinary, then ephemeral ones, in the spec's
    order."""
    found = []
    marked = is_marked(prior.status)
    for kind, spec in _specs(pod):
        remembered = {item.get("name"): item for item in prior.status.get(_STATUS_FIELDS[kind]) or []}
        mine = [item for item in observed.containers if item.name == spec["name"]]
        runs = [item for item in mine if item.state != "created"]
        status = remembered.get(spec["name"]) or {}
        newest = runs[0] if runs else None
        removed = kind != "ephemeral" and _outdated(newest, status) and (marked or _shows_removal(status))
        run = None if removed else newest
        life = Life(
            kind=kind,
            spec=spec,
            policy=str(spec.get("restartPolicy") or pods.restart_policy(pod)),
            run=run,
            previous=runs[1] if run is not None and len(runs) > 1 else None,
            made=tuple(item for item in mine if item.state == "created"),
            prior=status,
            replaced=run is not None and run.id in prior.replaced,
            probed=prior.probed.get(run.id, Probed()) if run is not None else Probed(),
            removed=removed,
        )
        found.append(life)
    return tuple(found)


def initialized(all_lives: tuple[Life, ...], sandbox_id: str) -> bool:
    """Whether the init phase is over in that sandbox: an ordinary container was made in it, or every init container has
    ended well and every sidecar runs."""
    if any(_made_in(life, sandbox_id) for life in all_lives if life.kind == "container"):
        return True
    return all(init_done(life, sandbox_id) for life in all_lives if life.kind in ("init", "sidecar"))


def init_done(life: Life, sandbox_id: str) -> bool:
    """Whether this init container has done its part in that sandbox, so that the next one may start."""
    if not life.in_sandbox(sandbox_id):
        return False
    return (life.state == "running" and life.started) if life.kind == "sidecar" else life.succeeded


def _made_in(life: Life, sandbox_id: str) -> bool:
    return life.in_sandbox(sandbox_id) or any(item.sandbox_id == sandbox_id for item in life.made)


def _specs(pod: Mapping[str, Any]) -> Iterator[tuple[Kind, Mapping[str, Any]]]:
    for kind, spec in pods.all_containers(pod):
        yield ("sidecar" if kind == "init" and pods.is_sidecar(spec) else kind), spec


def is_marked(status: Mapping[str, Any]) -> bool:
    """Whether a PodStatus says that all containers are being removed to be started anew."""
    return any(
        item.get("type") == RESTARTING and item.get("status") == "True" for item in status.get("conditions") or []
    )


def _outdated(run: Container | None, status: Mapping[str, Any]) -> bool:
    """Whether a remembered status knows of a newer run than that, which is the newest that CRI knows."""
    return _ran(status) and (run is None or int(status.get("restartCount") or 0) > run.restart_count)


def _shows_removal(status: Mapping[str, Any]) -> bool:
    waits = (status.get("state") or {}).get("waiting") is not None
    return waits and _last_end(status).get("reason") == REMOVED


def _ran(status: Mapping[str, Any]) -> bool:
    state = status.get("state") or {}
    return state.get("running") is not None or bool(_last_end(status))


def _last_end(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """The newest termination in a container status; empty where there is none."""
    for field_name in ("state", "lastState"):
        ended = (status.get(field_name) or {}).get("terminated")
        if ended:
            return dict(ended)
    return {}
