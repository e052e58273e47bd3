"""The images that the tests name, assembled once into the cache folder and given to the node's containerd.

    <cache>/images/<name>_<tag>.<key>.tar    key: of the recipe's code and of the programs that go into an image

An image whose key is there is not assembled again, and one that CRI has under its name with the same id is not
imported again.
"""

import hashlib
import os
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bridge import images_local
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from tests.conformance import debian, oci, recipes
from tests.conformance.recipes import Programs, Recipe
from vkcri.config import RuntimeSettings

_CODE = (debian.__file__, recipes.__file__, images_local.__file__)


def assemble(
    recipe: Recipe, names: Sequence[str], programs: Programs, folder: Path, say: Callable[[str], None]
) -> dict[str, Path]:
    """The archives of one recipe's images by name, made where the folder has none of this key; older ones of an image
    are removed. The images share their layer and differ in a label, so that CRI tells them apart. Raises Refused where
    a part cannot be had."""
    end = key(programs)
    paths = {name: folder / f"{_file_name(name)}.{end}.tar" for name in names}
    missing = [name for name in names if not paths[name].exists()]
    if missing:
        began = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        content = recipe(programs)
        layer = images_local.layer_of(content.entries)
        for name in missing:
            config = {**content.config, "Labels": {"org.opencontainers.image.ref.name": name}}
            _keep(
                images_local.oci_archive(name, layer, config), paths[name], f"{_file_name(name)}.{'?' * len(end)}.tar"
            )
        say(f"assembled {', '.join(missing)}: {len(layer.blob) / 1e6:.1f} MB, {time.monotonic() - began:.0f} s")
    return paths


def load(image: str, archive: Path, runtime: Runtime, settings: RuntimeSettings) -> bool:
    """Give an archive to the node's containerd; False where it has this very image already. Raises Refused,
    Unavailable."""
    with tarfile.open(archive) as opened:
        wanted = oci.image_in(opened).config
    status = runtime.image_status(cri.ImageStatusRequest(image=cri.ImageSpec(image=image)), seconds=10.0)
    if status.image.id == wanted:
        return False
    snapshotter = images_local.snapshotter_of(images_local.status_info(runtime).get("config", {}))
    images_local.import_image(runtime, settings.runtime_socket, image, archive.read_bytes(), snapshotter)
    return True


def provide(
    names: Iterable[str], programs: Programs, folder: Path, settings: RuntimeSettings, say: Callable[[str], None]
) -> list[str]:
    """Assemble and load those of the images that have a recipe; gives the names of the others, which the node pulls."""
    wanted: dict[Recipe | None, list[str]] = {}
    for name in names:
        wanted.setdefault(recipes.recipe_of(name), []).append(name)
    left = wanted.pop(None, [])
    runtime = Runtime(settings.runtime_endpoint)
    try:
        for recipe, images in wanted.items():
            assert recipe is not None
            archives = assemble(recipe, images, programs, folder, say)
            for image in images:
                if load(image, archives[image], runtime, settings):
                    say(f"loaded {image}")
    finally:
        runtime.close()
    return left


def shortened(names: Iterable[str]) -> str:
    """Images by the last part of their names, in one line."""
    return ", ".join(sorted(name.rpartition("/")[2] for name in names)) or "none"


def key(programs: Programs) -> str:
    """Changes with the code that makes images and with the programs that go into them."""
    digest = hashlib.sha256()
    for path in (*map(Path, _CODE), *(programs[name] for name in sorted(programs))):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _file_name(image: str) -> str:
    return re.sub(r"[^\w.-]", "_", image.partition("/")[2])


def _keep(archive: bytes, path: Path, older: str) -> None:
    """Write a file that is whole when it is there, in the place of those that the pattern names."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(archive)
    for old in path.parent.glob(older):
        old.unlink(missing_ok=True)
    unfinished.replace(path)
