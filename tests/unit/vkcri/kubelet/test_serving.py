"""The serving certificate by CSR: asked for, said, accepted, renewed, asked for anew when addresses change."""

import json
import math
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.living import living
from tests.unit.vkcri.kubelet.node import Node
from tests.unit.vkcri.signer import Signer
from tests.waiting import until
from vkcri.backoff import Backoff
from vkcri.config import KubeletSettings
from vkcri.errors import NotFound, Refused, Unavailable, VkcriError
from vkcri.kubelet import serving
from vkcri.kubelet.serving import NOTICE, ServingCertificate, pair_of
from vkcri.kubelet.tls import ServingTls
from vkcri.lifecycle import Process
from vkcri.queue import Publisher
from vkcri.queue.notices import Notice, Notices, parse
from vkcri.signing import Pair, Patience, Subject

ADDRESSES = [{"type": "InternalIP", "address": "192.0.2.7"}, {"type": "Hostname", "address": "n1"}]


class Cluster:
    """api-watcher as log-server sees it: the topic `node`, and answers to certificate-signing. `state`: of the request
    that is out; `requests`: all that came."""

    def __init__(self, process: Process) -> None:
        self.publisher = Publisher(process.instance.queue_socket("watcher"), ("node",))
        self.publisher.start(process)
        self.signer = Signer()
        self.state = "pending"
        self.seconds = 3600.0
        self.signed = b""  # in the place of what was asked for
        self.error: VkcriError | None = None
        self.requests: list[str] = []

    def node(self, addresses: list[dict[str, str]]) -> None:
        value = {"metadata": {"name": "n1"}, "status": {"addresses": addresses}}
        self.publisher.replace("node", {"n1": json.dumps(value).encode()})

    def ask(self, name: str, body: dict[str, Any], _timeout: float) -> dict[str, Any]:
        assert name == "certificate-signing"
        if self.error is not None:
            raise self.error
        request = body["request"]
        if request not in self.requests:
            self.requests.append(request)
        signed = self.signed or request.encode()
        made = self.signer.sign(signed, self.seconds).decode() if self.state == "issued" else ""
        name = f"csr-{self.requests.index(request)}"
        return {"name": name, "state": self.state, "certificate": made, "message": "Because: so"}


class Kubelet:
    """log-server's part; each `turn` is one look, as its thread has it."""

    def __init__(self, process: Process, cluster: Cluster) -> None:
        instance = process.instance
        self.cluster = cluster
        self.clock = 0.0
        self.settings = KubeletSettings(
            instance=instance, node_name="n1", pod_ip="192.0.2.7", kubeconfig="/some/kubelet.conf"
        )
        pair = pair_of(self.settings)
        assert pair is not None
        self.pair = pair
        self.publisher = Publisher(instance.queue_socket("kubelet"), ("notices",))
        self.client_ca: str | None = cluster.signer.ca.certificate.decode()
        self.notices = Notices(self.publisher)
        self.serving = ServingCertificate(
            self.settings,
            pair,
            cluster.ask,
            self.notices,
            lambda: self.client_ca,
            now=lambda: time.time() + self.clock,
            patience=Patience(Backoff(first=100.0, factor=1.0, most=100.0)),
        )
        self.serving._node.start(process)
        self.tls = ServingTls(self.settings, self._ca, pair, now=lambda: time.time() + self.clock)

    def _ca(self) -> str:
        raise Unavailable("away")

    def learn(self, addresses: list[dict[str, str]] = ADDRESSES) -> None:
        self.cluster.node(addresses)
        wanted = Subject.of_node("n1", addresses)
        until(lambda: self.serving._wanted() == wanted)

    def notice(self) -> Notice | None:
        raw = self.publisher.get("notices", NOTICE)
        return parse(raw) if raw is not None else None

    def issued(self) -> None:
        self.cluster.state = "issued"
        assert self.serving.turn() == 0.0
        self.serving.turn()


@pytest.fixture
def kubelet() -> Iterator[Kubelet]:
    made = Node()
    with living("watcher", made.instance) as watcher, living("log-server", made.instance) as own:
        yield Kubelet(own, Cluster(watcher))
    made.release()


