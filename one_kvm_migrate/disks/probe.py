"""What a disk file is, by its own magic and numbers; qemu is never asked to guess."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath

from one_kvm_migrate.disks import foreign, vdi, vhd, vmdk
from one_kvm_migrate.errors import SourceCorrupt, SourceUnsupported
from one_kvm_migrate.model import DiskFormat
from one_kvm_migrate.tools.files import Window
from one_kvm_migrate.units import SECTOR, ceil_div

RAW_SUFFIXES = frozenset({".raw", ".img", ".dd", ".bin"})
# A file named so must have the magic: without it, it is damaged and must not pass for raw.
CONTAINER_SUFFIXES = frozenset({".vdi", ".vmdk", ".vhd", ".qcow2", ".vhdx", ".hdd", ".ova"})


Describe = Callable[[Window], "DiskInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskInfo:
    """A disk as its header describes it.

    ``path``, ``offset_bytes`` and ``size_bytes`` say where it lies (a member of an OVA has an
    offset), ``name`` is what to call it in sentences. ``capacity_bytes`` is what the guest
    sees, ``allocated_bytes`` how much data there is at most (None when finding out would take
    long). ``extents`` are the files that a VMDK descriptor names, ``other_files`` those that a
    qcow2 names. ``warnings`` are whole clauses.
    """

    path: str
    name: str
    format: DiskFormat
    variant: str
    capacity_bytes: int
    offset_bytes: int = 0
    size_bytes: int
    uuid: str | None = None
    parent_uuid: str | None = None
    is_differencing: bool = False
    allocated_bytes: int | None = None
    extents: tuple[vmdk.Extent, ...] = ()
    other_files: tuple[str, ...] = ()
    encrypted: bool = False
    warnings: tuple[str, ...] = ()


def probe(
    path: Path,
    *,
    offset_bytes: int = 0,
    size_bytes: int | None = None,
    name: str | None = None,
) -> DiskInfo:
    """Identify the disk in *path*, or in the given part of it.

    *name* is what the part is called (``box.ova/disk1.vmdk``) and whose suffix counts.
    Opens only *path* itself; ``safety.check`` looks at what else a disk needs.

    Raises SourceError (missing, not a regular file), SourceUnsupported (unknown format),
    SourceCorrupt (cut short, or numbers that cannot be true).
    """
    with Window(path, offset_bytes=offset_bytes, size_bytes=size_bytes, name=name) as window:
        if window.size_bytes == 0:
            raise SourceCorrupt(f"{window.name} is empty", hint="Copy it again.")
        for matches, describe in _READERS:
            if matches(window):
                return describe(window)
        return _raw(window)


def _vdi(window: Window) -> DiskInfo:
    header = vdi.read_header(window)
    return DiskInfo(
        path=str(window.path),
        name=window.name,
        format=DiskFormat.VDI,
        variant=header.variant,
        capacity_bytes=header.capacity_bytes,
        offset_bytes=window.offset_bytes,
        size_bytes=window.size_bytes,
        uuid=header.uuid,
        parent_uuid=header.parent_uuid,
        is_differencing=header.is_differencing,
        allocated_bytes=min(header.blocks_allocated, header.blocks) * header.block_bytes,
    )


def _vhd(window: Window) -> DiskInfo:
    header = vhd.read_header(window)
    warnings: tuple[str, ...] = ()
    if header.qemu_capacity_bytes != header.capacity_bytes:
        warnings = (
            f"{window.name}: qemu would see {header.qemu_capacity_bytes} bytes by its geometry; "
            f"the {header.capacity_bytes} bytes that VirtualBox sees are used",
        )
    return DiskInfo(
        path=str(window.path),
        name=window.name,
        format=DiskFormat.VHD,
        variant=header.variant,
        capacity_bytes=header.capacity_bytes,
        offset_bytes=window.offset_bytes,
        size_bytes=window.size_bytes,
        uuid=header.uuid,
        parent_uuid=header.parent_uuid,
        is_differencing=header.is_differencing,
        allocated_bytes=_stored(window),
        warnings=warnings,
    )


def _sparse_vmdk(window: Window) -> DiskInfo:
    header = vmdk.read_sparse(window)
    descriptor = vmdk.embedded_descriptor(window, header)
    if descriptor is None:
        raise SourceUnsupported(
            f"{window.name} is only a part of a VMDK",
            hint="Give the descriptor, the small file that names all parts.",
        )
    return DiskInfo(
        path=str(window.path),
        name=window.name,
        format=DiskFormat.VMDK,
        variant=header.variant,
        capacity_bytes=header.capacity_bytes,
        offset_bytes=window.offset_bytes,
        size_bytes=window.size_bytes,
        uuid=descriptor.uuid,
        parent_uuid=descriptor.parent_uuid,
        is_differencing=vmdk.names_parent(window) or descriptor.is_differencing,
        allocated_bytes=None if header.compressed else _stored(window),
    )


def _descriptor_vmdk(window: Window) -> DiskInfo:
    descriptor = vmdk.read_descriptor(window)
    if not descriptor.extents:
        raise SourceCorrupt(
            f"{window.name} has a VMDK descriptor without extents",
            hint="Restore the descriptor from a backup.",
        )
    return DiskInfo(
        path=str(window.path),
        name=window.name,
        format=DiskFormat.VMDK,
        variant=descriptor.create_type,
        capacity_bytes=sum(extent.size_bytes for extent in descriptor.extents),
        offset_bytes=window.offset_bytes,
        size_bytes=window.size_bytes,
        uuid=descriptor.uuid,
        parent_uuid=descriptor.parent_uuid,
        is_differencing=descriptor.is_differencing,
        extents=descriptor.extents,
    )


def _foreign(kind: DiskFormat, read: Callable[[Window], foreign.ForeignHeader]) -> Describe:
    def describe(window: Window) -> DiskInfo:
        header = read(window)
        return DiskInfo(
            path=str(window.path),
            name=window.name,
            format=kind,
            variant=header.variant,
            capacity_bytes=header.capacity_bytes,
            offset_bytes=window.offset_bytes,
            size_bytes=window.size_bytes,
            uuid=header.uuid,
            is_differencing=header.is_differencing,
            allocated_bytes=_stored(window),
            other_files=header.other_files,
            encrypted=header.encrypted,
        )

    return describe


def _begins(*magics: bytes) -> Callable[[Window], bool]:
    return lambda window: window.peek(0, 16).startswith(magics)


def _raw(window: Window) -> DiskInfo:
    suffix = PurePath(window.name).suffix.lower()
    if suffix in CONTAINER_SUFFIXES:
        raise SourceCorrupt(
            f"{window.name} is damaged: it does not begin as a {suffix[1:].upper()} file does",
            hint=_misnamed_hint(window.name),
        )
    if suffix not in RAW_SUFFIXES and window.size_bytes % SECTOR:
        raise SourceUnsupported(
            f"{window.name} has an unknown format",
            hint="Give a VDI, VMDK, VHD, qcow2 or raw disk, an OVA, an OVF or a .vbox file.",
        )
    return DiskInfo(
        path=str(window.path),
        name=window.name,
        format=DiskFormat.RAW,
        variant="raw",
        capacity_bytes=ceil_div(window.size_bytes, SECTOR) * SECTOR,
        offset_bytes=window.offset_bytes,
        size_bytes=window.size_bytes,
        allocated_bytes=_stored(window),
    )


def _misnamed_hint(name: str) -> str:
    if name.lower().endswith(".vmdk"):
        return "If it is the data part of a VMDK, give its descriptor; if it is raw, name it .raw."
    return "Copy it again; if it is a raw disk, give it a name that ends in .raw."


def _stored(window: Window) -> int:
    """At most this much data: holes of a sparse file do not count, as far as we can tell."""
    return min(window.size_bytes, window.stored_bytes)


# A fixed VHD is last: its footer is at the end, and the guest decides what is in front.
_READERS: tuple[tuple[Callable[[Window], bool], Describe], ...] = (
    (vdi.matches, _vdi),
    (vmdk.is_sparse, _sparse_vmdk),
    (vmdk.is_descriptor, _descriptor_vmdk),
    (_begins(foreign.QCOW_MAGIC), _foreign(DiskFormat.QCOW2, foreign.read_qcow2)),
    (_begins(foreign.VHDX_MAGIC), _foreign(DiskFormat.VHDX, foreign.read_vhdx)),
    (_begins(*foreign.PARALLELS_MAGICS), _foreign(DiskFormat.PARALLELS, foreign.read_parallels)),
    (vhd.matches, _vhd),
)
