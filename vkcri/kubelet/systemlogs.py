"""/logs/: the guest's own /var/log, as the kubelet serves it: a folder as a page of links, a file as it is.

Guarded by nodes/log. A link that leads out of /var/log is not followed: containers may make one in a folder of theirs,
at any moment, and pipes and devices too. So a path is looked at once, then opened part by part without following any
link, and what was opened is judged.
"""

import html
import mimetypes
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from flask import Response

from vkcri.errors import NotFound
from vkcri.kubelet.logs import Blocks

ROOT = Path("/var/log")
_BLOCK = 256 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a pipe blocks no thread


def answer(path: str, root: Path = ROOT) -> Response:
    """The file or folder of that URL's path, which begins with `/logs`; a redirect to where its relative links are
    right: a folder's name ends with a slash, a file's does not. Raises NotFound."""
    last, slash = path.rstrip("/").rpartition("/")[2], path.endswith("/")
    try:
        found = _resolved(root.resolve(), path.removeprefix("/logs").removeprefix("/"))
        descriptor = _opened(root.resolve(), found)
        try:
            kind = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(kind):
                return _listing(descriptor) if slash else _moved(f"{quote(last)}/")
            if not stat.S_ISREG(kind):
                raise NotFound("404 page not found\n")
            return _moved(f"../{quote(last)}") if slash else _file(os.dup(descriptor), found)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise NotFound("404 page not found\n") from error


def _resolved(base: Path, name: str) -> Path:
    """Without a link in it. Raises NotFound for one outside of `base`, OSError, ValueError."""
    path = Path(os.path.realpath(base / name, strict=True))  # resolve() raises RuntimeError for a link to itself
    if path != base and base not in path.parents:
        raise NotFound("404 page not found\n")
    return path


def _opened(base: Path, path: Path) -> int:
    """A descriptor of it. Raises OSError, also where a part of it has become a link since it was resolved."""
    descriptor = os.open(base, _OPEN | os.O_DIRECTORY)
    for part in path.relative_to(base).parts:
        try:
            inner = os.open(part, _OPEN, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = inner
    return descriptor


def _moved(where: str) -> Response:
    return Response(status=301, headers={"Location": where})


def _listing(folder: int) -> Response:
    """As Go's file server prints a folder."""
    with os.scandir(folder) as entries:
        names = sorted(f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries)
    raw = [os.fsencode(name) for name in names]
    links = [f'<a href="{quote(name)}">{html.escape(name.decode(errors="replace"))}</a>\n' for name in raw]
    head = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n'
    return Response(f"{head}<pre>\n{''.join(links)}</pre>\n", content_type="text/html; charset=utf-8")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _file(descriptor: int, path: Path) -> Response:
    file = os.fdopen(descriptor, "rb")
    try:
        size, first = os.fstat(descriptor).st_size, file.read(512)
        file.seek(0)
    except OSError:
        file.close()
        raise
    blocks = Blocks(_blocks(file.read, size), file.close)
    response = Response(blocks, content_type=_type(path, first), direct_passthrough=True)
    response.headers["Content-Length"] = str(size)
    return response


def _blocks(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    """What the file held when it was opened; it may grow meanwhile."""
    while size > 0 and (block := read(min(size, _BLOCK))):
        size -= len(block)
        yield block


def _type(path: Path, first: bytes) -> str:
    known = mimetypes.guess_type(path.name)[0]
    if known and known != "text/plain" and path.suffix != ".log":
        return known
    return "application/octet-stream" if b"\0" in first else "text/plain; charset=utf-8"
