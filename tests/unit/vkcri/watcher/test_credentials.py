"""TLS bootstrap and renewal against an API server whose approver and signer the test plays."""

import json
import logging
import math
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.vkcri import signer as signing_side
from tests.unit.vkcri.kube.scripted import kubeconfig
from tests.unit.vkcri.signer import Signer
from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.waiting import PATIENCE, until
from vkcri.backoff import Backoff
from vkcri.config import WatcherSettings
from vkcri.errors import ConfigError
from vkcri.kube.client import Client
from vkcri.kube.kubeconfig import Kubeconfig
from vkcri.queue.notices import Notice, parse
from vkcri.signing import Patience
from vkcri.watcher import credentials as module
from vkcri.watcher.certificates import COLLECTION
from vkcri.watcher.credentials import NOTICE, Credentials


class Joining:
    """A node that bootstraps; `clock` is added to the time that it sees."""

    def __init__(self, around: Surroundings, tmp_path: Path) -> None:
        self.around = around
        self.signer = Signer()
        self.clock = 0.0
        self.bootstrap = kubeconfig(tmp_path / "bootstrap.conf", around.api.url, {"token": "abcdef.0123456789abcdef"})
        instance = around.process.instance
        self.settings = WatcherSettings(instance=instance, node_name="n1", bootstrap_kubeconfig=str(self.bootstrap))
        self.own = instance.kubelet_kubeconfig
        self.pem = instance.certificates_dir / "kubelet-client-current.pem"
        self.client = Client(Kubeconfig(self.own, "vkcri/test"), wait=around.process.wait)

    def credentials(self, **more: Any) -> Credentials:
        """api-watcher's, as its process makes them at each start."""
        settings = WatcherSettings(
            instance=self.settings.instance,
            node_name="n1",
            bootstrap_kubeconfig=self.settings.bootstrap_kubeconfig,
            **more,
        )
        return Credentials(
            self.around.process,
            settings,
            self.around.notices,
            "vkcri/test",
            now=lambda: time.time() + self.clock,
            patience=Patience(Backoff(first=300.0, factor=1.0, most=300.0)),
        )

    def establish(self) -> threading.Thread:
        """On a thread, since it returns once a certificate is issued."""
        made = self.credentials()
        thread = threading.Thread(target=made.establish, daemon=True)
        thread.start()
        return thread

    def requests(self) -> list[str]:
        return [path for path in list(self.around.api.objects) if path.startswith(COLLECTION)]

    def request(self, but: str = "") -> str:
        """The path of the one that is out."""
        until(lambda: set(self.requests()) - {but})
        (path,) = set(self.requests()) - {but}
        return path

    def notice(self) -> Notice | None:
        raw = self.around.publisher.get("notices", NOTICE)
        return parse(raw) if raw is not None else None

    def issue(self, path: str, seconds: float = 3600.0, age: float = 0.0) -> None:
        self.around.api.change(path, lambda found: self.signer.issue(found, seconds, age))

    def bootstrapped(self, seconds: float = 3600.0, age: float = 0.0) -> str:
        """The request, once its certificate is in use."""
        thread = self.establish()
        path = self.request()
        self.issue(path, seconds, age)
        thread.join(PATIENCE)
        assert self.own.exists()
        return path


@pytest.fixture
def joining(around: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Joining]:
    monkeypatch.setattr(module, "LOOK", Backoff(first=0.05, factor=1.0, most=0.05))
    monkeypatch.setattr(module, "RETRY", Backoff(first=0.05, factor=1.0, most=0.05))
    monkeypatch.setattr(module, "CHECK_SECONDS", 0.1)
    state = around.process.instance.state_dir
    shutil.rmtree(state, ignore_errors=True)
    yield Joining(around, tmp_path)
    around.process.stop()
    shutil.rmtree(state, ignore_errors=True)