def test_nothing_is_asked_before_the_node_and_its_cluster_are_known(kubelet: Kubelet) -> None:
    assert kubelet.serving.turn() == serving.AWAY_SECONDS
    kubelet.learn([{"type": "Hostname", "address": "n1"}])
    assert kubelet.serving.turn() == serving.AWAY_SECONDS  # the kubelet wants an address too
    kubelet.learn()
    kubelet.client_ca = None
    assert kubelet.serving.turn() == serving.AWAY_SECONDS
    assert kubelet.cluster.requests == []
    assert not kubelet.publisher.synced("notices")


def test_a_request_that_waits_is_a_line_to_type_and_the_same_after_a_restart(
    kubelet: Kubelet, caplog: pytest.LogCaptureFixture
) -> None:
    kubelet.learn()
    for _ in range(5):
        kubelet.serving.turn()
    text = "the kubelet API's serving certificate waits for an administrator's approval"
    assert kubelet.notice() == Notice(text, "kubectl certificate approve csr-0")
    assert caplog.text.count("kubectl certificate approve csr-0") == 1
    assert kubelet.publisher.synced("notices")
    assert Pair(kubelet.pair.current.parent, "kubelet-server").request(Subject.of_node("n1", ADDRESSES)).decode() in (
        kubelet.cluster.requests
    )
    assert len(kubelet.cluster.requests) == 1
    kubelet.cluster.state = "approved"
    kubelet.serving.turn()
    assert "its signer has not signed it yet" in str(kubelet.notice())


def test_an_issued_certificate_takes_the_place_of_the_self_signed_one(kubelet: Kubelet) -> None:
    kubelet.learn()
    kubelet.serving.turn()
    before = kubelet.tls.context
    assert not kubelet.tls.look()
    kubelet.issued()
    assert kubelet.notice() is None
    assert kubelet.tls.look()
    assert kubelet.tls.context is not before
    held = kubelet.pair.issued()
    assert held is not None
    assert held.subject == Subject.of_node("n1", ADDRESSES)
    assert len(kubelet.cluster.requests) == 1
    again = ServingTls(kubelet.settings, kubelet._ca, kubelet.pair)  # after a restart
    assert not again.look()
    assert _own(again.context) == kubelet.pair.current.read_text().partition("\n")[2][:200]


def _own(context: ssl.SSLContext) -> str:
    """The beginning of the certificate that a context serves, as PEM."""
    from tests.unit.vkcri.kubelet.test_tls import _served

    return ssl.DER_cert_to_PEM_cert(_served(context))[:200]


def test_it_is_renewed_in_its_time_and_the_old_one_serves_meanwhile(kubelet: Kubelet) -> None:
    kubelet.learn()
    assert serving.seconds_left(kubelet.pair, time.time()) == math.inf
    kubelet.issued()
    held = kubelet.pair.issued()
    assert held is not None
    assert serving.seconds_left(kubelet.pair, held.not_after - 90.5) == 90
    assert serving.seconds_left(kubelet.pair, held.not_after + 60) == -60
    kubelet.tls.look()
    kubelet.cluster.state = "pending"
    assert kubelet.serving.turn() == serving.CHECK_SECONDS
    assert len(kubelet.cluster.requests) == 1
    kubelet.clock = 3600 * 0.95
    kubelet.serving.turn()
    assert len(kubelet.cluster.requests) == 2
    assert not kubelet.tls.look()
    kubelet.cluster.seconds = 10**6
    kubelet.issued()
    assert kubelet.tls.look()
    assert len(kubelet.cluster.requests) == 2


def test_one_that_ended_unapproved_is_followed_by_the_self_signed_pair(kubelet: Kubelet) -> None:
    kubelet.learn()
    kubelet.issued()
    assert kubelet.tls.look()
    kubelet.clock = 2 * 3600
    assert kubelet.tls.look()
    assert _own(kubelet.tls.context) == (kubelet.pair.current.parent / "kubelet.crt").read_text()[:200]


