"""Who runs when: a few threads, a queue of tasks that have something to do, and one heap of due times for all.

A task is a pod's worker: its `step` is run by one thread at a time, and once more if it was woken meanwhile; an idle
task costs a map entry and perhaps a due time. A step that begins has no due time any more: it says itself when it is to
come again. Steps are short; what takes long runs in operations (bridge.operations).
"""

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from vkcri.lifecycle import Process

THREADS = 4
STEP_SECONDS = 300.0
log = logging.getLogger(__name__)


class Task(Protocol):
    """Something with steps. `name` is for logs."""

    name: str

    def step(self) -> None: ...


class Scheduler:
    """Runs tasks. Thread-safe. A step that raises ends the process: a task catches what it can go on after."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[Task] = deque()
        self._queued: set[Task] = set()
        self._running: set[Task] = set()
        self._again: set[Task] = set()
        self._heap: list[tuple[float, int, Task]] = []
        self._due: dict[Task, float] = {}
        self._order = itertools.count()
        self._process: Process | None = None

    def start(self, process: Process, threads: int = THREADS) -> None:
        """threads: how many steps at a time."""
        self._process = process
        process.on_stop(self._wake_all)
        for number in range(1, threads + 1):
            process.start_thread(f"worker-{number}", self._work)

    def wake(self, task: Task) -> None:
        """Run its step soon."""
        with self._changed:
            self._enqueue(task)

    def wake_at(self, task: Task, when: float) -> None:
        """Run its step at that time (the clock's), or before; an earlier due time stays."""
        with self._changed:
            if when < self._due.get(task, float("inf")):
                self._due[task] = when
                heapq.heappush(self._heap, (when, next(self._order), task))
                self._changed.notify()

    def forget(self, task: Task) -> None:
        """Drop its due time; it may still be running."""
        with self._changed:
            self._due.pop(task, None)

    def idle(self) -> bool:
        """Whether nothing runs or waits for a thread."""
        with self._changed:
            return not self._queue and not self._running

    def due(self, task: Task) -> float | None:
        with self._changed:
            return self._due.get(task)

    def run_one(self) -> bool:
        """Run one step that is queued or due, in the caller's thread; False where there is none. For tests."""
        with self._changed:
            self._collect_due()
            task = self._take()
        if task is None:
            return False
        self._run(task)
        return True

    def _enqueue(self, task: Task) -> None:
        if task in self._running:
            self._again.add(task)
        elif task not in self._queued:
            self._queued.add(task)
            self._queue.append(task)
            self._changed.notify()

    def _take(self) -> Task | None:
        if not self._queue:
            return None
        task = self._queue.popleft()
        self._queued.discard(task)
        self._due.pop(task, None)
        self._running.add(task)
        return task

    def _collect_due(self) -> float | None:
        """Queue what is due; seconds until the next due time, None without one."""
        now = self._clock()
        while self._heap:
            when, _, task = self._heap[0]
            if self._due.get(task) != when:
                heapq.heappop(self._heap)
            elif when <= now:
                heapq.heappop(self._heap)
                del self._due[task]
                self._enqueue(task)
            else:
                return when - now
        return None

    def _work(self) -> None:
        assert self._process is not None
        while not self._process.stopping.is_set():
            with self._changed:
                wait = self._collect_due()
                task = self._take()
                if task is None:
                    self._changed.wait(wait)
                    continue
            with self._process.expect(f"a step of {task.name}", STEP_SECONDS):
                self._run(task)

    def _run(self, task: Task) -> None:
        try:
            task.step()
        finally:
            with self._changed:
                self._running.discard(task)
                if task in self._again:
                    self._again.discard(task)
                    self._enqueue(task)

    def _wake_all(self) -> None:
        with self._changed:
            self._changed.notify_all()
