"""Requests to the API server with raw dicts, and watches as lines of bytes; every one with a deadline.

Runs on the callers' threads; one Client serves them all. Answers that are not 2xx become errors (vkcri.kube.failures),
since the package's call_api raises none; a Retry-After is waited out while the deadline allows. When a file of the
kubeconfig changes it is read again, and what runs on the old credentials runs on; after a 401 or a failed TLS handshake
it is read again too, once. Only for the same server: a node never changes clusters under way.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from vkcri.errors import Invalid, Refused, Unavailable, VkcriError
from vkcri.kube.failures import Overloaded, failure
from vkcri.kube.kubeconfig import Kubeconfig, Session, Stamp

CONNECT_SECONDS = 5.0
TIMEOUT = 10.0
PAGE = 500
RELOAD_SECONDS = 5.0  # between two readings of an unchanged kubeconfig
LOOK_SECONDS = 1.0  # between two looks at whether its files changed
EXPIRY_SKEW = 60.0  # an exec plugin's credentials are renewed that much before their end
MOST_BYTES = 64 * 1024 * 1024
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
MERGE = "application/merge-patch+json"
_READ = 64 * 1024
Params = Mapping[str, str]
log = logging.getLogger(__name__)


class Client:
    """The API server of one kubeconfig. `wait(seconds)` sleeps and says whether the process is stopping;
    `observe(method, host, code, seconds)` hears of each try until its answer's head, code `<error>` where none came."""

    def __init__(
        self,
        kubeconfig: Kubeconfig,
        *,
        wait: Callable[[float], bool] | None = None,
        observe: Callable[[str, str, str, float], None] = lambda _method, _host, _code, _seconds: None,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._observe = observe
        self._wait = wait or threading.Event().wait
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._looked = 0.0
        self._unusable: Stamp = ()

    @property
    def server(self) -> str:
        """The API server's URL. Raises as Kubeconfig.load does."""
        return self._current().server

    @property
    def ca(self) -> str:
        """The cluster's CA as PEM; empty where the system's CAs are used."""
        return self._current().ca

    @property
    def certificate(self) -> bytes:
        """Our client certificate as PEM; empty where we have none."""
        return self._current().certificate

    def get(self, path: str, *, params: Params | None = None, timeout: float = TIMEOUT) -> dict[str, Any]:
        return _parsed(path, self.request("GET", path, params=params, timeout=timeout))

    def create(self, path: str, body: Mapping[str, Any], *, timeout: float = TIMEOUT) -> dict[str, Any]:
        """POST to a collection or a subresource. Conflict: it exists already."""
        return _parsed(path, self.request("POST", path, body=body, timeout=timeout))

    def update(self, path: str, body: Mapping[str, Any], *, timeout: float = TIMEOUT) -> dict[str, Any]:
        """PUT. Conflict: the body's resourceVersion is not the newest."""
        return _parsed(path, self.request("PUT", path, body=body, timeout=timeout))

    def patch(
        self, path: str, body: Any, *, content_type: str = STRATEGIC_MERGE, timeout: float = TIMEOUT
    ) -> dict[str, Any]:
        data = self.request("PATCH", path, body=body, content_type=content_type, timeout=timeout)
        return _parsed(path, data)

    def delete(self, path: str, options: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT) -> None:
        """DELETE; options: a DeleteOptions, such as gracePeriodSeconds and preconditions."""
        self.request("DELETE", path, body=options or {}, timeout=timeout)

    def pages(
        self, path: str, *, params: Params | None = None, page: int = PAGE, timeout: float = 30.0
    ) -> Iterator[dict[str, Any]]:
        """A list in parts of `page` items, each a List object; page 0 asks for all at once. Raises Expired where the
        server forgot the list between two parts."""
        query = dict(params or {})
        if page:
            query["limit"] = str(page)
        while True:
            part = self.get(path, params=query, timeout=timeout)
            yield part
            rest = (part.get("metadata") or {}).get("continue")
            if not rest:
                return
            query["continue"] = rest

    def watch(self, path: str, *, params: Params, read_timeout: float) -> "WatchStream":
        """Begin a watch: raises unless the server agrees. read_timeout: the longest silence, in seconds."""
        what = f"WATCH {path}"
        response = self._attempt("GET", path, {**params, "watch": "true"}, None, "", (CONNECT_SECONDS, read_timeout))
        if response.status != 200:
            data = _read_all(what, response, time.monotonic() + TIMEOUT)
            raise failure(what, response.status, data, response.headers)
        return WatchStream(what, response)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Any = None,
        content_type: str = "application/json",
        timeout: float = TIMEOUT,
    ) -> bytes:
        """One request; the answer's body. Raises NotFound, Conflict (409, and Expired for 410), Invalid (other 4xx),
        Refused (401, 403), Unavailable (429, 5xx, transport, deadline)."""
        what = f"{method} {path}"
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.1, deadline - time.monotonic())
            response = self._attempt(method, path, params or {}, body, content_type, (min(CONNECT_SECONDS, left), left))
            data = _read_all(what, response, deadline)
            if 200 <= response.status < 300:
                return data
            error = failure(what, response.status, data, response.headers)
            if not isinstance(error, Overloaded) or error.retry_after is None:
                raise error
            if time.monotonic() + error.retry_after >= deadline or self._wait(error.retry_after):
                raise error

    def _attempt(
        self, method: str, path: str, params: Params, body: Any, content_type: str, timeouts: tuple[float, float]
    ) -> Any:
        """Send it and return urllib3's answer, its body unread. Renews the session once where that may help, and asks
        a GET again once where a kept connection turned out to be closed."""
        session = self._current()
        renewed = repeated = False
        while True:
            began, code = time.monotonic(), "<error>"
            try:
                response = _send(session, method, path, params, body, content_type, timeouts)
                code = str(response.status)
            except _Closed as error:
                if method != "GET" or repeated:
                    raise Unavailable(str(error)) from error
                repeated = True
                continue
            except _Tls as error:
                if renewed or not self._renew(session, str(error)):
                    raise Unavailable(str(error)) from error
            else:
                if response.status != 401 or renewed or not self._renew(session, "HTTP status 401"):
                    return response
                response.close()
            finally:
                self._observe(method, urlsplit(session.server).netloc, code, time.monotonic() - began)
            session, renewed = self._current(), True

    def _current(self) -> Session:
        with self._lock:
            if self._session is None:
                self._session = self._kubeconfig.load()
                self._looked = time.monotonic()
            elif time.time() > self._session.expires - EXPIRY_SKEW:
                self._session = self._refreshed(self._session)
            elif time.monotonic() - self._looked > LOOK_SECONDS:
                self._looked = time.monotonic()
                stamp = self._kubeconfig.stamp(self._session.stamp)
                if stamp not in (self._session.stamp, self._unusable):
                    self._session = self._followed(self._session, stamp)
            return self._session

    def _followed(self, old: Session, stamp: Stamp) -> Session:
        """What the changed files say; the old credentials, until they change again, where that cannot be used."""
        path = self._kubeconfig.path
        self._unusable = stamp
        try:
            fresh = self._kubeconfig.load()
        except VkcriError as error:
            log.warning("%s changed and cannot be used, the old credentials stay: %s", path, error)
            return old
        if fresh.server != old.server:
            log.warning("%s now names %s: restart api-watcher to follow; until then %s", path, fresh.server, old.server)
            return old
        log.info("%s changed: its credentials are used from here on", path)
        return fresh

    def _refreshed(self, old: Session) -> Session:
        """What the exec plugin gives now; the old credentials where it fails, to be asked again soon."""
        if time.monotonic() - old.loaded < RELOAD_SECONDS:
            return old
        try:
            fresh = self._kubeconfig.load()
        except VkcriError as error:
            log.warning("the credentials for %s expire and were not renewed: %s", old.server, error)
            return replace(old, loaded=time.monotonic())
        return fresh if fresh.server == old.server else old

    def _renew(self, used: Session, reason: str) -> bool:
        """Read the kubeconfig again; False where that cannot help. Raises Refused where it names another server."""
        with self._lock:
            if self._session is not used:
                return True  # another thread has just done it
            unchanged = self._kubeconfig.stamp(used.stamp) == used.stamp
            if unchanged and time.monotonic() - used.loaded < RELOAD_SECONDS:
                return False
            log.info("%s: %s; reading %s again", used.server, reason, self._kubeconfig.path)
            fresh = self._kubeconfig.load()
            if fresh.server != used.server:
                raise Refused(
                    f"{self._kubeconfig.path} now names {fresh.server}, no longer {used.server}: "
                    "restart api-watcher to follow"
                )
            self._session = fresh
            return True


