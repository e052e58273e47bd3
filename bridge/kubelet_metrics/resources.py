"""What pods have on the guest beside their containers: images, volumes, cgroups."""

from vkcri.metrics import Metrics

_PULLS = (1, 5, 10, 20, 30, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600)
_STORAGE = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600)
_MB, _GB = 1024**2, 1024**3
_SIZES = (
    (0, "0-10MB"),
    (10 * _MB, "10MB-100MB"),
    (100 * _MB, "100MB-500MB"),
    (500 * _MB, "500MB-1GB"),
    (_GB, "1GB-5GB"),
    (5 * _GB, "5GB-10GB"),
    (10 * _GB, "10GB-20GB"),
    (20 * _GB, "20GB-30GB"),
    (30 * _GB, "30GB-40GB"),
    (40 * _GB, "40GB-60GB"),
    (60 * _GB, "60GB-100GB"),
    (100 * _GB, "GT100GB"),
)


class ResourceMetrics:
    """Thread-safe. Counted into directly: `cgroup_seconds` by operation, `removed_images` by reason."""

    def __init__(self, metrics: Metrics) -> None:
        self._pull_seconds = metrics.histogram(
            "kubelet_image_pull_duration_seconds",
            "Duration in seconds to pull an image.",
            "image_size_in_bytes",
            bounds=_PULLS,
        )
        self.removed_images = metrics.counter(
            "kubelet_image_garbage_collected_total",
            "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
            "reason",
        )
        self._storage_seconds = metrics.histogram(
            "storage_operation_duration_seconds",
            "Storage operation duration",
            *("migrated", "operation_name", "status", "volume_plugin"),
            bounds=_STORAGE,
        )
        self.cgroup_seconds = metrics.histogram(
            "kubelet_cgroup_manager_duration_seconds",
            "Duration in seconds for cgroup manager operations. Broken down by method.",
            "operation_type",
        )

    def image_pulled(self, size: int, seconds: float) -> None:
        """One pull of an image of that many bytes."""
        label = next(label for least, label in reversed(_SIZES) if size >= least)
        self._pull_seconds.observe(seconds, label)

    def volume_mounted(self, plugin: str, seconds: float, failed: bool) -> None:
        """One set-up of a volume, or its renewal."""
        self._storage_seconds.observe(seconds, "false", "volume_mount", "fail-unknown" if failed else "success", plugin)
