"""Carry out a resize, step by step: the runtime is told, the pod's cgroup written, containers changed through CRI.

Runs on the operation's thread of its pod (bridge.act). Which steps, and in which order, is resizing's to say; each may
be repeated, so that what breaks off is taken up where it stands.
"""

from collections.abc import Mapping
from typing import Any

from bridge.cgroupfs import Limits
from bridge.guest import Failure, Guest
from bridge.observe import Observed
from bridge.pb.runtime.v1 import api_pb2
from bridge.resizing import Change, ContainerStep, PodStep, Resized, steps
from bridge.spec import PodContext
from bridge.spec.resources import Sizes, container_resources, overhead_resources, pod_sizes, sandbox_resources
from vkcri.api import pods
from vkcri.errors import VkcriError


class Resizer:
    """One resize of one pod, which is as the node has granted it."""

    def __init__(self, guest: Guest, pod: Mapping[str, Any], context: PodContext, observed: Observed) -> None:
        self._guest = guest
        self._pod = pod
        self._context = context
        self._sandbox = observed.sandbox.id if observed.sandbox else ""

    def resize(self, changes: list[Change]) -> Resized:
        """Do it; what the cgroups are held to then. Raises Failure."""
        wants, has = pod_sizes(self._pod), self._guest.cgroups.read(self._pod)
        if has is None:
            self._guest.cgroups.ensure_pod(self._pod)
            has = wants
        self._check_usage(has, wants, changes)
        try:
            for step in steps(has, wants, changes):
                if isinstance(step, ContainerStep):
                    self._change(step)
                else:
                    self._change_pod(step)
        except VkcriError as error:
            raise Failure(None, str(error)) from error
        self._guest.cgroups.count(self._pod)
        kept = Sizes(wants.shares, wants.quota or has.quota, wants.memory or has.memory)
        return Resized(kept, {item.id: item.wants for item in changes})

    def _check_usage(self, has: Sizes, wants: Sizes, changes: list[Change]) -> None:
        """No memory limit is set below what is used, which the kernel would answer with a refusal or a kill."""
        wrong = []
        if _less(has.memory, wants.memory):
            used = self._guest.cgroups.memory_usage(self._pod)
            if used is None:
                wrong.append("missing pod memory usage")
            elif used >= (wants.memory or 0):
                wrong.append(f"attempting to set pod memory limit ({wants.memory}) below current usage ({used})")
        for item in changes:
            if not _less(item.has.memory, item.wants.memory):
                continue
            used = self._guest.cgroups.memory_usage(self._pod, item.id)
            if used is None:
                wrong.append(f'missing container "{item.name}" memory usage')
            elif used >= (item.wants.memory or 0):
                text = f"memory limit ({item.wants.memory}) below current usage ({used})"
                wrong.append(f'attempting to set container "{item.name}" {text}')
        if wrong:
            listed = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
            raise Failure(None, f"cannot decrease memory limits: {listed}")

    def _change_pod(self, step: PodStep) -> None:
        if self._sandbox:
            request = api_pb2.UpdatePodSandboxResourcesRequest(
                pod_sandbox_id=self._sandbox,
                overhead=overhead_resources(self._pod),
                resources=sandbox_resources(self._pod),
            )
            self._guest.runtime.update_pod_sandbox_resources(request)
        wanted = {"shares": Limits(shares=step.value), "quota": Limits(quota=step.value)}
        with self._guest.metrics.resources.cgroup_seconds.time("update"):
            self._guest.cgroups.resize(self._pod, wanted.get(step.amount, Limits(memory=step.value)))

    def _change(self, step: ContainerStep) -> None:
        found = pods.container(self._pod, step.name)
        container = found[1] if found else {"name": step.name}
        amounts = container_resources(self._pod, container, self._context)
        swap = amounts.memory_swap_limit_in_bytes != 0
        amounts.cpu_shares, amounts.cpu_quota = step.sizes.shares, step.sizes.quota or 0
        amounts.memory_limit_in_bytes = step.sizes.memory or 0
        if swap:
            amounts.memory_swap_limit_in_bytes = amounts.memory_limit_in_bytes
        request = api_pb2.UpdateContainerResourcesRequest(container_id=step.id, linux=amounts)
        self._guest.runtime.update_container_resources(request)


def _less(has: int | None, wants: int | None) -> bool:
    """Whether a limit comes or becomes smaller."""
    return wants is not None and (has is None or wants < has)
