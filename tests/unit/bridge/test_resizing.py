"""A resize in place: what is due, in which order it is done, which conditions and events it has."""

import json
from typing import Any

import pytest

from bridge.actions import Note, Notes, ResizePod, StartContainer, StopContainer, Wait
from bridge.admit import Refusal
from bridge.allocation import allocation_of
from bridge.decide import decide
from bridge.lives import lives
from bridge.resizing import (
    MADE_WITH,
    Change,
    ContainerStep,
    PodStep,
    asked,
    conditions,
    failed,
    looked,
    notes_of,
    steps,
    under_way,
)
from bridge.spec.resources import Sizes, container_sizes, measured, pod_sizes
from tests.unit.bridge.building import NOW, a_pod, desired, prior, run, seen, spec

STAMP = "2027-01-15T08:00:00Z"
MIB = 1 << 20
SMALL = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}}
LARGE = {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "400m", "memory": "128Mi"}}


def pod(resources: dict[str, Any], generation: int = 2, **more: Any) -> dict[str, Any]:
    made = a_pod(spec(resources=resources, **more))
    made["metadata"]["generation"] = generation
    return made


def made_with(resources: dict[str, Any], **more: Any) -> Any:
    """A run of `app` in a cgroup of those resources."""
    at = pod(resources)
    item = at["spec"]["containers"][0]
    found = run(sizes=container_sizes(at, item), **more)
    return type(found)(
        **{**vars(found), "annotations": {**found.annotations, MADE_WITH: json.dumps(measured(at, item))}}
    )


class TestDecision:
    def decide(self, wanted: dict[str, Any], held: Any, **known: Any) -> list[Any]:
        known.setdefault("pod_sized", pod_sizes(wanted))
        return decide(desired(wanted), prior(**{"refresh_at": None, **known}), seen(held), NOW)

    def test_what_runs_as_granted_is_left_alone(self) -> None:
        assert self.decide(pod(SMALL), made_with(SMALL)) == []

    def test_a_container_that_does_not_is_changed_in_place(self) -> None:
        assert self.decide(pod(LARGE), made_with(SMALL)) == [ResizePod(("app",))]

    def test_a_cgroup_of_the_pod_that_is_not_as_granted_is_changed_alone(self) -> None:
        assert self.decide(pod(SMALL), made_with(SMALL), pod_sized=Sizes(2)) == [ResizePod()]
        assert self.decide(pod(SMALL), made_with(SMALL), pod_sized=None) == []

    def test_a_runtime_that_does_not_tell_is_believed_to_have_what_it_was_given(self) -> None:
        silent = run()
        assert self.decide(pod(LARGE), silent) == []
        held = {silent.id: container_sizes(pod(SMALL), pod(SMALL)["spec"]["containers"][0])}
        assert self.decide(pod(LARGE), silent, sized=held) == [ResizePod(("app",))]

    def test_it_is_not_begun_twice_and_a_failure_waits(self) -> None:
        assert self.decide(pod(LARGE), made_with(SMALL), busy=frozenset({"resize"})) == []
        assert self.decide(pod(LARGE), made_with(SMALL), retry={"resize": NOW + 5}) == [Wait(NOW + 5)]

    @pytest.mark.parametrize(
        ("policy", "wanted", "restarts"),
        [
            ("cpu", LARGE, True),
            ("memory", LARGE, True),
            ("memory", {**SMALL, "requests": {"cpu": "150m", "memory": "64Mi"}}, False),
            ("memory", {**SMALL, "requests": {"cpu": "100m", "memory": "32Mi"}}, True),
        ],
    )
    def test_a_policy_may_want_a_restart(self, policy: str, wanted: dict[str, Any], restarts: bool) -> None:
        policies = [{"resourceName": policy, "restartPolicy": "RestartContainer"}]
        found = self.decide(pod(wanted, resizePolicy=policies), made_with(SMALL))
        if not restarts:
            assert found == [ResizePod(("app",))]
            return
        (stop,) = found
        assert isinstance(stop, StopContainer)
        assert (stop.because, stop.replace) == ("Container app resize requires restart", True)

    def test_an_init_container_that_runs_is_resized_too(self) -> None:
        wanted = a_pod(spec("main"), initContainers=[spec(resources=LARGE)])
        assert self.decide(wanted, made_with(SMALL)) == [ResizePod(("app",))]

    def test_a_start_waits_for_the_pods_cgroup_but_not_for_one_that_fails(self) -> None:
        ended = made_with(SMALL, state="exited")
        assert self.decide(pod(LARGE), ended, pod_sized=pod_sizes(pod(SMALL))) == [ResizePod()]
        retry = {"resize": NOW + 5}
        found = self.decide(pod(LARGE), ended, pod_sized=pod_sizes(pod(SMALL)), retry=retry)
        assert [type(action) for action in found] == [Wait, StartContainer]

    def test_what_does_not_run_needs_no_resize(self) -> None:
        at = pod(LARGE)
        ended = seen(made_with(SMALL, state="exited"))
        assert not under_way(at, prior(), lives(at, prior(), ended))
        assert under_way(at, prior(), lives(at, prior(), seen(made_with(SMALL))))


