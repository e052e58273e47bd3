"""Small pods, containers in CRI and what is known of them, for the tests of the pure modules."""

from typing import Any

from bridge.actions import Desired, Prior
from bridge.observe import BACKOFF, Container, Observed, Sandbox
from bridge.spec import names

NOW = 1_800_000_000.0
NANO = 1_000_000_000
UID = "11111111-2222-3333-4444-555555555555"


def spec(name: str = "app", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "shell", **more}


def a_pod(*containers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A pod of these containers (one, `app`, by default); fields go into its spec."""
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": UID},
        "spec": {"containers": list(containers) or [spec()], "restartPolicy": "Always", **fields},
        "status": {},
    }


def box(attempt: int = 0, *, ready: bool = True, **more: Any) -> Sandbox:
    fields = {"created_at": attempt, "ips": ("10.0.0.9",), **more}
    return Sandbox(f"s{attempt}", attempt, ready, **fields)


def run(
    name: str = "app", state: str = "running", *, count: int = 0, sandbox: str = "s0", backoff: int = 0, **more: Any
) -> Container:
    """A run of the container in CRI. It began 100 s ago and, if it has exited, ended 90 s ago."""
    began = int((NOW - 100) * NANO)
    fields: dict[str, Any] = {
        "id": f"{name}-{count}",
        "sandbox_id": sandbox,
        "restart_count": count,
        "created_at": began + count,
        "started_at": began,
        "finished_at": int((NOW - 90) * NANO) if state == "exited" else 0,
        "image": "shell",
        "image_ref": "sha256:1",
        "annotations": {names.HASH: names.container_hash({"name": name, "image": "shell"}), BACKOFF: str(backoff)},
        **more,
    }
    return Container(name=name, state=state, **fields)  # type: ignore[arg-type]


def seen(*containers: Container, boxes: tuple[Sandbox, ...] | None = None) -> Observed:
    """Newest first, in the one sandbox s0 unless told otherwise."""
    return Observed((box(),) if boxes is None else boxes, containers)


def desired(pod: dict[str, Any] | None = None, **more: Any) -> Desired:
    return Desired(pod or a_pod(), host_ips=("192.0.2.1",), **more)


def deleted(pod: dict[str, Any], grace: int | None = 30) -> dict[str, Any]:
    metadata = {**pod["metadata"], "deletionTimestamp": "2027-01-15T08:00:00Z"}
    if grace is not None:
        metadata["deletionGracePeriodSeconds"] = grace
    return {**pod, "metadata": metadata}


def prior(**more: Any) -> Prior:
    return Prior(**more)


def container_status(name: str = "app", count: int = 0, **state: Any) -> dict[str, Any]:
    """What we reported of a container: state is running, waiting or terminated."""
    return {"name": name, "state": state, "lastState": {}, "restartCount": count, "containerID": "containerd://x"}
