"""The qcow2 transfer driver: what happens to a machine's files in the datastores.

Each operation is a line such as ``CLONE qcow2 vm:/src localhost:/dst 7 100``, as oned hands
it to a transfer manager; here it is carried out in place. Layout as the stock driver's: a cloned
disk.N is a link to disk.N.snap/0, an overlay over the image; a persistent one links to it.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import OkmError, ToolFailed
from one_kvm_migrate.sim.process import Processes
from one_kvm_migrate.sim.vm.driver import Result

TOOL_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One operation. ``form`` is the disk's format, which the line does not tell."""

    op: str
    tm_mad: str
    args: tuple[str, ...]
    form: str = "qcow2"

    @property
    def line(self) -> str:
        """The operation as oned writes it."""
        return " ".join((self.op, self.tm_mad, *self.args))


class Executor:
    """Carries out transfers with qemu-img, xorriso and the file system."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._operations: dict[str, Callable[[Transfer], None]] = {
            "CLONE": self._clone,
            "LN": self._link,
            "MV": self._move,
            "MVDS": self._keep,
            "DELETE": self._delete,
            "CONTEXT": self._context,
            "MKIMAGE": self._make_image,
            "MKSWAP": self._make_swap,
            "CPDS": self._copy_out,
            "RESIZE": self._resize,
            "SNAP_CREATE": self._snap_create,
            "SNAP_DELETE": self._snap_delete,
            "SNAP_REVERT": self._snap_revert,
        }

    def run(self, transfers: Sequence[Transfer]) -> Result:
        """Carry out *transfers* in order, up to the first that fails."""
        for transfer in transfers:
            name = transfer.op.partition(".")[0]
            try:
                self._operations[name](transfer)
            except ToolFailed as exc:
                why = " ".join(exc.stderr_tail.split())
                return Result(ok=False, info=f"{name.lower()}: {why}")
            except OkmError as exc:
                return Result(ok=False, info=f"{name.lower()}: {exc.message}")
            except OSError as exc:
                return Result(ok=False, info=f"{name.lower()}: {exc.filename}: {exc.strerror}")
        return Result(ok=True)

    def _tool(self, *argv: str) -> None:
        outcome = self._processes.run(argv, deadline=Deadline(TOOL_TIMEOUT_S))
        if outcome.rc != 0:
            raise ToolFailed(list(argv), outcome.rc, outcome.stderr_tail)

    def _clone(self, transfer: Transfer) -> None:
        source, target = _path(transfer.args[0]), _path(transfer.args[1])
        _make_room(target)
        if transfer.form == "iso":
            target.symlink_to(_real(source))
        elif transfer.form != "qcow2":
            self._tool("cp", "--sparse=always", "--", str(source), str(target))
        else:
            chain = _new_chain(target)
            self._overlay(chain / "0", backing=str(_real(source)))
            target.symlink_to(f"{chain.name}/0")

    def _overlay(self, path: Path, *, backing: str) -> None:
        options = ("-f", "qcow2", "-o", "compat=1.1", "-F", "qcow2", "-b", backing)
        self._tool("qemu-img", "create", "-q", *options, str(path))

    def _link(self, transfer: Transfer) -> None:
        source, target = _path(transfer.args[0]), _path(transfer.args[1])
        _make_room(target)
        target.symlink_to(_real(source))

    def _move(self, transfer: Transfer) -> None:
        """Between two hosts of a shared datastore nothing moves; between datastores it does."""
        source, target = _path(transfer.args[0]), _path(transfer.args[1])
        if source == target or not os.path.lexists(source):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and target.is_dir():
            for entry in source.iterdir():
                shutil.move(entry, target / entry.name)
            source.rmdir()
            return
        chain = _chain_of(source)
        if chain.is_dir():
            shutil.move(chain, target.parent / chain.name)
        shutil.move(source, target)

    def _keep(self, transfer: Transfer) -> None:
        """A persistent disk goes back: it is the image itself, so only the link goes.

        What was written since snapshots were made is put into the image first.
        """
        link = _path(transfer.args[0])
        chain = _chain_of(link)
        while chain.is_dir() and link.resolve().parent == chain:
            backing = self._backing(link)
            self._tool("qemu-img", "commit", "-q", "-d", "-f", "qcow2", str(link))
            _relink(link, backing)
        if link.is_symlink():
            link.unlink()

    def _backing(self, overlay: Path) -> str:
        argv = ["qemu-img", "info", "-f", "qcow2", "--output=json", str(overlay)]
        outcome = self._processes.run(argv, deadline=Deadline(TOOL_TIMEOUT_S))
        if outcome.rc != 0:
            raise ToolFailed(argv, outcome.rc, outcome.stderr_tail)
        return str(json.loads(outcome.stdout)["backing-filename"])

    def _delete(self, transfer: Transfer) -> None:
        target = _path(transfer.args[0])
        for path in (_chain_of(target), target):
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)

    def _context(self, transfer: Transfer) -> None:
        script, target = Path(transfer.args[0]), _path(transfer.args[1])
        staging = script.parent / "context.d"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        shutil.copyfile(script, staging / "context.sh")
        _make_room(target)
        argv = ("xorriso", "-as", "mkisofs", "-quiet", "-o", str(target))
        self._tool(*argv, "-V", "CONTEXT", "-J", "-R", str(staging))
        shutil.rmtree(staging)

    def _make_image(self, transfer: Transfer) -> None:
        size_mib, form, where = transfer.args[:3]
        target = _path(where)
        _make_room(target)
        self._tool("qemu-img", "create", "-q", "-f", form, str(target), f"{size_mib}M")

    def _make_swap(self, transfer: Transfer) -> None:
        size_mib, where = transfer.args[:2]
        target = _path(where)
        _make_room(target)
        self._tool("qemu-img", "create", "-q", "-f", "raw", str(target), f"{size_mib}M")
        self._tool("mkswap", "-q", str(target))

    def _copy_out(self, transfer: Transfer) -> None:
        source, target, snapshot = _path(transfer.args[0]), transfer.args[1], transfer.args[2]
        if int(snapshot) >= 0:
            source = _chain_of(source) / snapshot
        form = transfer.form
        partial = f"{target}.partial"
        # -U: a live copy reads below a paused domain, which holds the lock.
        self._tool("qemu-img", "convert", "-q", "-U", "-f", form, "-O", form, str(source), partial)
        os.replace(partial, target)

    def _resize(self, transfer: Transfer) -> None:
        disk, size_mib = _path(transfer.args[0]), transfer.args[1]
        self._tool("qemu-img", "resize", "-q", "-f", transfer.form, str(disk), f"{size_mib}M")

    def _snap_create(self, transfer: Transfer) -> None:
        """Freeze what is there and go on in a new overlay, number snapshot + 1."""
        new = self.new_overlay(transfer)
        disk = _path(transfer.args[0])
        _relink(disk, f"{new.parent.name}/{new.name}")

    def new_overlay(self, transfer: Transfer) -> Path:
        """The overlay that SNAP_CREATE *transfer* goes on in; the disk's link stays as it is."""
        disk, snapshot = _path(transfer.args[0]), int(transfer.args[1])
        if transfer.form != "qcow2":
            raise ToolFailed(["snap_create"], 1, f"{disk} is not qcow2")
        chain = _chain_of(disk)
        if not chain.is_dir():
            _adopt(disk)
        new = chain / str(snapshot + 1)
        self._overlay(new, backing=os.readlink(disk))
        return new

    def _snap_revert(self, transfer: Transfer) -> None:
        """Forget what came after the snapshot: a fresh overlay over it."""
        disk, snapshot = _path(transfer.args[0]), int(transfer.args[1])
        chain = _chain_of(disk)
        active = disk.parent / os.readlink(disk)
        self._overlay(active, backing=f"{chain.name}/{snapshot}")

    def _snap_delete(self, transfer: Transfer) -> None:
        """Its overlay goes; oned refuses this for snapshots something is based on."""
        disk, snapshot = _path(transfer.args[0]), int(transfer.args[1])
        (_chain_of(disk) / str(snapshot)).unlink(missing_ok=True)


def _path(word: str) -> Path:
    """The path of ``host:path``; paths here never hold a colon before a slash."""
    host, colon, rest = word.partition(":")
    return Path(rest if colon and "/" not in host else word)


def _real(path: Path) -> Path:
    return Path(os.path.normpath(path))


def _chain_of(disk: Path) -> Path:
    return disk.with_name(f"{disk.name}.snap")


def _make_room(target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    shutil.rmtree(_chain_of(target), ignore_errors=True)


def _new_chain(disk: Path) -> Path:
    """disk.N.snap with the link to itself that lets overlays name their neighbours."""
    chain = _chain_of(disk)
    chain.mkdir()
    (chain / chain.name).symlink_to(".")
    return chain


def _adopt(disk: Path) -> None:
    """Turn a plain file (or a link to an image) into the first element of a chain."""
    chain = _new_chain(disk)
    if disk.is_symlink():
        (chain / "0").symlink_to(os.readlink(disk))
    else:
        os.replace(disk, chain / "0")
    _relink(disk, f"{chain.name}/0")


def _relink(link: Path, target: str) -> None:
    new = link.with_name(f"{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    os.replace(new, link)
