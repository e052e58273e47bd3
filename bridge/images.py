"""Makes sure that a container's image is on the guest: pull policy, credentials, back-off, the kubelet's events.

Called by pods' workers, each of which waits for its own pull; one pull at a time for each image and credentials, a
bounded number in all. Memory holds only the back-off: the runtime's store is the truth.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.pulled import PullRecords
from bridge.spec import ImageRef, find_object, imagenames, keyring
from bridge.spec.context import Objects
from vkcri.api import pods
from vkcri.backoff import BackoffTable
from vkcri.errors import Invalid, NotFound, Unavailable, VkcriError
from vkcri.queue.events import pod_reference

PULL_SECONDS = 1800.0
_INSPECT_SECONDS = 30.0
_REGISTRY_ERRORS = {
    "RegistryUnavailable": "the registry is unavailable",
    "SignatureValidationFailed": "the signature validation failed",
}
_log = logging.getLogger(__name__)


class ImageService(Protocol):
    """The part of bridge.runtime.Runtime that is used here."""

    def image_status(self, request: cri.ImageStatusRequest, *, seconds: float) -> cri.ImageStatusResponse: ...

    def pull_image(self, request: cri.PullImageRequest, *, seconds: float) -> cri.PullImageResponse: ...


class Recorder(Protocol):
    """The part of vkcri.queue.events.EventRecorder that is used here."""

    def event(self, involved: dict[str, Any], type_: str, reason: str, message: str) -> None: ...


class ImageProblem(VkcriError):
    """The image is not there: `reason` and the message are the container's state.waiting. `retry` is in how many
    seconds a next try makes sense."""

    def __init__(self, reason: str, message: str, retry: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry = retry


@dataclass
class _Pull:
    """One pull under way, for all that wait for it."""

    done: threading.Event = field(default_factory=threading.Event)
    ref: str = ""
    login: keyring.Credentials | None = None
    error: VkcriError | None = None
    seconds: float = 0.0


class Images:
    """now: monotonic seconds; parallel: pulls at a time, of different images or credentials; seconds: a pull's
    deadline; records: who may use what was pulled (None: everybody); observe(uid, bytes, seconds): each pull for a
    pod."""

    def __init__(
        self,
        runtime: ImageService,
        recorder: Recorder,
        now: Callable[[], float] = time.monotonic,
        *,
        parallel: int = 4,
        seconds: float = PULL_SECONDS,
        records: PullRecords | None = None,
        observe: Callable[[str, int, float], None] = lambda _uid, _size, _seconds: None,
    ) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._now = now
        self._seconds = seconds
        self._records = records
        self._observe = observe
        self._slots = threading.BoundedSemaphore(parallel)
        self._lock = threading.Lock()
        self._pulls: dict[tuple[str, str], _Pull] = {}
        self._backoff = BackoffTable(10.0, 300.0)
        self._last_error: dict[str, str] = {}

    def ensure(
        self,
        pod: dict[str, Any],
        container: Mapping[str, Any],
        secrets: Sequence[Mapping[str, Any]] = (),
        sandbox: cri.PodSandboxConfig | None = None,
    ) -> ImageRef:
        """The container's image, pulled if its policy says so. secrets: the pod's imagePullSecrets (see pull_secrets).
        Raises ImageProblem, after the events that the kubelet records for it."""
        try:
            return self._ensured(pod, container, secrets, sandbox)
        except ImageProblem as problem:
            self._event(pod, container, "Warning", "Failed", f"Error: {problem.reason}")
            raise

    def ensure_volume(
        self,
        pod: dict[str, Any],
        source: Mapping[str, Any],
        container: Mapping[str, Any],
        secrets: Sequence[Mapping[str, Any]] = (),
    ) -> ImageRef:
        """The image of a volume, as `ensure`: its pull is told of the pod, its want of the container that mounts it."""
        wanted = {"image": source.get("reference"), "imagePullPolicy": source.get("pullPolicy")}
        try:
            return self._ensured(pod, wanted, secrets, None)
        except ImageProblem as problem:
            self._event(pod, container, "Warning", "Failed", f"Error: {problem.reason}")
            raise

    def forget(self, uid: str) -> None:
        """Drop the back-off of a pod that is gone."""
        with self._lock:
            for key in [key for key in self._last_error if key.startswith(f"{uid}_")]:
                del self._last_error[key]
                self._backoff.reset(key)

    def _ensured(
        self,
        pod: dict[str, Any],
        container: Mapping[str, Any],
        secrets: Sequence[Mapping[str, Any]],
        sandbox: cri.PodSandboxConfig | None,
    ) -> ImageRef:
        written = str(container.get("image") or "")
        try:
            name = imagenames.parse(written)
        except Invalid as error:
            message = f'Failed to apply default image tag "{written}": {error}'
            self._event(pod, container, "Warning", "InspectFailed", message)
            raise ImageProblem("InvalidImageName", message, self._backoff.most) from error
        policy = container.get("imagePullPolicy") or name.default_policy
        if policy != "Always":
            present = self._inspect(pod, container, name)
            if present and self._may_use(name, present, secrets):
                message = f'Container image "{written}" already present on machine'
                message += " and can be accessed by the pod" if self._records else ""
                self._event(pod, container, "Normal", "Pulled", message)
                return present
            if policy == "Never":
                message = f'Container image "{written}" is not present with pull policy of Never'
                self._event(pod, container, "Warning", "ErrImageNeverPull", message)
                raise ImageProblem("ErrImageNeverPull", message, self._backoff.first)
        return self._pulled(pod, container, name, secrets, sandbox)

    def _inspect(
        self, pod: dict[str, Any], container: Mapping[str, Any], name: imagenames.ImageName
    ) -> ImageRef | None:
        """The image if it is there. Raises ImageProblem(ImageInspectError)."""
        try:
            return self._status(name, name.tagged)[0]
        except VkcriError as error:
            message = f'Failed to inspect image "{name.tagged}": {error}'
            self._event(pod, container, "Warning", "InspectFailed", message)
            raise ImageProblem("ImageInspectError", message, self._backoff.first) from error

    def _may_use(self, name: imagenames.ImageName, present: ImageRef, secrets: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the pod may run what is there; a pull secret that cannot be read is no login here."""
        if self._records is None:
            return True
        try:
            logins = keyring.lookup(secrets, name.repository)
        except Invalid as error:
            _log.warning("image %s: %s", name.written, error)
            logins = []
        return self._records.may_use(name.written, present.ref, logins)

    def _status(self, name: imagenames.ImageName, ref: str) -> tuple[ImageRef | None, int]:
        """(the image or None, its size in bytes)."""
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=ref))
        image = self._runtime.image_status(request, seconds=_INSPECT_SECONDS).image
        if not image.id:
            return None, 0
        digest = next((item for item in image.repo_digests if item.startswith(f"{name.repository}@")), "")
        digest = digest or next(iter(image.repo_digests), "")
        uid = int(image.uid.value) if image.HasField("uid") else None
        return ImageRef(name.written, image.id, digest or image.id, uid, image.username), int(image.size)

    def _pulled(
        self,
        pod: dict[str, Any],
        container: Mapping[str, Any],
        name: imagenames.ImageName,
        secrets: Sequence[Mapping[str, Any]],
        sandbox: cri.PodSandboxConfig | None,
    ) -> ImageRef:
        key = f"{pods.uid(pod)}_{name.written}"
        self._check_backoff(pod, container, name, key)
        self._event(pod, container, "Normal", "Pulling", f'Pulling image "{name.written}"')
        if self._records:
            self._records.begin(name.written)
        started = self._now()
        try:
            logins = keyring.lookup(secrets, name.repository)
            pull = self._pull_once(name, logins, dict(pods.annotations(pod)), sandbox)
            found, size = self._status(name, pull.ref)
            if found is None:
                raise Unavailable(f'image "{name.written}" is not there after its pull')
            if self._records:
                self._records.end(name.written, found.ref, pull.login)
        except VkcriError as error:
            raise self._failed(pod, container, name, key, error) from error
        self._observe(pods.uid(pod), size, self._now() - started)
        with self._lock:
            self._backoff.collect(self._now())
        waited = _go_duration(self._now() - started)
        message = (
            f'Successfully pulled image "{name.written}" in {_go_duration(pull.seconds)} ({waited} including waiting).'
        )
        self._event(pod, container, "Normal", "Pulled", f"{message} Image size: {size} bytes.")
        return found

    def _check_backoff(
        self, pod: dict[str, Any], container: Mapping[str, Any], name: imagenames.ImageName, key: str
    ) -> None:
        with self._lock:
            left = self._backoff.remaining_since_update(key, self._now())
            last = self._last_error.get(key, "")
            if left <= 0:
                self._last_error.pop(key, None)
        if left > 0:
            message = f'Back-off pulling image "{name.written}"'
            self._event(pod, container, "Normal", "BackOff", message)
            raise ImageProblem("ImagePullBackOff", f"{message}: {last}" if last else message, left)

    def _failed(
        self,
        pod: dict[str, Any],
        container: Mapping[str, Any],
        name: imagenames.ImageName,
        key: str,
        error: VkcriError,
    ) -> ImageProblem:
        """Note the failure; the problem to raise."""
        self._event(pod, container, "Warning", "Failed", f'Failed to pull image "{name.written}": {error}')
        reason, message = "ErrImagePull", str(error)
        for prefix, what in _REGISTRY_ERRORS.items():
            if message.startswith(prefix):
                reason = prefix
                message = f"image pull failed for {name.written} because {what}{message.removeprefix(prefix)}"
        if self._records:
            self._records.end(name.written)
        with self._lock:
            delay = self._backoff.next(key, self._now())
            self._last_error[key] = f"{reason}: {message}"
        return ImageProblem(reason, message, delay)

    def _pull_once(
        self,
        name: imagenames.ImageName,
        logins: Sequence[keyring.Credentials],
        annotations: Mapping[str, str],
        sandbox: cri.PodSandboxConfig | None,
    ) -> _Pull:
        """Pull, or wait for the same pull of another pod. Raises its error."""
        key = (name.tagged, ",".join(login.fingerprint for login in logins))
        with self._lock:
            pull = self._pulls.get(key)
            mine = pull is None
            if pull is None:
                pull = self._pulls[key] = _Pull()
        if mine:
            try:
                self._run(pull, name, logins, annotations, sandbox)
            finally:
                with self._lock:
                    del self._pulls[key]
                pull.done.set()
        elif not pull.done.wait(2 * self._seconds):
            raise Unavailable(f'waited too long for another pull of image "{name.written}"')
        if pull.error:
            raise pull.error
        return pull

    def _run(
        self,
        pull: _Pull,
        name: imagenames.ImageName,
        logins: Sequence[keyring.Credentials],
        annotations: Mapping[str, str],
        sandbox: cri.PodSandboxConfig | None,
    ) -> None:
        """One login after the other until one is accepted; none at all: anonymously. The outcome goes into pull."""
        pull.error = Unavailable(f'the pull of image "{name.written}" ended early')
        if not self._slots.acquire(timeout=self._seconds):
            pull.error = Unavailable(f'too many pulls are under way for image "{name.written}" to begin')
            return
        errors: list[VkcriError] = []
        started = self._now()
        spec = cri.ImageSpec(image=name.tagged, annotations=annotations, user_specified_image=name.written)
        try:
            attempts: list[keyring.Credentials | None] = [*logins]
            for login in attempts or [None]:
                request = cri.PullImageRequest(image=spec, sandbox_config=sandbox)
                if login is not None:
                    request.auth.username, request.auth.password = login.username, login.password
                try:
                    pull.ref = self._runtime.pull_image(request, seconds=self._seconds).image_ref
                    pull.login, pull.error = login, None
                    return
                except VkcriError as error:
                    errors.append(error)
            pull.error = errors[0] if len(errors) == 1 else _joined(errors)
        finally:
            pull.seconds = self._now() - started
            self._slots.release()

    def _event(self, pod: dict[str, Any], container: Mapping[str, Any], type_: str, reason: str, message: str) -> None:
        name = str(container["name"]) if container.get("name") else None  # a volume's image is of no container
        reference = pod_reference(pod, name, pods.container_field(pod, name) if name else "")
        self._recorder.event(reference, type_, reason, message)


