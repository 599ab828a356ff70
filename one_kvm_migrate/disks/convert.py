"""One disk to one compressed qcow2 file, proven equal to its source.

Written to ``NAME.partial`` beside the target and renamed at the end: a file with the final
name is always complete. The source is only ever opened for reading. The image is readable by
its owner only: guest disks hold passwords.
"""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.disks.nodes import qcow2_node, source_node
from one_kvm_migrate.disks.origin import (
    check_source,
    files_of,
    fingerprint,
    holding_file,
    source_bytes,
)
from one_kvm_migrate.errors import (
    ContentMismatch,
    ConvertFailed,
    NoSpace,
    SourceChanged,
    SourceCorrupt,
    ToolFailed,
    UsageError,
)
from one_kvm_migrate.model import SourceDisk
from one_kvm_migrate.tools import qemu_img
from one_kvm_migrate.units import MiB

Progress = Callable[[str, float], None]

# 64 KiB clusters compress well and every qemu since 0.12 reads them; zlib for the same reason.
CREATE_OPTIONS = "cluster_size=65536,compression_type=zlib,compat=1.1"
COROUTINES = 16
PARTIAL = ".partial"
NAME_MAX = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertedImage:
    """A finished image. ``sha256`` is of the qcow2 file itself."""

    path: str
    virtual_bytes: int
    file_bytes: int
    source_bytes: int
    sha256: str
    seconds: float


def ignore_progress(_stage: str, _fraction: float) -> None:
    """Progress sink for callers that show none."""


def needed_bytes(disk: SourceDisk, *, deadline: Deadline) -> int:
    """Room the image may take at worst: all allocated blocks, not compressed."""
    try:
        return qemu_img.measure_bytes(source_node(disk), deadline=deadline)
    except ToolFailed as exc:
        raise _unreadable(disk, exc) from exc


def require_space(folder: Path, needed: int) -> None:
    """Raise NoSpace when the file system of *folder* has less than *needed* bytes free."""
    free = _free_bytes(folder)
    if free < needed:
        raise NoSpace(str(folder), needed_bytes=needed, free_bytes=free)


def _free_bytes(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def convert(
    disk: SourceDisk,
    target: Path,
    *,
    deadline: Deadline,
    on_progress: Progress = ignore_progress,
    overwrite: bool = False,
) -> ConvertedImage:
    """Write *disk* as compressed qcow2 to *target* and prove it equal.

    ``on_progress`` gets (stage, fraction 0..1) for stages convert, compare, hash. A leftover
    ``.partial`` of a killed run is overwritten. Nothing is left behind on failure.

    Raises UsageError (target exists, or lies in no folder), SourceError and below, NoSpace,
    ConvertFailed, ContentMismatch, DeadlineExceeded.
    """
    started = time.monotonic()
    # An absolute path is never taken for an option or a protocol (nbd:..., a:b) by qemu-img.
    target = Path(os.path.abspath(target))
    check_source(disk)
    _check_target(disk, target, overwrite)
    before = fingerprint(disk)
    require_space(target.parent, needed_bytes(disk, deadline=deadline))
    partial = partial_of(target)
    try:
        _write(disk, partial, deadline, on_progress)
        virtual = _verify(disk, partial, deadline, on_progress)
        digest = _sha256(partial, on_progress)
        if fingerprint(disk) != before:
            raise SourceChanged(
                f"{holding_file(disk)} changed while it was read",
                hint="Power the machine off in VirtualBox and run again.",
            )
        _publish(partial, target)
    except OSError as exc:
        _discard(partial)
        raise _write_error(target, exc) from exc
    except BaseException:
        _discard(partial)
        raise
    return ConvertedImage(
        path=str(target),
        virtual_bytes=virtual,
        file_bytes=target.stat().st_size,
        source_bytes=source_bytes(disk),
        sha256=digest,
        seconds=round(time.monotonic() - started, 3),
    )


def adopt(disk: SourceDisk, image: Path, *, deadline: Deadline) -> ConvertedImage:
    """Facts of *image*, which ``convert`` finished earlier (its name says it is complete)."""
    started = time.monotonic()
    return ConvertedImage(
        path=str(image),
        virtual_bytes=qemu_img.virtual_size_bytes(qcow2_node(image), deadline=deadline),
        file_bytes=image.stat().st_size,
        source_bytes=source_bytes(disk),
        sha256=_sha256(image, ignore_progress),
        seconds=round(time.monotonic() - started, 3),
    )


def partial_of(target: Path) -> Path:
    """The name an image has while it is written."""
    return target.with_name(target.name + PARTIAL)


def _check_target(disk: SourceDisk, target: Path, overwrite: bool) -> None:
    """Refuse a target that exists, can't be one, or would overwrite any file of the source."""
    try:
        os.fsencode(target).decode()
    except UnicodeDecodeError as exc:
        raise UsageError(f"{target} is not UTF-8", hint="Choose another name.") from exc
    if not target.parent.is_dir():
        raise UsageError(f"the folder {target.parent} does not exist", hint="Create it first.")
    if len(os.fsencode(target.name)) + len(PARTIAL) > NAME_MAX:
        raise UsageError(f"the name {target.name} is too long", hint="Choose a shorter one.")
    for path in (target, partial_of(target)):
        if not os.path.lexists(path):
            continue
        if path.is_symlink() or not path.is_file():
            raise UsageError(f"{path} exists and is not a plain file", hint="Choose another name.")
        if any(path.samefile(source) for source in files_of(disk)):
            raise UsageError(f"{path} belongs to the source", hint="Choose another name.")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} exists already", hint="Choose another name or use --force.")


