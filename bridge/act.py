"""Carry out one action, idempotently: with bridge.launch, which starts a container, and bridge.resize the only place of
the bridge that changes anything in CRI or below the pod's folders.

Each method runs on a thread of its own (bridge.operations) and returns once the action is done. What fails
leaves as Failure, which says why the pod waits, or as one of vkcri.errors, which only means: again later. A process
that dies between two calls leaves something that decide recognises: a sandbox without containers, a container never
started.
"""

import logging
import shutil
from collections.abc import Mapping
from typing import Any

from bridge import observe, resizing
from bridge.actions import (
    Desired,
    Prior,
    RemoveAll,
    RemoveContainer,
    ResetContainers,
    ResizePod,
    RunSandbox,
    StartContainer,
    StopContainer,
    TearDown,
)
from bridge.decide import MINIMUM_GRACE
from bridge.guest import NORMAL, WARNING, Failure, Guest, Scope
from bridge.hands import Hands
from bridge.launch import Launch
from bridge.lives import lives
from bridge.observe import Observed
from bridge.pb.runtime.v1 import api_pb2
from bridge.resize import Resizer
from bridge.resizing import Resized
from bridge.spec import names, sandbox_config, sandbox_findings
from bridge.spec.context import NotHeardOf
from bridge.spec.resources import container_sizes
from vkcri.api import pods
from vkcri.errors import VkcriError

log = logging.getLogger(__name__)


