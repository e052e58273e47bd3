"""What is there before the first request, and what a second start changes: nothing that is still good."""

import dataclasses
import datetime
import ssl
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from tests.unit.vkcri.apiserver.house import House, open_house
from vkcri import certs
from vkcri.apiserver import bootstrap, pki, tokens
from vkcri.errors import ConfigError


def files(house: House) -> dict[str, bytes]:
    root = house.settings.instance.state_dir
    wanted = [*(root / "pki").iterdir(), root / "admin.conf", root / "node.conf"]
    return {path.name: path.read_bytes() for path in wanted}


def moved(house: House, address: str) -> House:
    """The same house, on a guest whose address has changed."""
    return dataclasses.replace(house, settings=dataclasses.replace(house.settings, pod_ip=address))


def names_of(house: House) -> tuple[set[str], set[str]]:
    parsed = x509.load_pem_x509_certificate(pki.certificate(house.settings, pki.SERVING).read_bytes())
    held = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(held.get_values_for_type(x509.DNSName)), {str(ip) for ip in held.get_values_for_type(x509.IPAddress)}


def test_a_first_start_makes_every_file_for_the_owner_alone(house: House) -> None:
    bootstrap.ensure(house.settings, house.store)
    made = files(house)
    pairs = ("ca", "apiserver", "apiserver-kubelet-client", "admin", "node")
    assert set(made) == {f"{name}.{end}" for name in pairs for end in ("crt", "key")} | {
        "sa.key",
        "admin.conf",
        "node.conf",
    }
    root = house.settings.instance.state_dir
    for path in [*(root / "pki").iterdir(), root / "admin.conf", root / "node.conf"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_serving_certificate_names_every_address_of_the_server(house: House) -> None:
    pki.ensure(house.settings)
    names, addresses = names_of(house)
    assert {"kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "n1"} <= names
    assert {"127.0.0.1", "::1", "192.0.2.7", "10.181.0.1"} <= addresses


def test_a_second_start_changes_nothing(house: House) -> None:
    bootstrap.ensure(house.settings, house.store)
    before, version = files(house), house.store.current_rv()
    bootstrap.ensure(house.settings, house.store)
    assert files(house) == before
    assert house.store.current_rv() == version


def test_a_new_address_renews_the_serving_certificate_and_moves_the_kubeconfigs(house: House) -> None:
    bootstrap.ensure(house.settings, house.store)
    before = files(house)
    there = moved(house, "192.0.2.99")
    bootstrap.ensure(there.settings, there.store)
    after = files(there)
    assert {name for name in before if before[name] != after[name]} == {
        "apiserver.crt",
        "apiserver.key",
        "admin.conf",
        "node.conf",
    }
    assert b"server: https://192.0.2.99:" in after["admin.conf"]
    endpoints = house.get("/endpoints", "default", "kubernetes")
    assert endpoints is not None
    assert endpoints["subsets"][0]["addresses"] == [{"ip": "192.0.2.99"}]


def test_a_lost_ca_renews_what_it_signed_and_keeps_the_token_key(house: House) -> None:
    pki.ensure(house.settings)
    before = files(house)
    pki.key(house.settings, pki.CA).unlink()
    pki.ensure(house.settings)
    after = files(house)
    assert {name for name in before if before[name] == after[name]} == {"sa.key"}


@pytest.mark.parametrize("damage", [b"", b"garbage", "other"])
def test_a_pair_that_is_broken_is_made_anew(house: House, damage: bytes | str) -> None:
    pki.ensure(house.settings)
    path = pki.key(house.settings, pki.SERVING)
    path.write_bytes(certs.self_signed("x", [], [])[1] if isinstance(damage, str) else damage)
    pki.ensure(house.settings)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.certificate(house.settings, pki.SERVING), path)


def test_a_certificate_near_its_end_is_made_anew(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certs, "LEAF_DAYS", certs.RENEW_DAYS - 1)
    pki.ensure(house.settings)
    monkeypatch.undo()
    before = files(house)
    pki.ensure(house.settings)
    changed = {name for name, data in files(house).items() if data != before[name]}
    assert {"apiserver.crt", "admin.crt", "node.crt", "admin.conf", "node.conf"} <= changed
    assert "ca.crt" not in changed
    parsed = x509.load_pem_x509_certificate(pki.certificate(house.settings, "admin").read_bytes())
    assert parsed.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > datetime.timedelta(days=300)


def test_a_broken_token_key_waits_for_a_person(house: House) -> None:
    pki.ensure(house.settings)
    path = house.settings.instance.certificates_dir / tokens.KEY_FILE
    path.write_text("garbage")
    with pytest.raises(ConfigError) as caught:
        pki.ensure(house.settings)
    assert "sa.key" in str(caught.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "pki").write_text("a file where a folder should be")
    house = open_house(tmp_path)
    with pytest.raises(ConfigError) as caught:
        pki.ensure(house.settings)
    house.store.close()
    assert "pki" in str(caught.value)


def test_the_first_objects(house: House) -> None:
    authority = pki.ensure(house.settings)
    bootstrap.ensure(house.settings, house.store)
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        assert house.get("/namespaces", "", name) is not None
        assert house.get("/serviceaccounts", name, "default") is not None
        published = house.get("/configmaps", name, "kube-root-ca.crt")
        assert published is not None
        assert published["data"] == {"ca.crt": authority}
    service = house.get("/services", "default", "kubernetes")
    assert service is not None
    assert service["spec"]["clusterIP"] == "10.181.0.1"
    assert service["spec"]["ports"] == [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 7253}]
    (found,) = house.store.list("discovery.k8s.io/endpointslices")[0]
    assert found["endpoints"] == [{"addresses": ["192.0.2.7"], "conditions": {"ready": True}}]
    assert found["ports"] == [{"name": "https", "port": 7253, "protocol": "TCP"}]


def test_the_first_address_is_the_servers_whoever_had_it(house: House) -> None:
    spec = {"clusterIP": "10.181.0.7", "ports": [{"port": 1}]}
    house.create("/services", {"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": spec})
    bootstrap.ensure(house.settings, house.store)
    service = house.get("/services", "default", "kubernetes")
    assert service is not None
    assert service["spec"]["clusterIP"] == "10.181.0.1"


def test_an_address_that_no_pod_reaches_is_no_endpoint(house: House) -> None:
    bootstrap.ensure(moved(house, "127.0.0.1").settings, house.store)
    assert house.get("/endpoints", "default", "kubernetes") is None


def test_a_changed_authority_is_published(house: House) -> None:
    bootstrap.ensure(house.settings, house.store)
    pki.certificate(house.settings, pki.CA).unlink()
    bootstrap.ensure(house.settings, house.store)
    published = house.get("/configmaps", "default", "kube-root-ca.crt")
    assert published is not None
    assert published["data"]["ca.crt"] == pki.certificate(house.settings, pki.CA).read_text()


def test_a_kubeconfig_is_one_that_a_client_can_use(house: House) -> None:
    pki.ensure(house.settings)
    document = yaml.safe_load(house.settings.instance.node_kubeconfig.read_text())
    assert document["current-context"] == "system:node:n1@vkcri"
    assert document["clusters"][0]["cluster"]["server"] == "https://192.0.2.7:7253"
