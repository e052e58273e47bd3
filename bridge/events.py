"""Hints that something happened to a container, as soon as it did; the second module that speaks gRPC.

One thread follows containerd's own event service (every containerd has it, on the CRI socket), else CRI's event stream,
else nothing, which is said once: the relist is the truth and polls then. A hint may come before CRI itself shows the
change, may come twice and may be lost. It never carries a state, only an id and the kind of event.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from bridge.pb.containerd import events_pb2 as pb
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import OPTIONS, Runtime, error_of
from vkcri.backoff import Backoff
from vkcri.errors import Refused, VkcriError
from vkcri.lifecycle import Process

log = logging.getLogger(__name__)

STARTED, EXITED, OOM = "started", "exited", "oom"
_SUBSCRIBE = "/containerd.services.events.v1.Events/Subscribe"
_FILTER = 'namespace==k8s.io,topic~="^/tasks/(start|exit|oom)$"'
_TOPICS = {"/tasks/start": STARTED, "/tasks/exit": EXITED, "/tasks/oom": OOM}
_CRI_KINDS = {cri.CONTAINER_STARTED_EVENT: STARTED, cri.CONTAINER_STOPPED_EVENT: EXITED}
_RECONNECT = Backoff(first=0.2, factor=2.0, most=5.0)


@dataclass(frozen=True)
class Hint:
    """Something happened: the id of a container or sandbox, and STARTED, EXITED or OOM."""

    id: str
    kind: str


class Hints:
    """Follows the runtime's events for ever. `live` says whether a stream is up, so that the relist may be lazy."""

    def __init__(self, runtime: Runtime, on_hint: Callable[[Hint], None]) -> None:
        """`on_hint` runs on this object's thread and must be quick."""
        self._runtime = runtime
        self._on_hint = on_hint
        self.live = False

    def start(self, process: Process) -> None:
        """Follow on a thread of its own until the process stops."""
        process.start_thread("runtime-events", lambda: self._follow(process), may_end=True)

    def _follow(self, process: Process) -> None:
        sources = [("containerd's events", self._containerd), ("CRI's events", self._cri)]
        attempt = 0
        while sources and not process.stopping.is_set():
            name, source = sources[0]
            try:
                for hint in source():
                    self._on_hint(hint)
                    attempt = 0
            except Refused as error:
                log.info("the runtime has no %s (%s)", name, error)
                sources.pop(0)
                continue
            except VkcriError as error:
                if attempt == 0:
                    log.info("%s broke off: %s", name, error)
            self.live = False
            process.wait(_RECONNECT.delay(attempt))
            attempt += 1
        if not sources:
            log.info("this runtime has no events: polling it every second")

    def _containerd(self) -> Iterator[Hint]:
        """containerd's task events. Raises Refused where the runtime is none, Unavailable where the stream breaks."""
        channel = grpc.insecure_channel(self._runtime.endpoint, options=OPTIONS)
        subscribe = channel.unary_stream(
            _SUBSCRIBE,
            request_serializer=pb.SubscribeRequest.SerializeToString,
            response_deserializer=pb.Envelope.FromString,
        )
        try:
            call = subscribe(pb.SubscribeRequest(filters=[_FILTER]))
            call.initial_metadata()
            self.live = True
            for envelope in call:
                if (hint := hint_of(envelope)) is not None:
                    yield hint
        except grpc.RpcError as failure:
            raise error_of("Subscribe", failure) from failure
        finally:
            self.live = False
            channel.close()

    def _cri(self) -> Iterator[Hint]:
        for event in self._runtime.container_events():
            self.live = True
            if event.container_event_type in _CRI_KINDS:
                yield Hint(event.container_id, _CRI_KINDS[event.container_event_type])


def hint_of(envelope: pb.Envelope) -> Hint | None:
    """The hint in one of containerd's envelopes; None for the exit of an exec and for topics not asked for."""
    kind = _TOPICS.get(envelope.topic)
    if kind is None:
        return None
    if kind == EXITED:
        ended = pb.TaskExit.FromString(envelope.event.value)
        return Hint(ended.container_id, EXITED) if ended.id == ended.container_id else None
    return Hint(pb.TaskEvent.FromString(envelope.event.value).container_id, kind)
