"""The rounds of samples, what processes use, and the answers made once a round."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.cgroupfs import mounted_hierarchies
from bridge.pb.runtime.v1 import api_pb2 as cri
from bridge.runtime import Runtime
from bridge.stats.answers import StatsAnswers
from bridge.stats.inventory import Box, Running, Stock, boxes, container_stats
from bridge.stats.processes import ProcessGroup, listening_at, locked_by, own_cgroup
from bridge.stats.reading import ROOT, CgroupReader, boot_time
from bridge.stats.samples import HISTORY, Samples
from bridge.stats.summary import NodeUse
from bridge.stats.usage import Memory, Usage
from tests.contract.fake_runtime import FakeRuntime
from tests.waiting import PATIENCE, wait_for
from vkcri.errors import NotFound, Refused, Unavailable, VkcriError

SECOND = 1_000_000_000


class Machine:
    """A reader whose cgroups use half a core, and a clock that moves ten seconds a round."""

    def __init__(self) -> None:
        self.time = 0
        self.names = ["/", "/pods/a"]
        self.read: list[str] = []
        self.samples = Samples(self, lambda: self.names, {"kubelet": lambda: self.usage("kubelet")})  # type: ignore[arg-type]

    def usage(self, name: str) -> Usage | None:
        self.read.append(name)
        if name == "/gone":
            return None
        return Usage(self.time * SECOND, self.time * SECOND // 2, Memory(100, 90 + self.time, 50))

    def keep(self, names: Any) -> None:
        self.kept = set(names)

    def round(self) -> None:
        self.time += 10
        self.samples.take()


def test_rate_is_of_the_newest_two_samples_and_the_first_has_none() -> None:
    machine = Machine()
    machine.round()
    first = machine.samples.measured("/pods/a")
    assert first is not None
    assert first.nano_cores == 0
    machine.round()
    second = machine.samples.measured("/pods/a")
    assert second is not None
    assert (second.nano_cores, second.usage.time) == (SECOND // 2, 20 * SECOND)
    kubelet = machine.samples.measured("kubelet")
    assert kubelet is not None
    assert kubelet.nano_cores == SECOND // 2


def test_request_reads_only_what_no_round_has_seen() -> None:
    machine = Machine()
    machine.round()
    machine.read.clear()
    assert machine.samples.measured("/pods/a") is not None
    assert machine.read == []
    assert machine.samples.measured("/pods/new") is not None
    assert machine.samples.measured("/pods/new") is not None
    assert machine.samples.measured("/gone") is None
    assert machine.read == ["/pods/new", "/gone"]


def test_what_is_gone_is_forgotten_with_the_next_round() -> None:
    machine = Machine()
    machine.names.append("/gone")
    machine.round()
    assert machine.kept == {"/", "/pods/a", "kubelet"}
    machine.names.remove("/pods/a")
    machine.round()
    assert machine.samples.history("/pods/a") == []


def test_history_holds_the_last_minutes() -> None:
    machine = Machine()
    for _ in range(HISTORY + 5):
        machine.round()
    points = machine.samples.history("/")
    assert len(points) == HISTORY
    assert (points[-1].time, points[-1].nano_cores, points[-1].working_set) == (650.0, SECOND // 2, 740)


def test_root_of_this_machine_can_be_read() -> None:
    reader = CgroupReader(mounted_hierarchies())
    first, second = reader.usage(ROOT), reader.usage(ROOT)
    assert first is not None
    assert second is not None
    assert second.cpu >= first.cpu > 0
    assert 0 < first.memory.working_set <= first.memory.usage
    assert first.memory.limit == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    traffic = reader.traffic(ROOT)
    assert traffic is not None
    assert reader.created(ROOT) >= boot_time() > time.time_ns() - 10**18
    assert reader.usage("/no-such-cgroup") is None
    assert reader.processes("/no-such-cgroup") == []


BURN = """
import time
print(flush=True)
input()
end = time.process_time() + 0.3
while time.process_time() < end:
    pass
