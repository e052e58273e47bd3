"""/healthz and its named checks, in the words of Kubernetes' healthz handlers.

A check is a function that gives what is wrong, nothing when all is well. The page says which checks failed and not why,
since many may read it; the reason is logged, and a single check's own path tells it.
"""

import logging
import select
import time
from collections.abc import Callable, Collection, Mapping

from vkcri.api import times
from vkcri.kubelet.pods import Pods

SYNC_SECONDS = 300.0
"""The kubelet's: a sync loop that did not come round for five minutes is not healthy."""
_STDERR = 2
LOG = logging.getLogger(__name__)
Checks = Mapping[str, Callable[[], str]]


def checks(pods: Pods, now: Callable[[], float] = time.time) -> Checks:
    """The kubelet's three, then whether api-watcher (pods) and cri-bridge (provider) are there."""
    began = now()
    return {
        "ping": lambda: "",
        "log": _log,
        "syncloop": lambda: _syncloop(pods.relisted(), began, now()),
        "pods": lambda: "" if pods.pods.connected else "api-watcher is not connected",
        "provider": lambda: "" if pods.statuses.connected else "the provider is not connected",
    }


def page(found: Checks, excluded: Collection[str], *, verbose: bool) -> tuple[int, str]:
    """Status code and text of /healthz."""
    lines, failed = [], []
    for name, check in found.items():
        if name in excluded:
            lines.append(f"[+]{name} excluded: ok")
        elif trouble := check():
            failed.append(name)
            lines.append(f"[-]{name} failed: reason withheld")
            LOG.warning("healthz: %s: %s", name, trouble)
        else:
            lines.append(f"[+]{name} ok")
    unknown = sorted(set(excluded) - set(found))
    if unknown:
        names = ", ".join(f'"{name}"' for name in unknown)
        lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
    if failed:
        return 500, "\n".join([*lines, "healthz check failed\n"])
    return 200, "\n".join([*lines, "healthz check passed\n"]) if verbose else "ok"


def _log() -> str:
    """Whether what we log can be written: supervisord reads our standard error."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    ready = dict(poll.poll(0)).get(_STDERR, 0)
    return "" if ready & select.POLLOUT and not ready & (select.POLLERR | select.POLLHUP) else "logging blocked"


def _syncloop(relisted: str, began: float, now: float) -> str:
    """relisted: when the provider last read the runtime whole, empty where it never said."""
    last = max(began, times.to_epoch(relisted)) if relisted else began
    return "sync Loop took longer than expected" if now - last > SYNC_SECONDS else ""