def _discard(partial: Path) -> None:
    # What broke the conversion (a folder that went away or read-only) is said by its own error.
    with suppress(OSError):
        partial.unlink(missing_ok=True)


def _write_error(target: Path, exc: OSError) -> ConvertFailed:
    return ConvertFailed(
        f"cannot write {target}: {exc.strerror}", hint="Check the folder's owner, mode and mount."
    )


def _write(disk: SourceDisk, partial: Path, deadline: Deadline, on_progress: Progress) -> None:
    partial.unlink(missing_ok=True)
    # Made here first so that others never get to read it; qemu-img keeps mode and owner.
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        qemu_img.convert(
            source_node(disk),
            partial,
            create_options=CREATE_OPTIONS,
            coroutines=COROUTINES,
            deadline=deadline,
            on_progress=lambda fraction: on_progress("convert", fraction),
        )
    except ToolFailed as exc:
        raise _convert_error(disk, partial, exc) from exc


def _convert_error(disk: SourceDisk, partial: Path, exc: ToolFailed) -> Exception:
    free = _free_bytes(partial.parent)
    if free < MiB:
        return NoSpace(str(partial.parent), needed_bytes=source_bytes(disk), free_bytes=free)
    if "Could not open 'json:" in exc.stderr_tail:
        return _unreadable(disk, exc)
    return ConvertFailed(
        f"converting {disk.path} failed: {_last_line(exc)}",
        hint="See whether the source can be read without errors, then run again.",
    )


def _verify(disk: SourceDisk, partial: Path, deadline: Deadline, on_progress: Progress) -> int:
    """Check the file, compare it with the source, and give back its virtual size (bytes)."""
    report = qemu_img.check(partial, deadline=deadline)
    if report.corruptions or report.errors or report.leaks:
        raise ContentMismatch(f"qemu-img check finds errors in the image made of {disk.path}")
    virtual = qemu_img.virtual_size_bytes(qcow2_node(partial), deadline=deadline)
    if disk.capacity_bytes is not None and virtual != disk.capacity_bytes:
        raise ContentMismatch(
            f"{disk.path} says it holds {disk.capacity_bytes} bytes but {virtual} were read",
            hint="Its header is damaged or of an unknown variant; export the machine again.",
        )
    same = qemu_img.same_content(
        source_node(disk),
        qcow2_node(partial),
        deadline=deadline,
        on_progress=lambda fraction: on_progress("compare", fraction),
    )
    if not same:
        raise ContentMismatch(f"the image made of {disk.path} differs from it", hint="Run again.")
    return virtual


def _sha256(path: Path, on_progress: Progress) -> str:
    digest = hashlib.sha256()
    total = path.stat().st_size
    done = 0
    with path.open("rb") as stream:
        while chunk := stream.read(4 * MiB):
            digest.update(chunk)
            done += len(chunk)
            on_progress("hash", done / total)
    return digest.hexdigest()


def _publish(partial: Path, target: Path) -> None:
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(target)
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unreadable(disk: SourceDisk, exc: ToolFailed) -> SourceCorrupt:
    return SourceCorrupt(
        f"{disk.path} cannot be read as {disk.format}: {_last_line(exc)}",
        hint="It is damaged or truncated; copy it again or export the machine again.",
    )


def _last_line(exc: ToolFailed) -> str:
    lines = exc.stderr_tail.strip().splitlines()
    line = lines[-1] if lines else "no message"
    # qemu names the node by its whole JSON description; people know the file.
    head, found, tail = line.partition("Could not open 'json:")
    return tail.rpartition("}': ")[2] if found else head.removeprefix("qemu-img: ")
