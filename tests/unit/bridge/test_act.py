"""Stopping one container: the grace is the hook's and the signal's together. Every other action is in test_worker."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from bridge.act import Actor
from bridge.actions import StopContainer
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.spec import names
from tests.unit.bridge.building import NOW, UID, a_pod, desired, run, seen
from vkcri.errors import Unavailable

HOOKED = {names.PRE_STOP: json.dumps({"exec": {"command": ["leave"]}})}


class HookedGuest:
    """A guest in whose containers a command takes `eats` seconds of its own clock, and as CRI has it no more than it is
    given; it is also its runtime."""

    def __init__(self, eats: float, exit_code: int = 0) -> None:
        self.eats, self.exit_code = eats, exit_code
        self.now = NOW
        self.hooks: list[cri.ExecSyncRequest] = []
        self.stops: list[cri.StopContainerRequest] = []
        self.told: list[str] = []
        self.prober = SimpleNamespace(client=SimpleNamespace(get_and_wait=None))

    @property
    def runtime(self) -> "HookedGuest":
        return self

    def clock(self) -> float:
        return self.now

    def event(self, _pod: object, _type: str, reason: str, _message: str, _container: str) -> None:
        self.told.append(reason)

    def exec_sync(self, request: cri.ExecSyncRequest, *, seconds: float) -> cri.ExecSyncResponse:
        assert seconds > request.timeout, "CRI would not be waited for"
        self.hooks.append(request)
        self.now += min(self.eats, request.timeout)
        if self.eats > request.timeout:
            raise Unavailable(f"timeout {request.timeout}s exceeded: context deadline exceeded")
        return cri.ExecSyncResponse(exit_code=self.exit_code)

    def stop_container(self, request: cri.StopContainerRequest) -> None:
        self.stops.append(request)


def stop(guest: Any, grace: float, *, again: bool = False, **container: Any) -> list[int]:
    """Stop the container `app`; the seconds between TERM and KILL that CRI is asked for."""
    item = run(**{"annotations": HOOKED, **container})
    Actor(guest, UID).stop_container(desired(a_pod()), StopContainer(item.id, "app", grace), seen(item), again=again)
    return [request.timeout for request in guest.stops]


@pytest.mark.parametrize(
    ("grace", "eats", "left"),
    [
        (30, 0, 30),
        (30, 7, 23),
        (30, 7.9, 23),  # the kubelet subtracts whole seconds
        (30, 0.9, 30),
        (30, 28, 2),
        (30, 29, 2),  # and always leaves two
        (30, 30, 2),
        (30, 3600, 2),
        (2, 1, 2),
    ],
)
def test_what_the_pre_stop_hook_takes_is_taken_from_the_grace_but_for_two_seconds(
    grace: float, eats: float, left: int
) -> None:
    guest = HookedGuest(eats)
    assert stop(guest, grace) == [left]
    assert [(list(hook.cmd), hook.timeout) for hook in guest.hooks] == [(["leave"], grace)]
    assert guest.told == ["Killing", *(["FailedPreStopHook"] if eats > grace else [])]


def test_a_hook_that_fails_has_taken_its_time_too() -> None:
    guest = HookedGuest(5, exit_code=1)
    assert stop(guest, 30) == [25]
    assert guest.told == ["Killing", "FailedPreStopHook"]


def test_a_stop_that_is_shortened_runs_no_hook_again() -> None:
    guest = HookedGuest(5)
    assert stop(guest, 10, again=True) == [10]
    assert (guest.hooks, guest.told) == ([], [])


@pytest.mark.parametrize("container", [{"annotations": {}}, {"state": "unknown"}])
def test_without_a_hook_or_a_process_to_run_it_in_the_grace_is_whole(container: dict[str, Any]) -> None:
    guest = HookedGuest(5)
    assert stop(guest, 30, **container) == [30]
    assert guest.hooks == []
