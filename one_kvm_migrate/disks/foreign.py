"""Headers of formats that VirtualBox reads but does not make: qcow2, VHDX, Parallels.

Only what is needed to know the disk's size and whether it reaches outside itself.
"""

import struct
from dataclasses import dataclass
from typing import Final

from one_kvm_migrate.disks.identity import guid
from one_kvm_migrate.errors import SourceCorrupt, SourceUnsupported
from one_kvm_migrate.tools.files import Window
from one_kvm_migrate.units import SECTOR, KiB, MiB

QCOW_MAGIC: Final = b"QFI\xfb"
VHDX_MAGIC: Final = b"vhdxfile"
PARALLELS_MAGICS: Final = (b"WithoutFreeSpace", b"WithouFreSpacExt")

_QCOW2 = struct.Struct(">4sIQIIQIIQQIIQ")
_QCOW2_FEATURES = struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_DATA_FILE_NAME: Final = 0x44415441
_INCOMPATIBLE_CORRUPT: Final = 1 << 1
_INCOMPATIBLE_DATA_FILE: Final = 1 << 2

_REGION_TABLES: Final = (192 * KiB, 256 * KiB)
_METADATA_REGION: Final = "8b7ca206-4790-4b9a-b8fe-575f050f886e"
_ITEM_FILE_PARAMETERS: Final = "caa16737-fa36-4d43-b3b6-33f0aa44e76b"
_ITEM_SIZE: Final = "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
_ITEM_DISK_ID: Final = "beca12ab-b2e6-4523-93ef-c309e000c746"
_PARALLELS = struct.Struct("<16sIIIIIQII")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignHeader:
    """What such a disk says of itself. ``other_files`` are names of files it needs as well."""

    variant: str
    capacity_bytes: int
    uuid: str | None = None
    is_differencing: bool = False
    other_files: tuple[str, ...] = ()
    encrypted: bool = False


def read_qcow2(window: Window) -> ForeignHeader:
    """Header of a qcow2. Raises SourceCorrupt or SourceUnsupported (qcow version 1)."""
    fields = _QCOW2.unpack(window.read(0, _QCOW2.size, "qcow2 header"))
    _, version, backing_at, backing_bytes, cluster_bits, size, crypt, l1_entries, l1_at = fields[:9]
    if version not in (2, 3):
        raise SourceUnsupported(
            f"{window.name} is a qcow of version {version}", hint="Convert it to qcow2 version 3."
        )
    if not 9 <= cluster_bits <= 21 or size <= 0 or size >= 1 << 63:
        raise SourceCorrupt(
            f"{window.name} has an impossible qcow2 header: {size} bytes in clusters of "
            f"2^{cluster_bits}"
        )
    if l1_at + l1_entries * 8 > window.size_bytes:
        raise SourceCorrupt(
            f"{window.name} is cut short: its level 1 table ends at byte {l1_at + l1_entries * 8}, "
            f"but it has {window.size_bytes} bytes",
            hint="Copy it again or restore it from a backup.",
        )
    others = []
    if backing_at:
        raw = window.read(backing_at, min(backing_bytes, 1023), "backing file name")
        others.append(raw.decode("utf-8", "surrogateescape"))
    others += _qcow2_data_file(window, version)
    return ForeignHeader(
        variant=f"v{version}",
        capacity_bytes=size,
        is_differencing=bool(backing_at),
        other_files=tuple(others),
        encrypted=crypt != 0,
    )


