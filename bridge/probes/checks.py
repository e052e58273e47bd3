"""Run one probe once, by exec, httpGet, tcpSocket or grpc, and say what came of it.

On the loop's thread, which it never holds up: sockets are the loop's, and a command is an RPC whose end grpc tells. So
one that hangs costs a socket or an RPC until its own deadline, and no thread. A probe that could not be made at all is
tried up to three times, as the kubelet does.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bridge.pb.runtime.v1 import api_pb2
from bridge.probes.verdict import Verdict, of_exec, of_health, of_http, of_tcp
from bridge.spec.expansion import expand_all
from bridge.wire.client import Call, Client
from bridge.wire.request import of_action, resolve_port
from vkcri.errors import Invalid

if TYPE_CHECKING:
    from bridge.runtime import ExecEnd

TRIES = 3
Execute = Callable[[api_pb2.ExecSyncRequest, "Callable[[ExecEnd], None]"], None]
"""CRI's ExecSync without waiting; the end is told on any thread."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Subject:
    """Whom to probe and how: the Probe, the container's spec, its id in CRI, the pod's address, and the seconds that a
    try has."""

    probe: Mapping[str, Any]
    container: Mapping[str, Any]
    id: str
    address: str
    seconds: float


class Check:
    """One probe under way. `done` is called once, on the loop's thread, unless it was cancelled before."""

    def __init__(self, client: Client, execute: Execute, subject: Subject, done: Callable[[Verdict], None]) -> None:
        self._client = client
        self._execute = execute
        self._subject = subject
        self._done: Callable[[Verdict], None] | None = done
        self._call: Call | None = None
        self._tries = 0

    def start(self) -> None:
        """Begin a try."""
        self._tries += 1
        try:
            self._call = self._begin()
        except Invalid as error:
            self._ended(Verdict("unknown", error=str(error)))
        except Exception as error:  # whatever it is, the next probe is due in its time
            log.warning("a probe of container %s cannot be made", self._subject.container.get("name"), exc_info=True)
            self._ended(Verdict("unknown", error=str(error)))

    def cancel(self) -> None:
        """Nobody wants to know any more. A command that runs is left to its end."""
        self._done = None
        if self._call is not None:
            self._call.cancel()

    def _ended(self, verdict: Verdict) -> None:
        if self._done is None:
            return
        if verdict.error and self._tries < TRIES:
            self.start()
            return
        done, self._done = self._done, None
        done(verdict)

    def _begin(self) -> Call | None:
        """Raises Invalid where the probe cannot be made."""
        probe, client, seconds = self._subject.probe, self._client, self._subject.seconds
        container, address = self._subject.container, self._subject.address
        if probe.get("exec") is not None:
            self._run(probe["exec"])
            return None
        if probe.get("httpGet") is not None:
            get = of_action(probe["httpGet"], container, address, "probe")
            return client.get(get, seconds, lambda result: self._ended(of_http(result)))
        if probe.get("tcpSocket") is not None:
            action = probe["tcpSocket"]
            port = resolve_port(action.get("port"), container)
            return client.connect(
                str(action.get("host") or address), port, seconds, lambda broken: self._ended(of_tcp(broken))
            )
        if probe.get("grpc") is not None:
            action = probe["grpc"]
            port, service = resolve_port(action.get("port"), container), str(action.get("service") or "")
            return client.check(
                address,
                port,
                service,
                seconds,
                lambda health: self._ended(of_health(health, address, port, seconds)),
                tls=action.get("mode") == "TLS",
            )
        raise Invalid(f"missing probe handler for {container.get('name')}")

    def _run(self, action: Mapping[str, Any]) -> None:
        """The command, with the variables that the spec gives values of; the kubelet knows no others here."""
        subject, call = self._subject, self._client.loop.call
        values = {str(item["name"]): str(item.get("value") or "") for item in subject.container.get("env") or []}
        command = expand_all(action.get("command"), values)
        request = api_pb2.ExecSyncRequest(container_id=subject.id, cmd=command, timeout=int(subject.seconds))
        self._execute(request, lambda end: call(lambda: self._ended(of_exec(end, command, subject.seconds))))
