"""Start one container of a pod, step by step: its images, its configuration, the container, its postStart hook.

Runs on the operation's thread of its pod (bridge.act). What fails leaves as Failure, with the reason that the container
waits for. A process that dies on the way leaves a container that was never started, which decide recognises.
"""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge import observe, resizing
from bridge.actions import Desired, Problem, StartContainer
from bridge.guest import NORMAL, WARNING, Failure, Scope
from bridge.hands import Hands
from bridge.images import ImageProblem, pull_secrets
from bridge.kubelet_metrics import CONTAINER_TYPES
from bridge.observe import Observed
from bridge.pb.runtime.v1 import api_pb2
from bridge.spec import (
    ImageRef,
    PodContext,
    Prepared,
    container_config,
    container_findings,
    names,
    sandbox_config,
)
from bridge.spec.context import NotHeardOf
from bridge.spec.resources import measured
from bridge.volumes import subpath
from vkcri.api import pods
from vkcri.errors import Invalid, NotFound, VkcriError

POST_START_SECONDS = 600.0
IMAGE_LOOK = 15.0
"""Seconds after which a container whose image could not be had looks again: then its status says ImagePullBackOff."""

log = logging.getLogger(__name__)


class Launch:
    """One start of one container, in the sandbox that the action names. Raises NotFound where either is gone."""

    def __init__(self, hands: Hands, desired: Desired, action: StartContainer, observed: Observed) -> None:
        found = pods.container(desired.pod, action.name)
        if found is None:
            raise NotFound(f"container {action.name} is not in the pod's spec any more")
        sandbox = next((item for item in observed.sandboxes if item.id == action.sandbox_id), None)
        if sandbox is None:
            raise NotFound(f"sandbox {action.sandbox_id} is gone")
        self._hands, self._guest = hands, hands.guest
        self._desired, self._pod = desired, desired.pod
        self._action, self._name = action, action.name
        self._kind, self._container = found
        self._observed, self._attempt = observed, sandbox.attempt
        self._ips = desired.host_ips if sandbox.host_network else sandbox.ips

    def run(self, scope: Scope) -> None:
        """The container runs, and its postStart hook has been run. Raises Failure."""
        with self._counted():
            volumes = self._hands.volumes(self._pod)
            with scope.waiting():
                volumes = self._image_volumes(volumes)
                image = self._image()
            config, context = self._configure(volumes, image)
            with self._hands.start_slot(scope):
                container_id = self._create(config, sandbox_config(self._pod, context, self._attempt))
                self._start(container_id)
            self._post_start(container_id)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Around the start: it counts, and so does its failure by the reason that the status shows."""
        starts, kind = self._guest.metrics.starts, CONTAINER_TYPES[self._kind]
        starts.containers.add(kind)
        try:
            yield
        except Failure as failure:
            if failure.problem is not None:
                starts.failed_containers.add(kind, failure.problem.reason)
                self._hands.start_failed()
            raise

    @contextlib.contextmanager
    def _pulling(self) -> Iterator[dict[str, Any]]:
        """The pod, while an image is made sure of for it. Raises Failure."""
        try:
            yield dict(self._pod)
        except ImageProblem as error:
            raise Failure(Problem(error.reason, str(error)), str(error), min(error.retry, IMAGE_LOOK)) from error

    def _image(self) -> ImageRef:
        guest = self._guest
        with self._pulling() as pod:
            return guest.images.ensure(pod, self._container, pull_secrets(pod, guest.cluster.object, guest.recorder))

    def _image_volumes(self, volumes: Mapping[str, Prepared]) -> Mapping[str, Prepared]:
        """The volumes, with the images among those that the container mounts pulled: nothing is pulled that the runtime
        would not mount."""
        guest, found = self._guest, dict(volumes)
        given = pods.spec(self._pod).get("volumes") or []
        sources = {item["name"]: item["image"] for item in given if item.get("image")}
        for mount in self._container.get("volumeMounts") or []:
            source = sources.get(mount["name"])
            if source is None or not self._hands.features(self._pod).image_volumes:
                continue
            with self._pulling() as pod:
                secrets = pull_secrets(pod, guest.cluster.object, guest.recorder)
                image = guest.images.ensure_volume(pod, source, self._container, secrets)
            found[mount["name"]] = replace(found[mount["name"]], image=image.ref, image_name=image.name)
        return found

    def _configure(
        self, volumes: Mapping[str, Prepared], image: ImageRef
    ) -> tuple[api_pb2.ContainerConfig, PodContext]:
        """The container's configuration, with the files on the host that it names."""
        pod, guest, container, action = self._pod, self._guest, self._container, self._action
        try:
            parent = guest.cgroups.pod_path(pod)
            context = self._hands.context(
                self._desired,
                self._ips,
                volumes=volumes,
                volume_file=lambda volume, path: subpath.lines(Path(volumes[volume].path), path),
                image=image,
                target_container_id=_target(container, self._observed),
                cgroup_parent=parent,
            )
            files = guest.volumes.container_files(pod, container, context, action.restart_count)
            context = replace(context, files=files)
            config = container_config(pod, container, context, action.restart_count)
            guest.findings(pod, container_findings(pod, container, context), self._name)
        except NotHeardOf as error:
            raise Failure(None, str(error)) from error
        except (VkcriError, OSError) as error:
            if error.__cause__ is not None:
                log.info("pod %s, container %s: %s: %s", pods.full_name(pod), self._name, error, error.__cause__)
            raise self._failed("CreateContainerConfigError", error) from error
        config.annotations[observe.BACKOFF] = str(int(action.backoff))
        config.annotations[resizing.MADE_WITH] = json.dumps(measured(pod, container), separators=(",", ":"))
        return config, context

    def _failed(self, reason: str, error: object) -> Failure:
        """The Failure that shows the error as the container's reason to wait, with its event."""
        self._guest.event(self._pod, WARNING, "Failed", f"Error: {error}", self._name)
        return Failure(Problem(reason, str(error)), str(error))

    def _create(self, config: api_pb2.ContainerConfig, sandbox: api_pb2.PodSandboxConfig) -> str:
        """Make the container; its id."""
        pod, guest, name = self._pod, self._guest, self._name
        folder = names.log_directory(pod, guest.settings.instance) / name
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o755)
            request = api_pb2.CreateContainerRequest(
                pod_sandbox_id=self._action.sandbox_id, config=config, sandbox_config=sandbox
            )
            made = guest.runtime.create_container(request).container_id
        except (VkcriError, OSError) as error:
            raise self._failed("CreateContainerError", error) from error
        guest.owners[made] = self._hands.uid
        self._require_stop_signal(made, config)
        guest.event(pod, NORMAL, "Created", "Container created", name)
        return made

    def _require_stop_signal(self, container_id: str, config: api_pb2.ContainerConfig) -> None:
        """A runtime that knows lifecycle.stopSignal shows the signal in the container's status. Another drops it
        without a word, and then the container is taken back."""
        if config.stop_signal == api_pb2.SIGNAL_RUNTIME_DEFAULT:
            return
        request = api_pb2.ContainerStatusRequest(container_id=container_id)
        if self._guest.runtime.container_status(request).status.stop_signal == config.stop_signal:
            return
        self._hands.remove(container_id)
        message = f"container {self._name}: lifecycle.stopSignal is not supported by this node's runtime"
        raise self._failed("CreateContainerConfigError", message)

    def _start(self, container_id: str) -> None:
        guest, name = self._guest, self._name
        try:
            guest.runtime.start_container(api_pb2.StartContainerRequest(container_id=container_id))
        except VkcriError as error:
            # The runtime names the container by its id, another each time, and no two events would be the same.
            guest.event(self._pod, WARNING, "Failed", f"Error: {error}".replace(container_id, name), name)
            raise Failure(Problem("RunContainerError", str(error)), str(error)) from error
        guest.event(self._pod, NORMAL, "Started", "Container started", name)

    def _post_start(self, container_id: str) -> None:
        """Run the postStart hook; a container whose hook fails is stopped. Events say nothing of what a hook printed,
        which may be a secret."""
        guest, pod, name = self._guest, self._pod, self._name
        hook = (self._container.get("lifecycle") or {}).get("postStart")
        if not hook:
            return
        address = self._ips[0] if self._ips else ""
        try:
            self._hands.run_hook(pod, hook, container_id, self._container, address, POST_START_SECONDS)
        except VkcriError as error:
            guest.event(pod, WARNING, "FailedPostStartHook", "PostStartHook failed", name)
            guest.event(pod, NORMAL, "Killing", "FailedPostStartHook", name)
            self._hands.stop(container_id, float(pods.grace_seconds(pod)))
            raise Failure(Problem("PostStartHookError", str(error)), str(error)) from error


def _target(container: Mapping[str, Any], observed: Observed) -> str:
    """The id of the container whose process namespace an ephemeral container joins. Raises Invalid."""
    name = container.get("targetContainerName")
    if not name:
        return ""
    running = next((item for item in observed.containers if item.name == name and item.state == "running"), None)
    if running is None:
        raise Invalid(f'unable to find target container "{name}"')
    return running.id