print(flush=True)
input()
"""


@pytest.fixture
def burner() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that uses 0.3 s of CPU when it is told to."""
    with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def tell(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()


def hear(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    assert process.stdout.readline()


def test_use_of_processes_grows_and_keeps_what_ended_ones_had(burner: "subprocess.Popen[bytes]") -> None:
    pids = [os.getpid(), burner.pid]
    group = ProcessGroup(lambda: pids)
    hear(burner)
    before = group.usage()
    tell(burner)
    hear(burner)
    burnt = group.usage()
    assert before is not None
    assert burnt is not None
    assert burnt.cpu - before.cpu >= 250_000_000
    assert burnt.memory.working_set > burnt.memory.rss > 1_000_000
    tell(burner)
    burner.wait(PATIENCE)
    after = group.usage()
    assert after is not None
    assert after.cpu >= burnt.cpu
    assert after.memory.working_set < burnt.memory.working_set
    pids.clear()
    assert group.usage() is None


def test_programs_are_found_by_their_locks(tmp_path: Path) -> None:
    (tmp_path / "here.lock").write_text(f"{os.getpid()}\n")
    (tmp_path / "dead.lock").write_text("4194303\n")
    (tmp_path / "empty.lock").touch()
    assert locked_by(tmp_path, ("here", "dead", "empty", "absent")) == [os.getpid()]


def test_listener_of_a_socket_is_found(tmp_path: Path) -> None:
    path = tmp_path / "runtime.sock"
    assert listening_at(path) is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert listening_at(path) == os.getpid()


def test_process_without_a_cgroup_of_its_own_has_none() -> None:
    assert own_cgroup(4194303) == ""
    assert own_cgroup(os.getpid()) != "/"


class Gatherer:
    """What runs, and how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failing = False
        self.hangs: threading.Event | None = None

    def _use(self, what: str) -> tuple[NodeUse, list[Any]]:
        self.asked.append(what)
        if self.hangs is not None:
            assert self.hangs.wait(PATIENCE)
        if self.failing:
            raise Unavailable("the runtime is away")
        from bridge.stats.shapes import Measured

        return NodeUse("n1", 0, Measured(Usage(SECOND, 5, Memory(1, 1, 1)), 7)), []

    def whole(self, seconds: float) -> tuple[NodeUse, list[Any]]:
        assert 0 < seconds <= 10
        return self._use("whole")

    def brief(self, seconds: float) -> tuple[NodeUse, list[Any]]:
        assert 0 < seconds <= 10
        return self._use("brief")

    def cgroups(self, seconds: float) -> list[Any]:
        assert 0 < seconds <= 10
        return self._use("cgroups")[1]

    def boxes(self, seconds: float) -> list[Box]:
        assert 0 < seconds <= 10
        one = Running("c1", "main", "shell:1", 1)
        return [Box("s1", "default", "web", "u1", 1, True, (one,)), Box("s2", "default", "over", "u2", 1, False, ())]


def test_ten_scrapers_of_one_round_cost_as_one() -> None:
    gatherer, rounds = Gatherer(), [1]
    answers = StatsAnswers(gatherer, lambda: rounds[0])  # type: ignore[arg-type]
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(answers.stats({}, 10.0))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gatherer.asked == ["whole"]
    assert len(set(found)) == 1
    assert json.loads(found[0])["node"]["cpu"]["usageNanoCores"] == 7
    answers.stats({"onlyCPUAndMemory": True}, 10.0)
    answers.container_metrics({}, 10.0)
    assert gatherer.asked == ["whole", "brief", "cgroups"]
    rounds[0] += 1
    answers.stats({}, 10.0)
    assert gatherer.asked == ["whole", "brief", "cgroups", "whole"]


def test_what_somebody_holds_already_is_not_sent_to_him() -> None:
    rounds = [1]
    answers = StatsAnswers(Gatherer(), lambda: rounds[0])  # type: ignore[arg-type]
    for ask, more in (
        (answers.stats, {}),
        (answers.stats, {"onlyCPUAndMemory": True}),
        (answers.container_metrics, {}),
    ):
        whole = ask(more, 10.0)
        held = hashlib.sha256(whole).hexdigest()
        assert ask({**more, "unless": held}, 10.0) == b"null"
        assert ask({**more, "unless": "of something older"}, 10.0) == whole
        rounds[0] += 1
        assert ask({**more, "unless": held}, 10.0) == b"null"  # made anew, and the same


def test_failure_is_told_and_not_kept() -> None:
    gatherer, rounds = Gatherer(), [1]
    answers = StatsAnswers(gatherer, lambda: rounds[0])  # type: ignore[arg-type]
    answers.stats({}, 10.0)
    gatherer.failing, rounds[0] = True, 2
    with pytest.raises(Unavailable, match="the runtime is away"):
        answers.stats({}, 10.0)
    assert "container_scrape_error 1" in json.loads(answers.container_metrics({}, 10.0))["text"]
    gatherer.failing = False
    assert json.loads(answers.stats({}, 10.0))["node"]["nodeName"] == "n1"


def test_who_asks_while_the_runtime_hangs_waits_no_longer_than_his_request() -> None:
    gatherer, rounds = Gatherer(), [1]
    gatherer.hangs = threading.Event()
    answers = StatsAnswers(gatherer, lambda: rounds[0])  # type: ignore[arg-type]
    first = threading.Thread(target=lambda: answers.stats({}, 10.0))
    first.start()
    wait_for("the first one", lambda: gatherer.asked)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="nobody who asked before has an answer yet"):
        answers.stats({}, 0.3)
    assert time.monotonic() - began < PATIENCE / 2
    gatherer.hangs.set()
    first.join(PATIENCE)
    assert gatherer.asked == ["whole"]
    assert json.loads(answers.stats({}, 10.0))["node"]["nodeName"] == "n1"


class Lock:
    """A lock that counts who has asked for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked = 0

    def acquire(self, timeout: float) -> bool:
        self.asked += 1
        return self._lock.acquire(timeout=timeout)

    def release(self) -> None:
        self._lock.release()


def test_who_waited_for_what_failed_gets_the_failure_and_asks_no_runtime_again() -> None:
    gatherer = Gatherer()
    gatherer.hangs, gatherer.failing = threading.Event(), True
    answers = StatsAnswers(gatherer, lambda: 1)  # type: ignore[arg-type]
    lock = answers._kept["summary"].lock = Lock()  # type: ignore[assignment]
    failures: list[str] = []

    def ask() -> None:
        with pytest.raises(Unavailable) as caught:
            answers.stats({}, 10.0)
        failures.append(str(caught.value))

    threads = [threading.Thread(target=ask, name=f"asks-{number}") for number in range(5)]
    for thread in threads:
        thread.start()
    wait_for("all of them", lambda: lock.asked == 5)
    gatherer.hangs.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == ["the runtime is away"] * 5
    assert gatherer.asked == ["whole"]


def test_all_that_cri_is_asked_for_one_answer_has_the_requests_seconds(fake: FakeRuntime) -> None:
    runtime = Runtime(fake.endpoint)
    runtime.list_containers(cri.ListContainersRequest())  # its time is not that of the connection
    stock = Stock(runtime, 3.0)
    fake.delay("ListContainers", 60.0)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="ListContainers: no answer within its deadline"):
        boxes(stock, "label")
    with pytest.raises(Unavailable, match="all the time that the request had"):
        stock.images()
    assert time.monotonic() - began < 40
    runtime.close()


@pytest.mark.parametrize("kind", [NotFound, Refused])
def test_any_error_of_the_runtime_says_that_stock_cannot_be_taken_now(kind: type[VkcriError]) -> None:
    """A container that is removed meanwhile may be the whole list's NotFound."""

    class Failing:
        def list_container_stats(self, request: object, *, seconds: float) -> object:
            del request, seconds
            raise kind("an error occurred when try to find container")

    with pytest.raises(Unavailable, match="try to find container") as caught:
        container_stats(Stock(Failing(), 10.0), "label")  # type: ignore[arg-type]
    assert isinstance(caught.value.__cause__, kind)


def test_running_pods_are_what_runs_with_names_and_images() -> None:
    answers = StatsAnswers(Gatherer(), lambda: 0)  # type: ignore[arg-type]
    (pod,) = answers.running_pods({}, 10.0)["items"]
    assert pod["metadata"] == {"name": "web", "namespace": "default", "uid": "u1"}
    assert [(item["name"], item["image"]) for item in pod["spec"]["containers"]] == [("main", "shell:1")]
