"""The caches' times, with a clock that the test moves; and answers that must not let anybody in."""

from typing import Any

import pytest

from vkcri import certs
from vkcri.errors import Invalid, NotFound, Refused, Unavailable
from vkcri.kubelet import auth
from vkcri.kubelet.auth import Gate, User, watcher_only

BEARER = "Bearer good"


class Watcher:
    """Answers reviews from settable values and counts them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.token: Any = {"authenticated": True, "user": {"username": "kate", "uid": "7", "extra": {"a": ["b"]}}}
        self.access: Any = {"allowed": True}
        self.gate = Gate(watcher_only(self.ask), "n1", lambda: self.now)

    def ask(self, name: str, body: dict[str, Any], timeout: float) -> Any:
        assert timeout > 0
        self.asked.append((name, body))
        answer = self.token if name == "token-review" else self.access
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


def test_token_holds_two_minutes_good_or_bad(watcher: Watcher) -> None:
    for token in (watcher.token, {"authenticated": False}):
        watcher.token = token
        watcher.asked.clear()
        header = BEARER + str(token["authenticated"])
        first = watcher.gate.authenticate(None, header)
        watcher.now += 119
        assert watcher.gate.authenticate(None, header) == first
        assert len(watcher.asked) == 1
        watcher.now += 2
        assert watcher.gate.authenticate(None, header) == first
        assert len(watcher.asked) == 2


@pytest.mark.parametrize(("allowed", "seconds"), [(True, 300), (False, 30)])
def test_decision_holds_as_long_as_the_kubelets(watcher: Watcher, allowed: bool, seconds: int) -> None:
    watcher.access = {"allowed": allowed}
    for step, asked in ((0, 1), (seconds - 1, 1), (2, 2)):
        watcher.now += step
        assert watcher.gate.authorize(User("kate"), "GET", "/metrics").allowed is allowed
        assert len(watcher.asked) == asked


def test_decision_is_of_one_user_verb_and_subresource(watcher: Watcher) -> None:
    users = (User("kate"), User("kate", groups=("g",)), User("kate", uid="1"), User("kate", extra={"a": ["b"]}))
    for user in users:
        watcher.gate.authorize(user, "GET", "/metrics")
    watcher.gate.authorize(users[0], "POST", "/metrics")
    watcher.gate.authorize(users[0], "GET", "/stats/summary")
    assert len(watcher.asked) == 6


def test_fine_grained_is_asked_first_and_proxy_then(watcher: Watcher) -> None:
    watcher.access = {"allowed": False}
    decision = watcher.gate.authorize(User("kate"), "GET", "/pods")
    assert [body["resourceAttributes"]["subresource"] for _, body in watcher.asked] == ["pods", "proxy"]
    assert decision.message == "Forbidden (user=kate, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
    attributes = watcher.asked[0][1]["resourceAttributes"]
    wanted = {"verb": "get", "group": "", "version": "v1", "resource": "nodes", "subresource": "pods", "name": "n1"}
    assert attributes == wanted


def test_user_is_what_the_review_says_and_authenticated(watcher: Watcher) -> None:
    user = watcher.gate.authenticate(None, BEARER)
    assert user == User("kate", "7", ("system:authenticated",), {"a": ["b"]})
    assert watcher.asked == [("token-review", {"token": "good", "audiences": []})]


def test_certificate_counts_before_the_token_and_asks_nobody(watcher: Watcher) -> None:
    import ssl

    pem, _ = certs.CertificateAuthority.create("ca").issue_client("jane", ["a", "b"])
    user = watcher.gate.authenticate(ssl.PEM_cert_to_DER_cert(pem.decode()), BEARER)
    assert user == User("jane", groups=("a", "b", "system:authenticated"))
    assert watcher.asked == []


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic good", "good", "bearer\tgood"])
def test_header_without_a_bearer_token_is_nobody(watcher: Watcher, header: str) -> None:
    assert watcher.gate.authenticate(None, header) is None
    assert watcher.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"authenticated": False, "user": {"username": "kate"}},
        {"authenticated": "yes", "user": {"username": "kate"}},
        {"authenticated": True},
        {"authenticated": True, "user": {"username": ""}},
    ],
)
def test_review_that_names_nobody_is_nobody(watcher: Watcher, answer: Any) -> None:
    watcher.token = answer
    assert watcher.gate.authenticate(None, BEARER) is None


@pytest.mark.parametrize(
    "answer", [{}, {"allowed": "true"}, {"allowed": 1}, {"allowed": True, "denied": True}, {"denied": False}]
)
def test_only_a_plain_yes_allows(watcher: Watcher, answer: Any) -> None:
    watcher.access = answer
    assert not watcher.gate.authorize(User("kate"), "GET", "/pods").allowed


@pytest.mark.parametrize("failure", [Unavailable("x"), Refused("x"), Invalid("x"), NotFound("x"), None, "yes", True])
def test_failure_to_ask_is_unavailable_and_not_remembered(watcher: Watcher, failure: Any) -> None:
    good_token, good_access = watcher.token, watcher.access
    watcher.token = watcher.access = failure
    with pytest.raises(Unavailable, match="token-review by api-watcher"):
        watcher.gate.authenticate(None, BEARER)
    with pytest.raises(Unavailable, match="access-review by api-watcher"):
        watcher.gate.authorize(User("kate"), "GET", "/pods")
    watcher.token, watcher.access = good_token, good_access
    assert watcher.gate.authenticate(None, BEARER) is not None
    assert watcher.gate.authorize(User("kate"), "GET", "/pods").allowed


def test_caches_are_bounded(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHE_ENTRIES", 10)
    for number in range(50):
        watcher.gate.authenticate(None, f"Bearer {number}")
    assert len(watcher.gate._users._entries) == 10
    assert not any(key == b"4" for key in watcher.gate._users._entries)
