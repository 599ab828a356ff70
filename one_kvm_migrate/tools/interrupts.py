"""Signals that end the program, raised as Cancelled, but never inside a shielded block.

An exception out of the middle of starting a child would lose the child: it would go on
writing with nobody to stop it.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from one_kvm_migrate.errors import Cancelled

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Shield:
    """State of the main thread, the only one that handles signals."""

    depth = 0
    pending: int | None = None


def install() -> None:
    """Let SIGINT, SIGTERM and SIGHUP raise Cancelled in the main thread.

    A signal that is ignored already stays so: nohup and background jobs want it that way.
    """
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


@contextmanager
def shielded() -> Iterator[None]:
    """A stop signal inside is raised at the end of the block. For short blocks only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Shield.depth += 1
    try:
        yield
    finally:
        _Shield.depth -= 1
    if _Shield.depth == 0 and _Shield.pending is not None:
        number, _Shield.pending = _Shield.pending, None
        raise _cancelled(number)


def _stop(number: int, _frame: FrameType | None) -> None:
    # Once is enough: a second signal must not break off the tidying up.
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    if _Shield.depth:
        _Shield.pending = number
        return
    raise _cancelled(number)


def _cancelled(number: int) -> Cancelled:
    how = "Ctrl-C" if number == signal.SIGINT else f"signal {number}"
    return Cancelled(f"stopped by {how}")
