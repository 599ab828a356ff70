"""Start of every driver script: arguments in, one line out, and an end within its time.

Exit status 0 or 1; never 42 (oned: "script missing") or 255 (ssh's own). The action runs in a
thread because a call into a hung libvirtd cannot be interrupted: the main thread then says so
and leaves.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, NoReturn

from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.vmm.call import Call, CallDeadline
from one_kvm_migrate.vmm.delegate import hand_over
from one_kvm_migrate.vmm.kvmrc import load
from one_kvm_migrate.vmm.log import Log
from one_kvm_migrate.vmm.registry import PACKAGE, STOCK, check_arguments

# Added to an action's own deadline, unless its module says more, before it is given up as hung.
GRACE_S = 5.0
CRASH_LOG = "/var/tmp/one-kvm-migrate-driver.{uid}.log"


class Prepared(NamedTuple):
    """An action that is ready to run, and how long it may take including undoing it."""

    work: Callable[[], str]
    limit_s: float


class Ending(NamedTuple):
    """How an action ended: exit status and the line for stdout."""

    rc: int
    line: str


def main(action: str, here: str) -> NoReturn:
    """Run *action* for the entry script in directory *here* and end the process."""
    ending = run(action, here, tuple(sys.argv[1:]))
    try:
        if ending.line:
            sys.stdout.write(ending.line + "\n")
            sys.stdout.flush()
    except OSError:
        pass  # ssh is gone; what was done is done
    # Not sys.exit: tearing the interpreter down costs time and could wait for a hung thread.
    os._exit(ending.rc)


def run(action: str, here: str, argv: tuple[str, ...]) -> Ending:
    """Run *action* and return how it ended. All errors end up in the log and one sentence."""
    # The ssh session may end before the action does; half done would be worse.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log = Log(action)
    prepared: list[Prepared] = []
    endings: list[Ending] = []

    def prepare() -> str:
        prepared.append(_prepare(action, here, argv, log))
        return ""

    early = _guarded(log, prepare)
    if not prepared:
        return early
    worker = threading.Thread(
        target=lambda: endings.append(_guarded(log, prepared[0].work)), daemon=True
    )
    worker.start()
    worker.join(prepared[0].limit_s)
    if not endings:
        log.error(f"no answer within {prepared[0].limit_s:g} s")
        log.sentence(
            f"{action} gave up: libvirt did not answer within {prepared[0].limit_s:g} s. "
            "Check libvirtd on this host, then recover the virtual machine."
        )
        return Ending(1, "")
    return endings[0]


def _prepare(action: str, here: str, argv: tuple[str, ...], log: Log) -> Prepared:
    if action in STOCK:
        hand_over(here, action, argv)
    check_arguments(action, argv)
    root = os.path.dirname(os.path.dirname(here))
    settings = load(os.path.join(root, "etc", "vmm", "kvm"))
    module = import_module(f"{PACKAGE}.{action}")
    deadline = CallDeadline(module.timeout_s(settings))

    def stop(number: int, _frame: object) -> None:
        log.error(f"stopped by signal {number}")
        deadline.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    call = Call(action, argv, settings, log, deadline, lambda: sys.stdin.buffer.read())
    grace_s: float = getattr(module, "GRACE_S", GRACE_S)
    return Prepared(lambda: str(module.run(call)), deadline.timeout_s + grace_s)


def _guarded(log: Log, work: Callable[[], str]) -> Ending:
    try:
        return Ending(0, work())
    except OkmError as error:
        log.error(error.message)
        log.sentence(error.sentence())
    except ImportError as error:
        log.error(str(error))
        log.sentence(
            f"the driver cannot import {error.name}. Install the package python3-libvirt here."
        )
    except Exception as error:
        where = _keep_traceback()
        log.error(f"{type(error).__name__}: {error}")
        log.sentence(f"the driver failed unexpectedly; the details are in {where} on this host")
    return Ending(1, "")


def _keep_traceback() -> str:
    path = CRASH_LOG.format(uid=os.getuid())
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(path, flags, 0o600), "a") as file:
            file.write(f"{time.ctime()}\n{traceback.format_exc()}\n")
    except OSError:
        return "no file: it could not be written,"
    return path
