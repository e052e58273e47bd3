"""/logs/: the guest's own /var/log, as the kubelet serves it: a folder as a page of links, a file as it is.

Guarded by nodes/log. A link that leads out of /var/log is not followed: containers may make one in a folder of theirs.
"""

import html
import mimetypes
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from flask import Response

from vkcri.errors import NotFound
from vkcri.kubelet.logs import Blocks

ROOT = Path("/var/log")
_BLOCK = 256 * 1024


def answer(name: str, root: Path = ROOT) -> Response:
    """The file or folder of that name. Raises NotFound."""
    base = root.resolve()
    try:
        path = (base / name).resolve(strict=True)
        if path != base and base not in path.parents:
            raise NotFound("404 page not found\n")
        if path.is_dir():
            return Response(_listing(path), content_type="text/html; charset=utf-8")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise NotFound("404 page not found\n") from error
    size, first = path.stat().st_size, file.read(512)
    file.seek(0)
    blocks = Blocks(_blocks(file.read, size), file.close)
    response = Response(blocks, content_type=_type(path, first), direct_passthrough=True)
    response.headers["Content-Length"] = str(size)
    return response


def _listing(folder: Path) -> str:
    """As Go's file server prints a folder."""
    names = sorted(f"{item.name}/" if item.is_dir() else item.name for item in folder.iterdir())
    links = [f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names]
    head = '<!doctype html>\n<meta name="viewport" content="width=device-width">\n'
    return f"{head}<pre>\n{''.join(links)}</pre>\n"


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
