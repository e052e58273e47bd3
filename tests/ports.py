"""Ports on loopback that are a test's own."""

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def closed_port(*, lent: bool = False) -> Iterator[int]:
    """A port that refuses: taken, so that it falls to nobody else meanwhile, and not listened on. Lent, whoever is
    told of it may listen on it with SO_REUSEADDR, as servers do."""
    with socket.socket() as holder:
        if lent:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
