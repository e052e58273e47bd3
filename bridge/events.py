"""Hints that something happened to a container, as soon as it did; the second module that speaks gRPC.

One thread, `runtime-events`, follows containerd's own event service (every containerd has it, on the CRI socket; it
alone tells of OOM kills), else CRI's event stream, else nothing, which is said once: the relist is the truth and polls
then. A hint may come before CRI itself shows the change, may come twice and may be lost. It never carries a state.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from bridge.pb.containerd import events_pb2 as pb
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime, error_of, open_channel
from vkcri.backoff import Backoff
from vkcri.errors import Refused, Unavailable, VkcriError
from vkcri.lifecycle import Process

STARTED, ENDING, EXITED, OOM, CONNECTED = "started", "ending", "exited", "oom", "connected"
_SUBSCRIBE = "/containerd.services.events.v1.Events/Subscribe"
_EXIT, _DELETE = "/tasks/exit", "/tasks/delete"
_TOPICS = {"/tasks/start": STARTED, _EXIT: ENDING, _DELETE: EXITED, "/tasks/oom": OOM}
_FILTERS = [f'namespace=="k8s.io",topic=="{topic}"' for topic in _TOPICS]
_CRI_KINDS = {cri.CONTAINER_STARTED_EVENT: STARTED, cri.CONTAINER_STOPPED_EVENT: EXITED}
_SETTLE_SECONDS = 1.0  # a stream that lives as long stands: a refusal comes at once, an answer only with an event
_ASK_AGAIN_SECONDS = 300.0  # a runtime without events may have been replaced by one with them
_RECONNECT = Backoff(first=0.1, factor=2.0, most=2.0)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hint:
    """Something happened: the id of a container or sandbox, and STARTED, ENDING, EXITED or OOM. ENDING: its process has
    exited, which CRI shows only once containerd has taken away what is left of it; then EXITED follows. CONNECTED with
    the id "" says that a stream begins: anything may have happened before it, so everything is to be read once."""

    id: str
    kind: str


class Hints:
    """Follows the runtime's events for ever."""

    def __init__(
        self,
        runtime: Runtime,
        on_hint: Callable[[Hint], None],
        *,
        wanted: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_hint` runs on this object's thread and must be quick. wanted: whether there is to be a stream at all."""
        self._runtime = runtime
        self._on_hint = on_hint
        self._wanted = wanted
        self._clock = clock
        self._call: Any = None
        self._stopped = threading.Event()
        self._since = 0.0
        self._told = False

    @property
    def live(self) -> bool:
        """Whether a stream stands, so that the relist may be seldom."""
        call = self._call
        return call is not None and bool(call.is_active()) and self._clock() - self._since >= _SETTLE_SECONDS

    def start(self, process: Process) -> None:
        """Follow on a thread of its own until the process stops."""
        if not self._wanted:
            log.info("runtime_events=false: the runtime is polled every second")
            return
        process.on_stop(self._cancel)
        process.start_thread("runtime-events", lambda: self._run(process))

    def _run(self, process: Process) -> None:
        attempt = 0
        while not process.stopping.is_set():
            begun = self._clock()
            try:
                self._follow()
            except Refused as error:
                if not self._told:
                    log.warning("this runtime has no events: polling it every second (%s)", error)
                    self._told = True
                process.wait(_ASK_AGAIN_SECONDS)
            except VkcriError as error:
                if not process.stopping.is_set():
                    log.log(logging.DEBUG if attempt else logging.INFO, "the runtime's events broke off: %s", error)
            lasted = self._clock() - begun >= _SETTLE_SECONDS
            process.wait(_RECONNECT.delay(0 if lasted else attempt))
            attempt = 1 if lasted else attempt + 1

    def _follow(self) -> None:
        """Follow the first source that this runtime has until it breaks. Raises Refused where it has none."""
        refusals = []
        for source in (self._containerd, self._cri):
            try:
                source()
            except Refused as error:
                refusals.append(str(error))
            else:
                raise Unavailable("the stream ended")
        raise Refused("; ".join(refusals))

    def _containerd(self) -> None:
        channel = open_channel(self._runtime.endpoint)
        subscribe = channel.unary_stream(
            _SUBSCRIBE,
            request_serializer=pb.SubscribeRequest.SerializeToString,
            response_deserializer=pb.Envelope.FromString,
        )
        try:
            for envelope in self._messages("Subscribe", subscribe(pb.SubscribeRequest(filters=_FILTERS))):
                if (hint := hint_of(envelope)) is not None:
                    log.debug("%s of %s", envelope.topic, hint.id)
                    self._on_hint(hint)
        finally:
            channel.close()

    def _cri(self) -> None:
        for event in self._messages("GetContainerEvents", self._runtime.container_events()):
            if event.container_event_type in _CRI_KINDS:
                self._on_hint(Hint(event.container_id, _CRI_KINDS[event.container_event_type]))

    def _messages(self, method: str, call: Any) -> Iterator[Any]:
        """The stream's messages, while `live` and `_cancel` know it. Raises our errors."""
        self._call, self._since = call, self._clock()
        try:
            if self._stopped.is_set():  # after `_run` has looked and before `_cancel` could see this call
                call.cancel()
                return
            self._on_hint(Hint("", CONNECTED))
            yield from call
        except grpc.RpcError as failure:
            raise error_of(method, failure) from failure
        finally:
            self._call = None

    def _cancel(self) -> None:
        self._stopped.set()
        call = self._call
        if call is not None:
            call.cancel()


def hint_of(envelope: pb.Envelope) -> Hint | None:
    """The hint in one of containerd's envelopes; None for the exit of an exec and for topics not asked for."""
    kind = _TOPICS.get(envelope.topic)
    if kind is None:
        return None
    if envelope.topic in (_EXIT, _DELETE):
        message = pb.TaskDelete if envelope.topic == _DELETE else pb.TaskExit
        ended = message.FromString(envelope.event.value)
        return Hint(ended.container_id, kind) if ended.id in ("", ended.container_id) else None
    return Hint(pb.TaskEvent.FromString(envelope.event.value).container_id, kind)