def test_a_token_becomes_a_kubeconfig_of_the_nodes_own(joining: Joining, around: Surroundings) -> None:
    path = joining.bootstrapped()
    made = around.api.objects[path]
    assert made["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet"
    assert made["spec"]["usages"] == ["digital signature", "client auth"]
    content = yaml.safe_load(joining.own.read_text())
    assert content["clusters"][0]["cluster"] == {"server": around.api.url}
    assert content["users"][0]["user"] == {"client-certificate": str(joining.pem), "client-key": str(joining.pem)}
    for file in (joining.own, joining.pem):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [file.name for file in joining.pem.parent.iterdir()] == [joining.pem.name]  # no key is left about
    token = {call.headers.get("authorization") for call in around.api.calls("POST", COLLECTION)}
    assert token == {"Bearer abcdef.0123456789abcdef"}
    assert joining.client.server == around.api.url


def test_a_restart_asks_nobody(joining: Joining, around: Surroundings) -> None:
    joining.bootstrapped()
    calls = len(around.api.server.calls)
    joining.bootstrap.unlink()  # it is not needed again
    assert joining.credentials().establish()
    assert len(around.api.server.calls) == calls


def test_an_approval_that_does_not_come_is_a_line_to_type_once(
    joining: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    thread = joining.establish()
    path = joining.request()
    name = path.rpartition("/")[2]
    until(lambda: joining.notice() is not None)
    assert joining.notice() == Notice(
        "this node's client certificate waits for an administrator's approval", f"kubectl certificate approve {name}"
    )
    looks = len(joining.around.api.calls("GET", path))
    until(lambda: len(joining.around.api.calls("GET", path)) > looks + 3)
    assert caplog.text.count(f"kubectl certificate approve {name}") == 1
    joining.around.api.change(path, signing_side.approve)
    until(lambda: "its signer has not signed it yet" in str(joining.notice()))
    joining.issue(path)
    thread.join(PATIENCE)
    assert joining.notice() is None


def test_a_restart_while_it_waits_finds_the_same_request(joining: Joining, around: Surroundings) -> None:
    for _ in range(2):
        joining.establish()  # the process died: another one asks for the same
        path = joining.request()
    until(lambda: len(around.api.calls("GET", path)) > 6)
    assert joining.requests() == [path]
    joining.issue(path)
    until(joining.own.exists)


def test_a_deleted_request_is_made_again_under_its_name(joining: Joining, around: Surroundings) -> None:
    joining.establish()
    path = joining.request()
    around.api.remove(path)  # the cluster's cleaner does, after a day
    assert joining.request() == path
    joining.issue(path)
    until(joining.own.exists)


@pytest.mark.parametrize(
    ("refuse", "words"),
    [
        (signing_side.deny, "was denied (KubectlDeny: This CSR was denied by kubectl certificate deny.)"),
        (signing_side.fail, "was failed (SignerValidationFailure: usages did not match)"),
    ],
)
def test_a_refused_request_is_said_and_followed_by_another_key(
    joining: Joining, around: Surroundings, refuse: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    thread = joining.establish()
    path = joining.request()
    around.api.change(path, refuse)
    until(lambda: words in str(joining.notice()))
    held = joining.notice()
    assert held is not None
    assert held.command == f"kubectl delete csr {path.rpartition('/')[2]}"
    looks = len(around.api.calls("GET", path))
    until(lambda: len(around.api.calls("GET", path)) > looks + 3)
    assert joining.requests() == [path]  # it stands a while
    joining.clock = 301.0
    second = joining.request(but=path)
    assert around.api.objects[second]["spec"]["request"] != around.api.objects[path]["spec"]["request"]
    joining.issue(second)
    thread.join(PATIENCE)
    assert joining.notice() is None
    assert [record.levelname for record in caplog.records if words in record.getMessage()] == ["ERROR"]


@pytest.mark.parametrize(
    ("status", "words", "command"),
    [
        (401, "has expired or was deleted", ""),
        (403, "may not ask for a node's certificate", module.BOOTSTRAPPERS),
        (404, "has no certificate signing requests", ""),
        (503, "no client certificate yet", ""),
    ],
)
def test_what_keeps_a_token_from_asking_is_said_and_it_goes_on_when_it_ends(
    joining: Joining, around: Surroundings, status: int, words: str, command: str
) -> None:
    around.api.refuse("GET" if status != 404 else "POST", f"{COLLECTION}(/.*)?", status, times=math.inf)
    thread = joining.establish()
    until(lambda: words in str(joining.notice()))
    held = joining.notice()
    assert held is not None
    assert held.command == command
    around.api.forgive()
    joining.issue(joining.request())
    thread.join(PATIENCE)
    assert joining.notice() is None


def test_a_new_token_in_the_bootstrap_kubeconfig_is_read_without_a_restart(
    joining: Joining, around: Surroundings
) -> None:
    around.api.refuse("GET", f"{COLLECTION}/.*", 401, times=math.inf)
    joining.establish()
    until(lambda: "has expired" in str(joining.notice()))
    around.api.forgive()
    kubeconfig(joining.bootstrap, around.api.url, {"token": "newest.0123456789abcdef"})
    until(lambda: any("newest" in str(call.headers) for call in around.api.calls("GET", f"{COLLECTION}/.*")))
    joining.issue(joining.request())
    until(joining.own.exists)


def test_renewal_is_by_the_certificate_itself_and_hot(joining: Joining, around: Surroundings) -> None:
    first = joining.bootstrapped()
    before = joining.pem.read_bytes()
    joining.credentials().start(joining.client)
    time.sleep(0.3)  # three looks at a certificate whose time has not come
    assert joining.requests() == [first]
    joining.clock = 3600 * 0.95
    second = joining.request(but=first)
    creations = around.api.calls("POST", COLLECTION)
    assert "authorization" not in {name.lower() for name in creations[-1].headers}  # not by the token
    assert joining.pem.read_bytes() == before  # the old one serves until the new one is there
    joining.issue(second, seconds=10**6)
    until(lambda: joining.pem.read_bytes() != before)
    assert sorted(joining.requests()) == sorted([first, second])


def test_a_certificate_that_ended_while_the_node_was_off_falls_back_to_the_token(
    joining: Joining, around: Surroundings
) -> None:
    first = joining.bootstrapped()
    joining.clock = 2 * 3600
    thread = joining.establish()
    second = joining.request(but=first)
    assert around.api.calls("POST", COLLECTION)[-1].headers["authorization"].startswith("Bearer abcdef")
    joining.issue(second, seconds=10**6)
    thread.join(PATIENCE)
    assert joining.credentials().establish()


def test_a_kubeconfig_that_cannot_be_written_costs_no_second_request(joining: Joining, around: Surroundings) -> None:
    joining.own.mkdir(parents=True)  # in the way
    (joining.own / "full").touch()
    thread = threading.Thread(target=lambda: joining.credentials()._obtain(None), daemon=True)
    thread.start()
    path = joining.request()
    joining.issue(path)
    until(lambda: joining.notice() is not None)
    looks = len(around.api.calls("GET", path))
    until(lambda: len(around.api.calls("GET", path)) > looks + 2)
    assert joining.requests() == [path]
    shutil.rmtree(joining.own)
    thread.join(PATIENCE)
    assert joining.requests() == [path]
    assert joining.credentials().establish()


def test_a_cluster_left_for_another_leaves_no_certificate_to_its_kubeconfig(joining: Joining) -> None:
    joining.bootstrapped()
    joining.own.unlink()
    joining.establish()
    until(lambda: not joining.pem.exists())


def test_another_clusters_or_another_nodes_certificate_is_not_used(joining: Joining, around: Surroundings) -> None:
    first = joining.bootstrapped()
    kubeconfig(joining.bootstrap, around.api.url.replace("127.0.0.1", "localhost"), {"token": "a.b"})
    thread = joining.establish()
    second = joining.request(but=first)
    joining.issue(second)
    thread.join(PATIENCE)
    assert "localhost" in joining.own.read_text()


def test_without_a_token_and_without_a_certificate_a_person_is_waited_for(joining: Joining) -> None:
    joining.bootstrap.unlink()
    with pytest.raises(ConfigError, match=r"no such kubeconfig \(BOOTSTRAP_KUBECONFIG\)"):
        joining.credentials().establish()
    joining.settings = WatcherSettings(instance=joining.settings.instance, node_name="n1", kubeconfig=str(joining.own))
    with pytest.raises(ConfigError, match="BOOTSTRAP_KUBECONFIG=FILE makes a new one"):
        joining.credentials().establish()


def test_no_key_and_no_token_is_ever_logged(joining: Joining, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    joining.bootstrapped()
    secret = json.dumps(joining.pem.read_text())[100:200]
    assert "0123456789abcdef" not in caplog.text
    assert "PRIVATE KEY" not in caplog.text
    assert secret not in caplog.text
