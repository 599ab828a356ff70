"""Runs the driver scripts in remotes/ as one_vmm_exec runs them, and reads their answer."""

import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import DeadlineExceeded, EnvironmentMissing
from one_kvm_migrate.sim.process import Processes

TIMEOUT_S = 600.0
_LOG_LINE = re.compile(r"^(ERROR|INFO|WARN|DEBUG):\s+(\d+)?\s*(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One script call. ``argv`` is without the script; *prefix* enters the host."""

    script: Path
    argv: Sequence[str]
    stdin: bytes
    prefix: Sequence[str] = ()
    env: Mapping[str, str] | None = None
    # Steps that go through the long-lived shell report "ExitCode: 1" behind the message.
    streamed: bool = True
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What the driver tells oned: success, and the text that goes with it."""

    ok: bool
    info: str = ""
    log: tuple[str, ...] = ()


def call(processes: Processes, request: Request) -> Result:
    """Run the script to its end. A missing script, or one that takes too long, is a failure."""
    if not os.access(request.script, os.X_OK):
        return Result(ok=False, info=f"the driver has no script {request.script}")
    argv = [*request.prefix, str(request.script), *request.argv]
    started = time.monotonic()
    try:
        outcome = processes.run(
            argv,
            deadline=Deadline(request.timeout_s),
            stdin=request.stdin,
            env={**os.environ, "LC_ALL": "C", "LANG": "C", **(request.env or {})},
            cwd="/",
        )
    except DeadlineExceeded:
        return Result(ok=False, info=f"Timeout executing {request.script.name}")
    except EnvironmentMissing as exc:
        return Result(ok=False, info=exc.message)
    messages, logged = _split(outcome.stderr_tail)
    took = f"{request.script.name} rc={outcome.rc} in {time.monotonic() - started:.2f} s"
    log = (took, *logged, *messages)
    if outcome.rc == 0:
        return Result(ok=True, info=outcome.stdout.decode("utf-8", "replace").strip(), log=log)
    if request.streamed:
        messages.append(f"ExitCode: {outcome.rc}")
    return Result(ok=False, info="".join(messages) or "-", log=log)


def _split(stderr: str) -> tuple[list[str], list[str]]:
    """Message lines and log lines of *stderr*, blanks around each taken off."""
    messages: list[str] = []
    logged: list[str] = []
    for line in stderr.splitlines():
        if _LOG_LINE.match(line):
            logged.append(line)
        elif line.strip():
            messages.append(line.strip())
    return messages, logged