def pull_secrets(pod: dict[str, Any], objects: Objects, recorder: Recorder) -> list[dict[str, Any]]:
    """The pod's imagePullSecrets that can be had; for the others the event FailedToRetrieveImagePullSecret, and the
    pull is tried without. Raises Unavailable while one is not known yet."""
    found, missing = [], []
    for reference in pods.spec(pod).get("imagePullSecrets") or []:
        name = str(reference.get("name") or "")
        if not name:
            continue
        try:
            found.append(find_object(objects, "secrets", pods.namespace(pod), name))
        except Unavailable:
            raise
        except VkcriError as error:
            _log.debug("%s: %s", pods.full_name(pod), error)
            missing.append(name)
    if missing:
        message = (
            f"Unable to retrieve some image pull secrets ({', '.join(missing)}); attempting to pull the image may not "
            "succeed."
        )
        recorder.event(pod_reference(pod), "Warning", "FailedToRetrieveImagePullSecret", message)
    return found


def _joined(errors: Sequence[VkcriError]) -> VkcriError:
    """Several credentials failed: all reasons, the class of the last."""
    unique = list(dict.fromkeys(str(error) for error in errors))
    kind = NotFound if all(isinstance(error, NotFound) for error in errors) else Unavailable
    return kind(unique[0] if len(unique) == 1 else f"[{', '.join(unique)}]")


def _go_duration(seconds: float) -> str:
    """As Go prints a duration cut to milliseconds: 523ms, 1.204s, 1m2.5s, 0s."""
    millis = int(seconds * 1000)
    if millis < 1000:
        return f"{millis}ms" if millis else "0s"
    minutes, rest = divmod(millis, 60_000)
    whole = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    hours, minutes = divmod(minutes, 60)
    prefix = f"{hours}h{minutes}m" if hours else (f"{minutes}m" if minutes else "")
    return f"{prefix}{whole}s"
