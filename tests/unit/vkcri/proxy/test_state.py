"""What kube-proxy says about itself while it may not read what its rules are made of; no kernel is asked."""

import json
import shutil
from collections.abc import Iterator

import pytest

from tests.instances import own
from tests.living import living
from tests.waiting import until
from vkcri.config import ProxySettings
from vkcri.lifecycle import Process
from vkcri.proxy.apply import Kernel
from vkcri.proxy.main import Proxy
from vkcri.queue import Publisher
from vkcri.queue.notices import Notices
from vkcri.queue.tail import snapshot

CURE = "kubectl create clusterrolebinding vkcri-proxy-n1 --clusterrole=system:node-proxier --user=system:node:n1"


class Watcher:
    """api-watcher's queue."""

    def __init__(self, process: Process) -> None:
        topics = ("services", "endpointslices", "node", "notices")
        self.publisher = Publisher(process.instance.queue_socket("watcher"), topics)
        self.notices = Notices(self.publisher)
        self.publisher.start(process)


@pytest.fixture
def settings() -> ProxySettings:
    return ProxySettings(instance=own("prstate"), node_name="n1")


@pytest.fixture
def watcher(settings: ProxySettings) -> Iterator[Watcher]:
    with living("api-watcher", settings.instance) as process:
        yield Watcher(process)
    shutil.rmtree(settings.instance.run_dir, ignore_errors=True)


@pytest.fixture
def proxy(settings: ProxySettings, watcher: Watcher) -> Iterator[Proxy]:  # noqa: ARG001 - the watcher is there first
    with living("kube-proxy", settings.instance) as process:
        made = Proxy(process, settings, Kernel(settings.instance.nft_table))
        made.start()
        yield made


def state(proxy: Proxy) -> list[str]:
    """The states that the metrics say hold."""
    lines = [
        line for line in proxy.metrics().splitlines() if line.startswith("vkcri_proxy_state{") and line.endswith(" 1")
    ]
    return [line.split('"')[1] for line in lines]


def test_forbidden_endpointslices_are_its_state_and_its_notice_until_they_can_be_read(
    proxy: Proxy, watcher: Watcher, settings: ProxySettings, caplog: pytest.LogCaptureFixture
) -> None:
    assert state(proxy) == ["waiting"]
    watcher.publisher.mark_synced("services")
    watcher.notices.put("endpointslices", "this user may not read EndpointSlices", CURE)
    until(lambda: state(proxy) == ["forbidden"])
    for _ in range(3):
        proxy.tell()
    assert caplog.text.count(f"the rules stay as they are: this user may not read EndpointSlices: {CURE}") == 1
    socket = settings.instance.queue_socket("proxy")
    told = snapshot(socket, "notices", 5.0)["rules"]
    assert told["command"] == CURE, json.dumps(told)
    watcher.notices.clear("endpointslices")
    watcher.publisher.mark_synced("endpointslices")
    until(lambda: state(proxy) == ["synced"])
    proxy.tell()
    assert snapshot(socket, "notices", 5.0) == {}


def test_a_notice_about_something_else_is_not_its_own(proxy: Proxy, watcher: Watcher) -> None:
    watcher.notices.put("taint", "the taint differs")
    for topic in ("services", "endpointslices"):
        watcher.publisher.mark_synced(topic)
    until(lambda: state(proxy) == ["synced"])
