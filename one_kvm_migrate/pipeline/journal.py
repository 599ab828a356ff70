"""The run journal: SQLite, intent written before each effect, result after it.

A step found as INTENT at start means: killed in the middle; its effect may or may not be
there, and its marker tells how to find it. Only the runner writes here, under one lock per run.
"""

import fcntl
import json
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from one_kvm_migrate.errors import JournalError, RunLocked

SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, created REAL NOT NULL, state TEXT NOT NULL,
    digest TEXT NOT NULL, plan TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS steps (
    run_id TEXT NOT NULL REFERENCES runs, machine INTEGER NOT NULL, step TEXT NOT NULL,
    seq INTEGER NOT NULL, state TEXT NOT NULL, started REAL NOT NULL, ended REAL,
    result TEXT, error TEXT, error_code INTEGER,
    PRIMARY KEY (run_id, machine, step)
) STRICT;
"""


class RunState(StrEnum):
    """Of a whole run."""

    ACTIVE = "active"
    DONE = "done"
    PARTLY = "partly-done"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"


class StepState(StrEnum):
    """Of one step of one machine."""

    INTENT = "intent"
    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One step as the journal knows it. Times in seconds since the epoch."""

    machine: int
    step: str
    state: StepState
    started: float
    ended: float | None
    result: dict[str, Any]
    error: str | None
    error_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run as the journal knows it."""

    run_id: str
    created: float
    state: RunState
    digest: str
    plan: str


def default_state_dir() -> Path:
    """``$OKM_STATE_DIR``, else ``$XDG_STATE_HOME/one-kvm-migrate``, else the same in ~/.local."""
    named = os.environ.get("OKM_STATE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "one-kvm-migrate"


class Journal:
    """The journal in a state directory, made on first use. Close it, or use it as a context.

    Raises JournalError when the directory or database cannot be used.
    """

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(state_dir / "journal.sqlite", isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(SCHEMA)
        except (OSError, sqlite3.Error) as exc:
            raise JournalError(
                f"cannot use the journal in {state_dir}: {exc}",
                hint="Give a sound and writable folder by OKM_STATE_DIR or --state-dir.",
            ) from exc

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def lock(self, run_id: str) -> Iterator[None]:
        """Hold the run's lock. Raises RunLocked naming the holder's pid."""
        with (self.state_dir / f"{run_id}.lock").open("a+") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                stream.seek(0)
                raise RunLocked(
                    f"run {run_id} is being worked on by process {stream.read().strip()}",
                    hint="Wait for it, or stop it first.",
                ) from exc
            stream.truncate(0)
            stream.write(f"{os.getpid()}\n")
            stream.flush()
            yield

    def is_locked(self, run_id: str) -> bool:
        """True while a process works on the run."""
        try:
            with (self.state_dir / f"{run_id}.lock").open("r") as stream:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def new_run(self, digest: str, plan: str) -> str:
        """Record a new run and return its id, e.g. ``20261124-203000-9f2c``."""
        run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        row = (run_id, time.time(), RunState.ACTIVE, digest, plan)
        self._write("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", row)
        return run_id

    def run(self, run_id: str) -> RunRow:
        """The run *run_id*; raises JournalError with what to do when there is none."""
        rows = self._read("SELECT * FROM runs WHERE run_id = ?", (run_id,))
        if not rows:
            raise JournalError(
                f"there is no run {run_id} in {self.state_dir}",
                hint="List them with: one-kvm-migrate runs.",
            )
        return _run_row(rows[0])

    def runs(self) -> list[RunRow]:
        """All runs, newest first."""
        return [_run_row(row) for row in self._read("SELECT * FROM runs ORDER BY created DESC", ())]

    def set_state(self, run_id: str, state: RunState) -> None:
        """Record the state of the whole run."""
        self._write("UPDATE runs SET state = ? WHERE run_id = ?", (state, run_id))

    def steps(self, run_id: str, machine: int | None = None) -> list[StepRow]:
        """Steps of a run in the order they were begun, of one machine if given."""
        query = (
            "SELECT machine, step, state, started, ended, result, error, error_code FROM steps "
            "WHERE run_id = ? AND (? IS NULL OR machine = ?) ORDER BY machine, seq"
        )
        return [_step_row(row) for row in self._read(query, (run_id, machine, machine))]

    def intend(self, run_id: str, machine: int, step: str, seq: int) -> None:
        """Record that the step is about to act."""
        self._write(
            "INSERT OR REPLACE INTO steps (run_id, machine, step, seq, state, started) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (run_id, machine, step, seq, StepState.INTENT, time.time()),
        )

    def done(self, run_id: str, machine: int, step: str, result: dict[str, Any]) -> None:
        """Record that the step has acted and what came of it."""
        self._finish(run_id, machine, step, StepState.DONE, result=json.dumps(result))

    def failed(self, run_id: str, machine: int, step: str, error: str, code: int) -> None:
        """Record why the step could not act."""
        self._finish(run_id, machine, step, StepState.FAILED, error=error, code=code)

    def undone(self, run_id: str, machine: int, step: str) -> None:
        """Record that the step's effect is no more; why it failed stays readable."""
        self._write(
            "UPDATE steps SET state = ? WHERE run_id = ? AND machine = ? AND step = ?",
            (StepState.UNDONE, run_id, machine, step),
        )

    def _finish(
        self,
        run_id: str,
        machine: int,
        step: str,
        state: StepState,
        *,
        result: str | None = None,
        error: str | None = None,
        code: int | None = None,
    ) -> None:
        self._write(
            "UPDATE steps SET state = ?, ended = ?, result = ?, error = ?, error_code = ? "
            "WHERE run_id = ? AND machine = ? AND step = ?",
            (state, time.time(), result, error, code, run_id, machine, step),
        )

    def _read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as exc:
            raise _damaged(f"the journal in {self.state_dir} cannot be read: {exc}") from exc

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        try:
            self._db.execute(statement, values)
        except sqlite3.Error as exc:
            raise JournalError(f"cannot write the journal in {self.state_dir}: {exc}") from exc


def _damaged(message: str) -> JournalError:
    return JournalError(
        message, hint="Restore it from a backup; the objects of a run carry OKM_RUN_ID."
    )


def _run_row(row: tuple[Any, ...]) -> RunRow:
    run_id, created, state, digest, plan = row
    try:
        known = RunState(state)
    except ValueError as exc:
        raise _damaged(f"run {run_id} is in the unknown state {state!r}") from exc
    return RunRow(run_id=run_id, created=created, state=known, digest=digest, plan=plan)


def _step_row(row: tuple[Any, ...]) -> StepRow:
    machine, step, state, started, ended, result, error, code = row
    try:
        known, content = StepState(state), json.loads(result) if result else {}
    except ValueError as exc:
        raise _damaged(f"step {step} of machine {machine} is damaged: {exc}") from exc
    return StepRow(
        machine=machine,
        step=step,
        state=known,
        started=started,
        ended=ended,
        result=content,
        error=error,
        error_code=code,
    )
