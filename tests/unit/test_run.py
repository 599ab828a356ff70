"""Starting programs: deadlines, process groups, statuses, output."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import DeadlineExceeded, EnvironmentMissing, ToolFailed
from one_kvm_migrate.tools.run import STDERR_TAIL_BYTES, run


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_output_and_status() -> None:
    outcome = run(
        ["sh", "-c", "cat; echo no >&2; exit 3"], deadline=Deadline(10), ok=(3,), stdin=b"hi"
    )
    assert (outcome.rc, outcome.stdout, outcome.stderr_tail) == (3, b"hi", "no\n")


def test_stdin_larger_than_a_pipe() -> None:
    data = os.urandom(1 << 20)
    assert run(["cat"], deadline=Deadline(20), stdin=data).stdout == data


def test_a_reader_that_goes_away_does_no_harm() -> None:
    assert run(["true"], deadline=Deadline(10), stdin=bytes(1 << 20)).rc == 0


def test_other_status_fails_with_the_tail_only() -> None:
    script = "head -c 100000 /dev/zero | tr '\\0' x >&2; echo end >&2; exit 1"
    with pytest.raises(ToolFailed) as caught:
        run(["sh", "-c", script], deadline=Deadline(20))
    assert caught.value.rc == 1
    assert len(caught.value.stderr_tail) == STDERR_TAIL_BYTES
    assert caught.value.stderr_tail.endswith("end\n")


def test_missing_program() -> None:
    with pytest.raises(EnvironmentMissing, match="no-such-program"):
        run(["no-such-program"], deadline=Deadline(1))


def test_the_deadline_kills_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! > {pids}; echo $$ >> {pids}; wait"
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        run(["sh", "-c", script], deadline=Deadline(0.5))
    assert time.monotonic() - began < 10
    numbers = [int(line) for line in pids.read_text().split()]
    assert len(numbers) == 2
    wait_until(lambda: not any(map(alive, numbers)), Deadline(5), what="the group to end")


def test_wait_until_looks_once_more_at_the_end() -> None:
    now = [0.0]
    deadline = Deadline(1.0, clock=lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += 5

    answers = iter([None, "late"])
    assert wait_until(lambda: next(answers), deadline, what="x", sleep=sleep) == "late"


def test_wait_until_gives_up_with_words() -> None:
    with pytest.raises(DeadlineExceeded, match="in vain for the moon"):
        wait_until(lambda: None, Deadline(0), what="the moon", sleep=lambda _s: None)


def test_a_killed_caller_leaves_no_orphan(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    code = (
        "from one_kvm_migrate.deadline import Deadline\n"
        "from one_kvm_migrate.tools.run import run\n"
        f"run(['sh', '-c', 'echo $$ > {pids}; exec sleep 60'], deadline=Deadline(60))\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", code])
    wait_until(
        lambda: pids.exists() and bool(pids.read_text().strip()), Deadline(20), what="the child"
    )
    child = int(pids.read_text())
    assert alive(child)
    caller.kill()
    caller.wait(10)
    wait_until(lambda: not alive(child), Deadline(10), what="the child to end with its caller")
