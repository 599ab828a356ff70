"""The check that finds what a test run left behind must itself find things."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from one_kvm_migrate.lab.leftovers import MARK, look, main, new_traces


def sleeper(environment: dict[str, str], *words: str) -> "subprocess.Popen[bytes]":
    code = "import sys; sys.stdin.read()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], env=environment, stdin=subprocess.PIPE
    )


def end(process: "subprocess.Popen[bytes]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(10)


def test_a_process_is_found_by_environment_or_command_line(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert look(root).processes == ()
    marked = sleeper({MARK: root})
    naming = sleeper({}, f"disk={tmp_path}/disk.0")
    other = sleeper({MARK: "/elsewhere"})
    try:
        found = {int(line.split()[0]) for line in look(root).processes}
        assert found == {marked.pid, naming.pid}
    finally:
        for process in (marked, naming, other):
            end(process)


def test_only_new_things_count(tmp_path: Path) -> None:
    before = replace(look(str(tmp_path)), mounts=("/", "/proc"), interfaces=("lo",))
    after = replace(before, mounts=("/", "/", "/proc"), interfaces=("br9", "lo"), domains=())
    assert new_traces(before, after) == ["mount: /", "network interface: br9"]
    assert new_traces(after, before) == []


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(MARK, str(tmp_path))
    saved = str(tmp_path / "before.json")
    assert main(["save", saved]) == 0
    process = sleeper({**os.environ, MARK: str(tmp_path)})
    try:
        assert main(["check", saved], settle_s=0.3) == 1
        assert f"left behind: process: {process.pid} " in capsys.readouterr().err
    finally:
        end(process)
