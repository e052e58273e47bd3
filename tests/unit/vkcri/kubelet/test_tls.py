"""The serving pair and the client CA: kept, configured, swapped under a running server."""

import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.living import living
from tests.unit.vkcri.kubelet.node import Node
from tests.waiting import PATIENCE, until
from vkcri import certs
from vkcri.config import KubeletSettings
from vkcri.errors import ConfigError, Unavailable
from vkcri.instance import Instance
from vkcri.kubelet import tls
from vkcri.kubelet.tls import ServingTls
from vkcri.lifecycle import Process
from vkcri.selfwatch import SelfWatch


@pytest.fixture
def instance() -> Iterator[Instance]:
    """An instance without programs, removed afterwards."""
    made = Node()
    yield made.instance
    made.release()


@pytest.fixture
def authority() -> certs.CertificateAuthority:
    return certs.CertificateAuthority.create("cluster-ca")


def _settings(instance: Instance, folder: Path | None = None) -> KubeletSettings:
    files = (str(folder / "tls.crt"), str(folder / "tls.key")) if folder else ("", "")
    return KubeletSettings(instance=instance, node_name="n1", pod_ip="192.0.2.7", cert_file=files[0], key_file=files[1])


def _write(folder: Path, pair: tuple[bytes, bytes]) -> None:
    certs.write_private(folder / "tls.key", pair[1])
    certs.write_private(folder / "tls.crt", pair[0])


def _served(context: ssl.SSLContext) -> bytes:
    """The certificate that a client of this context sees, as DER."""
    one, other = socket.socketpair()
    thread = threading.Thread(target=lambda: context.wrap_socket(one, server_side=True).close())
    thread.start()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    with client.wrap_socket(other) as connection:
        der = connection.getpeercert(binary_form=True)
    thread.join(PATIENCE)
    assert der is not None
    return der


def _no_ca() -> str:
    raise Unavailable("no watcher")


def test_self_signed_pair_is_kept_until_it_names_another_node(instance: Instance) -> None:
    first = _served(ServingTls(_settings(instance), _no_ca).context)
    assert _served(ServingTls(_settings(instance), _no_ca).context) == first
    moved = KubeletSettings(instance=instance, node_name="n1", pod_ip="192.0.2.8")
    second = _served(ServingTls(moved, _no_ca).context)
    assert second != first
    pem = (instance.certificates_dir / "kubelet.crt").read_bytes()
    assert certs.serves(pem)
    assert ssl.PEM_cert_to_DER_cert(pem.decode()) == second


def test_damaged_self_signed_pair_is_made_anew(instance: Instance) -> None:
    ServingTls(_settings(instance), _no_ca)
    (instance.certificates_dir / "kubelet.crt").write_bytes(b"rubbish")
    assert _served(ServingTls(_settings(instance), _no_ca).context)


def test_configured_pair_is_served_and_swapped_when_its_files_change(
    instance: Instance, tmp_path: Path, authority: certs.CertificateAuthority
) -> None:
    pairs = [authority.issue_server(["n1"], []) for _ in range(2)]
    _write(tmp_path, pairs[0])
    serving = ServingTls(_settings(instance, tmp_path), _no_ca)
    assert _served(serving.context) == ssl.PEM_cert_to_DER_cert(pairs[0][0].decode())
    assert not serving.look()
    _write(tmp_path, pairs[1])
    assert serving.look()
    assert _served(serving.context) == ssl.PEM_cert_to_DER_cert(pairs[1][0].decode())


