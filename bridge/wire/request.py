"""From an HTTPGetAction to the GET that is sent, and from a redirect to the next one. Pure.

The kubelet's httpprobe.NewRequestForHTTPGetAction and Go's http.Client are the specification: a path is parsed as a
URL whose scheme and host are replaced, a header Host overrides the authority, an empty Accept sends none, and a
redirect is followed to the same host name only.
"""

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.wire.exchange import Answer, Broken
from bridge.wire.words import canonical, is_field_value, is_token, join, quote
from vkcri.errors import Invalid

VERSION = "1.37"
"""Of the kubelet whose behaviour this is, as its User-Agent says it."""
MOST_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
_PATH = re.compile(r"(?:[-A-Za-z0-9_.~!$&'()*+,;=:@/\[\]]|%[0-9A-Fa-f]{2})*")
_SAFE = "-_.~$&+,/:;=@"


@dataclass(frozen=True)
class Get:
    """One GET. target: the request line's. authority: the header Host. headers: all others, sorted by name. prior
    knowledge: speak HTTP/2 without being asked."""

    scheme: str
    host: str
    port: int
    target: str
    authority: str
    headers: tuple[tuple[str, str], ...] = ()
    prior_knowledge: bool = False
    location: str = ""

    @property
    def url(self) -> str:
        """As Go prints it."""
        return self.location or f"{self.scheme}://{join(self.host, self.port)}{self.target}"

    def failed(self, why: str) -> str:
        """The message of a url.Error."""
        return f"Get {quote(self.url)}: {why}"

    def check(self) -> None:
        """Raises Broken where it cannot be sent, as Go's transport refuses it."""
        for name, value in (*self.headers, ("Host", self.authority)):
            if not is_token(name):
                raise Broken(f"net/http: invalid header field name {quote(name)}")
            if not is_field_value(value):
                raise Broken(f"net/http: invalid header field value for {quote(name)}")
        if not is_field_value(self.target):
            raise Broken("net/http: can't write control character in Request.URL")


def of_action(action: Mapping[str, Any], container: Mapping[str, Any], address: str, purpose: str) -> Get:
    """The GET of an HTTPGetAction. address: the pod's, where the action names no host. purpose: probe or lifecycle.
    Raises Invalid for a port that there is not."""
    scheme = str(action.get("scheme") or "http").lower()
    host = str(action.get("host") or address)
    port = resolve_port(action.get("port"), container)
    headers: dict[str, list[str]] = {}
    for item in action.get("httpHeaders") or []:
        headers.setdefault(canonical(str(item.get("name") or "")), []).append(str(item.get("value") or ""))
    headers.setdefault("User-Agent", [f"kube-{purpose}/{VERSION}"])
    if headers.setdefault("Accept", ["*/*"])[0] == "":
        del headers["Accept"]
    authority = (headers.pop("Host", None) or [""])[0] or join(host, port)
    target, shown = _target(str(action.get("path") or ""))
    return Get(
        scheme=scheme,
        host=host,
        port=port,
        target=target,
        authority=authority,
        headers=_sendable(headers),
        prior_knowledge=action.get("protocol") == "HTTP2",
        location=f"{scheme}://{join(host, port)}{shown}",
    )


def redirected(first: Get, get: Get, answer: Answer, followed: int) -> Get | None:
    """Where the answer to `get` sends us; None where it is the end: no redirect, or one to another host. first: the
    GET that it began with. followed: redirects so far. Raises Broken with Go's words, url and all."""
    location = answer.headers.get("location", "")
    if answer.status not in _REDIRECTS or not location:
        return None
    joined = urllib.parse.urljoin(get.url, location)
    try:
        parsed = urllib.parse.urlsplit(joined)
        host, port = parsed.hostname or "", parsed.port
    except ValueError as error:
        raise Broken(f"Get {quote(location)}: failed to parse Location header {quote(location)}: {error}") from error
    if host.lower() != first.host.lower():
        return None
    if followed + 1 >= MOST_REDIRECTS:
        raise Broken(f"Get {quote(location)}: stopped after {MOST_REDIRECTS} redirects")
    if parsed.scheme not in _PORTS:
        raise Broken(f"Get {quote(joined)}: unsupported protocol scheme {quote(parsed.scheme)}")
    relative = not urllib.parse.urlsplit(location).scheme
    authority = first.authority if relative and first.authority != join(first.host, first.port) else parsed.netloc
    others = tuple(pair for pair in first.headers if pair[0] != "Referer")
    referer = () if get.scheme == "https" and parsed.scheme == "http" else (("Referer", get.url),)
    return replace(
        get,
        scheme=parsed.scheme,
        host=host,
        port=port or _PORTS[parsed.scheme],
        target=(parsed.path or "/") + (f"?{parsed.query}" if parsed.query else ""),
        authority=authority.rpartition("@")[2],
        headers=tuple(sorted((*others, *referer))),
        location=joined.partition("#")[0],
    )


def resolve_port(port: Any, container: Mapping[str, Any]) -> int:
    """A port by number or by its name among the container's ports. Raises Invalid in the kubelet's words."""
    if isinstance(port, str):
        for item in container.get("ports") or []:
            if item.get("name") == port:
                return _in_range(item.get("containerPort"))
        raise Invalid(f"port {quote(port)} not found")
    return _in_range(port)


def _in_range(port: Any) -> int:
    if not isinstance(port, int) or not 0 < port < 65536:
        raise Invalid(f"invalid port number: {port}")
    return port


def _sendable(headers: Mapping[str, list[str]]) -> tuple[tuple[str, str], ...]:
    """Sorted, without what a GET of Go's never carries. A User-Agent set to nothing is none."""
    left_out = ("Content-Length", "Transfer-Encoding", "Trailer")
    pairs = [(name, value.strip(" \t")) for name, values in headers.items() for value in values]
    agents = [pair for pair in pairs if pair[0] == "User-Agent"][:1]
    kept = [pair for pair in pairs if pair[0] not in (*left_out, "User-Agent")]
    return tuple(sorted([*kept, *(pair for pair in agents if pair[1])], key=lambda pair: pair[0]))


def _target(path: str) -> tuple[str, str]:
    """(what the request line has, what Go prints behind the host) of an action's path, a fragment aside."""
    parsed = _parse(path)
    if parsed is None:  # it parses as no URL, so all of it is a path
        text = urllib.parse.quote(path, safe=_SAFE)
        query = ""
    else:
        text = parsed.path
        if not _PATH.fullmatch(text):
            text = urllib.parse.quote(urllib.parse.unquote(text), safe=_SAFE)
        query = f"?{parsed.query}" if parsed.query else ""
    if text and not text.startswith("/"):
        text = f"/{text}"
    return (text or "/") + query, text + query


def _parse(path: str) -> urllib.parse.SplitResult | None:
    """The path as a URL; None where Go's url.Parse refuses it."""
    if not is_field_value(path.replace("\t", "\x00")) or re.search(r"%(?![0-9A-Fa-f]{2})", path.partition("?")[0]):
        return None
    if not path.startswith("/") and ":" in path.partition("/")[0] and "://" not in path:
        return None
    try:
        return urllib.parse.urlsplit(path)
    except ValueError:
        return None
