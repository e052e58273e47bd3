"""What the provider says is sent, made into pages and compressed once, however many ask."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from vkcri.errors import Unavailable
from vkcri.kubelet.page import Page, prefers_gzip
from vkcri.kubelet.use import NodeUse

BRIEF = b'{"node":{"cpu":{"time":"2026-11-25T10:00:00.5Z","usageCoreNanoSeconds":1500000000}},"pods":[]}'


class Provider:
    """Answers and what it was asked. `thrifty`: it sends nobody what he holds."""

    def __init__(self, *, thrifty: bool) -> None:
        self.answers = {"stats": BRIEF, "container-metrics": b'{"text":"a 1\\n"}'}
        self.sent: list[str] = []
        self._thrifty = thrifty

    def ask(self, name: str, body: Mapping[str, Any], _timeout: float) -> bytes:
        answer = self.answers[name]
        if self._thrifty and body.get("unless") == hashlib.sha256(answer).hexdigest():
            return b"null"
        self.sent.append(name)
        return answer


@pytest.mark.parametrize("thrifty", [True, False])
def test_ten_scrapers_have_the_same_page(thrifty: bool) -> None:
    provider = Provider(thrifty=thrifty)
    use = NodeUse(provider.ask)
    for make in (use.resource_metrics, use.container_metrics, use.summary, lambda: use.summary(brief=True)):
        pages = [make() for _ in range(10)]
        assert all(page is pages[0] for page in pages)
        assert all(page.packed is pages[0].packed for page in pages)
    assert [use.volume_metrics() for _ in range(10)] == [""] * 10
    if thrifty:
        assert provider.sent == ["stats", "container-metrics", "stats"]  # the brief one, and the whole


@pytest.mark.parametrize("thrifty", [True, False])
def test_a_new_answer_is_a_new_page(thrifty: bool) -> None:
    provider = Provider(thrifty=thrifty)
    use = NodeUse(provider.ask)
    assert b"node_cpu_usage_seconds_total 1.5 " in use.resource_metrics().plain
    assert use.container_metrics().plain == b"a 1\n"
    provider.answers = {"stats": BRIEF.replace(b"15", b"25"), "container-metrics": b'{"text":"a 2\\n"}'}
    assert b"node_cpu_usage_seconds_total 2.5 " in use.resource_metrics().plain
    assert use.container_metrics().plain == b"a 2\n"
    assert json.loads(use.summary(brief=True).plain)["node"]["cpu"]["time"] == "2026-11-25T10:00:00Z"


@pytest.mark.parametrize("answer", [b"null", b"[]", b"rubbish", b'{"text"}'])
def test_an_answer_of_another_shape_is_unavailable_each_time(answer: bytes) -> None:
    provider = Provider(thrifty=False)
    provider.answers["container-metrics"] = answer
    use = NodeUse(provider.ask)
    for _ in range(2):
        with pytest.raises(Unavailable, match="not understood"):
            use.container_metrics()


def test_a_page_is_compressed_and_is_the_same_page() -> None:
    plain = b"# TYPE a counter\n" * 1000
    page = Page(plain)
    assert gzip.decompress(page.packed) == plain
    assert len(page.packed) < len(plain) / 10


@pytest.mark.parametrize(
    ("header", "preferred"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("gzip, deflate", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("*", False),
        ("zstd", False),
    ],
)
def test_who_prefers_gzip(header: str | None, preferred: bool) -> None:
    headers = {} if header is None else {"Accept-Encoding": header}
    assert prefers_gzip(Request(EnvironBuilder(headers=headers).get_environ())) is preferred
