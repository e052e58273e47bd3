"""The scheduler: one step at a time for each task, none lost, due ones on time."""

import threading
from collections.abc import Callable

from bridge.schedule import Scheduler
from tests.waiting import PATIENCE
from vkcri.instance import Instance
from vkcri.lifecycle import Process


class Counting:
    """A task that notes its steps and may do something in them."""

    def __init__(self, name: str = "task") -> None:
        self.name = name
        self.steps = 0
        self.inside: Callable[[], object] = lambda: None

    def step(self) -> None:
        self.steps += 1
        self.inside()


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_woken_task_steps_once_however_often_it_was_woken() -> None:
    scheduler, task = Scheduler(), Counting()
    scheduler.wake(task)
    scheduler.wake(task)
    assert scheduler.run_one()
    assert not scheduler.run_one()
    assert task.steps == 1


def test_a_task_woken_in_its_own_step_steps_again() -> None:
    scheduler, task = Scheduler(), Counting()
    task.inside = lambda: scheduler.wake(task) if task.steps == 1 else None
    scheduler.wake(task)
    while scheduler.run_one():
        pass
    assert task.steps == 2


def test_a_task_steps_when_it_is_due_and_not_before() -> None:
    clock = Clock()
    scheduler, task = Scheduler(clock=clock), Counting()
    scheduler.wake_at(task, 110)
    scheduler.wake_at(task, 120)
    assert not scheduler.run_one()
    clock.now = 110
    assert scheduler.run_one()
    clock.now = 130
    assert not scheduler.run_one()


def test_an_earlier_due_time_wins() -> None:
    clock = Clock()
    scheduler, task = Scheduler(clock=clock), Counting()
    scheduler.wake_at(task, 120)
    scheduler.wake_at(task, 105)
    assert scheduler.due(task) == 105
    clock.now = 105
    assert scheduler.run_one()


def test_a_step_plans_anew_when_its_task_is_due() -> None:
    clock = Clock()
    scheduler, task = Scheduler(clock=clock), Counting()
    scheduler.wake_at(task, 105)
    scheduler.wake(task)
    task.inside = lambda: scheduler.wake_at(task, 120)
    assert scheduler.run_one()
    assert scheduler.due(task) == 120
    clock.now = 110
    assert not scheduler.run_one()


def test_a_forgotten_task_is_not_due() -> None:
    clock = Clock()
    scheduler, task = Scheduler(clock=clock), Counting()
    scheduler.wake_at(task, 105)
    scheduler.forget(task)
    clock.now = 200
    assert not scheduler.run_one()


def test_no_task_runs_twice_at_once_and_none_holds_up_another() -> None:
    scheduler = Scheduler()
    process = Process("test", Instance("core-42"), end=lambda _: None)
    slow, quick = Counting("slow"), Counting("quick")
    entered, leave, done = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        if slow.steps == 1:
            entered.set()
            assert leave.wait(PATIENCE)
        else:
            done.set()

    ran = threading.Event()
    slow.inside, quick.inside = hold, ran.set
    scheduler.start(process, threads=2)
    scheduler.wake(slow)
    assert entered.wait(PATIENCE)
    scheduler.wake(slow)
    scheduler.wake(quick)
    assert ran.wait(PATIENCE)
    assert slow.steps == 1
    leave.set()
    assert done.wait(PATIENCE)
    process.drain()


def test_a_due_task_is_run_by_a_waiting_thread() -> None:
    scheduler, task = Scheduler(), Counting()
    process = Process("test", Instance("core-42"), end=lambda _: None)
    ran = threading.Event()
    task.inside = ran.set
    scheduler.start(process, threads=1)
    scheduler.wake_at(task, 0)
    assert ran.wait(PATIENCE)
    process.drain()
