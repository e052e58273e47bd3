"""The rival's configuration: kubelet and kube-proxy as kubeadm sets them up, but for this guest and its folders. Pure.

The kubelet keeps everything below one instance's folders and cgroup, so that it meets neither a vkcri node on the same
guest nor a kubelet of the guest's own.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from tests.cluster.pki import DOMAIN
from tests.cluster.place import Place
from vkcri.config import RuntimeSettings


def kubelet_config(place: Place, settings: RuntimeSettings) -> str:
    """A KubeletConfiguration, as JSON, which the kubelet reads too."""
    instance = settings.instance
    root = kubelet_root(settings)
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "port": instance.kubelet_port,
            "healthzPort": healthz_port(settings),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(place.pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": instance.cgroup_root,
            "failCgroupV1": False,
            "failSwapOn": False,
            "makeIPTablesUtilChains": False,  # chains that would outlive it
            "clusterDNS": [place.dns],
            "clusterDomain": DOMAIN,
            "containerRuntimeEndpoint": settings.runtime_endpoint,
            "podLogsDir": str(instance.pod_logs_dir),
            "volumePluginDir": str(root / "plugins-exec"),
        },
        indent=1,
    )


def kubelet(place: Place, settings: RuntimeSettings, program: Path, node: str, kubeconfig: Path) -> Sequence[str]:
    return [
        str(program),
        f"--config={kubelet_root(settings) / 'config.json'}",
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={node}",
        f"--node-ip={place.address}",
        f"--root-dir={kubelet_root(settings)}",
        f"--cert-dir={kubelet_root(settings) / 'pki'}",
    ]


def kube_proxy(place: Place, settings: RuntimeSettings, program: Path, node: str, kubeconfig: Path) -> Sequence[str]:
    """nftables mode; connection tracking's limits stay the guest's."""
    port = settings.instance.kubelet_port
    return [
        str(program),
        f"--kubeconfig={kubeconfig}",
        "--proxy-mode=nftables",
        f"--hostname-override={node}",
        f"--cluster-cidr={place.pod_range}",
        "--conntrack-max-per-core=0",
        f"--healthz-bind-address=127.0.0.1:{port + 2}",
        f"--metrics-bind-address=127.0.0.1:{port + 3}",
    ]


def kubelet_root(settings: RuntimeSettings) -> Path:
    return settings.instance.state_dir / "kubelet"


def healthz_port(settings: RuntimeSettings) -> int:
    return settings.instance.kubelet_port + 1
