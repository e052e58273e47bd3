"""Tokens: signed by us, for whom they say, as long as what they are bound to lives."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vkcri.apiserver.house import NODE, START, House, seconds_between
from vkcri.apiserver import internal, pki, strategy, tokens
from vkcri.apiserver.authn import Authenticator
from vkcri.apiserver.context import RequestContext
from vkcri.apiserver.resources import by_key
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
SIGNER = tokens.signer_of(tokens.new_key())


@pytest.fixture
def house(house: House) -> House:
    pki.ensure(house.settings)
    return house


def request(house: House, ctx: RequestContext | None = None, name: str = "default", **spec: Any) -> Object:
    body = {"spec": spec}
    resource = by_key("/serviceaccounts")
    code, answer = strategy.subresource_create(resource, "token", name, "default", body, ctx or house.ctx)
    assert code == 201
    return answer


def authenticator(house: House) -> Authenticator:
    return Authenticator(house.store, tokens.signer(house.settings.instance), clock=lambda: house.seconds)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def bound_to(pod: Object) -> Object:
    metadata = pod["metadata"]
    return {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}


def refused(house: House, token: str) -> bool:
    try:
        authenticator(house).authenticate(bearer(token), None)
    except StatusError as error:
        return error.code == 401
    return False


def test_a_signature_is_checked() -> None:
    token = SIGNER.sign({"aud": ["a"], "sub": "x"})
    assert SIGNER.verify(token) == {"aud": ["a"], "sub": "x"}
    assert tokens.signer_of(tokens.new_key()).verify(token) is None
    head, _, signature = token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps({"aud": ["a"], "sub": "root"}).encode()).rstrip(b"=").decode()
    assert SIGNER.verify(f"{head}.{forged}.{signature}") is None


def test_the_algorithm_is_not_the_tokens_to_choose() -> None:
    claims = base64.urlsafe_b64encode(b'{"sub":"x"}').rstrip(b"=").decode()
    for header in ({"alg": "none"}, {"alg": "HS256", "kid": SIGNER._kid}):
        head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        assert SIGNER.verify(f"{head}.{claims}.") is None


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,20}\.[A-Za-z0-9_-]{0,90}"))
def test_any_other_text_is_no_token(text: str) -> None:
    assert SIGNER.verify(text) is None


def test_a_token_says_who_and_for_how_long(house: House) -> None:
    answer = request(house, expirationSeconds=700, audiences=["a", tokens.API_AUDIENCE])
    assert seconds_between(house.now(), answer["status"]["expirationTimestamp"]) == 700
    claims = tokens.signer(house.settings.instance).verify(answer["status"]["token"])
    assert claims is not None
    assert claims["exp"] - claims["iat"] == 700
    assert claims["sub"] == "system:serviceaccount:default:default"
    assert claims["kubernetes.io"]["namespace"] == "default"
    user = authenticator(house).authenticate(bearer(answer["status"]["token"]), None)
    assert user.username == "system:serviceaccount:default:default"
    assert user.groups == ("system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated")


def test_a_token_of_a_pod_names_pod_and_node(house: House) -> None:
    house.node()
    pod = house.pod(nodeName=NODE)
    token = request(house, boundObjectRef=bound_to(pod))["status"]["token"]
    user = authenticator(house).authenticate(bearer(token), None)
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("p",)
    assert user.extra["authentication.kubernetes.io/pod-uid"] == (pod["metadata"]["uid"],)
    assert user.extra["authentication.kubernetes.io/node-name"] == (NODE,)


def test_a_token_ends(house: House) -> None:
    token = request(house, expirationSeconds=600)["status"]["token"]
    house.seconds = START + 599
    assert not refused(house, token)
    house.seconds = START + 600
    assert refused(house, token)


def test_a_token_for_another_audience_is_none_here(house: House) -> None:
    token = request(house, audiences=["vault"])["status"]["token"]
    assert refused(house, token)
    user, meant = authenticator(house).token_user(token, ("vault", "other"))
    assert (user.username, meant) == ("system:serviceaccount:default:default", ("vault",))


def test_a_token_dies_with_its_pod_and_not_while_the_pod_says_goodbye(house: House) -> None:
    pod = house.pod(nodeName=NODE)
    token = request(house, boundObjectRef=bound_to(pod), expirationSeconds=3600)["status"]["token"]
    house.delete("/pods", "default", "p")
    assert not refused(house, token)
    house.seconds += 95
    assert refused(house, token)
    house.delete("/pods", "default", "p", gracePeriodSeconds=0)
    house.pod(nodeName=NODE)
    house.seconds = START
    assert refused(house, token)


def test_a_token_dies_with_its_account(house: House) -> None:
    token = request(house)["status"]["token"]
    house.delete("/serviceaccounts", "default", "default")
    house.create("/serviceaccounts", {"metadata": {"name": "default", "namespace": "default"}})
    assert refused(house, token)


@pytest.mark.parametrize(("seconds", "text"), [(599, "less than 10 minutes"), (2**32 + 1, "larger than 2^32 seconds")])
def test_a_lifetime_has_bounds(house: House, seconds: int, text: str) -> None:
    with pytest.raises(StatusError) as caught:
        request(house, expirationSeconds=seconds)
    assert caught.value.code == 422
    assert text in caught.value.message


def test_a_long_lifetime_is_shortened_and_said(house: House) -> None:
    answer = request(house, expirationSeconds=10 * 24 * 3600)
    assert answer["spec"]["expirationSeconds"] == 24 * 3600


def test_what_a_token_is_bound_to_must_be_there_and_be_the_accounts(house: House) -> None:
    pod = house.pod(nodeName=NODE)
    house.create("/serviceaccounts", {"metadata": {"name": "other", "namespace": "default"}})
    for account, reference, code in (
        ("default", {**bound_to(pod), "name": "ghost"}, 404),
        ("default", {**bound_to(pod), "uid": "other"}, 409),
        ("other", bound_to(pod), 400),
        ("default", {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "name": "x"}, 400),
        ("ghost", bound_to(pod), 404),
    ):
        with pytest.raises(StatusError) as caught:
            request(house, name=account, boundObjectRef=reference)
        assert caught.value.code == code, reference


def test_a_node_gets_tokens_for_its_own_pods_only(house: House) -> None:
    mine, other = house.pod("mine", nodeName=NODE), house.pod("other", nodeName="n2")
    assert request(house, house.as_node(), boundObjectRef=bound_to(mine))["status"]["token"]
    without_uid = {key: value for key, value in bound_to(mine).items() if key != "uid"}
    for reference in (bound_to(other), without_uid, None):
        with pytest.raises(StatusError) as caught:
            request(house, house.as_node(), boundObjectRef=reference)
        assert caught.value.code == 403


def review(house: House, kind: str, body: Object, ctx: RequestContext | None = None) -> Object:
    plural = f"{kind.lower()}s"
    group = "authentication.k8s.io" if kind in ("TokenReview", "SelfSubjectReview") else "authorization.k8s.io"
    status = strategy.virtual_create(by_key(f"{group}/{plural}"), body, ctx or house.ctx)["status"]
    assert isinstance(status, dict)
    return status


def test_a_token_review_tells_who_it_is(house: House) -> None:
    token = request(house, audiences=["a", "b"])["status"]["token"]
    good = review(house, "TokenReview", {"spec": {"token": token, "audiences": ["b", "c"]}})
    assert good["authenticated"] is True
    assert good["audiences"] == ["b"]
    assert good["user"]["username"] == "system:serviceaccount:default:default"
    for spec in ({"token": token}, {"token": token, "audiences": ["c"]}, {"token": "x"}):
        bad = review(house, "TokenReview", {"spec": spec})
        assert "authenticated" not in bad
        assert bad["error"]


def test_a_token_review_wants_a_token(house: House) -> None:
    with pytest.raises(StatusError) as caught:
        review(house, "TokenReview", {"spec": {}})
    assert caught.value.code == 400


def access(user: str, *groups: str, **attributes: str) -> Object:
    return {"spec": {"user": user, "groups": list(groups), "resourceAttributes": attributes}}


def test_an_access_review_asks_the_authorizer(house: House) -> None:
    house.pod(nodeName=NODE)
    node = f"system:node:{NODE}", "system:nodes", "system:authenticated"
    own = review(
        house, "SubjectAccessReview", access(*node, verb="get", resource="pods", namespace="default", name="p")
    )
    assert own == {"allowed": True}
    no = review(house, "SubjectAccessReview", access("joe", verb="get", resource="nodes", subresource="proxy"))
    assert no == {"allowed": False}
    master = review(house, "SubjectAccessReview", access("x", "system:masters", verb="*", group="*", resource="*"))
    assert master == {"allowed": True}
    path = {"spec": {"user": "x", "groups": ["system:authenticated"]}}
    path["spec"]["nonResourceAttributes"] = {"verb": "get", "path": "/version"}  # type: ignore[assignment]
    assert review(house, "SubjectAccessReview", path) == {"allowed": True}


@pytest.mark.parametrize(
    "spec", [{}, {"user": "x"}, {"user": "x", "resourceAttributes": {}, "nonResourceAttributes": {}}]
)
def test_an_access_review_that_asks_nothing_or_two_things_is_422(house: House, spec: Object) -> None:
    with pytest.raises(StatusError) as caught:
        review(house, "SubjectAccessReview", {"spec": spec})
    assert caught.value.code == 422


def test_a_local_review_stays_in_its_namespace(house: House) -> None:
    body = access("x", "system:masters", verb="get", resource="pods", namespace="default")
    assert review(house, "LocalSubjectAccessReview", {**body, "metadata": {"namespace": "default"}})["allowed"]
    with pytest.raises(StatusError) as caught:
        review(house, "LocalSubjectAccessReview", {**body, "metadata": {"namespace": "other"}})
    assert caught.value.code == 422


def test_who_am_i_and_what_may_i(house: House) -> None:
    assert review(house, "SelfSubjectReview", {}) == {"userInfo": internal.SERVER.as_info()}
    asked = {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": "default"}}}
    assert review(house, "SelfSubjectAccessReview", asked) == {"allowed": True}
    assert review(house, "SelfSubjectAccessReview", asked, house.as_node()) == {"allowed": True}
    rules = review(house, "SelfSubjectRulesReview", {"spec": {"namespace": "default"}})
    assert rules["resourceRules"] == [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]
    assert review(house, "SelfSubjectRulesReview", {"spec": {"namespace": "d"}}, house.as_node())["incomplete"] is True
