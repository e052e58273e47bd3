"""What may differ between the answers of vkcri's kubelet API and of the kubelet's own, and why. The tests of
`test_answers` fail on whatever else does. Rows are regular expressions of the whole field, family or route.
"""

from collections.abc import Sequence

Rows = Sequence[tuple[str, str]]

FIELDS: dict[str, Rows] = {
    "/pods": (
        (r"items\..*\.metadata\.managedFields.*", "the newest copy is listed, the kubelet's is older"),
        (r"items\.done-NODE\.status\.resources\.limits.*", "the kubelet reads a limit from the cgroup that is gone"),
    ),
    "/stats/summary": (
        (r"node\.systemContainers\.(kubelet|runtime).*", "the rival is given no cgroups for these"),
        (r".*\.(psi|io)(\..*)?", "cgroup v1 accounts no pressure: the kubelet writes zeros, which say never stalled"),
        (
            r"pods\..*\.network.*",
            "cAdvisor knows containerd's default socket alone, not the rival's",
        ),
        (r"pods\..*\.process_stats.*", "as above"),
        (r".*\.memory\.availableBytes", "as above: CRI tells the kubelet of 0 bytes where there is no limit"),
        (r".*\.swap\.swapAvailableBytes", "as above"),
    ),
    "/stats/summary?only_cpu_and_memory=true": (
        (r"node\.systemContainers\.(kubelet|runtime).*", "as in the whole Summary"),
        (r".*\.psi(\..*)?", "cgroup v1 accounts no pressure"),
        (r".*\.memory\.availableBytes", "as in the whole Summary"),
        (r".*\.swap\.swapAvailableBytes", "as in the whole Summary"),
    ),
}

CONFIGURATION: Rows = (
    (r"serverTLSBootstrap", "the rival serves a certificate of its own"),
    (r"rotateCertificates", "the rival joins with a kubeconfig"),
    (r"imageServiceEndpoint", "said, though it is the runtime's own"),
    (r"registerWithTaints", "said, though there is none"),
    (r"tlsMinVersion", "said, though it is Go's default, too"),
    (r"staticPodPath", "the rival has no folder of manifests"),
)
"""Fields that vkcri tells and the kubelet does not. A field that nothing here obeys is not told."""

HEALTH_CHECKS = {"pods", "provider"}, {"device-plugin"}
"""Checks of vkcri's alone (its neighbours) and of the kubelet's alone (there are no device plugins here)."""

CADVISOR: Rows = (
    (r"cadvisor_version_info|machine_scrape_error", "about cAdvisor"),
    (r"machine_cpu_(books|drawers|physical_cores|sockets)|machine_nvm_.*", "hardware that no dashboard of pods shows"),
    (r"container_cpu_cfs_burst_.*", "bursts are not set by anybody here"),
    (r"container_(file_descriptors|sockets|ulimits_soft|health_state)", "cost a walk through every process' files"),
    (
        r"container_fs_(io|read|write|reads|writes|sector)_.*",
        "the machine's disks, as the root cgroup's",
    ),
    (r"container_memory_(events|file|pgscan|pgsteal|workingset)_.*", "of cgroup v2 alone"),
    (r"container_pressure_.*", "cgroup v1 accounts no pressure"),
    (
        r"container_(blkio|hugetlb|tasks_state|referenced|llc|network)_.*",
        "not of the subset that docs/metrics.md names",
    ),
)
"""Families of the kubelet's that vkcri leaves out."""

KUBELET: Rows = (
    (r"kubelet_(cpu|memory|topology)_manager_.*|kubelet_memory_qos_.*", "no such manager here"),
    (r"kubelet_(dra|device_plugin|pod_resources|resource_manager|podcertificate).*", "not built"),
    (r"kubelet_(image_volume|graceful_shutdown|evented_pleg|orphan).*", "not built"),
    (r"kubelet_(image_?manager|imagemanager)_.*", "of the kubelet's own image manager"),
    (r"kubelet_(started_user_namespaced|restarted|terminated|active|working|managed).*", "not counted"),
    (r"kubelet_(container|pod)_.*resize.*|kubelet_pod_(level|watch|requests).*", "not counted"),
    (r"kubelet_node_startup_.*|kubelet_pleg_(pod_relist|discard).*|kubelet_cri_losing_support", "of its inner life"),
    (
        r"kubelet_(lifecycle_handler|sleep_action|credential_provider|volume_metric|metrics_provider).*",
        "of its inner life",
    ),
    (r"kubelet_certificate_manager_.*_(errors|rotation_.*)|kubelet_server_expiration.*", "not counted"),
)
"""Families of the kubelet's /metrics under its own prefix that vkcri leaves out."""

UNBOUNDED = {"prober_probe_duration_seconds"}
"""Histograms to which the kubelet gives no bound but +Inf; here they have Prometheus' own."""

UNSEEN = (
    "kubelet_certificate_manager_server_ttl_seconds",
    "kubelet_admission_rejections_total",
    "kubelet_evictions",
    "kubelet_first_network_pod_start_sli_duration_seconds",
    "kubelet_image_pull_duration_seconds",
    "kubelet_run_podsandbox_errors_total",
    "kubelet_runtime_operations_errors_total",
    "kubelet_started_containers_errors_total",
    "kubelet_websocket_streaming_requests_total",
    "process_threads",
)
"""Families of which one side may have no sample yet, and process_threads, which Go's client does not tell."""

ROUTES: Rows = (
    (r"\S+ /(statusz|flagz)", "not built"),
    (r"\S+ /debug/.*", "disabled here, as /configz says"),
)
"""Answers to an administrator."""

UNKNOWN_PATHS = {404, 307}
"""What the kubelet answers anybody who asks for a path that is none, or a folder without its slash; here nobody unknown
learns which routes there are."""
