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
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bridge import containerd, network
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.spec import names
from bridge.volumes import mounting
from vkcri.config import RuntimeSettings
from vkcri.errors import Refused, Unavailable, VkcriError

log = logging.getLogger(__name__)

_STOP_GRACE = 2
_START_SECONDS = 20.0
_END_SECONDS = 20.0
_CGROUPS = Path("/sys/fs/cgroup")


def cleanup(settings: RuntimeSettings) -> None:
    """Remove sandboxes, mounts, cgroups, network and our containerd with its shims. Raises Unavailable naming what
    stays, Refused where other people's sandboxes run in our containerd, which is then left alone with them."""
    instance = settings.instance
    failed: list[str] = []
    others = 0
    folders = [instance.containerd_cni_dir, Path("/etc/cni/net.d")]

    def step(what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except (VkcriError, OSError, subprocess.SubprocessError) as error:
            log.error("%s: %s", what, error)
            failed.append(what)

    with _runtime(settings) as runtime:
        if runtime is not None:
            step("sandboxes", lambda: remove_sandboxes(runtime, settings))
            step("the CNI folder", lambda: folders.append(network.cni_dir(runtime)))
            with contextlib.suppress(VkcriError):  # counted as failed above
                others = len(_sandboxes(runtime)) if containerd.our_pid(settings) else 0
    step("mounts of volumes", lambda: _unmount_all(instance.volumes_dir))
    step("cgroups", lambda: remove_cgroups(instance.cgroup_root))
    if others:
        raise Refused(
            f"{others} sandboxes of others run in our containerd ({settings.runtime_endpoint}): it stays with them"
        )
    step("network", lambda: network.remove_network(instance, folders))
    step("containerd", lambda: end_containerd(settings))
    step("mounts of containerd", lambda: _unmount_all(instance.containerd_state))
    if failed:
        raise Unavailable(f"these stay: {', '.join(failed)}")


def remove_sandboxes(runtime: Runtime, settings: RuntimeSettings) -> None:
    """Stop and remove every sandbox that carries our label. Raises Unavailable with the first failure, after all."""
    errors: list[VkcriError] = []
    for sandbox in _sandboxes(runtime, {names.INSTANCE: settings.instance.cri_label}):
        try:
            _stop_containers(runtime, sandbox.id)
            runtime.stop_pod_sandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox.id))
            runtime.remove_pod_sandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox.id))
        except VkcriError as error:
            log.error("sandbox %s: %s", sandbox.id, error)
            errors.append(error)
    if errors:
        raise Unavailable(f"{len(errors)} sandboxes could not be removed: {errors[0]}") from errors[0]


def remove_cgroups(root: str) -> None:
    """Remove our cgroup root in every hierarchy (v1) or the one there is (v2), the deepest first; what still runs in
    them is killed, since its sandbox is gone."""
    for top in [_CGROUPS / root.lstrip("/"), *_CGROUPS.glob(f"*{root}")]:
        if not top.is_dir():
            continue
        for folder, _, _ in os.walk(top, topdown=False):
            _empty(Path(folder))
            Path(folder).rmdir()


def end_containerd(settings: RuntimeSettings) -> None:
    """End our containerd, then the shims that are left of it. A user's containerd is not touched."""
    _end([pid] if (pid := containerd.our_pid(settings)) else [], signal.SIGTERM)
    _end(list(_shims(settings)), signal.SIGKILL)


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
            config = containerd.write_config(settings)
            command = [containerd.require("containerd"), "--config", str(config), "--log-level", "error"]
            settings.runtime_socket.parent.mkdir(parents=True, exist_ok=True)
            started = subprocess.Popen(command, start_new_session=True)
            _wait_answering(settings)
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


def _wait_answering(settings: RuntimeSettings) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(Unavailable):  # it is still loading
            if containerd.answering(settings) is not None:
                return
        if time.monotonic() > deadline:
            raise Unavailable(f"our containerd did not answer within {_START_SECONDS:.0f} s")
        time.sleep(0.1)


def _sandboxes(runtime: Runtime, labels: dict[str, str] | None = None) -> list[cri.PodSandbox]:
    chosen = cri.PodSandboxFilter(label_selector=labels or {})
    return list(runtime.list_pod_sandbox(cri.ListPodSandboxRequest(filter=chosen)).items)


def _stop_containers(runtime: Runtime, sandbox: str) -> None:
    """Give the sandbox's running containers a short grace; stopping the sandbox kills without one."""
    chosen = cri.ContainerFilter(pod_sandbox_id=sandbox, state=cri.ContainerStateValue(state=cri.CONTAINER_RUNNING))
    for item in runtime.list_containers(cri.ListContainersRequest(filter=chosen)).containers:
        runtime.stop_container(cri.StopContainerRequest(container_id=item.id, timeout=_STOP_GRACE))


def _unmount_all(folder: Path) -> None:
    for point in mounting.mounts_below(folder):
        mounting.unmount(point)
    left = mounting.mounts_below(folder)
    if left:
        raise Unavailable(f"{left[0]} is still mounted")


def _empty(folder: Path) -> None:
    """Kill what runs in a cgroup and wait until it is gone."""
    deadline = time.monotonic() + _END_SECONDS
    processes = folder / "cgroup.procs"
    while pids := processes.read_text(encoding="ascii").split():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        if time.monotonic() > deadline:
            raise Unavailable(f"{folder} still has processes {' '.join(pids)}")
        time.sleep(0.02)


def _shims(settings: RuntimeSettings) -> Iterator[int]:
    """The shims whose command line names our containerd's socket."""
    address = str(settings.runtime_socket).encode()
    if not containerd.config_path(settings).exists():
        return
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            bundle = str((folder / "cwd").readlink())
        except OSError:
            continue  # it ended while we looked
        ours = bundle.startswith(f"{settings.instance.containerd_state}/")
        if b"containerd-shim" in words[0] and address in words and ours:
            yield int(folder.name)


def _end(pids: list[int], number: signal.Signals) -> None:
    """Signal these processes and wait until they are gone; SIGKILL after the first wait."""
    for which in (number, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, which)
        deadline = time.monotonic() + _END_SECONDS
        while pids and time.monotonic() < deadline:
            pids = [pid for pid in pids if Path(f"/proc/{pid}").exists() and not _zombie(pid)]
            time.sleep(0.02)
    if pids:
        raise Unavailable(f"processes {pids} did not end")


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