def test_half_written_pair_leaves_the_old_one_in_use(
    instance: Instance, tmp_path: Path, authority: certs.CertificateAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = [authority.issue_server(["n1"], []) for _ in range(2)]
    _write(tmp_path, pairs[0])
    serving = ServingTls(_settings(instance, tmp_path), _no_ca)
    (tmp_path / "tls.crt").write_bytes(pairs[1][0])  # the key is the old one's yet
    assert not serving.look()
    assert "the old one stays" in caplog.text
    assert _served(serving.context) == ssl.PEM_cert_to_DER_cert(pairs[0][0].decode())
    (tmp_path / "tls.key").write_bytes(pairs[1][1])
    assert serving.look()


def test_pair_without_server_usage_is_served_with_a_warning(
    instance: Instance, tmp_path: Path, authority: certs.CertificateAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    _write(tmp_path, authority.issue_client("n1"))
    assert _served(ServingTls(_settings(instance, tmp_path), _no_ca).context)
    assert "serverAuth" in caplog.text


def test_unusable_pair_is_a_configuration_error(
    instance: Instance, tmp_path: Path, authority: certs.CertificateAuthority
) -> None:
    _write(tmp_path, (b"rubbish", b"rubbish"))
    with pytest.raises(ConfigError, match="APISERVER_CERT_LOCATION"):
        ServingTls(_settings(instance, tmp_path), _no_ca)
    _write(tmp_path, (authority.issue_server(["n1"], [])[0], authority.issue_server(["n1"], [])[1]))
    with pytest.raises(ConfigError, match=r"tls\.key"):
        ServingTls(_settings(instance, tmp_path), _no_ca)


def test_client_ca_is_kept_while_the_watcher_is_away_and_bad_ones_are_refused(
    instance: Instance, authority: certs.CertificateAuthority
) -> None:
    answers: list[str] = []

    def ask() -> str:
        if not answers:
            raise Unavailable("no watcher")
        return answers[-1]

    serving = ServingTls(_settings(instance), ask)
    assert not serving.ask()
    assert serving.context.verify_mode == ssl.CERT_NONE
    answers.append(authority.certificate.decode())
    assert serving.ask()
    assert serving.context.verify_mode == ssl.CERT_OPTIONAL
    assert not serving.ask()
    context = serving.context
    answers.append("rubbish")
    assert not serving.ask()
    answers.clear()
    assert not serving.ask()
    assert serving.context is context
    answers.append("")
    assert serving.ask()
    assert serving.context.verify_mode == ssl.CERT_NONE


def test_thread_brings_a_late_ca_and_a_new_pair_into_use(
    instance: Instance, authority: certs.CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.01)
    answers: list[str] = []
    used: list[ssl.SSLContext] = []

    def ask() -> str:
        if not answers:
            raise Unavailable("no watcher")
        return answers[0]

    with living("log-server", instance) as process:
        serving = ServingTls(_settings(instance), ask)
        serving.start(process, used.append)
        answers.append(authority.certificate.decode())
        until(lambda: bool(used))
        assert used[-1].verify_mode == ssl.CERT_OPTIONAL
        pair = certs.self_signed("n1", ["n1"], [])
        _replace(instance, pair)
        until(lambda: _served(used[-1]) == ssl.PEM_cert_to_DER_cert(pair[0].decode()))
        assert used[-1].verify_mode == ssl.CERT_OPTIONAL


def _replace(instance: Instance, pair: tuple[bytes, bytes]) -> None:
    write: Callable[[Path, bytes], None] = certs.write_private
    write(instance.certificates_dir / "kubelet.key", pair[1])
    write(instance.certificates_dir / "kubelet.crt", pair[0])


def test_a_turn_that_hangs_is_seen_by_the_self_watch(instance: Instance) -> None:
    asked, leave = threading.Event(), threading.Event()

    def hang() -> str:
        asked.set()
        leave.wait(PATIENCE)
        raise Unavailable("away")

    watch = SelfWatch()
    process = Process("test", instance, watch=watch, end=lambda _: None)
    ServingTls(_settings(instance), hang).start(process, lambda _context: None)
    assert asked.wait(PATIENCE)
    late = watch.clock() + tls.TURN_SECONDS + watch.margin
    assert [line for line in watch.overdue(late + 1) if "thread certificates" in line]
    assert watch.overdue(late - 30) == []
    process.stop()
    leave.set()
    process.drain()


@pytest.mark.parametrize("answer", ["", "rubbish"], ids=["no CA", "an unusable CA"])
def test_a_question_that_was_answered_is_not_asked_again_at_once(
    instance: Instance, answer: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(tls, "CA_SECONDS", 0.05)  # five looks
    asked, looks = [0], [0]

    def ask() -> str:
        asked[0] += 1
        return answer

    def look() -> bool:
        looks[0] += 1
        return False

    serving = ServingTls(_settings(instance), ask)
    monkeypatch.setattr(serving, "look", look)
    with living("log-server", instance) as process:
        serving.start(process, lambda _context: None)
        until(lambda: looks[0] >= 20)
    assert 2 <= asked[0] <= looks[0] // 5 + 1
    assert caplog.text.count("cannot be used") == (1 if answer else 0)


def test_a_watcher_that_does_not_answer_is_asked_ever_more_slowly() -> None:
    delays = [tls.FIRST.delay(times) for times in range(30)]
    assert delays[0] == 0.2
    assert sum(delays[:10]) < 6
    assert delays[-1] == tls.LOOK_SECONDS
