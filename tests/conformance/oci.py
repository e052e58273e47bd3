"""Reading the OCI image archives that `bridge.images_local.oci_archive` writes: one image of one layer, as a tar."""

import json
import tarfile
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Image:
    """`manifest`, `config`: their digests (`sha256:...`); the config's is the image's id in CRI."""

    manifest: str
    config: str


def image_in(archive: tarfile.TarFile) -> Image:
    """The one image of an archive."""
    manifest = str(_json(archive, "index.json")["manifests"][0]["digest"])
    return Image(manifest, str(_json(archive, blob_path(manifest))["config"]["digest"]))


def blobs_in(archive: tarfile.TarFile) -> dict[str, bytes]:
    """Manifest, config and layer by digest."""
    names = [member.name for member in archive.getmembers() if member.name.startswith("blobs/sha256/")]
    return {f"sha256:{name.rpartition('/')[2]}": read(archive, name) for name in names}


def blob_path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def read(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None, f"{name} is no file"
    return file.read()


def _json(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    return dict(json.loads(read(archive, name)))