class Actor:
    """What one pod's worker has done."""

    def __init__(self, guest: Guest, uid: str) -> None:
        self._guest = guest
        self._uid = uid
        self._hands = Hands(guest, uid)

    def run_sandbox(self, desired: Desired, action: RunSandbox, scope: Scope) -> None:
        """The sandbox of that attempt runs, with the pod's cgroup and volumes made before it."""
        pod, guest = desired.pod, self._guest
        if action.replaces:
            message = "Pod sandbox changed, it will be killed and re-created."
            guest.event(pod, NORMAL, "SandboxChanged", message)
        for old in action.replaces:
            self._hands.stop_sandbox(old)
        trouble = guest.trouble()
        if trouble:
            guest.event(pod, WARNING, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {trouble}")
            raise Failure(None, trouble)
        self._check_network(pod)
        self._hands.volumes(pod)
        with self._hands.start_slot(scope):
            self._hands.starting(pod)
            self._make_sandbox(desired, action.attempt)

    def _check_network(self, pod: Mapping[str, Any]) -> None:
        error = "" if pods.host_network(pod) else self._guest.network_error()
        if error:
            self._guest.event(pod, WARNING, "NetworkNotReady", f"network is not ready: {error}")
            raise Failure(None, f"network is not ready: {error}", 1.0)

    def _make_sandbox(self, desired: Desired, attempt: int) -> None:
        pod, guest = desired.pod, self._guest
        cgroup = self._make_cgroup(pod)
        try:
            context = self._hands.context(desired, (), cgroup_parent=cgroup)
            config = sandbox_config(pod, context, attempt)
            guest.findings(pod, sandbox_findings(pod, context))
            names.log_directory(pod, guest.settings.instance).mkdir(parents=True, exist_ok=True, mode=0o755)
            handler = guest.cluster.runtime_handler(pods.runtime_class(pod))
            guest.making.add(self._uid)
            self._check_network(pod)  # again: from here on who changes it sees this sandbox
            request = api_pb2.RunPodSandboxRequest(config=config, runtime_handler=handler)
            with guest.metrics.runtime.running_sandbox(handler):
                guest.owners[guest.runtime.run_pod_sandbox(request).pod_sandbox_id] = self._uid
        except NotHeardOf as error:
            raise Failure(None, str(error)) from error
        except (VkcriError, OSError) as error:
            guest.metrics.starts.failed_pods.add()
            self._hands.start_failed()
            guest.event(pod, WARNING, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            raise Failure(None, str(error)) from error
        finally:
            guest.making.discard(self._uid)

    def _make_cgroup(self, pod: Mapping[str, Any]) -> str:
        """The pod's, with its limits."""
        guest = self._guest
        try:
            with guest.metrics.resources.cgroup_seconds.time("create"):
                return guest.cgroups.ensure_pod(pod)
        except (VkcriError, OSError) as error:
            message = f"unable to ensure pod container exists: {error}"
            guest.event(pod, WARNING, "FailedCreatePodContainer", message)
            raise Failure(None, message) from error

    def start_container(self, desired: Desired, action: StartContainer, observed: Observed, scope: Scope) -> None:
        """The container runs, and its postStart hook has been run."""
        Launch(self._hands, desired, action, observed).run(scope)

    def stop_container(self, desired: Desired, action: StopContainer, observed: Observed, *, again: bool) -> None:
        """The container has stopped: preStop, TERM, and KILL after the grace. again: shorten a stop that is under
        way."""
        pod, guest, grace = desired.pod, self._guest, action.grace
        if not again:
            message = action.because or f"Stopping container {action.name}"
            guest.event(pod, NORMAL, "Killing", message, action.name)
            grace -= self._pre_stop(desired, action, observed)
        try:
            self._hands.stop(action.id, max(grace, 0.0))
        except VkcriError as error:
            guest.event(pod, WARNING, "FailedKillPod", f"error killing pod: {error}")
            raise

    def _pre_stop(self, desired: Desired, action: StopContainer, observed: Observed) -> float:
        """Run the preStop hook that the container was made with; the whole seconds that it took, as the kubelet counts
        them, but never what has to be left of the grace."""
        item = next((item for item in observed.containers if item.id == action.id), None)
        hook = observe.pre_stop(item) if item is not None else None
        if item is None or not hook or item.state != "running":
            return 0.0
        started = self._guest.clock()
        found = pods.container(desired.pod, action.name)
        container = found[1] if found else {"name": action.name, "ports": observe.ports(item)}
        sandbox = observed.sandbox
        address = next(iter(desired.host_ips if pods.host_network(desired.pod) else sandbox.ips if sandbox else ()), "")
        try:
            self._hands.run_hook(desired.pod, hook, action.id, container, address, action.grace)
        except VkcriError as error:
            log.info("pod %s, container %s: PreStopHook failed: %s", pods.full_name(desired.pod), action.name, error)
            self._guest.event(desired.pod, WARNING, "FailedPreStopHook", "PreStopHook failed", action.name)
        return min(float(int(self._guest.clock() - started)), action.grace - MINIMUM_GRACE)

    def remove_container(self, action: RemoveContainer) -> None:
        """A container that was made and never started is gone."""
        self._hands.remove(action.id)

    def reset_containers(self, desired: Desired, action: ResetContainers, observed: Observed) -> None:
        """None of these is left in CRI, and no grace was asked for; their logs stay."""
        known = {item.id: item for item in observed.containers}
        for container_id in action.containers:
            item = known.get(container_id)
            if item is not None and item.alive:
                self._guest.event(desired.pod, NORMAL, "Killing", "killing", item.name)
                self._hands.stop(container_id, MINIMUM_GRACE)
            self._hands.remove(container_id)

    def tear_down(self, desired: Desired, action: TearDown, scope: Scope) -> None:
        """No sandbox is ready, no volume is mounted, the pod's cgroup is gone."""
        try:
            for sandbox in action.sandboxes:
                self._hands.stop_sandbox(sandbox)
        except VkcriError as error:
            self._guest.event(desired.pod, WARNING, "FailedKillPod", f"error killing pod: {error}")
            raise
        self._hands.forget_volumes()
        self._guest.volumes.teardown(self._uid, scope.progress)
        with self._guest.metrics.resources.cgroup_seconds.time("destroy"):
            self._guest.cgroups.remove_pod(self._uid)

    def remove_all(self, action: RemoveAll) -> None:
        """Nothing of the pod is left in CRI."""
        for container in action.containers:
            self._hands.remove(container)
        for sandbox in action.sandboxes:
            self._hands.remove_sandbox(sandbox)

    def forget(self, pod: Mapping[str, Any]) -> None:
        """The pod's log folder is gone, and so is what is remembered for all pods together."""
        guest = self._guest
        guest.images.forget(self._uid)
        if guest.users is not None:
            guest.users.forget(self._uid)
        for box in [box for box, uid in list(guest.owners.items()) if uid == self._uid]:
            guest.owners.pop(box, None)
        folder = names.log_directory(pod, self._guest.settings.instance)
        if folder.parent == self._guest.settings.instance.pod_logs_dir:
            shutil.rmtree(folder, ignore_errors=True)

    def resize_pod(self, desired: Desired, action: ResizePod, observed: Observed, prior: Prior) -> Resized:
        """The pod's cgroup and those containers' are what was granted; the sizes that they have got. Raises Failure
        with the kubelet's words where usage or the kernel does not allow it, some steps of it having been taken."""
        pod = desired.pod
        resizer = Resizer(self._guest, pod, self._hands.context(desired, ()), observed)
        changes = []
        for life in lives(pod, prior, observed):
            if life.name in action.containers and life.run is not None:
                has, wants = resizing.running_sizes(prior, life), container_sizes(pod, life.spec)
                changes.append(resizing.Change(life.run.id, life.name, has or wants, wants))
        return resizer.resize(changes)

    def refresh_volumes(self, desired: Desired) -> float | None:
        """Volumes show what their sources hold now. Seconds until the next refresh is due, None for never."""
        with self._hands.mounting(desired.pod):
            return self._guest.volumes.refresh(desired.pod)
