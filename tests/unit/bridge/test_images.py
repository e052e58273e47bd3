"""Images: policy, events, back-off and shared pulls on a scripted runtime; credentials on a real registry."""

import base64
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import images as images_module
from bridge.images import ImageProblem, Images, _Pull, pull_secrets
from bridge.images_local import Entry, layer_of, oci_archive
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.spec import ImageRef
from tests.ports import closed_port
from tests.waiting import PATIENCE
from vkcri.errors import NotFound, Unavailable, VkcriError

DIGEST = "sha256:" + "a" * 64


class Recorder:
    """Keeps events as (type, reason, message), and what they are about."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.involved: list[dict[str, Any]] = []

    def event(self, involved: dict[str, Any], type_: str, reason: str, message: str) -> None:
        self.involved.append(involved)
        self.events.append((type_, reason, message))

    @property
    def reasons(self) -> list[str]:
        return [reason for _, reason, _ in self.events]


class Store:
    """A runtime's image store that is told what a pull does. `present` holds names and ids."""

    def __init__(self, now: Callable[[float], None]) -> None:
        self.present: set[str] = set()
        self.pulls: list[cri.PullImageRequest] = []
        self.failures: list[VkcriError] = []
        self.inspect_error: VkcriError | None = None
        self.wait: threading.Event | None = None
        self.started = threading.Semaphore(0)
        self._pass = now

    def image_status(self, request: cri.ImageStatusRequest, *, seconds: float) -> cri.ImageStatusResponse:
        assert seconds > 0
        if self.inspect_error:
            raise self.inspect_error
        if request.image.image not in self.present:
            return cri.ImageStatusResponse()
        image = cri.Image(id="sha256:id", repo_digests=[f"other@{DIGEST}", f"example.com/a@{DIGEST}"], size=1234)
        image.uid.value = 7
        return cri.ImageStatusResponse(image=image)

    def pull_image(self, request: cri.PullImageRequest, *, seconds: float) -> cri.PullImageResponse:
        assert seconds > 0
        self.pulls.append(request)
        self.started.release()
        if self.wait is not None:
            assert self.wait.wait(PATIENCE)
        self._pass(1.25)
        if self.failures:
            raise self.failures.pop(0)
        self.present |= {request.image.image, "sha256:id"}
        return cri.PullImageResponse(image_ref="sha256:id")


