"""Which resources a status shows: granted ones, and what cgroups are held to, in the pod's words where they agree."""

from typing import Any

import pytest

from bridge.granted import of_container, of_pod
from bridge.lives import lives
from bridge.report import report
from bridge.spec.resources import Sizes
from tests.unit.bridge.building import NOW, a_pod, container_status, desired, prior, run, seen, spec

MIB = 1 << 20
ASKED = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}


def shown(resources: dict[str, Any], sizes: Sizes | None, state: str = "running") -> dict[str, Any]:
    pod = a_pod(spec(resources=resources))
    (life,) = lives(pod, prior(), seen(run(state=state, sizes=sizes)))
    return of_container(life, prior())


@pytest.mark.parametrize(
    ("asked", "sizes", "actual"),
    [
        (ASKED, Sizes(102, 20000, 64 * MIB), ASKED),
        (ASKED, None, ASKED),
        (
            ASKED,
            Sizes(204, 40000, 128 * MIB),
            {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "400m", "memory": "128Mi"}},
        ),
        ({"requests": {"cpu": "1m"}, "limits": {"cpu": "5m"}}, Sizes(2, 1000), None),
        ({"requests": {"cpu": "2m"}, "limits": {"cpu": "10m"}}, Sizes(2, 1000), None),
        ({}, Sizes(2), {}),
        ({"requests": {"memory": "1Mi"}}, Sizes(2), None),
    ],
    ids=["as asked", "untold", "other", "below the least", "at the least", "nothing", "no cpu"],
)
def test_a_running_container_shows_what_its_cgroup_is_held_to(
    asked: dict[str, Any], sizes: Sizes | None, actual: dict[str, Any] | None
) -> None:
    found = shown(asked, sizes)
    assert found["resources"] == (asked if actual is None else actual)
    assert found.get("allocatedResources") == asked.get("requests")


def test_one_that_has_ended_shows_what_it_was_granted() -> None:
    assert shown(ASKED, Sizes(204, 40000, 128 * MIB), "exited")["resources"] == ASKED


def test_one_that_was_never_made_shows_nothing() -> None:
    pod = a_pod(spec(resources=ASKED))
    (life,) = lives(pod, prior(), seen())
    assert of_container(life, prior()) == {}
    known = prior(status={"containerStatuses": [container_status(running={"startedAt": None})]})
    (life,) = lives(pod, known, seen())
    assert of_container(life, known) == {}


def test_a_pod_shows_the_sum_with_its_overhead_until_it_runs_and_then_its_cgroup() -> None:
    pod = a_pod(spec(resources=ASKED), overhead={"cpu": "50m", "memory": "16Mi"})
    requests = {"cpu": "150m", "memory": "80Mi"}
    waiting = of_pod(pod, prior(), running=False)
    assert waiting == {
        "allocatedResources": requests,
        "resources": {"requests": requests, "limits": {"cpu": "250m", "memory": "80Mi"}},
    }
    running = of_pod(pod, prior(pod_sized=Sizes(153, 25000, 80 * MIB)), running=True)
    assert running["resources"] == {"requests": requests, "limits": {"cpu": "250m", "memory": "80Mi"}}


def test_until_the_cgroup_was_read_the_last_word_counts() -> None:
    pod, known = a_pod(spec(resources=ASKED)), prior(status={"resources": {"requests": {"cpu": "1"}}})
    assert of_pod(pod, known, running=True)["resources"] == {"requests": {"cpu": "1"}}
    assert "resources" not in of_pod(pod, prior(), running=True)


def test_a_pod_without_requests_shows_empty_resources_so_that_the_api_server_knows_that_it_may_be_resized() -> None:
    status = report(desired(), prior(pod_sized=Sizes(2)), seen(run(sizes=Sizes(2))), NOW)
    assert status["containerStatuses"][0]["resources"] == {}
    assert status["resources"] == {}
    assert "allocatedResources" not in status
