"""Images that nobody uses are removed when the image file system fills up. One thread, `image-gc`, every five minutes.

Source: the kubelet's image GC manager (pkg/kubelet/images/image_gc_manager.go): the least recently used first, none
that is younger here than the minimum age, none that is pinned or that any container in CRI has, a stranger's too. Nor
those that the bridge itself needs or has made, since no registry may have them. What is known of images' ages begins
anew with the process, as a kubelet's does.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.spec.names import IMAGE_VOLUMES
from bridge.stats.disk import Filesystem
from vkcri.errors import Unavailable, VkcriError
from vkcri.lifecycle import Process, held

PERIOD = 300.0
CALL_SECONDS = 60.0
SPACE, AGE = "space", "age"
"""Why an image was removed, in the kubelet's metric."""
log = logging.getLogger(__name__)


class ImageService(Protocol):
    """The part of bridge.runtime.Runtime that is used here."""

    def list_images(self, request: cri.ListImagesRequest, *, seconds: float) -> cri.ListImagesResponse: ...

    def list_containers(self, request: cri.ListContainersRequest, *, seconds: float) -> cri.ListContainersResponse: ...

    def remove_image(self, request: cri.RemoveImageRequest, *, seconds: float) -> cri.RemoveImageResponse: ...


@dataclass(frozen=True)
class Policy:
    """high, low: percent of the image file system that start a collection, and that it aims at; ages in seconds, a
    maximum of 0: none. A high of 100 and no maximum: nothing is ever collected."""

    high: int = 85
    low: int = 80
    minimum_age: float = 120.0
    maximum_age: float = 0.0

    @property
    def collects(self) -> bool:
        return self.high < 100 or self.maximum_age > 0


@dataclass
class Record:
    """One image. Times are the collector's clock's; last_used 0: not since this process has begun."""

    id: str
    first_seen: float
    last_used: float = 0.0
    size: int = 0
    removable: bool = True