class Bench:
    """Images on a scripted store with a clock set by hand."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.recorder = Recorder()
        self.store = Store(self.advance)
        self.images = Images(self.store, self.recorder, now=lambda: self.now, **options)

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def ensure(self, image: str = "example.com/a:1", policy: str | None = None, **more: Any) -> ImageRef:
        found = pod(image, policy, **more)
        return self.images.ensure(found, found["spec"]["containers"][0], more.get("secrets", ()))

    def problem(self, *arguments: Any, **named: Any) -> ImageProblem:
        with pytest.raises(ImageProblem) as caught:
            self.ensure(*arguments, **named)
        return caught.value


def pod(image: str, policy: str | None = None, uid: str = "u-1", **_: Any) -> dict[str, Any]:
    container = {"name": "app", "image": image, **({"imagePullPolicy": policy} if policy else {})}
    return {"metadata": {"name": "web", "namespace": "shop", "uid": uid}, "spec": {"containers": [container]}}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_an_image_that_is_missing_is_pulled_with_the_kubelets_events(bench: Bench) -> None:
    found = bench.ensure()
    assert found == ImageRef("example.com/a:1", "sha256:id", f"example.com/a@{DIGEST}", 7, "")
    assert bench.recorder.events == [
        ("Normal", "Pulling", 'Pulling image "example.com/a:1"'),
        (
            "Normal",
            "Pulled",
            'Successfully pulled image "example.com/a:1" in 1.25s (1.25s including waiting). Image size: 1234 bytes.',
        ),
    ]
    assert bench.recorder.involved[0]["fieldPath"] == "spec.containers{app}"


def test_a_pull_is_told_with_its_size_and_seconds_and_a_present_image_is_none() -> None:
    seen: list[tuple[str, int, float]] = []
    bench = Bench(observe=lambda *about: seen.append(about))
    for _ in range(2):
        bench.ensure()
    assert seen == [("u-1", 1234, 1.25)]


class TestVolumes:
    POD = pod("example.com/app:1")

    def ensure(self, bench: Bench, policy: str) -> ImageRef:
        source = {"reference": "example.com/a:1", "pullPolicy": policy}
        return bench.images.ensure_volume(self.POD, source, self.POD["spec"]["containers"][0])

    def test_the_image_of_a_volume_is_pulled_for_the_pod(self, bench: Bench) -> None:
        assert self.ensure(bench, "IfNotPresent").ref == self.ensure(bench, "Always").ref == "sha256:id"
        assert [event[1] for event in bench.recorder.events] == ["Pulling", "Pulled"] * 2
        assert all("fieldPath" not in reference for reference in bench.recorder.involved)

    def test_its_want_is_told_of_the_container_that_mounts_it(self, bench: Bench) -> None:
        with pytest.raises(ImageProblem) as caught:
            self.ensure(bench, "Never")
        assert caught.value.reason == "ErrImageNeverPull"
        assert [event[1:] for event in bench.recorder.events] == [
            ("ErrImageNeverPull", 'Container image "example.com/a:1" is not present with pull policy of Never'),
            ("Failed", "Error: ErrImageNeverPull"),
        ]
        assert ["fieldPath" in reference for reference in bench.recorder.involved] == [False, True]


def test_an_image_that_is_present_is_not_pulled_again(bench: Bench) -> None:
    bench.store.present.add("example.com/a:1")
    assert bench.ensure(policy="IfNotPresent").ref == "sha256:id"
    assert bench.store.pulls == []
    assert bench.recorder.events == [
        ("Normal", "Pulled", 'Container image "example.com/a:1" already present on machine')
    ]


@pytest.mark.parametrize(
    ("image", "policy", "pulls"),
    [
        ("example.com/a:1", "Always", 1),
        ("example.com/a", None, 1),
        ("example.com/a:latest", None, 1),
        ("example.com/a:1", None, 0),
        ("example.com/a", "IfNotPresent", 0),
        (f"example.com/a@{DIGEST}", None, 0),
    ],
)
def test_the_policy_decides_whether_a_present_image_is_pulled(
    bench: Bench, image: str, policy: str | None, pulls: int
) -> None:
    bench.store.present |= {"example.com/a:1", "example.com/a:latest", f"example.com/a@{DIGEST}"}
    bench.ensure(image, policy)
    assert len(bench.store.pulls) == pulls


def test_a_name_without_tag_means_latest(bench: Bench) -> None:
    bench.ensure("example.com/a")
    (request,) = bench.store.pulls
    assert (request.image.image, request.image.user_specified_image) == ("example.com/a:latest", "example.com/a")


def test_never_means_never(bench: Bench) -> None:
    problem = bench.problem(policy="Never")
    message = 'Container image "example.com/a:1" is not present with pull policy of Never'
    assert (problem.reason, str(problem)) == ("ErrImageNeverPull", message)
    assert bench.recorder.events == [
        ("Warning", "ErrImageNeverPull", message),
        ("Warning", "Failed", "Error: ErrImageNeverPull"),
    ]
    assert bench.store.pulls == []


def test_a_name_that_is_none_is_said(bench: Bench) -> None:
    problem = bench.problem("a b")
    assert problem.reason == "InvalidImageName"
    assert str(problem) == (
        'Failed to apply default image tag "a b": couldn\'t parse image name "a b": invalid reference format'
    )
    assert bench.recorder.reasons == ["InspectFailed", "Failed"]


def test_an_image_that_cannot_be_inspected_is_said(bench: Bench) -> None:
    bench.store.inspect_error = Unavailable("no answer")
    problem = bench.problem()
    assert (problem.reason, str(problem)) == (
        "ImageInspectError",
        'Failed to inspect image "example.com/a:1": no answer',
    )


def test_a_failed_pull_backs_off_from_10_s_to_300_s_and_tells_why(bench: Bench) -> None:
    delays = []
    for _ in range(7):
        bench.store.failures = [NotFound("no such image")]
        problem = bench.problem()
        assert (problem.reason, str(problem)) == ("ErrImagePull", "no such image")
        delays.append(problem.retry)
        bench.advance(problem.retry / 2)
        waiting = bench.problem()
        assert waiting.reason == "ImagePullBackOff"
        assert str(waiting) == 'Back-off pulling image "example.com/a:1": ErrImagePull: no such image'
        assert waiting.retry == pytest.approx(problem.retry / 2)
        bench.advance(waiting.retry)
    assert delays == [10, 20, 40, 80, 160, 300, 300]
    assert len(bench.store.pulls) == 7
    assert bench.recorder.events[:6] == [
        ("Normal", "Pulling", 'Pulling image "example.com/a:1"'),
        ("Warning", "Failed", 'Failed to pull image "example.com/a:1": no such image'),
        ("Warning", "Failed", "Error: ErrImagePull"),
        ("Normal", "BackOff", 'Back-off pulling image "example.com/a:1"'),
        ("Warning", "Failed", "Error: ImagePullBackOff"),
        ("Normal", "Pulling", 'Pulling image "example.com/a:1"'),
    ]


def test_the_back_off_is_of_one_pod_and_image(bench: Bench) -> None:
    bench.store.failures = [NotFound("x")]
    bench.problem()
    assert bench.ensure(uid="u-2").ref == "sha256:id"
    bench.store.present.clear()
    assert bench.ensure("example.com/b:1").ref == "sha256:id"


def test_a_pod_that_is_gone_leaves_no_back_off(bench: Bench) -> None:
    bench.store.failures = [NotFound("x")]
    bench.problem()
    bench.images.forget("u-1")
    assert bench.ensure().ref == "sha256:id"


def test_an_image_that_appears_ends_the_back_off(bench: Bench) -> None:
    bench.store.failures = [NotFound("x")]
    bench.problem()
    bench.store.present |= {"example.com/a:1"}
    assert bench.ensure(policy="IfNotPresent").ref == "sha256:id"


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        (
            "RegistryUnavailable: try later",
            "RegistryUnavailable",
            "image pull failed for example.com/a:1 because the registry is unavailable: try later",
        ),
        (
            "SignatureValidationFailed",
            "SignatureValidationFailed",
            "image pull failed for example.com/a:1 because the signature validation failed",
        ),
    ],
)
def test_reasons_of_the_runtime_are_kept(bench: Bench, text: str, reason: str, message: str) -> None:
    bench.store.failures = [Unavailable(text)]
    problem = bench.problem()
    assert (problem.reason, str(problem)) == (reason, message)


def login(username: str, registry: str = "example.com") -> dict[str, Any]:
    auth = base64.b64encode(f"{username}:pass word".encode()).decode()
    text = json.dumps({"auths": {registry: {"auth": auth}}})
    return {
        "metadata": {"name": username, "namespace": "shop"},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": base64.b64encode(text.encode()).decode()},
    }


def test_each_login_is_tried_until_one_is_accepted(bench: Bench) -> None:
    bench.store.failures = [Unavailable("401")]
    bench.ensure(secrets=[login("one"), login("two"), login("three"), login("else", "other.com")])
    assert [(request.auth.username, request.auth.password) for request in bench.store.pulls] == [
        ("one", "pass word"),
        ("two", "pass word"),
    ]


def test_all_reasons_are_told_when_no_login_is_accepted(bench: Bench) -> None:
    bench.store.failures = [Unavailable("401 one"), Unavailable("401 two")]
    assert str(bench.problem(secrets=[login("one"), login("two")])) == "[401 one, 401 two]"


def test_no_login_that_fits_pulls_anonymously(bench: Bench) -> None:
    bench.ensure(secrets=[login("else", "other.com")])
    assert not bench.store.pulls[0].HasField("auth")


def test_a_broken_pull_secret_fails_the_pull_by_name(bench: Bench) -> None:
    broken = login("one") | {"data": {".dockerconfigjson": "!"}}
    problem = bench.problem(secrets=[broken])
    assert (problem.reason, str(problem)) == (
        "ErrImagePull",
        "image pull secret shop/one is not a docker configuration",
    )


def together(*calls: Callable[[], object]) -> tuple[list[threading.Thread], list[object]]:
    results: list[object] = []

    def run(call: Callable[[], object]) -> None:
        try:
            results.append(call())
        except VkcriError as error:
            results.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    return threads, results


@pytest.fixture
def sharers(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released by each who waits for the pull of another."""
    counted = threading.Semaphore(0)

    class Done(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            counted.release()
            return super().wait(timeout)

    monkeypatch.setattr(images_module, "_Pull", lambda: _Pull(done=Done()))
    return counted


def test_pods_that_want_the_same_image_share_one_pull(bench: Bench, sharers: threading.Semaphore) -> None:
    bench.store.wait = threading.Event()
    threads, results = together(lambda: bench.ensure(uid="u-1"), lambda: bench.ensure(uid="u-2"))
    assert bench.store.started.acquire(timeout=PATIENCE)
    assert sharers.acquire(timeout=PATIENCE)
    bench.store.wait.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert (len(bench.store.pulls), len(results)) == (1, 2)
    assert all(isinstance(result, ImageRef) for result in results)


def test_a_pull_with_other_credentials_is_not_shared(bench: Bench) -> None:
    bench.store.wait = threading.Event()
    threads, _ = together(
        lambda: bench.ensure(uid="u-1", secrets=[login("one")]), lambda: bench.ensure(uid="u-2", secrets=[login("two")])
    )
    assert bench.store.started.acquire(timeout=PATIENCE)
    assert bench.store.started.acquire(timeout=PATIENCE)
    bench.store.wait.set()
    for thread in threads:
        thread.join(PATIENCE)


def test_the_number_of_pulls_at_a_time_is_bounded() -> None:
    bench = Bench(parallel=1)
    bench.store.wait = threading.Event()
    threads, results = together(
        lambda: bench.ensure("example.com/a:1"), lambda: bench.ensure("example.com/b:1", uid="u-2")
    )
    assert bench.store.started.acquire(timeout=PATIENCE)
    assert not bench.store.started.acquire(timeout=0.2)
    bench.store.wait.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(results) == len(bench.store.pulls) == 2


def test_all_waiters_hear_of_a_shared_failure(bench: Bench, sharers: threading.Semaphore) -> None:
    bench.store.wait, bench.store.failures = threading.Event(), [NotFound("gone")]
    threads, results = together(lambda: bench.ensure(uid="u-1"), lambda: bench.ensure(uid="u-2"))
    assert bench.store.started.acquire(timeout=PATIENCE)
    assert sharers.acquire(timeout=PATIENCE)
    bench.store.wait.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert [str(result) for result in results] == ["gone", "gone"]


def test_pull_secrets_that_are_missing_are_told_and_the_rest_is_used() -> None:
    recorder = Recorder()
    found = pod("a")
    found["spec"]["imagePullSecrets"] = [{"name": "here"}, {"name": "gone"}, {"name": "closed"}]
    objects = {"secrets/shop/here": json.dumps(login("here")).encode(), "secrets/shop/closed": b"forbidden"}
    assert pull_secrets(found, lambda key: objects.get(key, b"absent"), recorder) == [login("here")]
    assert recorder.events == [
        (
            "Warning",
            "FailedToRetrieveImagePullSecret",
            "Unable to retrieve some image pull secrets (gone, closed); attempting to pull the image may not succeed.",
        )
    ]
    with pytest.raises(Unavailable):
        pull_secrets(found, lambda _key: None, recorder)


# The password "pass word" for the user "me", as docker-registry's htpasswd wants it.
HTPASSWD = "me:$2b$04$OphXKmKx.p2ZqUdGek/.LuWu57u9uQwqGU80BrF9kCX/KKIi2y5am\n"


@pytest.fixture
def port() -> Iterator[int]:
    with closed_port(lent=True) as found:
        yield found


@pytest.fixture
def registry(tmp_path: Path, port: int) -> Iterator[str]:
    """A real registry on loopback that wants a login, with the image team/shell:1 in it. Gives HOST:PORT."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "store")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": {"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}},
        "log": {"level": "error", "accesslog": {"disabled": True}},
    }
    (tmp_path / "config.yml").write_text(json.dumps(config))
    # Of a content of its own: RemoveImage takes away every name of the same content, such as the shared shell image's.
    layer = layer_of([Entry("private", 0o644, b"private\n")])
    (tmp_path / "shell.tar").write_bytes(oci_archive("shell:1", layer, {}))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", tmp_path / "config.yml"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while _copy(tmp_path / "shell.tar", f"127.0.0.1:{port}/team/shell:1") != 0:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            assert process.poll() is None, (tmp_path / "log").read_text()
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _copy(archive: Path, target: str) -> int:
    command = ["skopeo", "copy", "-q", "--dest-tls-verify=false", "--dest-creds=me:pass word"]
    command += [f"oci-archive:{archive}", f"docker://{target}"]
    return subprocess.run(
        command, timeout=60, stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": "/tmp"}
    ).returncode


@pytest.mark.container
def test_a_private_image_is_pulled_with_its_secret_only(containerd_runtime: Runtime, registry: str) -> None:
    bench = Bench()
    images = Images(containerd_runtime, bench.recorder)
    found = pod(f"{registry}/team/shell:1")
    container = found["spec"]["containers"][0]
    with pytest.raises(ImageProblem) as caught:
        images.ensure(found, container, [])
    assert (caught.value.reason, "401" in str(caught.value) or "authorization" in str(caught.value)) == (
        "ErrImagePull",
        True,
    )
    images.forget("u-1")
    with pytest.raises(ImageProblem):
        images.ensure(found, container, [login("wrong", registry)])
    images.forget("u-1")
    pulled = images.ensure(found, container, [login("wrong", registry), login("me", f"{registry}/team")])
    assert pulled.digest.startswith(f"{registry}/team/shell@sha256:")
    by_digest = pod(pulled.digest, uid="u-2")
    assert images.ensure(by_digest, by_digest["spec"]["containers"][0]).ref == pulled.ref
    request = cri.RemoveImageRequest(image=cri.ImageSpec(image=pulled.ref))
    containerd_runtime.remove_image(request)
    with pytest.raises(ImageProblem, match="not found"):
        missing = pod(f"{registry}/team/none:1", uid="u-3")
        images.ensure(missing, missing["spec"]["containers"][0], [login("me", registry)])
