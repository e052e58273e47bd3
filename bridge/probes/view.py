"""A pod as its probes see it, from what the worker has decided and seen. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.actions import Desired, Prior
from bridge.decide import ending
from bridge.lives import lives
from bridge.observe import Observed
from bridge.outcome import outcome
from bridge.probes.track import FIELDS, Target
from vkcri.api import pods


@dataclass(frozen=True)
class View:
    """address: the pod's, or the node's where it shares its network. ending: it is being deleted, or has come to its
    end by itself. pod: for specs and events; a pod that differs in nothing else is the same view."""

    pod: Mapping[str, Any] = field(compare=False)
    address: str = ""
    ending: bool = False
    targets: tuple[Target, ...] = ()


def is_probed(pod: Mapping[str, Any]) -> bool:
    """Whether any container of the pod has a probe."""
    return any(container.get(name) for container in _probed(pod) for name in FIELDS)


def view(desired: Desired, prior: Prior, observed: Observed, now: float) -> View:
    """now: seconds since the epoch."""
    all_lives = lives(desired.pod, prior, observed)
    over = ending(desired) or outcome(desired, prior, observed, all_lives, now) is not None
    sandbox = observed.sandbox
    ips = desired.host_ips if pods.host_network(desired.pod) else sandbox.ips if sandbox else ()
    targets = []
    for life in all_lives:
        if life.kind in ("container", "sidecar") and any(life.spec.get(name) for name in FIELDS):
            run = None if life.remembered else life.run
            targets.append(
                Target(
                    life.name,
                    run.id if run else "",
                    running=run is not None and run.state == "running",
                    started=life.started,
                    started_at=run.started_at / 1e9 if run else 0.0,
                )
            )
    return View(desired.pod, ips[0] if ips else "", over, tuple(targets))


def _probed(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The containers that may have probes: ordinary ones and sidecars."""
    return [
        container
        for kind, container in pods.all_containers(pod)
        if kind == "container" or (kind == "init" and pods.is_sidecar(container))
    ]
