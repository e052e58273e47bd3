"""The image half of the fake runtime: what is there, and what a pull finds."""

import re
import threading
import time
import uuid

import grpc

from bridge.pb.runtime.v1 import api_pb2 as cri
from tests.contract.cri_server import Failure

SANDBOX_IMAGE = "localhost/vkcri/pause:latest"
SHELL_IMAGE = "localhost/vkcri/shell:1"
_Code = grpc.StatusCode


class FakeImages:
    """CRI's ImageService. `images` by name; `registry`: names that a pull finds."""

    def __init__(self) -> None:
        self.locked = threading.RLock()
        self.images: dict[str, cri.Image] = {}
        self.registry: set[str] = set()
        self.add_image(SANDBOX_IMAGE)
        self.add_image(SHELL_IMAGE)

    def add_image(self, name: str, *, username: str = "", uid: int | None = None) -> str:
        """An image that is there; gives its id."""
        image = cri.Image(id=f"sha256:{uuid.uuid5(uuid.NAMESPACE_URL, name).hex * 2}", repo_tags=[name], size=1024)
        image.username = username
        if uid is not None:
            image.uid.value = uid
        with self.locked:
            self.images[name] = image
        return image.id

    def _list_images(self, _: cri.ListImagesRequest) -> cri.ListImagesResponse:
        return cri.ListImagesResponse(images=self.images.values())

    def _image_status(self, request: cri.ImageStatusRequest) -> cri.ImageStatusResponse:
        return cri.ImageStatusResponse(image=self._image(request.image.image))

    def _pull_image(self, request: cri.PullImageRequest) -> cri.PullImageResponse:
        name = request.image.image
        if re.search(r"[A-Z\s]", name.partition(":")[0]):
            raise Failure(_Code.UNKNOWN, f'failed to parse image reference "{name}": invalid reference format')
        if name not in self.registry:
            raise Failure(_Code.UNKNOWN, f'failed to pull and unpack image "{name}": connect: connection refused')
        return cri.PullImageResponse(image_ref=self.add_image(name))

    def _remove_image(self, request: cri.RemoveImageRequest) -> cri.RemoveImageResponse:
        image = self._image(request.image.image)
        for name in [name for name, item in self.images.items() if image is not None and item.id == image.id]:
            del self.images[name]
        return cri.RemoveImageResponse()

    def _image_fs_info(self, _: cri.ImageFsInfoRequest) -> cri.ImageFsInfoResponse:
        usage = cri.FilesystemUsage(timestamp=int(time.time() * 1e9), used_bytes=cri.UInt64Value(value=1024))
        usage.fs_id.mountpoint = "/"
        return cri.ImageFsInfoResponse(image_filesystems=[usage])

    def _image(self, name: str) -> cri.Image | None:
        return self.images.get(name) or next((item for item in self.images.values() if item.id == name), None)
