"""supervisord's programs as the page shows and restarts them, asked of supervisord's own socket. On request threads.

A restart is one word to supervisord, a signal, after which its autorestart does the rest: whoever asked, this program
too, may end at once and nothing stays stopped. Every call is answered without waiting for a program, so it has a short
deadline.
"""

import http.client
import os
import socket
import xmlrpc.client
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vkcri.errors import NotFound, Unavailable

ANSWER_SECONDS = 5.0
_NOT_RUNNING, _BAD_NAME, _ALREADY_STARTED = 70, 10, 60  # supervisor.xmlrpc.Faults
_SIGNALLED = ("STARTING", "RUNNING")


class Programs:
    """The supervisord behind that socket. Every method raises Unavailable where none answers in `seconds`."""

    def __init__(self, socket_path: Path, seconds: float = ANSWER_SECONDS) -> None:
        self._socket = socket_path
        self._seconds = seconds

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
        """End it, so that supervisord starts it again, or start it where it does not run; neither is waited for.

        Raises NotFound, and Unavailable while somebody stops it."""
        state = self._call("getProcessInfo", name)["statename"]
        if state == "STOPPING":
            raise Unavailable(f"{name} is being stopped")
        if state in _SIGNALLED and self._call("signalProcess", name, self._ending(name), unless=_NOT_RUNNING):
            return
        if state == "BACKOFF":  # no process: it is stopped on the spot, and starts now instead of after the delay
            self._call("stopProcess", name, False, unless=_NOT_RUNNING)
        self._call("startProcess", name, False, unless=_ALREADY_STARTED)

    def _ending(self, name: str) -> str:
        """The signal after which autorestart brings it back: TERM, which all of ours answer with exit 0; KILL where
        supervisord expects exit 0 (a launcher says by it that it is not needed) and would leave it at that."""
        of_it = [item for item in self._call("getAllConfigInfo") if item["name"] == name]
        return "KILL" if any(0 in item["exitcodes"] for item in of_it) else "TERM"

    def _call(self, method: str, *arguments: Any, unless: int = 0) -> Any:
        """supervisord's answer; None where it is the fault `unless`."""
        if not os.path.exists(self._socket):
            raise Unavailable("no supervisord runs these programs")
        transport = _Transport(self._socket, self._seconds)
        try:
            return getattr(xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor, method)(
                *arguments
            )
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == _BAD_NAME:
                raise NotFound(f"no program {arguments[0]!r}") from fault
            if fault.faultCode == unless:
                return None
            raise Unavailable(f"supervisord: {fault.faultString}") from fault
        except TimeoutError as error:
            raise Unavailable(f"supervisord gave no answer in {self._seconds:g} s") from error
        except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
            raise Unavailable(f"supervisord: {error}") from error
        finally:
            transport.close()


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket, every step of it with a deadline."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__()
        self._path = path
        self._seconds = seconds

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _Connection(self._path, self._seconds)
        self._connection = host, connection  # what close() closes
        return connection


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("127.0.0.1", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
