"""Which changes of a Pod are only what its worker reported."""

from typing import Any

import pytest

from bridge.echo import is_echo

POD: dict[str, Any] = {
    "metadata": {"name": "a", "uid": "u", "resourceVersion": "1"},
    "spec": {"containers": [{"name": "main", "image": "x"}]},
    "status": {"phase": "Pending"},
}


def changed(part: str, **fields: Any) -> dict[str, Any]:
    return {**POD, part: {**POD[part], **fields}}


@pytest.mark.parametrize(
    "new",
    [
        changed("metadata", resourceVersion="2", managedFields=[{"manager": "vkcri"}]),
        changed("status", phase="Running", podIP="10.0.0.1", containerStatuses=[{"name": "main"}]),
        changed("status", conditions=[{"type": "Ready", "status": "True"}]),
        changed("status", conditions=[{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]),
        changed("status", conditions=[{"type": "PodResizeInProgress", "status": "True"}]),
        changed("status", conditions=[{"type": "DisruptionTarget", "reason": "TerminationByKubelet"}]),
    ],
)
def test_our_own_report_is_an_echo(new: dict[str, Any]) -> None:
    assert is_echo(POD, new)


@pytest.mark.parametrize(
    "new",
    [
        changed("metadata", labels={"a": "b"}),
        changed("metadata", deletionTimestamp="2026-11-23T00:00:00Z"),
        changed("spec", activeDeadlineSeconds=5),
        changed("status", phase="Failed"),
        changed("status", conditions=[{"type": "example.com/gate", "status": "True"}]),
        changed("status", conditions=[{"type": "DisruptionTarget", "reason": "EvictionByEvictionAPI"}]),
    ],
)
def test_what_others_write_is_news(new: dict[str, Any]) -> None:
    assert not is_echo(POD, new)
