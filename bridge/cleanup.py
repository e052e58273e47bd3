"""What `make stop` removes: everything of this instance on the guest, and nothing of anybody else's.

Called once the programs are gone (`vkcri-cri-bridge --cleanup`), so it takes no lock; idempotent. Each step is tried
even when another fails, and what stays is named. Store, certificates, images and the content of volumes stay. Where our
own containerd is away it is started for the time of the clean-up, since only it knows its sandboxes.
"""

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bridge import containerd, network
from bridge.cgroups import Cgroups
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.spec import names
from bridge.volumes import mounting
from vkcri.config import RuntimeSettings
from vkcri.errors import ConfigError, Refused, Unavailable, VkcriError

_STOP_GRACE = 2  # seconds from SIGTERM to SIGKILL
_PARALLEL = 8  # most of the time is the grace of containers that ignore SIGTERM
_START_SECONDS = 20.0
_END_SECONDS = 20.0
_CGROUPS = Path("/sys/fs/cgroup")
_T = TypeVar("_T")
log = logging.getLogger(__name__)


def cleanup(settings: RuntimeSettings) -> None:
    """Remove sandboxes, mounts, cgroups, network and our containerd with its shims. Raises Unavailable naming what
    stays, Refused where it stays because others use it: their sandboxes run in our containerd or on our bridge."""
    instance = settings.instance
    folders = [instance.containerd_cni_dir, Path(network.DEFAULT_CNI_DIR)]
    steps = _Steps()
    others = steps.run("the runtime", lambda: _empty_runtime(settings, folders, steps)) or 0
    if others:
        steps.kept.append(f"{others} sandboxes of others run in our containerd at {settings.runtime_endpoint}")
    else:
        steps.run("containerd", lambda: end_containerd(settings))
    steps.run("cgroups", lambda: _remove_cgroups(settings))  # processes end here whose shims had to be killed
    steps.run("mounts of volumes", lambda: mounting.unmount_below(instance.volumes_dir))
    if not others:
        steps.run("mounts of containerd", lambda: mounting.unmount_below(instance.containerd_state))
        steps.run("network", lambda: network.remove_network(instance, folders))
    steps.judge()


def remove_sandboxes(runtime: Runtime, settings: RuntimeSettings) -> None:
    """Stop and remove every sandbox that carries our label. Raises Unavailable with the first failure, after all."""

    def remove(sandbox: cri.PodSandbox) -> VkcriError | None:
        try:
            _stop_containers(runtime, sandbox.id)
            runtime.stop_pod_sandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox.id))
            runtime.remove_pod_sandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id))
        except VkcriError as error:
            log.error("sandbox %s: %s", sandbox.id, error)
            return error
        return None

    ours = _sandboxes(runtime, {names.INSTANCE: settings.instance.cri_label})
    with ThreadPoolExecutor(_PARALLEL, "cleanup") as pool:
        errors = [error for error in pool.map(remove, ours) if error is not None]
    if errors:
        raise Unavailable(f"{len(errors)} sandboxes could not be removed: {errors[0]}") from errors[0]


def end_containerd(settings: RuntimeSettings) -> None:
    """End our containerd, then the shims that are left of it. A user's containerd is not touched."""
    _end([pid] if (pid := containerd.our_pid(settings)) else [], signal.SIGTERM)
    _end(list(_shims(settings)), signal.SIGKILL)