class ImageCollector:
    """disk(seconds): the image file system, None where it is not known, raises Unavailable; kept(): names of images
    that stay; event(reason, message): a warning about the node; count(reason): one more image was removed; clock:
    monotonic seconds, since a step of the wall clock makes no image old. Thread-safe."""

    def __init__(
        self,
        runtime: ImageService,
        disk: Callable[[float], Filesystem | None],
        kept: Callable[[], Collection[str]],
        policy: Policy,
        event: Callable[[str, str], object],
        count: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runtime = runtime
        self._disk = disk
        self._kept = kept
        self._policy = policy
        self._event = event
        self._count = count
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        self._failed = False

    def start(self, process: Process) -> None:
        def loop() -> None:
            while not process.stopping.is_set():
                with process.expect("a round of image garbage collection", 10 * CALL_SECONDS) as expectation:
                    self.round(expectation.refresh)
                process.wait(PERIOD)

        process.start_thread("image-gc", loop)

    def round(self, progress: Callable[[], object] = lambda: None) -> None:
        """One collection, and what is said of its failure. progress() is called before each image."""
        try:
            with held(self._lock, progress):
                self._collect(progress)
            self._failed = False
        except VkcriError as error:
            log.log(logging.WARNING if self._failed else logging.INFO, "image garbage collection failed: %s", error)
            if self._failed:  # the first one may only have come too early
                self._event("ImageGCFailed", str(error))
            self._failed = True

    def _collect(self, progress: Callable[[], object]) -> None:
        """Remove what is too old, and if the file system is too full, what nobody uses until it is not. Raises
        Unavailable where it stays too full or an image cannot be removed, and as the runtime does."""
        now, policy = self._clock(), self._policy
        unused = self._unused(now)
        if not policy.collects:
            return
        if policy.maximum_age and now - self._began > policy.maximum_age:
            old = [record for record in unused if now - record.last_used > policy.maximum_age]
            self._remove(old, AGE, progress)
            unused = [record for record in unused if record not in old]
        disk = self._disk(CALL_SECONDS)
        if disk is None or disk.capacity == 0:
            message = "invalid capacity 0 on image filesystem"
            self._event("InvalidDiskCapacity", message)
            raise Unavailable(message)
        wanted = too_much(disk, policy)
        if wanted is None:
            return
        freed = self._remove(unused, SPACE, progress, wanted)
        if freed < wanted:
            message = insufficient(disk, freed)
            self._event("FreeDiskSpaceFailed", message)
            raise Unavailable(message)

    def delete_unused(self, progress: Callable[[], object] = lambda: None) -> None:
        """Remove all that may go, however full the file system is: the node is short of disk. progress() is called
        before each image. Raises VkcriError."""
        with held(self._lock, progress):
            self._remove(self._unused(self._clock()), SPACE, progress)

    def _unused(self, now: float) -> list[Record]:
        """Every image that no container has, in the order in which they go; ages are brought up to date."""
        images = self._runtime.list_images(cri.ListImagesRequest(), seconds=CALL_SECONDS).images
        containers = self._runtime.list_containers(cri.ListContainersRequest(), seconds=CALL_SECONDS).containers
        used, kept = in_use(containers), set(self._kept())
        records = {}
        for image in images:
            record = records[image.id] = self._records.get(image.id) or Record(image.id, now)
            names = {image.id, *image.repo_tags, *image.repo_digests}
            record.size, record.removable = int(image.size), not (image.pinned or names & kept)
            if names & used:
                record.last_used = now
        self._records = records
        unused = [record for record in records.values() if record.removable and record.last_used < now]
        return sorted(unused, key=lambda record: (record.last_used, record.first_seen))

    def _remove(
        self, unused: Iterable[Record], reason: str, progress: Callable[[], object], wanted: float = float("inf")
    ) -> int:
        """Remove images until that many bytes are free; the bytes. Raises Unavailable where some cannot be removed,
        once the others were."""
        now, freed, errors = self._clock(), 0, list[str]()
        for record in unused:
            progress()
            if freed >= wanted:
                break
            if reason == SPACE and now - record.first_seen < self._policy.minimum_age:
                continue  # perhaps just pulled, for a container that is to come
            log.info("image %s of %d bytes is removed, for its %s", record.id, record.size, reason)
            try:
                request = cri.RemoveImageRequest(image=cri.ImageSpec(image=record.id))
                self._runtime.remove_image(request, seconds=CALL_SECONDS)
            except VkcriError as error:
                errors.append(str(error))
                continue
            self._records.pop(record.id, None)
            self._count(reason)
            freed += record.size
        if errors:
            raise Unavailable(f"{len(errors)} images could not be removed, {freed} bytes were freed: {errors[0]}")
        return freed


def in_use(containers: Iterable[cri.Container]) -> set[str]:
    """Ids and names by which these containers call their images and those that they mount."""
    found: set[str] = set()
    for item in containers:
        found |= {item.image_id, item.image_ref, item.image.image}
        found |= set(item.annotations.get(IMAGE_VOLUMES, "").split(","))
    return found - {""}


def too_much(disk: Filesystem, policy: Policy) -> int | None:
    """The bytes to free, None while the file system is not too full."""
    available = min(disk.available, disk.capacity)
    if used_percent(disk) < policy.high:
        return None
    return disk.capacity * (100 - policy.low) // 100 - available


def used_percent(disk: Filesystem) -> int:
    """As the kubelet counts: what is not available is used."""
    return 100 - min(disk.available, disk.capacity) * 100 // disk.capacity


def insufficient(disk: Filesystem, freed: int) -> str:
    """The kubelet's sentence for a file system that stays full."""
    return (
        f"Insufficient free disk space on the node's image filesystem ({used_percent(disk)}% of "
        f"{size_text(disk.capacity)} used). Failed to free sufficient space by deleting unused images (freed {freed} "
        "bytes). Investigate disk usage, as it could be used by active images, logs, volumes, or other data."
    )


def size_text(size: int) -> str:
    """1536 -> 1.5 KiB."""
    units: Sequence[str] = ("KiB", "MiB", "GiB", "TiB")
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(units))
    return f"{size / 1024**power:.1f} {units[power - 1]}"
