"""The prober on its loop, with the fake runtime for commands and real sockets for the rest."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from bridge.actions import Probed
from bridge.pb.grpc.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.probes.prober import Prober
from bridge.probes.track import Target
from bridge.probes.view import View
from bridge.runtime import ExecEnd, Runtime
from bridge.wire.client import Client
from bridge.wire.loop import Loop
from tests.contract.fake_runtime import FakeRuntime
from tests.living import living
from tests.unit.bridge.building import UID, a_pod, spec
from tests.unit.bridge.wire.servers import answering, health_server, response, serving, unreachable
from tests.waiting import PATIENCE, wait_for
from vkcri.instance import Instance
from vkcri.lifecycle import Process

FAST = {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5}


class House:
    """A prober that runs, what it has warned of, and whom it has woken. `ends` says how commands end; None: not yet."""

    def __init__(self, process: Process) -> None:
        self.warned: list[tuple[str, str, str]] = []
        self.woken: list[str] = []
        self.commands: list[cri.ExecSyncRequest] = []
        self.ends: ExecEnd | None = ExecEnd(0)
        self.prober = Prober(Client(Loop()), self.execute, self.warn, self.woken.append)
        self.prober.client.start(process)

    def execute(self, request: cri.ExecSyncRequest, done: Any) -> None:
        self.commands.append(request)
        if self.ends is not None:
            done(self.ends)

    def asked(self, container: str) -> int:
        """How many commands there were for it."""
        return sum(request.container_id == container for request in list(self.commands))

    def warn(self, pod: Any, reason: str, message: str, container: str) -> None:
        del pod
        self.warned.append((reason, message, container))

    def show(self, pod: dict[str, Any], *, started: bool = True, container: str = "c1", ending: bool = False) -> None:
        began = max(time.time(), self.prober.started)  # later than the prober, also where the clock was put back
        target = Target("app", container, running=True, started=started, started_at=began)
        self.prober.update(pod["metadata"]["uid"], View(pod, "127.0.0.1", ending, (target,)))

    def turn(self) -> None:
        """Until the loop has done all that it was told before."""
        done = threading.Event()
        self.prober.client.loop.call(done.set)
        assert done.wait(PATIENCE)

    def said(self, container: str = "c1") -> Probed:
        return self.prober.results(UID).get(container, Probed())


@pytest.fixture
def house() -> Iterator[House]:
    with living("test", Instance("wire-44")) as process:
        yield House(process)


def probed(**probes: Any) -> dict[str, Any]:
    return a_pod(spec(**{f"{kind}Probe": {**FAST, **probe} for kind, probe in probes.items()}))


def test_results_are_kept_and_wake_the_pods_worker(house: House) -> None:
    house.show(probed(readiness={"exec": {"command": ["look"]}}))
    wait_for("success and its wake", lambda: house.said().readiness and house.woken == [UID])
    house.ends = ExecEnd(1, b"sick")
    wait_for("failure and its wake", lambda: house.said().readiness is False and house.woken == [UID, UID])
    assert house.warned[0] == ("Unhealthy", "Readiness probe failed: sick", "app")
    assert (house.commands[0].container_id, list(house.commands[0].cmd), house.commands[0].timeout) == (
        "c1",
        ["look"],
        5,
    )


def test_a_command_gets_the_values_that_the_spec_gives(house: House) -> None:
    pod = probed(readiness={"exec": {"command": ["$(GIVEN)", "$(OTHER)", "$$(GIVEN)"]}})
    pod["spec"]["containers"][0]["env"] = [{"name": "GIVEN", "value": "here"}]
    house.show(pod)
    wait_for("the command", lambda: house.commands)
    assert list(house.commands[0].cmd) == ["here", "$(OTHER)", "$(GIVEN)"]


def test_startup_holds_back_the_others(house: House) -> None:
    probe = {"exec": {"command": ["x"]}}
    pod = probed(startup=probe, readiness={**probe, "periodSeconds": 60}, liveness=probe)
    house.show(pod, started=False)
    wait_for("startup", lambda: house.said() == Probed(startup=True))
    house.show(pod, started=True)
    wait_for("the others", lambda: house.said() == Probed(startup=True, readiness=True, liveness=True))


def test_a_probe_that_cannot_be_made_is_tried_three_times_and_says_nothing(house: House) -> None:
    house.ends = ExecEnd(failure="rpc error: code = Unknown desc = gone")
    house.show(probed(liveness={"exec": {"command": ["x"]}, "periodSeconds": 60}))
    wait_for("its warning", lambda: house.warned)
    assert len(house.commands) == 3
    assert house.said() == Probed()
    message = "Liveness probe errored and resulted in unknown state: rpc error: code = Unknown desc = gone"
    assert house.warned[0] == ("Unhealthy", message, "app")


def test_a_port_without_that_name_is_an_error(house: House) -> None:
    house.show(probed(readiness={"httpGet": {"port": "web"}}))
    wait_for("its warning", lambda: house.warned)
    message = 'Readiness probe errored and resulted in unknown state: port "web" not found'
    assert house.warned[0] == ("Unhealthy", message, "app")


def test_a_probe_that_nothing_can_be_sent_for_is_due_again(house: House) -> None:
    house.show(probed(readiness={"httpGet": {"port": 80, "path": "/\ud800"}}))
    wait_for("its second warning", lambda: len(house.warned) > 1)
    assert {reason for reason, _, _ in house.warned} == {"Unhealthy"}
    assert "errored and resulted in unknown state" in house.warned[0][1]
    assert house.said() == Probed()


def test_a_result_that_cannot_be_told_counts_and_the_next_probe_comes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(house.prober, "warn", no_room)
    house.ends = ExecEnd(1)
    house.show(probed(readiness={"exec": {"command": ["x"]}}))
    wait_for("the result", lambda: house.said().readiness is False)
    wait_for("the next one", lambda: len(house.commands) > 1)


def test_every_kind_of_probe(house: House) -> None:
    with (
        serving(answering(response())) as port,
        health_server(lambda *_: HealthCheckResponse(status="SERVING")) as health,
    ):
        house.show(
            probed(
                readiness={"httpGet": {"port": port, "path": "/"}},
                liveness={"tcpSocket": {"port": port}},
            )
        )
        wait_for("both", lambda: house.said() == Probed(readiness=True, liveness=True))
        other = probed(readiness={"grpc": {"port": health, "service": "x"}})
        other["metadata"] = {**other["metadata"], "uid": "other"}
        house.show(other, container="c9")
        wait_for("grpc", lambda: house.prober.results("other").get("c9") == Probed(readiness=True))


def test_a_health_check_asks_for_its_service_and_speaks_tls_where_told(house: House) -> None:
    asked: list[str] = []

    def answer(request: HealthCheckRequest, context: grpc.ServicerContext) -> HealthCheckResponse:
        del context
        asked.append(request.service)
        return HealthCheckResponse(status="SERVING")

    with health_server(answer, tls=True) as port:
        house.show(probed(readiness={"grpc": {"port": port, "service": "a.b.C", "mode": "TLS"}}))
        wait_for("the answer", lambda: house.said().readiness)
    assert asked[0] == "a.b.C"


def test_a_tcp_probe_may_name_another_host(house: House) -> None:
    with serving(lambda connection: connection.recv(1) and None) as port:
        house.show(probed(readiness={"tcpSocket": {"port": port, "host": "127.0.0.2"}}))
        wait_for("its failure", lambda: house.said().readiness is False)
    words = f"Readiness probe failed: dial tcp 127.0.0.2:{port}: connect: connection refused"
    assert house.warned[0] == ("Unhealthy", words, "app")


def test_a_new_container_begins_anew_and_the_old_ones_probe_is_cancelled(house: House) -> None:
    house.ends = None
    pod = probed(readiness={"exec": {"command": ["x"]}})
    house.show(pod)
    wait_for("the command", lambda: house.commands)
    house.ends = ExecEnd(0)
    house.show(pod, container="c2")
    wait_for("its result", lambda: house.said("c2").readiness)
    assert set(house.prober.results(UID)) == {"c2"}


def test_an_ending_pod_is_probed_for_readiness_only(house: House) -> None:
    probe = {"exec": {"command": ["x"]}}
    pod = probed(readiness=probe, liveness=probe)
    house.show(pod)
    wait_for("both", lambda: house.said() == Probed(readiness=True, liveness=True))
    house.show(pod, ending=True)
    house.turn()
    house.ends = ExecEnd(1)
    wait_for("readiness", lambda: house.said().readiness is False)
    assert house.said().liveness
    assert {message.split()[0] for _, message, _ in house.warned} == {"Readiness"}


def test_a_pod_that_is_forgotten_is_probed_no_more(house: House) -> None:
    house.show(probed(readiness={"exec": {"command": ["x"]}}))
    wait_for("success", lambda: house.said().readiness)
    assert "prober_probe_total" in house.prober.metrics.text()
    house.prober.forget(UID)
    wait_for("nothing", lambda: "prober_probe_total" not in house.prober.metrics.text())
    assert not house.prober.results(UID)
    asked = house.asked("c1")
    other = probed(readiness={"exec": {"command": ["x"]}})
    other["metadata"]["uid"] = "other"
    house.show(other, container="c2")
    wait_for("more than a period of another pod's probe", lambda: house.asked("c2") >= 3)
    assert house.asked("c1") == asked


def test_the_end_of_a_pod_leaves_the_durations_of_the_one_that_has_its_name(house: House) -> None:
    pod = probed(readiness={"exec": {"command": ["x"]}})
    house.show(pod)
    wait_for("success", lambda: house.said().readiness)
    newer = {**pod, "metadata": {**pod["metadata"], "uid": "newer"}}
    house.show(newer, container="c2")
    wait_for("the newer one's success", lambda: house.prober.results("newer"))
    house.prober.forget(UID)
    wait_for("nothing of the older one", lambda: UID not in house.prober.metrics.text())
    assert "prober_probe_duration_seconds_count" in house.prober.metrics.text()
    house.prober.forget("newer")
    wait_for("nothing", lambda: "prober_probe_duration_seconds_count" not in house.prober.metrics.text())


def test_metrics_are_the_kubelets(house: House) -> None:
    house.show(probed(readiness={"exec": {"command": ["x"]}, "periodSeconds": 60}))
    wait_for("success", lambda: house.said().readiness)
    text = house.prober.metrics.text()
    about = 'container="app",namespace="default",pod="p",probe_type="Readiness"'
    assert f'prober_probe_total{{{about},pod_uid="{UID}",result="successful"}} 1\n' in text
    assert f"prober_probe_duration_seconds_count{{{about}}} 1\n" in text
    assert f'prober_probe_duration_seconds_bucket{{{about},le="+Inf"}} 1\n' in text
    assert "process_start_time_seconds 1" in text


def test_probes_that_hang_take_no_thread_and_hold_up_no_other(house: House) -> None:
    with unreachable() as port, serving(answering(response())) as good:
        before = threading.active_count()
        for number in range(250):
            pod = probed(
                startup={"tcpSocket": {"port": port}},
                readiness={"httpGet": {"port": port, "path": "/"}, "timeoutSeconds": 60},
                liveness={"httpGet": {"port": port, "path": "/"}, "timeoutSeconds": 60},
            )
            pod["metadata"] = {**pod["metadata"], "uid": f"hanging-{number}"}
            house.show(pod, container=f"h{number}")
        began = time.monotonic()
        house.show(probed(readiness={"httpGet": {"port": good, "path": "/"}}))
        wait_for("the good one", lambda: house.said().readiness)
        assert time.monotonic() - began < 40
        assert threading.active_count() - before <= 2  # the good server's own


def test_hundreds_of_commands_under_way_wait_on_no_thread(fake: FakeRuntime) -> None:
    runtime = Runtime(fake.endpoint)
    ends: list[ExecEnd] = []
    fake.delay("ExecSync", 1.0)
    fake.fail_next("ExecSync", "context deadline exceeded", code=grpc.StatusCode.DEADLINE_EXCEEDED, times=100)
    before = threading.active_count()
    for number in range(100):
        runtime.exec_later(cri.ExecSyncRequest(container_id=str(number), cmd=["x"], timeout=1), ends.append)
    mine = [thread for thread in threading.enumerate() if not thread.name.startswith("fake-cri")]
    assert len(mine) - before <= 3
    wait_for("all of them", lambda: len(ends) == 100)
    assert all(end.timed_out and end.exit_code is None for end in ends)
    assert ends[0].failure == "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
    runtime.close()
