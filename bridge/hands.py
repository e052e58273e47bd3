"""What the actions of one pod share: calls into CRI for which what is gone is done, the pod's volumes, its hooks, and
the context that configurations are made in.

Used by bridge.act and bridge.launch, on the threads of the pod's operations.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from bridge.actions import Desired
from bridge.cluster import node_resolv_conf
from bridge.guest import WARNING, Failure, Guest, Scope
from bridge.hooks import run_hook
from bridge.pb.runtime.v1 import api_pb2
from bridge.spec import Features, PodContext, Prepared
from bridge.volumes import NotReady
from vkcri.api import pods
from vkcri.errors import NotFound


class Hands:
    """Those of one pod's worker."""

    def __init__(self, guest: Guest, uid: str) -> None:
        self.guest = guest
        self.runtime = guest.runtime
        self.uid = uid
        self._volumes: Mapping[str, Prepared] | None = None
        self._userns_fails = False  # whether the next start that fails is the first one of a user-namespaced sandbox

    @contextlib.contextmanager
    def start_slot(self, scope: Scope) -> Iterator[None]:
        """One of the few places for what the runtime is slow at; beyond those, more at a time is slower for all."""
        taken = False
        try:
            with scope.waiting():
                taken = self.guest.starts.acquire()
            yield
        finally:
            if taken:
                self.guest.starts.release()

    def starting(self, pod: Mapping[str, Any]) -> None:
        """A sandbox is about to be started: it counts."""
        starts = self.guest.metrics.starts
        starts.pods.add()
        self._userns_fails = pods.spec(pod).get("hostUsers") is False
        if self._userns_fails:
            starts.userns_pods.add()

    def start_failed(self) -> None:
        """A sandbox or a container did not start. A user namespace may fail at any point of a start: the kubelet counts
        one failure a sandbox."""
        if self._userns_fails:
            self._userns_fails = False
            self.guest.metrics.starts.failed_userns_pods.add()

    def volumes(self, pod: Mapping[str, Any]) -> Mapping[str, Prepared]:
        """The pod's volumes, made if they were not yet in this process' life. Raises Failure."""
        if self._volumes is None:
            with self.mounting(pod):
                self._volumes = self.guest.volumes.prepare(pod)
        return self._volumes

    @contextlib.contextmanager
    def mounting(self, pod: Mapping[str, Any]) -> Iterator[None]:
        """Around work on volumes. Raises Failure, with the event of one that fails and does not only wait."""
        try:
            yield
        except NotReady as error:
            if not error.pending:
                self.guest.event(pod, WARNING, "FailedMount", str(error))
            raise Failure(None, str(error)) from error

    def forget_volumes(self) -> None:
        """They are to be made again before they are used."""
        self._volumes = None

    def features(self, pod: Mapping[str, Any]) -> Features:
        """What the runtime vouches for by the pod's handler. Raises NotFound, NotHeardOf for its class."""
        return self.guest.features(self.guest.cluster.runtime_handler(pods.runtime_class(pod)))

    def context(self, desired: Desired, ips: tuple[str, ...], **more: Any) -> PodContext:
        """What a configuration is made of beside the pod. ips: the pod's, empty where there is no sandbox yet; more:
        further fields. Raises NotFound, NotHeardOf."""
        guest, pod = self.guest, desired.pod
        features = self.features(pod)
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
            first_id=guest.users.range_of(self.uid) if own_users and guest.users else None,
            **more,
        )

    def run_hook(
        self,
        pod: Mapping[str, Any],
        hook: Mapping[str, Any],
        container_id: str,
        container: Mapping[str, Any],
        address: str,
        seconds: float,
    ) -> None:
        """Run a hook of a container to its end or for that many seconds. Raises Unavailable or Invalid where it
        fails."""
        fetch = self.guest.prober.client.get_and_wait
        note = run_hook(self.runtime, fetch, hook, container_id, container, address, seconds, threading.Event())
        if note:
            self.guest.event(pod, WARNING, "LifecycleHTTPFallback", note)

    def stop(self, container_id: str, grace: float) -> None:
        """TERM, and KILL after that many seconds."""
        request = api_pb2.StopContainerRequest(container_id=container_id, timeout=round(grace))
        with contextlib.suppress(NotFound):
            self.runtime.stop_container(request)

    def stop_sandbox(self, sandbox_id: str) -> None:
        with contextlib.suppress(NotFound):
            self.runtime.stop_pod_sandbox(api_pb2.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))

    def remove(self, container_id: str) -> None:
        with contextlib.suppress(NotFound):
            self.runtime.remove_container(api_pb2.RemoveContainerRequest(container_id=container_id))

    def remove_sandbox(self, sandbox_id: str) -> None:
        with contextlib.suppress(NotFound):
            self.runtime.remove_pod_sandbox(api_pb2.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id))
