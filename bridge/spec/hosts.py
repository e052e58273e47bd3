"""The managed /etc/hosts of a pod. Pure: bridge.volumes writes it, bridge.spec.mounts binds it.

Format and headers are the kubelet's, because programs and the conformance tests look for them.
"""

from bridge.spec import names
from bridge.spec.context import PodContext
from vkcri.api import pods

_HEADER = "# Kubernetes-managed hosts file.\n"
_HEADER_HOST_NETWORK = "# Kubernetes-managed hosts file (host network).\n"
_FIXED = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


def wanted(pod: pods.Pod, container: dict[str, object], ctx: PodContext) -> bool:
    """Whether the container gets the managed file: once the pod has an address (or uses the node's network), and unless
    it mounts something of its own at /etc/hosts."""
    mounts = container.get("volumeMounts")
    paths = [mount.get("mountPath") for mount in mounts] if isinstance(mounts, list) else []
    return (bool(ctx.pod_ips) or pods.host_network(pod)) and "/etc/hosts" not in paths


def content(pod: pods.Pod, ctx: PodContext, node_hosts: str) -> str:
    """The file's text; node_hosts is the node's own file, used by hostNetwork pods. Raises Invalid on a bad host
    name."""
    if pods.host_network(pod):
        return f"{_HEADER_HOST_NETWORK}{node_hosts}{_aliases(pod)}"
    name, domain = names.hostname(pod, ctx.cluster_domain)
    words = f"{name}.{domain}\t{name}" if domain else name
    own = "".join(f"{address}\t{words}\n" for address in ctx.pod_ips)
    return f"{_HEADER}{_FIXED}{own}{_aliases(pod)}"


def _aliases(pod: pods.Pod) -> str:
    aliases = pods.spec(pod).get("hostAliases") or []
    if not aliases:
        return ""
    lines = [f"{alias['ip']}\t" + "\t".join(alias.get("hostnames") or []) for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "\n".join(lines) + "\n"
