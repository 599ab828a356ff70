"""The only place that starts external programs on the front-end.

Each call has a deadline, its own session, and is killed with its whole process group.
"""

import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from shutil import which

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import DeadlineExceeded, EnvironmentMissing, ToolFailed
from one_kvm_migrate.tools.interrupts import shielded

STDERR_TAIL_BYTES = 8192
MAX_STDOUT_BYTES = 16 << 20
KILL_GRACE_S = 5.0
CHUNK = 65536

OnOutput = Callable[[bytes], None]
OnStart = Callable[["subprocess.Popen[bytes]"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a program ended. ``stdout`` is empty when it was streamed to a callback."""

    rc: int
    stdout: bytes
    stderr_tail: str


def run(
    argv: Sequence[str],
    *,
    deadline: Deadline,
    ok: Sequence[int] = (0,),
    stdin: bytes = b"",
    on_stdout: OnOutput | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    on_start: OnStart | None = None,
) -> Outcome:
    """Run *argv* to its end and return its Outcome.

    ``ok`` lists the exit statuses that are data, not failures. Output is read as it comes;
    ``on_stdout`` gets raw chunks. The environment is ours with ``LC_ALL=C`` unless given.
    ``on_start`` gets the process, so that another thread can end it with kill_group.

    Raises EnvironmentMissing (not installed), ToolFailed (other status, or more than
    MAX_STDOUT_BYTES of output), DeadlineExceeded (group killed).
    """
    args = list(argv)
    if which(args[0]) is None:
        raise EnvironmentMissing(f"the program {args[0]} is not installed", hint="Install it.")
    process: subprocess.Popen[bytes] | None = None
    try:
        with shielded():
            process = _started(args, stdin, env, cwd)
        if on_start is not None:
            on_start(process)
        stdout, tail = _pump(process, args, deadline, stdin, on_stdout)
        process.wait()
    except BaseException:
        if process is not None:
            kill_group(process)
        raise
    finally:
        if process is not None:
            _close_pipes(process)
    text = tail.decode("utf-8", "replace")
    if process.returncode not in ok:
        raise ToolFailed(args, process.returncode, text)
    return Outcome(rc=process.returncode, stdout=stdout, stderr_tail=text)


def _started(
    argv: list[str], stdin: bytes, env: Mapping[str, str] | None, cwd: str | None
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*_leash(), *argv],
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env) if env is not None else {**os.environ, "LC_ALL": "C"},
        cwd=cwd,
        start_new_session=True,
    )


def _close_pipes(process: "subprocess.Popen[bytes]") -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _pump(
    process: "subprocess.Popen[bytes]",
    argv: list[str],
    deadline: Deadline,
    stdin: bytes,
    on_stdout: OnOutput | None,
) -> tuple[bytes, bytes]:
    assert process.stdout is not None and process.stderr is not None
    out = bytearray()
    tail = bytearray()
    pending = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        while selector.get_map():
            events = selector.select(deadline.left_s())
            if not events and deadline.passed():
                raise DeadlineExceeded(f"{argv[0]} did not end within {deadline.timeout_s:g} s")
            for key, _ in events:
                if key.fileobj is process.stdin:
                    pending = _feed(process, selector, pending)
                    continue
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    tail += chunk
                    del tail[:-STDERR_TAIL_BYTES]
                elif on_stdout is not None:
                    on_stdout(chunk)
                else:
                    out += chunk
                    if len(out) > MAX_STDOUT_BYTES:
                        raise ToolFailed(argv, 0, f"more than {MAX_STDOUT_BYTES} bytes of output")
    return bytes(out), bytes(tail)


def _feed(
    process: "subprocess.Popen[bytes]", selector: selectors.BaseSelector, pending: memoryview
) -> memoryview:
    assert process.stdin is not None
    try:
        written = os.write(process.stdin.fileno(), pending[:CHUNK]) if pending else 0
    except BrokenPipeError:
        pending = pending[:0]
        written = 0
    pending = pending[written:]
    if not pending:
        selector.unregister(process.stdin)
        process.stdin.close()
    return pending


@cache
def _leash() -> tuple[str, ...]:
    """Words that make the kernel end the program when we are killed: no orphan goes on writing."""
    if which("setpriv") is None:
        return ()
    return ("setpriv", "--pdeathsig", "KILL", "--")


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Terminate the process group, wait a little, then kill it. Safe on ended processes."""
    for number, grace_s in ((signal.SIGTERM, KILL_GRACE_S), (signal.SIGKILL, KILL_GRACE_S)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        try:
            process.wait(grace_s)
            return
        except subprocess.TimeoutExpired:
            continue