class WatchStream:
    """A running watch: iterate for its lines, complete ones only. Ends quietly where the server ends it or is silent
    for the read timeout; raises Unavailable where the connection breaks. close() may be called by any thread."""

    def __init__(self, what: str, response: Any) -> None:
        self._what = what
        self._response = response
        self._closed = False

    def __enter__(self) -> "WatchStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._response.close()  # never back to the pool: an event may be under way on it

    def __iter__(self) -> Iterator[bytes]:
        from urllib3.exceptions import ReadTimeoutError

        try:
            yield from self._lines()
        except Unavailable as error:
            if not self._closed and not isinstance(error.__cause__, ReadTimeoutError):
                raise
            log.debug("%s", error)

    def _lines(self) -> Iterator[bytes]:
        rest: list[bytes] = []
        size = 0
        for chunk in _chunks(self._what, self._response):
            if self._closed:
                return
            *lines, last = chunk.split(b"\n")
            for line in lines:
                whole = b"".join((*rest, line))
                rest, size = [], 0
                if whole.strip():
                    yield whole
            rest.append(last)
            size += len(last)
            if size > MOST_BYTES:
                raise Invalid(f"{self._what}: a line of more than {MOST_BYTES} bytes")

    def close(self) -> None:
        """Wake a reader that blocks on the socket."""
        self._closed = True
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):
            pass  # it has ended by itself: closed, or its connection given back