class _Steps:
    """Runs each step whatever became of the others. `failed`: what stays and should not; `kept`: what others use."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.kept: list[str] = []

    def run(self, what: str, action: Callable[[], _T]) -> _T | None:
        try:
            return action()
        except Refused as error:
            self.kept.append(f"{what}: {error}")
        except (VkcriError, OSError, subprocess.SubprocessError) as error:
            self.failed.append(f"{what}: {error}")
        return None

    def judge(self) -> None:
        """Raises Unavailable or Refused where something stays."""
        if self.failed:
            raise Unavailable("these stay: " + "; ".join(self.failed + self.kept))
        if self.kept:
            raise Refused("these stay, since others use them: " + "; ".join(self.kept))


def _empty_runtime(settings: RuntimeSettings, folders: list[Path], steps: _Steps) -> int:
    """Remove our sandboxes from the runtime; how many others live in it when it is ours. Adds its CNI folder."""
    with _runtime(settings) as runtime:
        if runtime is None:
            return 0
        folders.append(network.cni_dir(runtime))
        _ready_network(runtime, settings)
        steps.run("sandboxes", lambda: remove_sandboxes(runtime, settings))
        if containerd.our_pid(settings) is None:
            return 0
        label = settings.instance.cri_label
        return sum(sandbox.labels.get(names.INSTANCE) != label for sandbox in _sandboxes(runtime))


@contextlib.contextmanager
def _runtime(settings: RuntimeSettings) -> Iterator[Runtime | None]:
    """The runtime that holds our sandboxes; our own is started for the time where it is away. None where nothing ever
    ran here."""
    started: subprocess.Popen[bytes] | None = None
    runtime = Runtime(settings.runtime_endpoint)
    try:
        if containerd.answering(settings) is None:
            if not containerd.config_path(settings).exists():
                yield None
                return
            started = _start(settings)
        yield runtime
    finally:
        runtime.close()
        if started is not None:
            started.terminate()
            try:
                started.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait(_END_SECONDS)


def _start(settings: RuntimeSettings) -> subprocess.Popen[bytes]:
    """Our containerd, once it answers. Raises Unavailable when it does not, and then it has been ended."""
    program, config = containerd.write_config(settings)
    command = [program, "--config", str(config), "--log-level", "error"]
    started = subprocess.Popen(command, start_new_session=True, env=containerd.environment())
    deadline = time.monotonic() + _START_SECONDS
    while started.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(Unavailable, ConfigError):  # it is still loading, CRI last
            if containerd.answering(settings) is not None:
                return started
        time.sleep(0.1)
    started.kill()
    started.wait(_END_SECONDS)
    raise Unavailable(f"our containerd ({config}) does not start, so its sandboxes could not be removed")


def _remove_cgroups(settings: RuntimeSettings) -> None:
    """The pods' cgroups, then the empty ones that runc made beside them in a hybrid guest's unified hierarchy."""
    Cgroups(settings).cleanup()
    for top in _CGROUPS.glob(f"*{settings.instance.cgroup_root}"):
        for folder, _, _ in os.walk(top, topdown=False):
            os.rmdir(folder)


def _sandboxes(runtime: Runtime, labels: dict[str, str] | None = None) -> list[cri.PodSandbox]:
    chosen = cri.PodSandboxFilter(label_selector=labels or {})
    return list(runtime.list_pod_sandbox(cri.ListPodSandboxRequest(filter=chosen)).items)


def _ready_network(runtime: Runtime, settings: RuntimeSettings) -> None:
    """containerd stops no sandbox while it has no network, and an earlier clean-up may have taken ours away."""
    if network.not_ready(runtime) is not None and _sandboxes(runtime, {names.INSTANCE: settings.instance.cri_label}):
        try:
            network.ensure_network(runtime, settings, settings.instance.pod_subnet)
            network.wait_ready(runtime, threading.Event().wait)
        except VkcriError as error:
            log.warning("%s", error)


def _stop_containers(runtime: Runtime, sandbox: str) -> None:
    """Give the sandbox's running containers a short grace; stopping the sandbox kills without one."""
    chosen = cri.ContainerFilter(pod_sandbox_id=sandbox, state=cri.ContainerStateValue(state=cri.CONTAINER_RUNNING))
    for item in runtime.list_containers(cri.ListContainersRequest(filter=chosen)).containers:
        runtime.stop_container(cri.StopContainerRequest(container_id=item.id, timeout=_STOP_GRACE))


def _shims(settings: RuntimeSettings) -> Iterator[int]:
    """The shims that work in our containerd's state folder, which nobody else's do: a socket's path may be shared."""
    for pid, words in containerd.processes():
        if b"containerd-shim" in words[0]:
            try:
                bundle = str(Path(f"/proc/{pid}/cwd").readlink())
            except OSError:
                continue  # it ended while we looked
            if bundle.startswith(f"{settings.instance.containerd_state}/"):
                yield pid


def _end(pids: list[int], number: signal.Signals) -> None:
    """Signal these processes and wait until they are gone; SIGKILL after the first wait. Raises Unavailable."""
    for which in (number, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, which)
        deadline = time.monotonic() + _END_SECONDS
        while pids and time.monotonic() < deadline:
            pids = [pid for pid in pids if _runs(pid)]
            time.sleep(0.02)
    if pids:
        raise Unavailable(f"processes {pids} did not end")


def _runs(pid: int) -> bool:
    """Whether the process is there and is no zombie that its parent has yet to reap."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
