"""Which images go, in which order and when, and what is said where that does not help."""

from typing import Any

import pytest

from bridge.imagegc import ImageCollector, Policy, in_use, insufficient, size_text, too_much
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.stats.disk import Filesystem
from vkcri.errors import Unavailable

GIBI = 1 << 30


def disk(available: int, capacity: int = 100) -> Filesystem:
    return Filesystem(1, available, capacity, capacity - available, 1000, 500)


class Guest:
    """A runtime's images and containers, its disk, and a clock that stands."""

    def __init__(self, available: int = 10, **policy: Any) -> None:
        self.images: dict[str, cri.Image] = {}
        self.containers: list[cri.Container] = []
        self.available = available
        self.stuck: set[str] = set()
        self.now = 1000.0
        self.removed: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.counted: list[str] = []
        self.collector = ImageCollector(
            self,
            lambda _seconds: disk(self.available),
            lambda: {"localhost/vkcri/pause:latest"},
            Policy(**policy),
            lambda reason, message: self.events.append((reason, message)),
            self.counted.append,
            lambda: self.now,
        )

    def add(self, name: str, size: int = 4, **more: Any) -> None:
        self.images[name] = cri.Image(id=f"sha256:{name}", repo_tags=[f"{name}:1"], size=size, **more)

    def use(self, *names: str) -> None:
        self.containers = [cri.Container(id=name, image_ref=f"sha256:{name}") for name in names]

    def collect(self, seconds: float = 300.0) -> list[str]:
        """What one collection after that time has removed."""
        self.now += seconds
        before = len(self.removed)
        self.collector.round()
        return self.removed[before:]

    def list_images(self, request: cri.ListImagesRequest, *, seconds: float) -> cri.ListImagesResponse:
        del request, seconds
        return cri.ListImagesResponse(images=self.images.values())

    def list_containers(self, request: cri.ListContainersRequest, *, seconds: float) -> cri.ListContainersResponse:
        del request, seconds
        return cri.ListContainersResponse(containers=self.containers)

    def remove_image(self, request: cri.RemoveImageRequest, *, seconds: float) -> cri.RemoveImageResponse:
        del seconds
        name = request.image.image.removeprefix("sha256:")
        if name in self.stuck:
            raise Unavailable(f"{name} is stuck")
        self.available += int(self.images.pop(name).size)
        self.removed.append(name)
        return cri.RemoveImageResponse()


def test_a_disk_with_room_is_left_alone() -> None:
    guest = Guest(available=16)
    guest.add("old")
    assert [guest.collect(), guest.collect()] == [[], []]
    assert guest.events == []


def test_a_full_disk_is_freed_to_the_low_mark_by_the_least_recently_used() -> None:
    guest = Guest(available=50)
    for name in ("never", "early", "late", "now"):
        guest.add(name)
    guest.use("early", "late", "now")
    guest.collect()
    guest.use("late", "now")
    guest.collect()
    guest.use("now")
    guest.available = 12  # 88 % used; 8 bytes to free
    assert guest.collect() == ["never", "early"]
    assert (guest.available, guest.counted, guest.events) == (20, ["space", "space"], [])


def test_an_image_that_has_just_come_stays_for_the_container_that_is_to_come() -> None:
    guest = Guest(available=5)
    guest.add("new")
    assert guest.collect() == []
    assert guest.collect(119.0) == []
    assert guest.collect(1.0) == ["new"]


@pytest.mark.parametrize("of", ["image_id", "image_ref", "image"])
def test_an_image_is_used_by_whatever_name_a_container_has_for_it(of: str) -> None:
    named = {"image": cri.ImageSpec(image="app:1")} if of == "image" else {of: "sha256:app"}
    assert in_use([cri.Container(id="c", **named)]) == {"app:1" if of == "image" else "sha256:app"}
    guest = Guest(available=5)
    guest.add("app")
    guest.containers = [cri.Container(id="c", state=cri.CONTAINER_EXITED, **named)]
    assert [guest.collect(), guest.collect()] == [[], []]