class _Closed(Exception):
    """The connection was closed before an answer came."""


class _Tls(Exception):
    """The TLS handshake failed."""


def _send(
    session: Session,
    method: str,
    path: str,
    params: Params,
    body: Any,
    content_type: str,
    timeouts: tuple[float, float],
) -> Any:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError, ProtocolError, SSLError

    headers = {"Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = content_type
    what = f"{method} {session.server}{path}"
    try:
        _, url, headers, _, _ = session.api.param_serialize(
            method, path, query_params=list(params.items()), header_params=headers, auth_settings=["BearerToken"]
        )
        return session.api.call_api(method, url, headers, body, _request_timeout=timeouts).response
    except (ApiException, SSLError) as error:  # the package makes the first of the second
        raise _Tls(f"{what}: {getattr(error, 'reason', None) or error}") from error
    except ProtocolError as error:
        raise _Closed(f"{what}: {error}") from error
    except (HTTPError, OSError) as error:
        raise Unavailable(f"{what}: {error}") from error


def _chunks(what: str, response: Any) -> Iterator[bytes]:
    """An answer's body as it comes in."""
    from urllib3.exceptions import HTTPError

    try:
        if response.chunked:
            yield from response.stream(_READ, decode_content=True)
            return
        while data := response.read1(_READ):
            yield data
    except (HTTPError, OSError, ValueError) as error:  # ValueError: closed by another thread
        raise Unavailable(f"{what}: {error}") from error


def _read_all(what: str, response: Any, deadline: float) -> bytes:
    """The whole body; its connection goes back to the pool. Raises Unavailable for one that drips past the deadline."""
    parts: list[bytes] = []
    size = 0
    for chunk in _chunks(what, response):
        parts.append(chunk)
        size += len(chunk)
        if size > MOST_BYTES or time.monotonic() > deadline + 1:
            response.close()
            raise Unavailable(f"{what}: the answer is too large or too slow ({size} bytes came)")
    response.release_conn()
    return b"".join(parts)


def _parsed(path: str, data: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError as error:
        raise Unavailable(f"{path}: the answer is no JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise Unavailable(f"{path}: the answer is no object")
    return parsed
