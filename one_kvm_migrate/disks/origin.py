"""The files a source disk is made of: checked again before each use, measured, watched."""

import os
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.disks import safety
from one_kvm_migrate.disks.probe import DiskInfo, probe
from one_kvm_migrate.errors import SourceChanged, SourceError
from one_kvm_migrate.model import DiskFormat, SourceDisk
from one_kvm_migrate.units import SECTOR


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What tells that a disk is still the one that was planned (cheap, no reading).

    Over all its files: sizes added up (bytes), the latest change, the first one's inode.
    """

    size_bytes: int
    mtime_ns: int
    inode: int


def check_source(disk: SourceDisk) -> DiskInfo:
    """Identify *disk* anew and refuse it if it is not safe to open.

    A description may be hours old, or hand-made. Raises SourceError and below.
    """
    archive = disk.archive
    info = probe(
        Path(holding_file(disk)),
        offset_bytes=archive.offset_bytes if archive else 0,
        size_bytes=archive.size_bytes if archive else None,
        name=disk.path,
    )
    if info.format is not disk.format:
        raise SourceChanged(
            f"{disk.path} is a {info.format} disk now, not {disk.format}", hint="Plan again."
        )
    safety.check(info)
    return info


def holding_file(disk: SourceDisk) -> str:
    """The real file that begins *disk*: the disk itself, or the OVA around it."""
    return disk.archive.path if disk.archive else disk.path


def fingerprint(disk: SourceDisk) -> Fingerprint:
    """Fingerprint of the files that hold *disk*. Raises SourceError when one is gone."""
    stats = [_stat(path) for path in files_of(disk)]
    return Fingerprint(
        size_bytes=sum(stat.st_size for stat in stats),
        mtime_ns=max(stat.st_mtime_ns for stat in stats),
        inode=stats[0].st_ino,
    )


def source_bytes(disk: SourceDisk) -> int:
    """Bytes *disk* occupies at its source (holes of sparse files not counted)."""
    if disk.archive is not None:
        return disk.archive.size_bytes
    stats = [_stat(path) for path in files_of(disk)]
    return sum(min(stat.st_size, stat.st_blocks * SECTOR) for stat in stats)


def files_of(disk: SourceDisk) -> list[str]:
    """All files that hold *disk*: itself and its extents, or the OVA around it."""
    if disk.archive is not None:
        return [disk.archive.path]
    if disk.format is not DiskFormat.VMDK:
        return [disk.path]  # no other format has extents: nothing to read its header for
    extents = [str(path) for path in safety.extent_paths(probe(Path(disk.path)))]
    return [disk.path, *(path for path in extents if path != disk.path)]


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as exc:
        raise SourceError(f"cannot read {path}: {exc.strerror}", hint="Check the path.") from exc
