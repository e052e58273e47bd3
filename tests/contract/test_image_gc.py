"""Image garbage collection against a runtime: what it lists as used stays, what nobody uses is gone from it."""

import subprocess

import pytest

from bridge import images_local
from bridge.imagegc import ImageCollector, Policy
from bridge.images_local import Entry, image_present
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.stats.disk import Filesystem
from tests.contract.conftest import Guest
from tests.waiting import wait_for
from vkcri.config import RuntimeSettings

FULL = Filesystem(1, 5, 100, 95, 1000, 500)


def add(guest: Guest, settings: RuntimeSettings | None, name: str) -> None:
    """An image of its own content, as a pull leaves it: not pinned, which those are that the node itself imports."""
    if guest.fake is not None:
        guest.fake.add_image(name)
        return
    assert settings is not None
    layer = images_local.layer_of([Entry("name", 0o644, name.encode())])
    archive = images_local.oci_archive(name, layer, {})
    command = ["ctr", "-a", str(settings.runtime_socket), "-n", "k8s.io", "images", "import", "-"]
    subprocess.run(command, input=archive, stdout=subprocess.PIPE, check=True, timeout=120)
    wait_for(name, lambda: image_present(guest.runtime, name))


def test_unused_images_are_removed_and_used_ones_stay(guest: Guest, request: pytest.FixtureRequest) -> None:
    settings = None if guest.fake is not None else request.getfixturevalue("containerd_settings")
    listed = guest.runtime.list_images(cri.ListImagesRequest()).images
    kept = {name for image in listed for name in image.repo_tags}  # of other tests
    names = {word: f"localhost/gc/{word}-{guest.label}:1" for word in ("unused", "used", "kept")}
    for name in names.values():
        add(guest, settings, name)
    kept.add(names["kept"])
    guest.create(guest.run(), image=names["used"])
    now, counted = [1000.0], list[str]()
    collector = ImageCollector(
        guest.runtime,
        lambda _seconds: FULL,
        lambda: kept,
        Policy(),
        lambda *_: None,
        counted.append,
        lambda: now[0],
    )
    collector.round()
    assert all(image_present(guest.runtime, name) for name in names.values())
    now[0] += 121.0
    collector.round()
    assert {word for word, name in names.items() if image_present(guest.runtime, name)} == {"used", "kept"}
    assert counted == ["space"]
    guest.clean()
    now[0] += 300.0
    collector.delete_unused()
    assert {word for word, name in names.items() if image_present(guest.runtime, name)} == {"kept"}
    guest.runtime.remove_image(cri.RemoveImageRequest(image=cri.ImageSpec(image=names["kept"])))