def test_another_clusters_certificate_is_served_no_longer_once_the_cluster_is_known(kubelet: Kubelet) -> None:
    kubelet.learn()
    kubelet.issued()
    self_signed = (kubelet.pair.current.parent / "kubelet.crt").read_text()[:200]
    other = Signer("other-ca").ca.certificate.decode()
    moved = ServingTls(kubelet.settings, lambda: other, kubelet.pair)
    assert _own(moved.context) != self_signed  # which cluster this is, nobody has said yet
    moved.ask()
    assert moved.look()
    assert _own(moved.context) == self_signed
    assert not moved.look()
    answers = [kubelet.client_ca or "", other]
    same = ServingTls(kubelet.settings, lambda: answers.pop(0), kubelet.pair)
    for _ in range(2):  # the cluster's own, and then that it changes to
        assert same.ask()
        assert not same.look()
    assert _own(same.context) != self_signed


def test_another_nodes_certificate_is_not_served(kubelet: Kubelet) -> None:
    kubelet.learn()
    kubelet.issued()
    renamed = ServingTls(replace(kubelet.settings, node_name="n2"), kubelet._ca, kubelet.pair)
    assert _own(renamed.context) == (kubelet.pair.current.parent / "kubelet.crt").read_text()[:200]


def test_other_addresses_and_another_cluster_ask_anew(kubelet: Kubelet) -> None:
    kubelet.learn()
    kubelet.issued()
    moved = [{"type": "InternalIP", "address": "192.0.2.8"}]
    kubelet.learn(moved)
    kubelet.issued()
    assert len(kubelet.cluster.requests) == 2
    held = kubelet.pair.issued()
    assert held is not None
    assert held.subject.addresses == {"192.0.2.8"}
    kubelet.client_ca = "another"
    kubelet.issued()
    assert len(kubelet.cluster.requests) == 3


@pytest.mark.parametrize("state", ["denied", "failed"])
def test_a_refused_request_stands_and_then_has_another_key(kubelet: Kubelet, state: str) -> None:
    kubelet.learn()
    kubelet.cluster.state = state
    for _ in range(5):
        kubelet.serving.turn()
    assert len(kubelet.cluster.requests) == 1
    held = kubelet.notice()
    assert held is not None
    assert f"was {state} (Because: so)" in held.message
    assert held.command == "kubectl delete csr csr-0"
    kubelet.clock = 200.0
    for _ in range(5):
        kubelet.serving.turn()
    assert len(kubelet.cluster.requests) == 2


def test_a_certificate_of_another_key_is_not_taken(kubelet: Kubelet, caplog: pytest.LogCaptureFixture) -> None:
    kubelet.learn()
    strange = Pair(kubelet.pair.current.parent / "x", "y").request(Subject.of_node("n1", ADDRESSES))
    kubelet.cluster.signed = strange
    kubelet.cluster.state = "issued"
    assert kubelet.serving.turn() > 0
    assert "is not the one that was asked for" in caplog.text
    assert kubelet.pair.issued() is None


@pytest.mark.parametrize(
    ("error", "delay", "said"),
    [
        (Unavailable("away"), serving.AWAY_SECONDS, ""),
        (NotFound("no such API"), serving.REFUSED_SECONDS, ""),
        (Refused("forbidden"), serving.REFUSED_SECONDS, "no serving certificate is asked for"),
    ],
)
def test_an_api_server_that_signs_none_leaves_the_self_signed_pair(
    kubelet: Kubelet, error: VkcriError, delay: float, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    kubelet.learn()
    kubelet.cluster.error = error
    assert [kubelet.serving.turn() for _ in range(3)] == [delay] * 3
    held = kubelet.notice()
    assert (said in held.message if held else "") == (True if said else "")
    assert len([record for record in caplog.records if str(error) in record.getMessage()]) <= 1
    assert not kubelet.tls.look()


def test_no_request_is_made_with_a_configured_pair_or_an_embedded_server() -> None:
    assert pair_of(KubeletSettings(node_name="n1")) is None
    given = KubeletSettings(node_name="n1", kubeconfig="/some", cert_file=__file__, key_file=__file__)
    assert pair_of(given) is None
