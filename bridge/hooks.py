"""postStart and preStop: run one hook of one container, by exec, httpGet or sleep.

Blocking, on the thread of the operation that starts or stops the container, and never longer than it is given. A hook
that fails raises; what that means for the container is its caller's business.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from bridge.pb.runtime.v1 import api_pb2
from bridge.wire.connection import PLAIN_HTTP
from bridge.wire.exchange import Answer
from bridge.wire.request import Get, of_action
from bridge.wire.words import join
from vkcri.errors import Invalid, Unavailable

Fetch = Callable[[Get, float], Answer]
"""Make that GET within those seconds; blocking. Raises Unavailable."""


class Runtime(Protocol):
    """What a hook asks of CRI."""

    def exec_sync(self, request: api_pb2.ExecSyncRequest, *, seconds: float = ...) -> api_pb2.ExecSyncResponse: ...


def run_hook(
    runtime: Runtime,
    fetch: Fetch,
    hook: Mapping[str, Any],
    container_id: str,
    container: Mapping[str, Any],
    address: str,
    seconds: float,
    cancelled: threading.Event,
) -> str:
    """Run it to its end or for that many seconds. address: the pod's. Returns what a person should know of a hook that
    has not failed, mostly nothing. Raises Unavailable or Invalid where it fails."""
    if "exec" in hook:
        _exec(runtime, list((hook["exec"] or {}).get("command") or []), container_id, seconds)
    elif "httpGet" in hook:
        return _http_get(fetch, hook["httpGet"] or {}, container, address, seconds)
    elif "sleep" in hook:
        cancelled.wait(min(float((hook["sleep"] or {}).get("seconds") or 0), seconds))
    else:
        raise Invalid(f"invalid handler: {', '.join(hook) or 'none'}")
    return ""


def _exec(runtime: Runtime, command: list[str], container_id: str, seconds: float) -> None:
    request = api_pb2.ExecSyncRequest(container_id=container_id, cmd=command, timeout=max(1, round(seconds)))
    answer = runtime.exec_sync(request, seconds=seconds + 10)
    if answer.exit_code != 0:
        output = (answer.stdout + answer.stderr).decode(errors="replace")[-1024:]
        raise Unavailable(f"command {command!r} exited with {answer.exit_code}: {output}")


def _http_get(
    fetch: Fetch, action: Mapping[str, Any], container: Mapping[str, Any], address: str, seconds: float
) -> str:
    """Any answer will do. HTTPS falls back to HTTP, without credentials, where the server speaks only that."""
    if not (action.get("host") or address):
        raise Unavailable("the pod has no address")
    get = of_action(action, container, address, "lifecycle")
    until = time.monotonic() + seconds
    try:
        fetch(get, seconds)
    except Unavailable as error:
        if not str(error).endswith(PLAIN_HTTP):
            raise
        kept = tuple(pair for pair in get.headers if pair[0] != "Authorization")
        plain = replace(get, scheme="http", headers=kept, location=get.location.replace("https:", "http:", 1))
        fetch(plain, max(0.0, until - time.monotonic()))
        where = join(get.host, get.port)
        return f"request to HTTPS lifecycle hook {where} got HTTP response, retry with HTTP succeeded"
    return ""
