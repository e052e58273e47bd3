"""/configz: the configuration that this node works with, as a KubeletConfiguration (kubelet.config.k8s.io/v1beta1).

Each process tells the fields that it obeys; a field that nothing here obeys is not there. A peer that is away leaves
its fields out.
"""

from typing import TYPE_CHECKING, Any

from vkcri.config import KubeletSettings
from vkcri.errors import VkcriError
from vkcri.kubelet import auth, serving

if TYPE_CHECKING:
    from vkcri.kubelet.parts import Ask

ASK_SECONDS = 5.0


def page(settings: KubeletSettings, *peers: "Ask") -> dict[str, Any]:
    """{"kubeletconfig": {...}}, of this process and of each peer's request `configz`."""
    found = _own(settings)
    for ask in peers:
        try:
            answer = ask("configz", {}, ASK_SECONDS)
        except VkcriError:
            continue  # away, or a provider that has nothing to tell
        found |= answer if isinstance(answer, dict) else {}
    kind = {"kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1"}
    return {"kubeletconfig": kind | dict(sorted(found.items()))}


def _own(settings: KubeletSettings) -> dict[str, Any]:
    """What log-server obeys."""
    pair = {"tlsCertFile": settings.cert_file, "tlsPrivateKeyFile": settings.key_file}
    return {
        **(pair if settings.cert_file else {}),
        "serverTLSBootstrap": serving.pair_of(settings) is not None,
        "enableServer": True,
        "address": "::",
        "port": settings.kubelet_port,
        "tlsMinVersion": "VersionTLS12",
        "authentication": {
            "x509": {},
            "webhook": {"enabled": True, "cacheTTL": duration(auth.TOKEN_SECONDS)},
            "anonymous": {"enabled": False},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {
                "cacheAuthorizedTTL": duration(auth.ALLOWED_SECONDS),
                "cacheUnauthorizedTTL": duration(auth.DENIED_SECONDS),
            },
        },
        "enableDebuggingHandlers": True,
        "enableSystemLogHandler": True,
        "enableSystemLogQuery": False,
        "enableProfilingHandler": False,
        "enableDebugFlagsHandler": False,
        "podLogsDir": str(settings.instance.pod_logs_dir),
    }


def duration(seconds: float) -> str:
    """metav1.Duration, as Go prints it: 2m0s."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{left}s"
