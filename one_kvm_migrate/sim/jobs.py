"""Background work: job queues with worker threads, and things done every few seconds.

In step mode nothing runs by itself: tests call ``run_next`` and so see every state between.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import Cancelled, OkmError
from one_kvm_migrate.sim.errors import OnedError

log = logging.getLogger(__name__)

Job = Callable[[], None]
JOIN_S = 30.0


class Jobs:
    """A queue and its worker threads."""

    def __init__(self, name: str, *, workers: int, step: bool) -> None:
        self._name = name
        self._workers = 0 if step else workers
        self._queue: deque[tuple[str, Job]] = deque()
        self._changed = threading.Condition()
        self._busy = 0
        self._closed = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the workers (none in step mode)."""
        for number in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"{self._name}-{number}")
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Forget what is queued and wait for what runs. Idempotent."""
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(JOIN_S)
        self._threads.clear()

    def submit(self, job: Job, *, label: str) -> None:
        """Queue *job*; *label* names it in the log. Ignored once stopped."""
        with self._changed:
            if not self._closed:
                self._queue.append((label, job))
                self._changed.notify()

    def run_next(self) -> bool:
        """Step mode: run the oldest job in this thread; False if there was none."""
        with self._changed:
            if not self._queue:
                return False
            label, job = self._queue.popleft()
        _run(label, job)
        return True

    def idle(self) -> bool:
        """True if nothing is queued or running."""
        with self._changed:
            return not self._queue and not self._busy

    def wait_idle(self, deadline: Deadline) -> None:
        """Wait until idle; raises DeadlineExceeded."""
        wait_until(self.idle, deadline, what=f"{self._name} jobs to end", interval_s=0.02)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                label, job = self._queue.popleft()
                self._busy += 1
            try:
                _run(label, job)
            finally:
                with self._changed:
                    self._busy -= 1


class Periodic:
    """Calls a function every *interval_s* seconds in a thread of its own."""

    def __init__(self, name: str, action: Job, *, interval_s: float) -> None:
        self._name = name
        self._action = action
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread; the first call happens at once."""
        self._thread = threading.Thread(target=self._loop, name=self._name)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for it. Idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)
            self._thread = None

    def _loop(self) -> None:
        while not self._stop.is_set():
            _run(self._name, self._action)
            self._stop.wait(self._interval_s)


def _run(label: str, job: Job) -> None:
    try:
        job()
    except Cancelled:
        log.info("job=%s given up: the simulator is stopping", label)
    except (OkmError, OnedError, OSError, sqlite3.Error) as exc:
        log.error("job=%s failed: %s", label, exc, exc_info=True)
