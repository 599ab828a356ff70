"""Footer and block table of a VHD (Connectix, Virtual PC): fixed, dynamic, differencing.

All numbers are big-endian. The footer is the last sector of the file; dynamic ones keep a
copy in the first. VirtualBox and Hyper-V take the *current size* of the footer for the size
of the disk; qemu's vpc driver takes cylinders x heads x sectors unless it knows the creating
program (``win ``, ``qem2``, ``d2v ``, ``tap``, ``CTXS``, ``wa``) or the geometry is the
largest possible one. VirtualBox signs ``vbox``, so qemu would cut the tail of its disks off:
open them with ``force_size_calc=current_size``.
"""

import struct
from array import array
from dataclasses import dataclass
from sys import byteorder
from typing import Final

from one_kvm_migrate.disks.identity import guid
from one_kvm_migrate.errors import SourceCorrupt, SourceUnsupported
from one_kvm_migrate.tools.files import Window
from one_kvm_migrate.units import SECTOR, MiB, ceil_div

MAGIC: Final = b"conectix"
SPARSE_MAGIC: Final = b"cxsparse"
TYPES: Final = {2: "fixed", 3: "dynamic", 4: "differencing"}
UNALLOCATED: Final = 0xFFFFFFFF
MAX_TABLE_BYTES: Final = 64 * MiB

_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16s")
_SPARSE = struct.Struct(">8sQQIIII16s")
_SPARSE_BYTES = 1024
_CHECKSUM_AT = 64
_SPARSE_CHECKSUM_AT = 36
_MAX_GEOMETRY_SECTORS = 65535 * 16 * 255
_CREATORS_BY_CURRENT_SIZE = (b"win ", b"qem2", b"d2v ", b"tap\0", b"CTXS", b"wa\0\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class VhdHeader:
    """What a VHD says of itself. ``qemu_capacity_bytes`` is qemu's default reading of it."""

    variant: str
    capacity_bytes: int
    qemu_capacity_bytes: int
    creator: str
    uuid: str | None
    parent_uuid: str | None = None
    table_at: int = 0
    table_entries: int = 0
    block_bytes: int = 0

    @property
    def is_differencing(self) -> bool:
        """True when unallocated sectors must be read from a parent."""
        return self.variant == "differencing"

    @property
    def bitmap_bytes(self) -> int:
        """Bytes of the sector bitmap in front of each block."""
        return ceil_div(self.block_bytes // SECTOR, 8 * SECTOR) * SECTOR


def matches(window: Window) -> bool:
    """True when a footer is at the end, or its copy at the start."""
    return MAGIC in (window.peek(0, 8), window.peek(window.size_bytes - SECTOR, 8))


def read_header(window: Window) -> VhdHeader:
    """The footer and dynamic header, checked against the size of the file.

    Raises SourceCorrupt (cut short, wrong checksum, impossible numbers) or SourceUnsupported.
    """
    end = window.size_bytes - SECTOR
    footer = window.read(max(end, 0), SECTOR, "VHD footer")
    if footer[:8] != MAGIC:
        raise SourceCorrupt(
            f"{window.name} is cut short: the VHD footer at its end is missing",
            hint="Copy it again or restore it from a backup.",
        )
    _verify(window, footer, _CHECKSUM_AT, "footer")
    fields = _FOOTER.unpack_from(footer)
    (_, _, _, data_at, _, creator, _, _, _, current, cylinders, heads, sectors) = fields[:13]
    kind, _, uuid = fields[13:]
    if kind not in TYPES:
        raise SourceUnsupported(f"{window.name} is a VHD of the unknown type {kind}")
    if current <= 0 or current % SECTOR:
        raise SourceCorrupt(f"{window.name} has an impossible VHD size of {current} bytes")
    chs = cylinders * heads * sectors
    by_size = creator in _CREATORS_BY_CURRENT_SIZE or chs == _MAX_GEOMETRY_SECTORS
    header = VhdHeader(
        variant=TYPES[kind],
        capacity_bytes=current,
        qemu_capacity_bytes=current if by_size else chs * SECTOR,
        creator=creator.rstrip(b"\0 ").decode("ascii", "replace"),
        uuid=guid(uuid, big_endian=True),
    )
    if header.variant == "fixed":
        if current > end:
            raise _cut_short(window, current + SECTOR)
        return header
    return _read_sparse(window, header, data_at)


def _read_sparse(window: Window, header: VhdHeader, at: int) -> VhdHeader:
    raw = window.read(at, _SPARSE_BYTES, "dynamic disk header")
    magic, _, table_at, _, entries, block, _, parent = _SPARSE.unpack_from(raw)
    if magic != SPARSE_MAGIC:
        raise SourceCorrupt(f"{window.name} has no dynamic disk header at byte {at}")
    _verify(window, raw, _SPARSE_CHECKSUM_AT, "dynamic disk header")
    if block < SECTOR or block & (block - 1):
        raise SourceCorrupt(f"{window.name} has an impossible VHD block size of {block} bytes")
    if entries < ceil_div(header.capacity_bytes, block):
        raise SourceCorrupt(
            f"{window.name} is damaged: {entries} blocks of {block} bytes "
            f"cannot hold {header.capacity_bytes} bytes"
        )
    result = VhdHeader(
        variant=header.variant,
        capacity_bytes=header.capacity_bytes,
        qemu_capacity_bytes=header.qemu_capacity_bytes,
        creator=header.creator,
        uuid=header.uuid,
        parent_uuid=guid(parent, big_endian=True) if header.is_differencing else None,
        table_at=table_at,
        table_entries=entries,
        block_bytes=block,
    )
    used = (entry for entry in read_table(window, result) if entry != UNALLOCATED)
    last = max(used, default=None)
    if last is not None:
        needed = last * SECTOR + result.bitmap_bytes + block + SECTOR
        if needed > window.size_bytes:
            raise _cut_short(window, needed)
    return result


def read_table(window: Window, header: VhdHeader) -> "array[int]":
    """The block table: the first sector of each block, for the blocks the guest sees."""
    entries = ceil_div(header.capacity_bytes, header.block_bytes)
    if entries * 4 > MAX_TABLE_BYTES:
        raise SourceUnsupported(
            f"{window.name} has a block table of more than {MAX_TABLE_BYTES} bytes"
        )
    table = array("I", window.read(header.table_at, entries * 4, "block table"))
    if byteorder == "little":
        table.byteswap()
    return table


def _verify(window: Window, raw: bytes, at: int, what: str) -> None:
    stored = int.from_bytes(raw[at : at + 4], "big")
    if (~(sum(raw) - sum(raw[at : at + 4]))) & 0xFFFFFFFF != stored:
        raise SourceCorrupt(
            f"{window.name} is damaged: the checksum of its VHD {what} is wrong",
            hint="Copy it again or restore it from a backup.",
        )


def _cut_short(window: Window, needed: int) -> SourceCorrupt:
    return SourceCorrupt(
        f"{window.name} is cut short: it should have {needed} bytes but has {window.size_bytes}",
        hint="Copy it again or restore it from a backup.",
    )
