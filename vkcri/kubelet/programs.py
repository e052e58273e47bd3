"""supervisord's programs as the page shows and restarts them, asked of supervisord's own socket. On request threads."""

import http.client
import os
import xmlrpc.client
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vkcri.errors import NotFound, Unavailable

OURSELVES = "log-server"
_NOT_RUNNING = 70  # supervisor.xmlrpc.Faults
_BAD_NAME = 10


class Programs:
    """The supervisord behind that socket. Every method raises Unavailable where none answers."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def all(self) -> list[dict[str, Any]]:
        """[{"name", "state", "pid", "started"}], in the order of their start."""
        return [
            {
                "name": item["name"],
                "state": item["statename"],
                "pid": item["pid"],
                "started": f"{datetime.fromtimestamp(item['start'], UTC):%Y-%m-%dT%H:%M:%SZ}",
            }
            for item in self._call("getAllProcessInfo")
        ]

    def restart(self, name: str) -> None:
        """Stop it as `supervisorctl restart` does, and start it; it is not waited for. Raises NotFound."""
        if name == OURSELVES:  # we would not live to say start: supervisord starts again what ends by itself
            self._call("signalProcess", name, "TERM")
            return
        try:
            self._call("stopProcess", name, True)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != _NOT_RUNNING:
                raise Unavailable(f"{name}: {fault.faultString}") from fault
        self._call("startProcess", name, False)

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        if not os.path.exists(self._socket):
            raise Unavailable("no supervisord runs these programs")
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        try:
            return getattr(xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor, method)(
                *arguments
            )
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _BAD_NAME:
                raise NotFound(f"no program {arguments[0]!r}") from fault
            if fault.faultCode == _NOT_RUNNING:
                raise
            raise Unavailable(f"supervisord: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise Unavailable(f"supervisord: {error}") from error
        finally:
            transport.close()
