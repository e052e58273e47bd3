"""Whether a pod has come to its end, and how: the one place that says so, for decide and report alike. Pure.

Final once said: a terminal phase that the API server or our last status shows is never left. Otherwise the end is
derived from the containers' lives each time, so a restart of the process in the middle of it changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge import restarting
from bridge.actions import Desired, Prior
from bridge.lives import Life, is_marked
from bridge.observe import Observed
from vkcri.api import pods, times

EVICTED = "Evicted"
DEADLINE_EXCEEDED = "DeadlineExceeded"
DEADLINE_MESSAGE = "Pod was active on the node longer than the specified deadline"
GRACE_EXCEEDED = "ExceededGracePeriod"
GRACE_MESSAGE = "Container runtime did not kill the pod within specified grace period."


@dataclass(frozen=True)
class Outcome:
    """phase: Succeeded or Failed."""

    phase: str
    reason: str = ""
    message: str = ""


def outcome(
    desired: Desired, prior: Prior, observed: Observed, all_lives: tuple[Life, ...], now: float
) -> Outcome | None:
    """How the pod has ended or is to end; None while it goes on. Its containers may still have to be stopped."""
    for status in (prior.status, pods.status(desired.pod)):
        if pods.is_terminal(status):
            return Outcome(str(status["phase"]), str(status.get("reason") or ""), str(status.get("message") or ""))
    if prior.eviction is not None:
        return Outcome("Failed", prior.eviction.reason, prior.eviction.message)
    until = deadline(desired.pod, prior.status)
    if until is not None and until <= now:
        return Outcome("Failed", DEADLINE_EXCEEDED, DEADLINE_MESSAGE)
    again = restarting.wanted(desired.pod, prior, all_lives)
    killed = again and is_marked(prior.status)  # then an init container that has failed was killed by us
    if not killed and any(life.kind == "init" and life.failed and not life.wants_start for life in all_lives):
        return Outcome("Failed")
    if again:
        return None
    ordinary = [life for life in all_lives if life.kind == "container"]
    if ordinary and not any(life.state == "running" or life.wants_start for life in ordinary):
        return Outcome(phase_of_ended(ordinary))
    if _cannot_go_on(desired, prior, observed, all_lives):
        return Outcome(phase_of_ended(ordinary))
    return None


def phase_of_ended(ordinary: list[Life]) -> str:
    """The phase of a pod that is over: Succeeded exactly if every ordinary container ended with 0."""
    return "Succeeded" if ordinary and all(life.succeeded for life in ordinary) else "Failed"


def deadline(pod: Mapping[str, Any], status: Mapping[str, Any]) -> float | None:
    """When activeDeadlineSeconds is over, seconds since the epoch; None without one, or before the pod has a
    startTime."""
    limit = pods.spec(pod).get("activeDeadlineSeconds")
    started = status.get("startTime")
    if limit is None or not started:
        return None
    return times.to_epoch(str(started)) + int(limit)


def _cannot_go_on(desired: Desired, prior: Prior, observed: Observed, all_lives: tuple[Life, ...]) -> bool:
    """A pod that may run once has lost its sandbox after something in it had run: nothing is run a second time."""
    if pods.restart_policy(desired.pod) != "Never" or "sandbox" in prior.busy:
        return False
    has_run = any(life.state != "none" for life in all_lives)
    return has_run and not any(item.ready for item in observed.sandboxes)