def test_an_image_that_a_container_mounts_is_used() -> None:
    guest = Guest(available=5)
    for name in ("one", "two", "free"):
        guest.add(name)
    guest.containers = [cri.Container(id="c", annotations={"vkcri/image-volumes": "sha256:one,sha256:two"})]
    guest.collect()
    assert guest.collect() == ["free"]


def test_pinned_images_and_those_that_the_node_needs_stay() -> None:
    guest = Guest(available=5)
    guest.add("pinned", pinned=True)
    guest.add("localhost/vkcri/pause")
    guest.images["localhost/vkcri/pause"].repo_tags[:] = ["localhost/vkcri/pause:latest"]
    guest.add("other")
    guest.collect()
    assert guest.collect() == ["other"]


def test_a_disk_that_stays_full_is_told_and_the_failure_when_it_repeats() -> None:
    guest = Guest(available=5)
    guest.add("small", size=2)
    guest.collect()
    guest.collect()
    words = insufficient(disk(5), 2)
    assert guest.removed == ["small"]
    assert [reason for reason, _ in guest.events] == ["FreeDiskSpaceFailed", "FreeDiskSpaceFailed", "ImageGCFailed"]
    assert guest.events[1][1] == guest.events[2][1] == words
    assert words == (
        "Insufficient free disk space on the node's image filesystem (95% of 100 B used). Failed to free sufficient "
        "space by deleting unused images (freed 2 bytes). Investigate disk usage, as it could be used by active "
        "images, logs, volumes, or other data."
    )


def test_an_image_that_cannot_be_removed_does_not_keep_the_others() -> None:
    guest = Guest(available=10)
    for name in ("a", "b", "c"):
        guest.add(name)
    guest.stuck.add("a")
    guest.collect()
    assert guest.collect() == ["b", "c"]
    with pytest.raises(Unavailable, match="1 images could not be removed, 0 bytes were freed: a is stuck"):
        guest.collector.delete_unused()


def test_each_image_is_progress_though_it_cannot_be_removed() -> None:
    guest = Guest(available=5)
    for name in ("a", "b", "c"):
        guest.add(name)
    guest.stuck |= {"a", "b", "c"}
    guest.collect()
    guest.now += 300.0
    told: list[None] = []
    with pytest.raises(Unavailable, match="3 images could not be removed"):
        guest.collector.delete_unused(lambda: told.append(None))
    assert len(told) == 3
    guest.collector.round(lambda: told.append(None))
    assert len(told) == 6


def test_images_older_than_the_maximum_age_go_even_where_there_is_room() -> None:
    guest = Guest(available=90, maximum_age=1000.0)
    guest.add("old")
    guest.add("used")
    guest.use("used")
    assert [guest.collect(), guest.collect(), guest.collect()] == [[], [], []]
    assert guest.collect() == ["old"]
    assert guest.counted == ["age"]


def test_nothing_is_collected_where_that_is_switched_off_but_all_unused_when_the_node_needs_it() -> None:
    guest = Guest(available=1, high=100, low=90)
    guest.add("a")
    guest.add("b")
    guest.use("b")
    assert [guest.collect(), guest.collect()] == [[], []]
    guest.collector.delete_unused()
    assert guest.removed == ["a"]


@pytest.mark.parametrize(
    ("available", "expected"), [(16, None), (15, 5), (0, 20), (120, None)], ids=["below", "at the mark", "none", "odd"]
)
def test_how_much_is_to_be_freed(available: int, expected: int | None) -> None:
    assert too_much(disk(available), Policy()) == expected


@pytest.mark.parametrize(
    ("size", "text"),
    [(5, "5 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 * GIBI // 2, "2.5 GiB"), (1 << 51, "2048.0 TiB")],
)
def test_sizes_are_printed_as_a_kubelet_prints_them(size: int, text: str) -> None:
    assert size_text(size) == text
