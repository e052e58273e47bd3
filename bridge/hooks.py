"""postStart and preStop: run one hook of one container, by exec, httpGet or sleep.

Blocking, on the thread of the operation that starts or stops the container, and never longer than it is given. A hook
that fails raises; what that means for the container is its caller's business.
"""

import http.client
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from bridge.pb.runtime.v1 import api_pb2
from vkcri.errors import Invalid, Unavailable

HTTP_SECONDS = 30.0


class Runtime(Protocol):
    """What a hook asks of CRI."""

    def exec_sync(self, request: api_pb2.ExecSyncRequest, *, seconds: float = ...) -> api_pb2.ExecSyncResponse: ...


def run_hook(
    runtime: Runtime,
    hook: Mapping[str, Any],
    container_id: str,
    container: Mapping[str, Any],
    address: str,
    seconds: float,
    cancelled: threading.Event,
) -> None:
    """Run it to its end or for that many seconds. address: the pod's. Raises Unavailable or Invalid where it fails."""
    if "exec" in hook:
        _exec(runtime, list((hook["exec"] or {}).get("command") or []), container_id, seconds)
    elif "httpGet" in hook:
        _http_get(hook["httpGet"] or {}, container, address, min(seconds, HTTP_SECONDS))
    elif "sleep" in hook:
        cancelled.wait(min(float((hook["sleep"] or {}).get("seconds") or 0), seconds))
    else:
        raise Invalid(f"invalid handler: {', '.join(hook) or 'none'}")


def _exec(runtime: Runtime, command: list[str], container_id: str, seconds: float) -> None:
    request = api_pb2.ExecSyncRequest(container_id=container_id, cmd=command, timeout=max(1, round(seconds)))
    answer = runtime.exec_sync(request, seconds=seconds + 10)
    if answer.exit_code != 0:
        output = (answer.stdout + answer.stderr).decode(errors="replace")[-1024:]
        raise Unavailable(f"command {command!r} exited with {answer.exit_code}: {output}")


def _http_get(action: Mapping[str, Any], container: Mapping[str, Any], address: str, seconds: float) -> None:
    host = str(action.get("host") or address)
    if not host:
        raise Unavailable("the pod has no address")
    port = resolve_port(action.get("port"), container)
    path = str(action.get("path") or "")
    headers = {str(item["name"]): str(item.get("value") or "") for item in action.get("httpHeaders") or []}
    connection: http.client.HTTPConnection
    if str(action.get("scheme") or "HTTP").upper() == "HTTPS":
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", path if path.startswith("/") else f"/{path}", headers=headers)
        connection.getresponse().read(10 * 1024)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"GET {path} from {host}:{port}: {error}") from error
    finally:
        connection.close()


def resolve_port(port: Any, container: Mapping[str, Any]) -> int:
    """A port by number or by its name among the container's ports. Raises Invalid."""
    for item in container.get("ports") or []:
        if isinstance(port, str) and item.get("name") == port:
            return int(item["containerPort"])
    try:
        number = int(port)
    except (TypeError, ValueError) as error:
        raise Invalid(f"couldn't find port: {port!r} in container {container.get('name')}") from error
    if not 0 < number < 65536:
        raise Invalid(f"invalid port number: {port}")
    return number
