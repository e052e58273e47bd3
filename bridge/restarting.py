"""The restart rule RestartAllContainers: all containers of a pod are removed, then started as if they were new. Pure.

    a container ends by such a rule --> condition True --> all are killed and removed --> condition False, all start

The sandbox, its address and the volumes stay; init containers run again, ephemeral ones are left alone. Once the
condition stands in our status, the restart is gone through with whatever CRI still knows; before that the container
that asked for it, which is removed last, shows it again. Source: the kubelet's ShouldAllContainersRestart and
getContainersToReset.
"""

from collections.abc import Mapping
from typing import Any

from bridge.actions import Prior
from bridge.lives import RESTARTING, Life, is_marked
from bridge.observe import Container, Observed
from vkcri.api import pods, restarts


def wanted(pod: Mapping[str, Any], prior: Prior, all_lives: tuple[Life, ...]) -> bool:
    """Whether all containers are to be started anew, or are just about to be."""
    if not restarts.may_restart_all(pods.spec(pod)):
        return False
    if any(asks(life) for life in all_lives):
        return True
    return is_marked(prior.status) and not any(_is_new(life) for life in all_lives)


def asks(life: Life) -> bool:
    """Whether its last run ended by such a rule."""
    if life.kind == "ephemeral" or life.remembered or life.made or life.run is None or life.run.state != "exited":
        return False
    return restarts.rule_for(life.spec, life.run.exit_code) == restarts.RESTART_ALL


def _is_new(life: Life) -> bool:
    """Whether CRI has a newer run than our last status knows: then what that status says of a restart is over."""
    return life.run is not None and life.run.restart_count > int(life.prior.get("restartCount") or 0)


def remains(pod: Mapping[str, Any], observed: Observed) -> tuple[Container, ...]:
    """What has to be killed and removed, in that order: ordinary containers before init containers, and the runs that
    ended by such a rule last."""
    specs = {item["name"]: (kind, item) for kind, item in pods.all_containers(pod) if kind != "ephemeral"}
    mine = [item for item in observed.containers if item.name in specs]

    def order(item: Container) -> tuple[bool, bool]:
        kind, spec = specs[item.name]
        ended = item.state == "exited"
        return ended and restarts.rule_for(spec, item.exit_code) == restarts.RESTART_ALL, kind == "init"

    return tuple(sorted(mine, key=order))


def condition(
    pod: Mapping[str, Any], prior: Prior, observed: Observed, all_lives: tuple[Life, ...], phase: str
) -> dict[str, Any] | None:
    """The pod's condition, without its times; None for a pod without such a rule."""
    if not restarts.may_restart_all(pods.spec(pod)):
        return None
    if phase in ("Succeeded", "Failed"):
        return {
            "type": RESTARTING,
            "status": "False",
            "reason": "PodCompleted" if phase == "Succeeded" else "PodFailed",
        }
    if not wanted(pod, prior, all_lives) or not remains(pod, observed):
        return {"type": RESTARTING, "status": "False"}
    return {
        "type": RESTARTING,
        "status": "True",
        "reason": "RestartAllContainersStarted",
        "message": "container exited with restart policy rule",
    }
