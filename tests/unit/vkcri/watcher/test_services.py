"""Services and EndpointSlices by namespace and name; what to do where a node may not read them."""

import math
from functools import partial

import pytest

from tests.unit.vkcri.watcher.conftest import Surroundings
from tests.waiting import until
from vkcri.queue.notices import parse
from vkcri.watcher.services import PATHS, ResourceTopic


def test_a_kind_is_published_by_namespace_and_name_and_follows_changes(around: Surroundings) -> None:
    path = "/api/v1/namespaces/shop/services"
    around.api.put(f"{path}/web", {"metadata": {"name": "web", "namespace": "shop"}})
    topic = ResourceTopic(around.client, around.publisher, around.access, "services", "n1")
    around.process.start_thread("services", lambda: topic.reflector.run(around.process))
    until(lambda: around.publisher.synced("services"))
    assert list(around.publisher.items("services")) == ["shop/web"]
    around.api.put(f"{path}/db", {"metadata": {"name": "db", "namespace": "shop"}})
    until(lambda: set(around.publisher.items("services")) == {"shop/web", "shop/db"})
    around.api.remove(f"{path}/web")
    until(lambda: set(around.publisher.items("services")) == {"shop/db"})


def test_a_kind_without_namespaces_is_published_by_name(around: Surroundings) -> None:
    around.api.put("/apis/node.k8s.io/v1/runtimeclasses/kata", {"metadata": {"name": "kata"}, "handler": "kata-qemu"})
    topic = ResourceTopic(around.client, around.publisher, around.access, "runtimeclasses", "n1")
    around.process.start_thread("runtimeclasses", lambda: topic.reflector.run(around.process))
    until(lambda: around.publisher.synced("runtimeclasses"))
    assert list(around.publisher.items("runtimeclasses")) == ["kata"]


def test_a_refusal_is_said_once_with_its_cure_and_ends_by_itself(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    around.api.refuse("GET", PATHS["endpointslices"], 403, times=math.inf)
    topic = ResourceTopic(around.client, around.publisher, around.access, "endpointslices", "n1")
    around.process.start_thread("endpointslices", lambda: topic.reflector.run(around.process))
    until(lambda: topic.reflector.failures >= 2)
    assert not around.publisher.synced("endpointslices")
    assert "refused by the test" in topic.reflector.last_error
    cure = "kubectl create clusterrolebinding vkcri-proxy-n1 --clusterrole=system:node-proxier --user=system:node:n1"
    held = around.publisher.get("notices", "endpointslices")
    assert held is not None
    assert parse(held).command == cure
    around.api.forgive()
    until(lambda: around.publisher.synced("endpointslices"))
    until(lambda: around.publisher.get("notices", "endpointslices") is None)
    assert caplog.text.count(cure) == 1


def test_credentials_that_are_not_known_are_no_missing_right(
    around: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    topics = ("services", "endpointslices")
    made = [ResourceTopic(around.client, around.publisher, around.access, topic, "n1") for topic in topics]
    for topic in made:
        around.api.refuse("GET", topic.reflector.path, 401, times=math.inf)
        around.process.start_thread("reads", partial(topic.reflector.run, around.process))
    until(lambda: all(topic.reflector.failures > 1 for topic in made))
    said = around.notice("credentials")
    assert said is not None
    assert "does not know the credentials of /some/kubeconfig" in said.message
    assert said.command == ""
    assert [around.notice(topic) for topic in topics] == [None, None]
    assert "clusterrolebinding" not in caplog.text
    assert caplog.text.count(said.message) == 1
    around.api.forgive()
    until(lambda: around.notice("credentials") is None)
    assert all(around.publisher.synced(topic) for topic in topics)


def test_the_cure_names_the_user_that_we_turned_out_to_be(around: Surroundings) -> None:
    around.api.refuse("GET", PATHS["services"], 403, times=math.inf)
    user = [""]
    topic = ResourceTopic(around.client, around.publisher, around.access, "services", "n1", lambda: user[0])
    around.process.start_thread("services", lambda: topic.reflector.run(around.process))
    until(lambda: str(around.notice("services")).endswith("--user=system:node:n1"))
    user[0] = "somebody"
    until(lambda: str(around.notice("services")).endswith("--user=somebody"))