class TestOrder:
    def test_the_pod_grows_before_its_containers_and_shrinks_after_them(self) -> None:
        small, large = Sizes(102, 20000, 64 * MIB), Sizes(204, 40000, 128 * MIB)
        memory = ContainerStep("id", "app", Sizes(102, 20000, 128 * MIB))
        assert steps(small, large, [Change("id", "app", small, large)]) == [
            PodStep("memory", 128 * MIB),
            memory,
            PodStep("quota", 40000),
            PodStep("shares", 204),
            ContainerStep("id", "app", large),
        ]
        assert steps(large, small, [Change("id", "app", large, small)]) == [
            ContainerStep("id", "app", Sizes(204, 40000, 64 * MIB)),
            PodStep("memory", 64 * MIB),
            ContainerStep("id", "app", small),
            PodStep("shares", 102),
            PodStep("quota", 20000),
        ]

    def test_containers_that_shrink_come_before_those_that_grow(self) -> None:
        less, more = Sizes(2, None, 32 * MIB), Sizes(2, None, 64 * MIB)
        found = steps(Sizes(2), Sizes(2), [Change("a", "a", less, more), Change("b", "b", more, less)])
        assert [step.name for step in found if isinstance(step, ContainerStep)] == ["b", "a"]

    def test_limits_that_are_new_come_and_limits_that_are_not_asked_for_stay(self) -> None:
        found = steps(Sizes(2), Sizes(2, 20000, 64 * MIB), [])
        assert found == [PodStep("memory", 64 * MIB), PodStep("quota", 20000)]
        assert steps(Sizes(2, 20000, 64 * MIB), Sizes(2), []) == []
        held = Sizes(2, 20000, 64 * MIB)
        changed = steps(held, held, [Change("a", "a", held, Sizes(50))])
        assert changed == [ContainerStep("a", "a", Sizes(50, 20000, 64 * MIB))]


class TestNotes:
    refusal = Refusal("OutOfcpu", "Node didn't have enough resource: cpu")

    def test_a_refusal_is_pending_and_said_once_a_generation(self) -> None:
        at, held = pod(LARGE), allocation_of(pod(SMALL))
        notes, events = asked(Notes(), at, held, held, self.refusal, STAMP)
        assert notes == Notes(Note("Deferred", self.refusal.message, 2, STAMP))
        assert [(event.type, event.reason) for event in events] == [("Warning", "ResizeDeferred")]
        resources = '{"limits":{"cpu":"400m","memory":"128Mi"},"requests":{"cpu":"200m","memory":"64Mi"}}'
        assert events[0].message == (
            f'Pod resize OutOfcpu: {{"containers":[{{"name":"app","resources":{resources}}}],"generation":2,'
            f'"error":"{self.refusal.message}"}}'
        )
        again, events = asked(notes, at, held, held, self.refusal, "2027-01-15T09:00:00Z")
        assert (again, events) == (notes, [])
        newer, events = asked(notes, pod(LARGE, 3), held, held, self.refusal, "2027-01-15T09:00:00Z")
        assert (newer.pending, len(events)) == (Note("Deferred", self.refusal.message, 3, STAMP), 1)

    def test_what_was_granted_is_in_progress_until_it_runs(self) -> None:
        at, before = pod(LARGE), allocation_of(pod(SMALL))
        pending = Notes(Note("Deferred", "", 2, STAMP))
        notes, events = asked(pending, at, before, allocation_of(at), None, STAMP)
        assert notes == Notes(None, Note(generation=2, since=STAMP))
        assert [event.reason for event in events] == ["ResizeStarted"]
        assert looked(notes, at, STAMP, under_way=True) == (notes, [])
        notes, events = looked(notes, at, STAMP, under_way=False)
        assert notes == Notes()
        assert [(event.type, event.reason) for event in events] == [("Normal", "ResizeCompleted")]

    def test_a_resize_that_is_taken_back_is_over_without_a_word(self) -> None:
        at = pod(SMALL, 3)
        pending = Notes(Note("Deferred", "", 2, STAMP))
        assert asked(pending, at, allocation_of(at), allocation_of(at), None, STAMP) == (Notes(), [])

    def test_what_was_found_after_a_restart_is_not_said_again(self) -> None:
        at = pod(LARGE)
        assert asked(Notes(), at, None, allocation_of(at), None, STAMP) == (Notes(), [])
        notes, events = looked(Notes(), at, STAMP, under_way=True)
        assert (notes.progress, events) == (Note(generation=2, since=STAMP), [])

    def test_an_error_is_shown_with_the_generation_that_it_is_about_and_said_once(self) -> None:
        at, started = pod(LARGE, 3), Notes(None, Note(generation=2, since="2027-01-15T07:00:00Z"))
        notes, events = failed(started, at, "no", STAMP)
        assert notes.progress == Note("Error", "no", 2, STAMP)
        assert [(event.type, event.reason) for event in events] == [("Warning", "ResizeError")]
        assert failed(notes, at, "no", "2027-01-15T09:00:00Z") == (notes, [])
        assert looked(notes, at, STAMP, under_way=True) == (notes, [])

    def test_they_stand_in_the_status_and_are_read_back_from_it(self) -> None:
        notes = Notes(Note("Deferred", "full", 3, STAMP), Note("Error", "no", 2, STAMP))
        listed = conditions(notes)
        assert listed[0] == {
            "type": "PodResizePending",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": STAMP,
            "reason": "Deferred",
            "message": "full",
            "observedGeneration": 3,
        }
        assert notes_of({"conditions": listed}) == notes
        assert conditions(Notes()) == []
