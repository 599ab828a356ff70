"""The journal: intent before effect, one holder per run, readable after anything."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from one_kvm_migrate.errors import JournalError, RunLocked
from one_kvm_migrate.pipeline.journal import Journal, RunState, StepState, default_state_dir
from one_kvm_migrate.pipeline.plan import load


def test_steps_survive_a_new_process(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        run = journal.new_run("digest", "{}")
        journal.intend(run, 0, "convert:0", 0)
        journal.done(run, 0, "convert:0", {"sha256": "ab"})
        journal.intend(run, 0, "register:0", 1)
    with Journal(tmp_path) as again:
        first, second = again.steps(run)
        assert (first.state, first.result) == (StepState.DONE, {"sha256": "ab"})
        assert (second.state, second.result) == (StepState.INTENT, {})
        assert again.run(run).state is RunState.ACTIVE
        again.failed(run, 0, "register:0", "no", 33)
        again.undone(run, 0, "register:0")
        row = again.steps(run, 0)[1]
        assert (row.state, row.error, row.error_code) == (StepState.UNDONE, "no", 33)
        assert again.steps(run, 1) == []


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        runs = [journal.new_run("d", "{}") for _ in range(3)]
        journal.set_state(runs[0], RunState.DONE)
        assert [row.run_id for row in journal.runs()] == runs[::-1]
        assert journal.run(runs[0]).state is RunState.DONE


def test_unknown_run(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, pytest.raises(JournalError, match="no run nope"):
        journal.run("nope")


def test_a_second_process_is_told_who_holds_the_run(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from one_kvm_migrate.pipeline.journal import Journal\n"
        "j = Journal(pathlib.Path(sys.argv[1]))\n"
        "with j.lock('r1'):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdin is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with Journal(tmp_path) as journal:
            with pytest.raises(RunLocked, match=str(holder.pid)), journal.lock("r1"):
                pass
            holder.kill()
            holder.wait(10)
            with journal.lock("r1"):
                pass
    finally:
        holder.kill()
        holder.wait(10)
        holder.stdin.close()
        holder.stdout.close()


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot use the journal"):
        Journal(tmp_path / "file")
    (tmp_path / "journal.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(JournalError, match="cannot use the journal"):
        Journal(tmp_path)


def test_a_damaged_journal_is_said_in_words(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        run = journal.new_run("d", "{}")
        journal.intend(run, 0, "convert:0", 0)
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("UPDATE steps SET state = 'dreaming'")
    with Journal(tmp_path) as journal:
        with pytest.raises(JournalError, match="damaged"):
            journal.steps(run)
        with pytest.raises(JournalError, match="plan in the journal is damaged"):
            load(journal.run(run).plan)
    with sqlite3.connect(tmp_path / "journal.sqlite") as db:
        db.execute("UPDATE runs SET state = 'dreaming'")
    db.close()
    with Journal(tmp_path) as journal, pytest.raises(JournalError, match="unknown state"):
        journal.runs()


def test_where_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OKM_STATE_DIR", "/a")
    assert default_state_dir() == Path("/a")
    monkeypatch.delenv("OKM_STATE_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", "/b")
    assert default_state_dir() == Path("/b/one-kvm-migrate")
