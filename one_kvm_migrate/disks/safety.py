"""Refuse disks that reach outside themselves, before any tool opens them.

A disk file is input from strangers: a qcow2 can name /etc/shadow as its backing file, a VMDK
descriptor can name a block device as an extent, and qemu would read either without asking.
"""

import re
from pathlib import Path, PurePosixPath

from one_kvm_migrate.disks import vmdk
from one_kvm_migrate.disks.probe import DiskInfo
from one_kvm_migrate.errors import SourceCorrupt, SourceUnsafe, SourceUnsupported
from one_kvm_migrate.tools.files import Window

FLAT_KINDS = ("FLAT", "VMFS")
SPARSE_KINDS = ("SPARSE", "VMFSSPARSE")
MERGE_HINT = "Merge the snapshots in VirtualBox (delete them) and try again."
_MOVE_HINT = "Bring the whole disk into one folder, or convert it to a single file."


def check(info: DiskInfo, *, allow_differencing: bool = False) -> None:
    """Return when *info* may be opened by qemu with its own driver named, raise otherwise.

    Raises SourceUnsafe (needs files outside its folder), SourceCorrupt (an extent is missing
    or too short), SourceUnsupported (encrypted; differencing unless *allow_differencing*,
    which only lets the disk be described: qemu would read what its parent holds as zeros).
    """
    name = info.name
    if info.other_files:
        raise SourceUnsafe(
            f"{name} needs another file: {info.other_files[0]!r}",
            hint="Make it stand alone with qemu-img convert on a machine you trust.",
        )
    if info.encrypted:
        raise SourceUnsupported(f"{name} is encrypted", hint="Decrypt it first.")
    for extent in info.extents:
        _check_extent(info, extent)
    if info.is_differencing and not allow_differencing:
        raise SourceUnsupported(
            f"{name} is a differencing disk: it holds only the changes against its parent",
            hint=MERGE_HINT,
        )


def extent_paths(info: DiskInfo) -> tuple[Path, ...]:
    """Absolute paths of the extent files that *info* names, each safe by ``check``'s rules.

    Raises SourceUnsafe.
    """
    folder = Path(info.path).parent
    names = (extent.name for extent in info.extents if extent.name is not None)
    return tuple(inside(folder, name, owner=info.name) for name in names)


def inside(folder: Path, name: str, *, owner: str) -> Path:
    """Absolute path of the file *name* in *folder*, links resolved; *owner* is what names it.

    The file need not exist. Raises SourceUnsafe when it would lie outside *folder*.
    """
    pure = PurePosixPath(name)
    # A colon would make qemu take it for a protocol (nbd:..., json:...) or be a drive letter.
    if pure.is_absolute() or ".." in pure.parts or not name or re.search(r"[:\\\0]", name):
        raise SourceUnsafe(
            f"{owner} names {name!r} as a part of itself, which is outside its folder",
            hint=_MOVE_HINT,
        )
    real = folder.resolve()
    try:
        path = (real / name).resolve()
    except (OSError, RuntimeError) as exc:
        raise SourceUnsafe(f"{owner} names {name!r}, a link that leads nowhere") from exc
    if not path.is_relative_to(real):
        raise SourceUnsafe(
            f"{owner} names {name!r} as a part of itself, a link to {path} outside its folder",
            hint=_MOVE_HINT,
        )
    return path


def _check_extent(info: DiskInfo, extent: vmdk.Extent) -> None:
    if extent.name is None:
        return
    if info.offset_bytes:
        raise SourceUnsupported(
            f"{info.name} holds a VMDK descriptor that needs {extent.name!r}",
            hint="Unpack the archive and give the descriptor.",
        )
    if extent.kind not in FLAT_KINDS + SPARSE_KINDS:
        raise SourceUnsafe(
            f"{info.name} has an extent of kind {extent.kind}, which is not an ordinary file",
            hint=_MOVE_HINT,
        )
    path = inside(Path(info.path).parent, extent.name, owner=info.name)
    if path == Path(info.path).resolve():
        raise SourceUnsafe(f"{info.name} names itself as a part of itself")
    with Window(path) as window:
        if extent.kind in FLAT_KINDS:
            _check_flat(info, extent, window)
        elif not vmdk.is_sparse(window):
            raise SourceCorrupt(f"{path} is damaged: it is no sparse extent of {info.name}")
        else:
            _check_sparse(info, extent, window)


def _check_flat(info: DiskInfo, extent: vmdk.Extent, window: Window) -> None:
    end = extent.offset_bytes + extent.size_bytes
    if end > window.size_bytes:
        raise SourceCorrupt(
            f"{window.name} is cut short: {info.path} needs {end} bytes of it, "
            f"but it has {window.size_bytes}",
            hint="Copy it again or restore it from a backup.",
        )


def _check_sparse(info: DiskInfo, extent: vmdk.Extent, window: Window) -> None:
    header = vmdk.read_sparse(window)
    if header.capacity_bytes != extent.size_bytes:
        raise SourceCorrupt(
            f"{window.name} holds {header.capacity_bytes} bytes, "
            f"but {info.path} says {extent.size_bytes}"
        )
    inner = vmdk.embedded_descriptor(window, header)
    if vmdk.names_parent(window) or (inner is not None and inner.is_differencing):
        raise SourceUnsafe(f"{window.name}, a part of {info.name}, needs a parent of its own")
