"""The fields of a KubeletConfiguration that the bridge obeys, for /configz. Pure."""

from collections.abc import Sequence
from typing import Any

from bridge.lives import BACKOFF_MOST
from bridge.wire.words import duration
from vkcri.config import RuntimeSettings


def kubelet_configuration(settings: RuntimeSettings, dns: Sequence[str]) -> dict[str, Any]:
    """dns: the pods' name servers as of now. Names and units are kubelet.config.k8s.io/v1beta1's."""
    unsafe = [part.strip() for part in settings.allowed_unsafe_sysctls.split(",") if part.strip()]
    evictions = {
        "evictionMaxPodGracePeriod": settings.eviction_max_pod_grace_period,
        "evictionMinimumReclaim": as_map(settings.eviction_minimum_reclaim, "="),
        "evictionSoft": as_map(settings.eviction_soft, "<"),
        "evictionSoftGracePeriod": as_map(settings.eviction_soft_grace_period, "="),
    }  # as Go leaves them out where they are empty
    return {
        **({"allowedUnsafeSysctls": unsafe} if unsafe else {}),
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": True,
        "cgroupRoot": settings.instance.cgroup_root,
        "clusterDNS": list(dns),
        "clusterDomain": settings.cluster_domain,
        "containerLogMaxFiles": settings.container_log_max_files,
        "containerLogMaxSize": settings.container_log_max_size,
        "containerLogMaxWorkers": 1,
        "containerLogMonitorInterval": "10s",
        "containerRuntimeEndpoint": settings.runtime_endpoint,
        "cpuCFSQuota": True,
        "cpuCFSQuotaPeriod": "100ms",
        "cpuManagerPolicy": "none",
        "crashLoopBackOff": {"maxContainerRestartPeriod": duration(BACKOFF_MOST)},
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": as_map(settings.eviction_hard, "<"),
        "evictionPressureTransitionPeriod": duration(settings.eviction_pressure_transition_period),
        "failSwapOn": False,
        "imageGCHighThresholdPercent": settings.image_gc_high_threshold,
        "imageGCLowThresholdPercent": settings.image_gc_low_threshold,
        "imageMaximumGCAge": duration(settings.image_maximum_gc_age),
        "imageMinimumGCAge": duration(settings.image_minimum_gc_age),
        "imagePullCredentialsVerificationPolicy": "NeverVerifyPreloadedImages",
        "imageServiceEndpoint": settings.runtime_endpoint,
        "maxPods": settings.max_pods,
        "memoryManagerPolicy": "None",
        "memorySwap": {},
        "podPidsLimit": settings.pod_pids_limit,
        "runtimeRequestTimeout": "2m0s",
        "seccompDefault": False,
        "serializeImagePulls": False,
        "shutdownGracePeriod": "0s",
        "shutdownGracePeriodCriticalPods": "0s",
        "topologyManagerPolicy": "none",
        "volumeStatsAggPeriod": "1m0s",
        **{name: value for name, value in evictions.items() if value},
    }


def as_map(text: str, sign: str) -> dict[str, str]:
    """Signals and amounts of an eviction setting: SIGNAL<AMOUNT by comma."""
    pairs = (part.strip().partition(sign) for part in text.split(",") if part.strip())
    return {signal: amount for signal, _, amount in pairs}
