"""The pod's sandbox as CRI's PodSandboxConfig. Pure.

Source: the kubelet's generatePodSandboxConfig; deviations are ours to justify: the label `vkcri.instance`, the source
annotation, and no port mapping for a hostNetwork pod (there is nothing to map).
"""

from bridge.pb.runtime.v1 import api_pb2
from bridge.spec import dns, names, resources, security, sysctls
from bridge.spec.context import Finding, PodContext
from vkcri.api import pods
from vkcri.errors import Invalid

_PROTOCOLS = {"TCP": api_pb2.TCP, "UDP": api_pb2.UDP, "SCTP": api_pb2.SCTP}


def sandbox_config(pod: pods.Pod, ctx: PodContext, attempt: int) -> api_pb2.PodSandboxConfig:
    """Raises Invalid, with a message for FailedCreatePodSandBox, for a pod that this node cannot set up."""
    names.check_names(pod)
    return api_pb2.PodSandboxConfig(
        metadata=api_pb2.PodSandboxMetadata(
            name=pods.name(pod), namespace=pods.namespace(pod), uid=pods.uid(pod), attempt=attempt
        ),
        hostname="" if pods.host_network(pod) else names.kernel_hostname(pod, ctx.cluster_domain),
        log_directory=str(names.log_directory(pod, ctx.instance)),
        dns_config=dns.dns_config(pod, ctx),
        port_mappings=port_mappings(pod),
        labels=names.sandbox_labels(pod, ctx.instance),
        annotations=names.sandbox_annotations(pod, ctx.first_id),
        linux=api_pb2.LinuxPodSandboxConfig(
            cgroup_parent=ctx.cgroup_parent,
            security_context=security.sandbox_security(pod, ctx),
            sysctls=sysctls.set_by(pod),
            overhead=resources.overhead_resources(pod),
            resources=resources.sandbox_resources(pod),
        ),
    )


def findings(pod: pods.Pod, ctx: PodContext) -> tuple[Finding, ...]:
    """The events that go with the sandbox: MissingClusterDNS, DNSConfigForming."""
    return dns.findings(pod, ctx)


def port_mappings(pod: pods.Pod) -> list[api_pb2.PortMapping]:
    """Ports with a hostPort above 0 only, of containers and sidecars. Raises Invalid on an unknown protocol."""
    if pods.host_network(pod):
        return []
    found = []
    for kind, container in pods.all_containers(pod):
        if kind == "ephemeral" or (kind == "init" and not pods.is_sidecar(container)):
            continue
        for port in container.get("ports") or []:
            if int(port.get("hostPort") or 0) > 0:
                found.append(_mapping(port))
    return found


def _mapping(port: dict[str, object]) -> api_pb2.PortMapping:
    protocol = str(port.get("protocol") or "TCP")
    if protocol not in _PROTOCOLS:
        raise Invalid(f'unknown protocol "{protocol}" of a container port')
    return api_pb2.PortMapping(
        protocol=_PROTOCOLS[protocol],
        container_port=int(str(port["containerPort"])),
        host_port=int(str(port["hostPort"])),
        host_ip=str(port.get("hostIP") or ""),
    )
