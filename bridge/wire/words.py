"""Go's words for what goes wrong on a network, so that events read as the kubelet's. Pure."""

import json
import os
import re

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def errno(code: int) -> str:
    """As Go's syscall.Errno prints it on Linux: the C library's words in lower case."""
    return os.strerror(code).lower()


def quote(text: str) -> str:
    """As Go's %q."""
    return json.dumps(text, ensure_ascii=False)


def join(host: str, port: int) -> str:
    """net.JoinHostPort."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def duration(seconds: float) -> str:
    """Whole seconds as Go prints a Duration: 10s, 1m20s, 1h0m0s."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


def canonical(name: str) -> str:
    """A header's name as http.Header keeps it: X-Custom-Name. One that is no token stays as it is."""
    return "-".join(part.capitalize() for part in name.split("-")) if is_token(name) else name


def is_token(name: str) -> bool:
    """Whether it may be a header's name."""
    return _TOKEN.fullmatch(name) is not None


def is_field_value(value: str) -> bool:
    """Whether it may be a header's value: no control characters but tabs."""
    return all(letter == "\t" or (" " <= letter != "\x7f") for letter in value)