def _qcow2_data_file(window: Window, version: int) -> list[str]:
    if version < 3:
        return []
    raw = window.read(_QCOW2.size, _QCOW2_FEATURES.size, "qcow2 header")
    incompatible, _, _, _, header_bytes = _QCOW2_FEATURES.unpack(raw)
    if incompatible & _INCOMPATIBLE_CORRUPT:
        raise SourceCorrupt(
            f"{window.name} is marked as corrupt", hint="Repair it with qemu-img check -r all."
        )
    if not incompatible & _INCOMPATIBLE_DATA_FILE:
        return []
    at = header_bytes
    for _ in range(64):
        kind, length = _EXTENSION.unpack(window.read(at, _EXTENSION.size, "qcow2 header extension"))
        if kind == _DATA_FILE_NAME:
            name = window.read(at + _EXTENSION.size, min(length, 1023), "data file name")
            return [name.decode("utf-8", "surrogateescape")]
        if kind == 0:
            break
        at += _EXTENSION.size + (length + 7) // 8 * 8
    return ["(a data file without a name)"]


def read_vhdx(window: Window) -> ForeignHeader:
    """Metadata of a VHDX. Raises SourceCorrupt when the regions or items are not there."""
    region = _vhdx_metadata_region(window)
    table = window.read(region, 32, "VHDX metadata table")
    if table[:8] != b"metadata":
        raise SourceCorrupt(f"{window.name} is damaged: it has no VHDX metadata table")
    items = {}
    for index in range(min(int.from_bytes(table[10:12], "little"), 2047)):
        entry = window.read(region + 32 * (index + 1), 32, "VHDX metadata table")
        items[guid(entry[:16])] = region + int.from_bytes(entry[16:20], "little")
    if _ITEM_SIZE not in items or _ITEM_FILE_PARAMETERS not in items:
        raise SourceCorrupt(f"{window.name} is damaged: its VHDX metadata do not tell the size")
    flags = window.read(items[_ITEM_FILE_PARAMETERS] + 4, 4, "VHDX file parameters")
    size = int.from_bytes(window.read(items[_ITEM_SIZE], 8, "VHDX disk size"), "little")
    if size <= 0 or size % SECTOR:
        raise SourceCorrupt(f"{window.name} has an impossible VHDX size of {size} bytes")
    disk_id = None
    if _ITEM_DISK_ID in items:
        disk_id = guid(window.read(items[_ITEM_DISK_ID], 16, "VHDX disk id"))
    parent = bool(flags[0] & 2)
    fixed = bool(flags[0] & 1)
    return ForeignHeader(
        variant="differencing" if parent else "fixed" if fixed else "dynamic",
        capacity_bytes=size,
        uuid=disk_id,
        is_differencing=parent,
    )


def _vhdx_metadata_region(window: Window) -> int:
    for table_at in _REGION_TABLES:
        head = window.read(table_at, 16, "VHDX region table")
        if head[:4] != b"regi":
            continue
        for index in range(min(int.from_bytes(head[8:12], "little"), 2047)):
            entry = window.read(table_at + 16 + 32 * index, 32, "VHDX region table")
            if guid(entry[:16]) == _METADATA_REGION:
                return int.from_bytes(entry[16:24], "little")
    raise SourceCorrupt(f"{window.name} is damaged: it has no VHDX metadata region")


def read_parallels(window: Window) -> ForeignHeader:
    """Header of a Parallels disk. Raises SourceCorrupt on impossible numbers."""
    fields = _PARALLELS.unpack(window.read(0, _PARALLELS.size, "Parallels header"))
    magic, version, _, _, tracks, entries, sectors, _, _ = fields
    if magic == PARALLELS_MAGICS[0]:
        sectors &= 0xFFFFFFFF
        unit = SECTOR
    else:
        unit = tracks * SECTOR
    if version != 2 or not 0 < tracks <= 2 * MiB or not 0 < sectors <= 1 << 54:
        raise SourceCorrupt(f"{window.name} has an impossible Parallels header")
    if entries * tracks < sectors or 64 + entries * 4 > window.size_bytes:
        raise SourceCorrupt(
            f"{window.name} is cut short: its block table of {entries} entries does not fit",
            hint="Copy it again or restore it from a backup.",
        )
    return ForeignHeader(variant=f"blocks of {unit} bytes", capacity_bytes=sectors * SECTOR)
