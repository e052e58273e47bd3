"""Carry out one action, idempotently: the only place of the bridge that changes anything in CRI or below the pod's
folders.

Each method runs on a thread of its own (bridge.operations) and returns once the action is done. What fails
leaves as Failure, which says why the pod waits, or as one of vkcri.errors, which only means: again later. A process
that dies between two calls leaves something that decide recognises: a sandbox without containers, a container never
started.
"""

import contextlib
import json
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge import observe, resizing
from bridge.actions import (
    Desired,
    Prior,
    Problem,
    RemoveAll,
    RemoveContainer,
    ResetContainers,
    ResizePod,
    RunSandbox,
    StartContainer,
    StopContainer,
    TearDown,
)
from bridge.cluster import node_resolv_conf
from bridge.decide import MINIMUM_GRACE
from bridge.guest import NORMAL, WARNING, Failure, Guest, Scope
from bridge.hooks import run_hook
from bridge.images import ImageProblem, pull_secrets
from bridge.kubelet_metrics import CONTAINER_TYPES
from bridge.lives import lives
from bridge.observe import Observed
from bridge.pb.runtime.v1 import api_pb2
from bridge.resize import Resizer
from bridge.resizing import Resized
from bridge.spec import (
    Features,
    ImageRef,
    PodContext,
    Prepared,
    container_config,
    container_findings,
    names,
    sandbox_config,
    sandbox_findings,
)
from bridge.spec.context import NotHeardOf
from bridge.spec.resources import container_sizes, measured
from bridge.volumes import NotReady, subpath
from vkcri.api import pods
from vkcri.errors import Invalid, NotFound, VkcriError

POST_START_SECONDS = 600.0
IMAGE_LOOK = 15.0
"""Seconds after which a container whose image could not be had looks again: then its status says ImagePullBackOff."""


log = logging.getLogger(__name__)


