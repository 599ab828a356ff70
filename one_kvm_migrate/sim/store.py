"""The simulator's state: objects as XML in one SQLite file, ids as oned gives them.

Objects handed out are copies: change one, then ``put`` it, inside one ``transaction()``.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.doc import Element
from one_kvm_migrate.sim.errors import no_exists
from one_kvm_migrate.sim.template import Template

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
  kind TEXT NOT NULL, id INTEGER NOT NULL, name TEXT NOT NULL,
  uid INTEGER NOT NULL, gid INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id));
CREATE INDEX IF NOT EXISTS by_name ON objects (kind, name);
CREATE TABLE IF NOT EXISTS counters (kind TEXT PRIMARY KEY, next INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS records (
  kind TEXT NOT NULL, id INTEGER NOT NULL, seq INTEGER NOT NULL,
  time INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id, seq));
"""
# What oned calls each kind in "Error getting … [7]."
LABELS = {
    "vm": "virtual machine",
    "vnet": "virtual network",
    "template": "virtual machine template",
    "secgroup": "security group",
    "acl": "access control rule",
}


@dataclass(slots=True)
class Obj:
    """One object: its ``kind``, its number and its XML (oned's elements in oned's order)."""

    kind: str
    oid: int
    body: Element

    @property
    def name(self) -> str:
        """NAME."""
        return doc.get(self.body, "NAME")

    @property
    def uid(self) -> int:
        """Number of the owner, -1 if this kind has none."""
        return doc.get_int(self.body, "UID", -1)

    @property
    def gid(self) -> int:
        """Number of the group, -1 if this kind has none."""
        return doc.get_int(self.body, "GID", -1)

    def text(self, path: str, default: str = "") -> str:
        """Text at *path*."""
        return doc.get(self.body, path, default)

    def number(self, path: str, default: int = 0) -> int:
        """Number at *path*."""
        return doc.get_int(self.body, path, default)

    def set(self, path: str, value: str | int) -> None:
        """Set the text at *path*, which must exist."""
        doc.put(self.body, path, value)

    def template(self, path: str = "TEMPLATE") -> Template:
        """The template at *path* as a copy; write it back with set_template."""
        found = self.body.find(path)
        return Template() if found is None else Template.from_xml(found)

    def set_template(self, template: Template, path: str = "TEMPLATE") -> None:
        """Replace the template at *path*."""
        doc.replace(self.body, path, template.to_xml(path.rpartition("/")[2]))

    def xml(self) -> str:
        """The document as oned answers it."""
        return doc.dumps(self.body)


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a log: hook executions, monitoring samples."""

    seq: int
    time: int
    body: str


class Store:
    """All objects. Thread-safe; a transaction holds the lock, and may be nested."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._after: list[Callable[[], None]] = []
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: an exception undoes every change made inside."""
        with self._lock:
            if self._depth:
                yield
                return
            self._depth, self._after = 1, []
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            else:
                self._db.execute("COMMIT")
            finally:
                self._depth = 0
            due, self._after = self._after, []
        for action in due:
            action()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run *action* once the running transaction is committed; at once if there is none."""
        with self._lock:
            if self._depth:
                self._after.append(action)
                return
        action()

    def new_id(self, kind: str, first: int = 0) -> int:
        """The next number of *kind*, never given twice; *first* for the very first one."""
        with self.transaction():
            row = self._db.execute("SELECT next FROM counters WHERE kind=?", (kind,)).fetchone()
            oid = max(int(row[0]), first) if row else first
            self._db.execute("REPLACE INTO counters VALUES (?, ?)", (kind, oid + 1))
            return oid

    def put(self, obj: Obj) -> None:
        """Insert or replace *obj*."""
        with self.transaction():
            self._db.execute(
                "REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)",
                (obj.kind, obj.oid, obj.name, obj.uid, obj.gid, obj.xml()),
            )

    def find(self, kind: str, oid: int) -> Obj | None:
        """The object, or None."""
        rows = self._select("kind=? AND id=?", (kind, oid))
        return rows[0] if rows else None

    def get(self, kind: str, oid: int) -> Obj:
        """The object; raises OnedError(NO_EXISTS) with oned's text."""
        found = self.find(kind, oid)
        if found is None:
            raise no_exists(LABELS.get(kind, kind), oid)
        return found

    def all(self, kind: str) -> list[Obj]:
        """All of *kind*, newest first, as oned's pools answer."""
        return self._select("kind=? ORDER BY id DESC", (kind,))

    def named(self, kind: str, name: str, uid: int | None = None) -> Obj | None:
        """The object of that name (and owner, if given), or None."""
        rows = self._select("kind=? AND name=? ORDER BY id", (kind, name))
        return next((obj for obj in rows if uid is None or obj.uid == uid), None)

    def delete(self, kind: str, oid: int) -> None:
        """Remove the object and its records; nothing happens if it is not there."""
        with self.transaction():
            self._db.execute("DELETE FROM objects WHERE kind=? AND id=?", (kind, oid))
            self._db.execute("DELETE FROM records WHERE kind=? AND id=?", (kind, oid))

    def _select(self, where: str, values: tuple[str | int, ...]) -> list[Obj]:
        with self._lock:
            query = f"SELECT kind, id, body FROM objects WHERE {where}"
            rows = self._db.execute(query, values).fetchall()
        return [Obj(kind, oid, doc.parse(body)) for kind, oid, body in rows]

    def add_record(self, kind: str, oid: int, record: Record, *, keep: int) -> None:
        """Append *record* to the log of (kind, oid) and forget all but the last *keep*."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?)",
                (kind, oid, record.seq, record.time, record.body),
            )
            self._db.execute(
                "DELETE FROM records WHERE kind=? AND id=? AND seq<=?",
                (kind, oid, record.seq - keep),
            )

    def records(self, kind: str, oid: int | None = None) -> list[tuple[int, Record]]:
        """(id, record) of the logs of *kind*, oldest first; all objects if *oid* is None."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, seq, time, body FROM records WHERE kind=? AND id=ifnull(?, id)"
                " ORDER BY id, seq",
                (kind, oid),
            ).fetchall()
        return [(number, Record(seq, at, body)) for number, seq, at, body in rows]
