"""AppArmor profiles by annotation: what they must be, that they are the fields' from the start, and stay for ever."""

import copy
from typing import Any

import pytest

from tests.unit.vkcri.apiserver.house import NODE, House, container, pod
from vkcri.apiserver import strategy
from vkcri.apiserver.resources import by_key
from vkcri.apiserver.status import StatusError

Object = dict[str, Any]
PREFIX = "container.apparmor.security.beta.kubernetes.io/"
KEY = f"{PREFIX}main"
FIELD = "spec.containers[0].securityContext.appArmorProfile"
DEFAULT, UNCONFINED = {"type": "RuntimeDefault"}, {"type": "Unconfined"}
MINE = {"type": "Localhost", "localhostProfile": "mine"}


def annotated(annotations: dict[str, str], profile: Object | None = None, **spec: Any) -> Object:
    """A pod with these annotations, whose container `main` has that profile."""
    context = {"securityContext": {"appArmorProfile": profile}} if profile else {}
    made = pod(nodeName=NODE, containers=[container(**context)], **spec)
    made["metadata"]["annotations"] = annotations
    return made


def made(house: House, given: Object) -> tuple[Object | None, list[str]]:
    """(the profile of the container `main` as it is stored, warnings)."""
    ctx = house.ctx
    with house.store.transaction():
        stored = strategy.prepare_create(by_key("/pods"), given, ctx)
    context = stored["spec"]["containers"][0].get("securityContext") or {}
    told = [text for text in ctx.warnings if text.startswith(f"metadata.annotations[{PREFIX}")]
    return context.get("appArmorProfile"), told


WARNING = f'metadata.annotations[{KEY}]: deprecated since v1.30; use the "appArmorProfile" field instead'


@pytest.mark.parametrize(
    ("said", "own", "shared", "stored", "told"),
    [
        ("runtime/default", None, None, DEFAULT, [WARNING]),
        ("unconfined", None, None, UNCONFINED, [WARNING]),
        ("localhost/mine", None, None, MINE, [WARNING]),
        ("localhost/mine", None, DEFAULT, MINE, [WARNING]),
        ("runtime/default", None, DEFAULT, None, []),
        ("runtime/default", DEFAULT, None, DEFAULT, []),
        ("localhost/mine", MINE, DEFAULT, MINE, []),
        ("", None, None, None, [WARNING]),
        ("localhost/", None, None, None, [WARNING]),
        ("localhost/ x", None, None, None, [WARNING]),
    ],
)
def test_a_new_pods_field_is_set_from_the_annotation(
    house: House, said: str, own: Object | None, shared: Object | None, stored: Object | None, told: list[str]
) -> None:
    spec = {"securityContext": {"appArmorProfile": shared}} if shared else {}
    given = annotated({KEY: said}, own, **spec)
    assert made(house, given) == (stored, told)


@pytest.mark.parametrize(
    ("given", "field", "text"),
    [
        (annotated({f"{PREFIX}other": "unconfined"}), f"metadata.annotations[{PREFIX}other]", "container not found"),
        (annotated({KEY: "mine"}), f"metadata.annotations[{KEY}]", 'invalid AppArmor profile name: "mine"'),
        (annotated({KEY: "unconfined"}, DEFAULT), f"{FIELD}.type", "apparmor type in annotation and field must match"),
        (annotated({KEY: "localhost/x"}, DEFAULT), f"{FIELD}.type", "apparmor type in annotation"),
        (annotated({KEY: "unconfined"}, MINE), f"{FIELD}.type", "apparmor type in annotation and field must match"),
        (
            annotated({KEY: "localhost/x"}, MINE),
            f"{FIELD}.localhostProfile",
            "apparmor profile in annotation and field must match",
        ),
    ],
)
def test_an_annotation_that_means_nothing_or_something_else_is_refused(
    house: House, given: Object, field: str, text: str
) -> None:
    found = house.errors("/pods", given)
    assert list(found) == [field]
    assert text in found[field]


def test_a_pod_for_windows_has_no_such_profiles(house: House) -> None:
    given = annotated({KEY: "unconfined"}, os={"name": "windows"})
    assert made(house, given) == (None, [])


@pytest.mark.parametrize("subresource", [None, "status"])
@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ({}, {KEY: "unconfined"}, "may not add AppArmor annotations"),
        ({KEY: "unconfined"}, {KEY: "runtime/default"}, "may not remove or update AppArmor annotations"),
        ({KEY: "unconfined"}, {}, "may not remove or update AppArmor annotations"),
    ],
)
def test_a_pods_profiles_stay_for_ever(
    house: House, before: dict[str, str], after: dict[str, str], text: str, subresource: str | None
) -> None:
    stored = house.create("/pods", annotated(before))
    new = copy.deepcopy(stored)
    new["metadata"]["annotations"] = {**after, "note": "mine"}
    with pytest.raises(StatusError) as caught:
        house.update("/pods", new, subresource=subresource)
    assert caught.value.code == 422
    assert caught.value.message.endswith(f"metadata.annotations[{KEY}]: Forbidden: {text}")
    new["metadata"]["annotations"] = {**before, "note": "mine"}
    assert house.update("/pods", new, subresource=subresource)["metadata"]["annotations"]["note"] == "mine"
