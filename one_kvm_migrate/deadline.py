"""One deadline object handed down instead of many time-outs; waiting on conditions.

Standard library only: shared by the front-end and the host driver.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from one_kvm_migrate.errors import DeadlineExceeded

T = TypeVar("T")


class Deadline:
    """A moment on the monotonic clock after which work is given up."""

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.timeout_s = timeout_s
        self._clock = clock
        self._at = clock() + timeout_s

    def left_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._at - self._clock())

    def passed(self) -> bool:
        """True once no time is left."""
        return self.left_s() <= 0


def wait_until(
    check: Callable[[], T | None],
    deadline: Deadline,
    *,
    what: str,
    interval_s: float = 0.25,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call *check* until it returns anything but None or False, and give that back.

    Raises DeadlineExceeded naming *what* (a clause such as "the domain to stop").
    The last check happens after the deadline, so a slow sleep never hides a success.
    """
    while True:
        last = deadline.passed()
        result = check()
        if result is not None and result is not False:
            return result
        if last:
            raise DeadlineExceeded(f"waited {deadline.timeout_s:g} s in vain for {what}")
        sleep(min(interval_s, deadline.left_s()))