class Actor:
    """The hands of one pod's worker."""

    def __init__(self, guest: Guest, uid: str) -> None:
        self._guest = guest
        self._runtime = guest.runtime
        self._uid = uid
        self._volumes: Mapping[str, Prepared] | None = None
        self._userns_fails = False  # whether the next start that fails is the first one of a user-namespaced sandbox

    def run_sandbox(self, desired: Desired, action: RunSandbox, scope: Scope) -> None:
        """The sandbox of that attempt runs, with the pod's cgroup and volumes made before it."""
        pod, guest = desired.pod, self._guest
        if action.replaces:
            message = "Pod sandbox changed, it will be killed and re-created."
            guest.event(pod, NORMAL, "SandboxChanged", message)
        for old in action.replaces:
            self._stop_sandbox(old)
        trouble = guest.trouble()
        if trouble:
            guest.event(pod, WARNING, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {trouble}")
            raise Failure(None, trouble)
        error = "" if pods.host_network(pod) else guest.network_error()
        if error:
            guest.event(pod, WARNING, "NetworkNotReady", f"network is not ready: {error}")
            raise Failure(None, f"network is not ready: {error}", 1.0)
        self._prepare(pod)
        with self._start_slot(scope):
            guest.metrics.starts.pods.add()
            self._userns_fails = pods.spec(pod).get("hostUsers") is False
            if self._userns_fails:
                guest.metrics.starts.userns_pods.add()
            self._make_sandbox(desired, action.attempt)

    @contextlib.contextmanager
    def _start_slot(self, scope: Scope) -> Iterator[None]:
        """One of the few places for what the runtime is slow at; beyond those, more at a time is slower for all."""
        taken = False
        try:
            with scope.waiting():
                taken = self._guest.starts.acquire()
            yield
        finally:
            if taken:
                self._guest.starts.release()

    def _prepare(self, pod: Mapping[str, Any]) -> Mapping[str, Prepared]:
        """The pod's volumes, made if they were not yet in this process' life."""
        if self._volumes is None:
            try:
                self._volumes = self._guest.volumes.prepare(pod)
            except NotReady as error:
                if not error.pending:
                    self._guest.event(pod, WARNING, "FailedMount", str(error))
                raise Failure(None, str(error)) from error
        return self._volumes

    def _make_sandbox(self, desired: Desired, attempt: int) -> None:
        pod, guest = desired.pod, self._guest
        try:
            with guest.metrics.resources.cgroup_seconds.time("create"):
                cgroup = guest.cgroups.ensure_pod(pod)
            context = self._context(desired, (), cgroup_parent=cgroup)
            config = sandbox_config(pod, context, attempt)
            guest.findings(pod, sandbox_findings(pod, context))
            names.log_directory(pod, guest.settings.instance).mkdir(parents=True, exist_ok=True, mode=0o755)
            handler = guest.cluster.runtime_handler(pods.runtime_class(pod))
            guest.making.add(self._uid)
            request = api_pb2.RunPodSandboxRequest(config=config, runtime_handler=handler)
            with guest.metrics.runtime.running_sandbox(handler):
                guest.owners[self._runtime.run_pod_sandbox(request).pod_sandbox_id] = self._uid
        except NotHeardOf as error:
            raise Failure(None, str(error)) from error
        except (VkcriError, OSError) as error:
            guest.metrics.starts.failed_pods.add()
            self._userns_failed()
            guest.event(pod, WARNING, "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            raise Failure(None, str(error)) from error
        finally:
            guest.making.discard(self._uid)

    def start_container(self, desired: Desired, action: StartContainer, observed: Observed, scope: Scope) -> None:
        """The container runs, and its postStart hook has been run."""
        pod = desired.pod
        found = pods.container(pod, action.name)
        if found is None:
            raise NotFound(f"container {action.name} is not in the pod's spec any more")
        kind, container = found
        sandbox = next((item for item in observed.sandboxes if item.id == action.sandbox_id), None)
        if sandbox is None:
            raise NotFound(f"sandbox {action.sandbox_id} is gone")
        ips = desired.host_ips if sandbox.host_network else sandbox.ips
        with self._counted(CONTAINER_TYPES[kind]):
            prepared = self._prepare(pod)
            with scope.waiting():
                prepared = self._image_volumes(pod, container, prepared)
                image = self._image(pod, container)
            config, context = self._configure(desired, container, action, observed, ips, prepared, image)
            with self._start_slot(scope):
                container_id = self._create(pod, action, config, sandbox_config(pod, context, sandbox.attempt))
                self._launch(pod, action.name, container_id)
            self._post_start(pod, container, container_id, ips)

    @contextlib.contextmanager
    def _counted(self, container_type: str) -> Iterator[None]:
        """Around the start of a container: it counts, and so does its failure by the reason that the status shows."""
        self._guest.metrics.starts.containers.add(container_type)
        try:
            yield
        except Failure as failure:
            if failure.problem is not None:
                self._guest.metrics.starts.failed_containers.add(container_type, failure.problem.reason)
                self._userns_failed()
            raise

    def _userns_failed(self) -> None:
        """A user namespace may fail at any point of a start: the kubelet counts one failure a sandbox."""
        if self._userns_fails:
            self._userns_fails = False
            self._guest.metrics.starts.failed_userns_pods.add()

    def _image(self, pod: Mapping[str, Any], container: dict[str, Any]) -> ImageRef:
        guest, own = self._guest, dict(pod)
        try:
            return guest.images.ensure(own, container, pull_secrets(own, guest.cluster.object, guest.recorder))
        except ImageProblem as error:
            raise Failure(Problem(error.reason, str(error)), str(error), min(error.retry, IMAGE_LOOK)) from error

    def _image_volumes(
        self, pod: Mapping[str, Any], container: dict[str, Any], volumes: Mapping[str, Prepared]
    ) -> Mapping[str, Prepared]:
        """The volumes, with the images among those that the container mounts pulled: nothing is pulled that the runtime
        would not mount."""
        guest, own, found = self._guest, dict(pod), dict(volumes)
        sources = {item["name"]: item["image"] for item in pods.spec(pod).get("volumes") or [] if item.get("image")}
        for mount in container.get("volumeMounts") or []:
            source = sources.get(mount["name"])
            if source is None or not self._features(pod).image_volumes:
                continue
            secrets = pull_secrets(own, guest.cluster.object, guest.recorder)
            try:
                image = guest.images.ensure_volume(own, source, container, secrets)
            except ImageProblem as error:
                raise Failure(Problem(error.reason, str(error)), str(error), min(error.retry, IMAGE_LOOK)) from error
            found[mount["name"]] = replace(found[mount["name"]], image=image.ref, image_name=image.name)
        return found

    def _features(self, pod: Mapping[str, Any]) -> Features:
        """What the runtime vouches for by the pod's handler. Raises NotFound, NotHeardOf for its class."""
        guest = self._guest
        return guest.features(guest.cluster.runtime_handler(pods.runtime_class(pod)))

    def _configure(
        self,
        desired: Desired,
        container: dict[str, Any],
        action: StartContainer,
        observed: Observed,
        ips: tuple[str, ...],
        volumes: Mapping[str, Prepared],
        image: ImageRef,
    ) -> tuple[api_pb2.ContainerConfig, PodContext]:
        """The container's configuration, with the files on the host that it names."""
        pod, guest, name = desired.pod, self._guest, action.name
        try:
            parent = guest.cgroups.pod_path(pod)
            target = _target(container, observed)
            context = self._context(
                desired,
                ips,
                volumes=volumes,
                volume_file=lambda volume, path: subpath.lines(Path(volumes[volume].path), path),
                image=image,
                target_container_id=target,
                cgroup_parent=parent,
            )
            files = guest.volumes.container_files(pod, container, context, action.restart_count)
            context = replace(context, files=files)
            config = container_config(pod, container, context, action.restart_count)
            guest.findings(pod, container_findings(pod, container, context), name)
        except NotHeardOf as error:
            raise Failure(None, str(error)) from error
        except (VkcriError, OSError) as error:
            if error.__cause__ is not None:
                log.info("pod %s, container %s: %s: %s", pods.full_name(pod), name, error, error.__cause__)
            guest.event(pod, WARNING, "Failed", f"Error: {error}", name)
            raise Failure(Problem("CreateContainerConfigError", str(error)), str(error)) from error
        config.annotations[observe.BACKOFF] = str(int(action.backoff))
        config.annotations[resizing.MADE_WITH] = json.dumps(measured(pod, container), separators=(",", ":"))
        return config, context

    def _create(
        self,
        pod: Mapping[str, Any],
        action: StartContainer,
        config: api_pb2.ContainerConfig,
        sandbox: api_pb2.PodSandboxConfig,
    ) -> str:
        """Make the container; its id."""
        guest, name = self._guest, action.name
        folder = names.log_directory(pod, guest.settings.instance) / name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            request = api_pb2.CreateContainerRequest(
                pod_sandbox_id=action.sandbox_id, config=config, sandbox_config=sandbox
            )
            made = self._runtime.create_container(request).container_id
        except (VkcriError, OSError) as error:
            guest.event(pod, WARNING, "Failed", f"Error: {error}", name)
            raise Failure(Problem("CreateContainerError", str(error)), str(error)) from error
        guest.owners[made] = self._uid
        self._require_stop_signal(pod, name, made, config)
        guest.event(pod, NORMAL, "Created", "Container created", name)
        return made

    def _require_stop_signal(
        self, pod: Mapping[str, Any], name: str, container_id: str, config: api_pb2.ContainerConfig
    ) -> None:
        """A runtime that knows lifecycle.stopSignal shows the signal in the container's status. Another drops it
        without a word, and then the container is taken back."""
        if config.stop_signal == api_pb2.SIGNAL_RUNTIME_DEFAULT:
            return
        request = api_pb2.ContainerStatusRequest(container_id=container_id)
        if self._runtime.container_status(request).status.stop_signal == config.stop_signal:
            return
        self._remove(container_id)
        message = f"container {name}: lifecycle.stopSignal is not supported by this node's runtime"
        self._guest.event(pod, WARNING, "Failed", f"Error: {message}", name)
        raise Failure(Problem("CreateContainerConfigError", message), message)

    def _launch(self, pod: Mapping[str, Any], name: str, container_id: str) -> None:
        guest = self._guest
        try:
            self._runtime.start_container(api_pb2.StartContainerRequest(container_id=container_id))
        except VkcriError as error:
            # The runtime names the container by its id, another each time, and no two events would be the same.
            guest.event(pod, WARNING, "Failed", f"Error: {error}".replace(container_id, name), name)
            raise Failure(Problem("RunContainerError", str(error)), str(error)) from error
        guest.event(pod, NORMAL, "Started", "Container started", name)

    def _post_start(
        self, pod: Mapping[str, Any], container: Mapping[str, Any], container_id: str, ips: tuple[str, ...]
    ) -> None:
        """Run the postStart hook; a container whose hook fails is stopped. Events say nothing of what a hook printed,
        which may be a secret."""
        guest, name = self._guest, str(container["name"])
        hook = (container.get("lifecycle") or {}).get("postStart")
        if not hook:
            return
        try:
            self._run_hook(pod, hook, container_id, container, ips[0] if ips else "", POST_START_SECONDS)
        except VkcriError as error:
            guest.event(pod, WARNING, "FailedPostStartHook", "PostStartHook failed", name)
            guest.event(pod, NORMAL, "Killing", "FailedPostStartHook", name)
            self._stop(container_id, float(pods.grace_seconds(pod)))
            raise Failure(Problem("PostStartHookError", str(error)), str(error)) from error

    def stop_container(self, desired: Desired, action: StopContainer, observed: Observed, *, again: bool) -> None:
        """The container has stopped: preStop, TERM, and KILL after the grace. again: shorten a stop that is under
        way."""
        pod, guest, grace = desired.pod, self._guest, action.grace
        if not again:
            message = action.because or f"Stopping container {action.name}"
            guest.event(pod, NORMAL, "Killing", message, action.name)
            grace -= self._pre_stop(desired, action, observed)
        try:
            self._stop(action.id, max(grace, 0.0))
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
            self._run_hook(desired.pod, hook, action.id, container, address, action.grace)
        except VkcriError as error:
            log.info("pod %s, container %s: PreStopHook failed: %s", pods.full_name(desired.pod), action.name, error)
            self._guest.event(desired.pod, WARNING, "FailedPreStopHook", "PreStopHook failed", action.name)
        return min(float(int(self._guest.clock() - started)), action.grace - MINIMUM_GRACE)

    def _run_hook(
        self,
        pod: Mapping[str, Any],
        hook: Mapping[str, Any],
        container_id: str,
        container: Mapping[str, Any],
        address: str,
        seconds: float,
    ) -> None:
        fetch = self._guest.prober.client.get_and_wait
        note = run_hook(self._runtime, fetch, hook, container_id, container, address, seconds, threading.Event())
        if note:
            self._guest.event(pod, WARNING, "LifecycleHTTPFallback", note)

    def _stop(self, container_id: str, grace: float) -> None:
        try:
            request = api_pb2.StopContainerRequest(container_id=container_id, timeout=round(grace))
            self._runtime.stop_container(request)
        except NotFound:
            return

    def _stop_sandbox(self, sandbox_id: str) -> None:
        try:
            self._runtime.stop_pod_sandbox(api_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))
        except NotFound:
            return

    def remove_container(self, action: RemoveContainer) -> None:
        """A container that was made and never started is gone."""
        self._remove(action.id)

    def reset_containers(self, desired: Desired, action: ResetContainers, observed: Observed) -> None:
        """None of these is left in CRI, and no grace was asked for; their logs stay."""
        known = {item.id: item for item in observed.containers}
        for container_id in action.containers:
            item = known.get(container_id)
            if item is not None and item.alive:
                self._guest.event(desired.pod, NORMAL, "Killing", "killing", item.name)
                self._stop(container_id, MINIMUM_GRACE)
            self._remove(container_id)

    def _remove(self, container_id: str) -> None:
        try:
            self._runtime.remove_container(api_pb2.RemoveContainerRequest(container_id=container_id))
        except NotFound:
            return

    def tear_down(self, desired: Desired, action: TearDown, scope: Scope) -> None:
        """No sandbox is ready, no volume is mounted, the pod's cgroup is gone."""
        try:
            for sandbox in action.sandboxes:
                self._stop_sandbox(sandbox)
        except VkcriError as error:
            self._guest.event(desired.pod, WARNING, "FailedKillPod", f"error killing pod: {error}")
            raise
        self._volumes = None
        self._guest.volumes.teardown(self._uid, scope.progress)
        with self._guest.metrics.resources.cgroup_seconds.time("destroy"):
            self._guest.cgroups.remove_pod(self._uid)

    def remove_all(self, action: RemoveAll) -> None:
        """Nothing of the pod is left in CRI."""
        for container in action.containers:
            self._remove(container)
        for sandbox in action.sandboxes:
            with contextlib.suppress(NotFound):
                self._runtime.remove_pod_sandbox(api_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox))

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
        resizer = Resizer(self._guest, pod, self._context(desired, ()), observed)
        changes = []
        for life in lives(pod, prior, observed):
            if life.name in action.containers and life.run is not None:
                has, wants = resizing.running_sizes(prior, life), container_sizes(pod, life.spec)
                changes.append(resizing.Change(life.run.id, life.name, has or wants, wants))
        return resizer.resize(changes)

    def refresh_volumes(self, desired: Desired) -> float | None:
        """Volumes show what their sources hold now. Seconds until the next refresh is due, None for never."""
        try:
            return self._guest.volumes.refresh(desired.pod)
        except NotReady as error:
            if not error.pending:
                self._guest.event(desired.pod, WARNING, "FailedMount", str(error))
            raise Failure(None, str(error)) from error

    def _context(self, desired: Desired, ips: tuple[str, ...], **more: Any) -> PodContext:
        guest, pod = self._guest, desired.pod
        features = self._features(pod)
        own_users = pods.spec(pod).get("hostUsers") is False and features.user_namespaces
        return PodContext(
            instance=guest.settings.instance,
            node=guest.cluster.node(),
            host_ip=desired.host_ips[0] if desired.host_ips else "",
            host_ips=desired.host_ips,
            objects=guest.cluster.object,
            pod_ips=ips,
            services=guest.cluster.services(),
            cluster_dns=guest.cluster.dns(),
            cluster_domain=guest.settings.cluster_domain,
            resolv_conf=node_resolv_conf(),
            cgroups=guest.cgroups.facts,
            features=features,
            first_id=guest.users.range_of(self._uid) if own_users and guest.users else None,
            **more,
        )


def _target(container: Mapping[str, Any], observed: Observed) -> str:
    """The id of the container whose process namespace an ephemeral container joins. Raises Invalid."""
    name = container.get("targetContainerName")
    if not name:
        return ""
    running = next((item for item in observed.containers if item.name == name and item.state == "running"), None)
    if running is None:
        raise Invalid(f'unable to find target container "{name}"')
    return running.id
