"""What a pod and a node, or two pods on one node, have to agree upon besides amounts: taints and host ports. Pure.

Source: component-helpers' scheduling/corev1 and kube-scheduler's plugin nodeports, which the kubelet asks too.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from vkcri.api import pods

Object = Mapping[str, Any]
PORTS_TAKEN: Final = "node(s) didn't have free ports for the requested pod ports"
NOT_MATCHED: Final = "node(s) didn't match Pod's node affinity/selector"
_ANYWHERE: Final = "0.0.0.0"


def tolerates(pod: Object, taint: Object) -> bool:
    """Whether one of the pod's tolerations covers the taint."""
    return toleration_of(pod, taint) is not None


def toleration_of(pod: Object, taint: Object) -> Object | None:
    """The first of the pod's tolerations that covers the taint; None where none does."""
    for toleration in pods.spec(pod).get("tolerations") or []:
        if toleration.get("effect") not in (None, "", taint.get("effect")):
            continue
        if toleration.get("key") not in (None, "", taint.get("key")):
            continue
        if toleration.get("operator") == "Exists" or (toleration.get("value") or "") == (taint.get("value") or ""):
            found: Object = toleration
            return found
    return None


def host_ports(pod: Object) -> Iterator[tuple[str, str, int]]:
    """(protocol, host address, port) of every host port of a pod."""
    for kind, container in pods.all_containers(pod):
        if kind == "init" and not pods.is_sidecar(container):
            continue
        for port in container.get("ports") or []:
            if port.get("hostPort"):
                yield port.get("protocol") or "TCP", port.get("hostIP") or _ANYWHERE, int(port["hostPort"])


def ports_clash(pod: Object, others: Iterable[Object]) -> bool:
    """Whether one of the others has a port of the node that this pod wants."""
    wanted = list(host_ports(pod))
    if not wanted:
        return False
    taken = [port for other in others for port in host_ports(other)]
    return any(
        (protocol, number) == (other_protocol, other_number) and (address == other or _ANYWHERE in (address, other))
        for protocol, address, number in wanted
        for other_protocol, other, other_number in taken
    )
