"""What an HTTPGetAction is sent as, and where redirects lead: the kubelet's request.go and Go's http.Client."""

from typing import Any

import pytest

from bridge.wire.exchange import Answer, Broken
from bridge.wire.http1 import Http1
from bridge.wire.request import Get, of_action, redirected, resolve_port
from bridge.wire.words import canonical, duration, join
from vkcri.errors import Invalid


def get(path: str = "/", *, address: str = "10.0.0.5", purpose: str = "probe", **action: Any) -> Get:
    return of_action({"path": path, "port": 8080, "scheme": "HTTP", **action}, {"name": "app"}, address, purpose)


def header(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def sent(request: Get) -> list[str]:
    return Http1(request).begin().decode().split("\r\n")


def test_a_probe_is_sent_as_the_kubelet_sends_it() -> None:
    assert sent(get("/healthz?full=1")) == [
        "GET /healthz?full=1 HTTP/1.1",
        "Host: 10.0.0.5:8080",
        "User-Agent: kube-probe/1.37",
        "Accept: */*",
        "Connection: close",
        "",
        "",
    ]
    assert "User-Agent: kube-lifecycle/1.37" in sent(get(purpose="lifecycle"))


def test_headers_are_added_and_override_host_agent_and_accept() -> None:
    headers = [
        header("x-two", "b"),
        header("X-Two", "c"),
        header("host", "example.test"),
        header("user-agent", "me"),
        header("accept", "text/plain"),
    ]
    assert sent(get(httpHeaders=headers))[1:6] == [
        "Host: example.test",
        "User-Agent: me",
        "Accept: text/plain",
        "X-Two: b",
        "X-Two: c",
    ]


def test_an_empty_accept_or_agent_sends_none() -> None:
    lines = sent(get(httpHeaders=[header("Accept", ""), header("User-Agent", "")]))
    assert lines[:3] == ["GET / HTTP/1.1", "Host: 10.0.0.5:8080", "Connection: close"]


@pytest.mark.parametrize(
    ("path", "target", "url"),
    [
        ("", "/", ""),
        ("/", "/", "/"),
        ("healthz", "/healthz", "/healthz"),
        ("?a=b", "/?a=b", "?a=b"),
        ("/a b", "/a%20b", "/a%20b"),
        ("/a%20b", "/a%20b", "/a%20b"),
        ("/100%", "/100%25", "/100%25"),
        ("/redirect?loc=%2Fhealthz", "/redirect?loc=%2Fhealthz", "/redirect?loc=%2Fhealthz"),
        ("http://other.test/x?y", "/x?y", "/x?y"),
        ("/x#part", "/x", "/x"),
        ("/ü", "/%C3%BC", "/%C3%BC"),
    ],
)
def test_a_path_is_parsed_as_a_url_whose_host_is_replaced(path: str, target: str, url: str) -> None:
    made = get(path)
    assert made.target == target
    assert made.url == f"http://10.0.0.5:8080{url}"


def test_an_ipv6_address_is_bracketed_and_a_host_wins_over_the_pods_address() -> None:
    made = get(address="fd00::5")
    assert (made.host, made.authority) == ("fd00::5", "[fd00::5]:8080")
    assert get(host="localhost").host == "localhost"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"httpHeaders": [header("a b", "c")]}, 'net/http: invalid header field name "a b"'),
        ({"httpHeaders": [header("X-A", "c\r\nX-B: d")]}, 'net/http: invalid header field value for "X-A"'),
        ({"httpHeaders": [header("Host", "a\nb")]}, 'net/http: invalid header field value for "Host"'),
    ],
)
def test_what_would_break_the_request_is_not_sent(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Broken) as raised:
        Http1(get(**change)).begin()
    assert str(raised.value) == message


CONTAINER = {"name": "app", "ports": [{"name": "web", "containerPort": 81}, {"containerPort": 82}]}


def test_ports_are_numbers_or_names_of_the_containers_ports() -> None:
    assert resolve_port("web", CONTAINER) == 81
    assert resolve_port(99, CONTAINER) == 99


@pytest.mark.parametrize(
    ("port", "message"),
    [("nobody", 'port "nobody" not found'), (0, "invalid port number: 0"), (70000, "invalid port number: 70000")],
)
def test_a_port_that_there_is_not_is_said(port: int | str, message: str) -> None:
    with pytest.raises(Invalid) as raised:
        resolve_port(port, CONTAINER)
    assert str(raised.value) == message


class TestRedirects:
    def follow(self, location: str, status: int = 302, *, first: Get | None = None, followed: int = 0) -> Get | None:
        first = first or get("/start")
        return redirected(first, first, Answer(status, {"location": location}), followed)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_path_on_the_same_host_is_followed(self, status: int) -> None:
        following = self.follow("/healthz", status)
        assert following is not None
        assert following.url == "http://10.0.0.5:8080/healthz"
        assert ("Referer", "http://10.0.0.5:8080/start") in following.headers
        assert following.authority == "10.0.0.5:8080"

    @pytest.mark.parametrize("status", [300, 304, 305])
    def test_other_statuses_are_the_end(self, status: int) -> None:
        assert self.follow("/healthz", status) is None

    def test_no_location_and_another_host_are_the_end(self) -> None:
        assert self.follow("") is None
        assert self.follow("http://0.0.0.0/") is None
        assert self.follow("//10.0.0.6:8080/") is None

    def test_another_port_or_scheme_of_the_same_host_is_followed(self) -> None:
        following = self.follow("https://10.0.0.5/x?y=1#z")
        assert following is not None
        assert (following.scheme, following.port, following.target) == ("https", 443, "/x?y=1")
        assert following.authority == "10.0.0.5"

    def test_a_relative_redirect_keeps_an_overridden_host(self) -> None:
        first = get(httpHeaders=[header("Host", "example.test")])
        following = self.follow("next", first=first)
        assert following is not None
        assert following.authority == "example.test"
        absolute = self.follow("http://10.0.0.5:8080/next", first=first)
        assert absolute is not None
        assert absolute.authority == "10.0.0.5:8080"

    def test_the_eleventh_is_too_many(self) -> None:
        assert self.follow("/x", followed=8) is not None
        with pytest.raises(Broken) as raised:
            self.follow("/x", followed=9)
        assert str(raised.value) == 'Get "/x": stopped after 10 redirects'

    def test_an_odd_location_breaks_the_probe(self) -> None:
        with pytest.raises(Broken, match="unsupported protocol scheme"):
            self.follow("ftp://10.0.0.5/x")
        with pytest.raises(Broken, match="failed to parse Location header"):
            self.follow("http://10.0.0.5:port/")


def test_words_are_gos() -> None:
    assert [duration(seconds) for seconds in (1, 80, 300, 3600, 3725)] == ["1s", "1m20s", "5m0s", "1h0m0s", "1h2m5s"]
    assert canonical("x-CUSTOM-id") == "X-Custom-Id"
    assert join("::1", 80) == "[::1]:80"
