"""Sparse header and descriptor of a VMDK.

A VMDK is a text descriptor that names extent files, or one sparse file with the descriptor
inside (monolithicSparse, streamOptimized). Layout after VMware's "Virtual Disk Format 5.0",
VirtualBox ``src/VBox/Storage/VMDK.cpp`` and qemu ``block/vmdk.c``; numbers little-endian.

The descriptor is read at least as widely as qemu reads it: what qemu would take for an extent
or a parent must never be missed here, or a hostile disk could reach other files.
"""

import re
import struct
from array import array
from dataclasses import dataclass, field
from sys import byteorder
from typing import Final

from one_kvm_migrate.disks.identity import plain_uuid
from one_kvm_migrate.errors import SourceCorrupt, SourceUnsupported
from one_kvm_migrate.tools.files import Window
from one_kvm_migrate.units import SECTOR, MiB, ceil_div

SPARSE_MAGIC: Final = b"KDMV"
COW_MAGIC: Final = b"COWD"
DESCRIPTOR_MARK: Final = b"# disk descriptorfile"
NO_PARENT_CID: Final = "ffffffff"
MAX_DESCRIPTOR_BYTES: Final = MiB
MAX_TABLES_READ: Final = 65536
GRAIN_DIRECTORY_AT_END: Final = 0xFFFFFFFFFFFFFFFF

_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
_COW = struct.Struct("<4sIIIIIIII")
_GRAIN_MARKER = struct.Struct("<QI")
_LINE_ENDS = b"\n \r\n"
_EXTENT = re.compile(r'\s*(\S+)\s+([+-]?\d+)\s+(\S+)(?:\s*"([^"\r]*)"?\s*([+-]?\d+)?)?')
_ACCESS = ("RW", "RDONLY", "NOACCESS")
_PAIR = re.compile(r'\s*([A-Za-z][\w.]*)\s*=\s*"?([^"]*)"?\s*$')


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """One line of the extent description; ``name`` is as written, None for ZERO extents."""

    access: str
    kind: str
    name: str | None
    size_bytes: int
    offset_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """The text part. ``parent_hint`` is true when a parent file is named anywhere in it."""

    create_type: str
    parent_cid: str
    parent_hint: bool
    extents: tuple[Extent, ...]
    entries: dict[str, str] = field(default_factory=dict)

    @property
    def uuid(self) -> str | None:
        """VirtualBox's identity of the disk."""
        return plain_uuid(self.entries.get("ddb.uuid.image"))

    @property
    def parent_uuid(self) -> str | None:
        """VirtualBox's identity of the parent; often the only trace of a parent."""
        return plain_uuid(self.entries.get("ddb.uuid.parent"))

    @property
    def is_differencing(self) -> bool:
        """True when missing grains must be read from a parent."""
        no_parent = self.parent_cid in (NO_PARENT_CID, "")
        return not no_parent or self.parent_hint or self.parent_uuid is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseHeader:
    """Header of a sparse extent; positions and sizes in bytes."""

    variant: str
    capacity_bytes: int
    grain_bytes: int
    table_entries: int
    directory_at: int
    descriptor_at: int
    descriptor_bytes: int
    compressed: bool


def is_sparse(window: Window) -> bool:
    """True for a sparse extent of hosted products or of ESX."""
    return window.peek(0, 4) in (SPARSE_MAGIC, COW_MAGIC)


def is_descriptor(window: Window) -> bool:
    """True for a descriptor file: text that begins with the well-known comment."""
    head = window.peek(0, 256).removeprefix(b"\xef\xbb\xbf").lstrip()
    return head[: len(DESCRIPTOR_MARK)].lower() == DESCRIPTOR_MARK


def read_descriptor(window: Window, at: int = 0, count: int | None = None) -> Descriptor:
    """The descriptor at position *at*. Raises SourceCorrupt when it is unusable."""
    size = window.size_bytes - at if count is None else count
    if size > MAX_DESCRIPTOR_BYTES:
        raise SourceCorrupt(f"{window.name} has a VMDK descriptor of {size} bytes, far too large")
    raw = window.read(at, size, "VMDK descriptor")
    return parse_descriptor(raw, window.name)


def parse_descriptor(raw: bytes, where: str) -> Descriptor:
    """*raw* as a Descriptor; *where* names the disk in errors."""
    text = raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    entries: dict[str, str] = {}
    extents: list[Extent] = []
    for line in text.split("\n"):
        if line.lstrip().startswith("#"):
            continue
        if line.split(None, 1)[:1] and line.split(None, 1)[0] in _ACCESS:
            extents.append(_extent(line, where))
        elif pair := _PAIR.match(line):
            entries.setdefault(pair[1].lower(), pair[2].strip())
    if "createtype" not in entries:
        raise SourceCorrupt(
            f"{where} has a VMDK descriptor without createType",
            hint="Restore the descriptor from a backup.",
        )
    return Descriptor(
        create_type=entries["createtype"],
        parent_cid=entries.get("parentcid", "").lower(),
        parent_hint="parentfilenamehint" in text.lower(),
        extents=tuple(extents),
        entries=entries,
    )


def _extent(line: str, where: str) -> Extent:
    match = _EXTENT.match(line)
    if match is None or int(match[2]) < 0 or int(match[5] or 0) < 0:
        raise SourceCorrupt(f"{where} has a VMDK extent that cannot be read: {line.strip()!r}")
    if match[4] is None and match[3].upper() != "ZERO":
        raise SourceCorrupt(f"{where} has a VMDK extent without a file name: {line.strip()!r}")
    return Extent(
        access=match[1],
        kind=match[3].upper(),
        name=match[4],
        size_bytes=int(match[2]) * SECTOR,
        offset_bytes=int(match[5] or 0) * SECTOR,
    )


def embedded_descriptor(window: Window, header: SparseHeader) -> Descriptor | None:
    """The descriptor inside a sparse extent; None when it has none, as parts of a VMDK do."""
    at, count = header.descriptor_at, header.descriptor_bytes
    if not count or not window.peek(at, min(count, MAX_DESCRIPTOR_BYTES)).strip(b"\0 \t\r\n"):
        return None
    return read_descriptor(window, at, count)


def names_parent(window: Window) -> bool:
    """True when a sparse extent names a parent where qemu looks for one.

    qemu does not ask the header where the descriptor is, it searches the sectors 1 to 20.
    """
    return b"parentfilenamehint" in window.peek(SECTOR, 20 * SECTOR).lower()


def read_sparse(window: Window) -> SparseHeader:
    """Header of the sparse extent in *window*, checked against the size of the file.

    Raises SourceCorrupt (cut short, impossible numbers) and SourceUnsupported.
    """
    if window.peek(0, 4) == COW_MAGIC:
        return _read_cow(window)
    raw = window.read(0, _HEADER.size, "VMDK header")
    fields = _HEADER.unpack(raw)
    _, version, flags, capacity, grain, desc_at, desc_sectors, entries = fields[:8]
    _, directory, _, _, ends, compression = fields[8:]
    if not 1 <= version <= 3:
        raise SourceUnsupported(f"{window.name} is a VMDK of version {version}; 1 to 3 are known")
    if flags & 1 and ends != _LINE_ENDS:
        raise SourceCorrupt(
            f"{window.name} is damaged: its line ends were translated",
            hint="Copy it again in binary mode.",
        )
    if directory == GRAIN_DIRECTORY_AT_END:
        directory = _directory_from_footer(window)
    stream = bool(flags & 0x10000) or compression == 1
    header = SparseHeader(
        variant="streamOptimized" if stream else "monolithicSparse",
        capacity_bytes=capacity * SECTOR,
        grain_bytes=grain * SECTOR,
        table_entries=entries,
        directory_at=directory * SECTOR,
        descriptor_at=desc_at * SECTOR,
        descriptor_bytes=desc_sectors * SECTOR if desc_at else 0,
        compressed=stream,
    )
    _check(window, header)
    return header


def _directory_from_footer(window: Window) -> int:
    """Sector of the grain directory: a stream has it in a footer, before the last sector."""
    footer = window.read(max(window.size_bytes - 2 * SECTOR, 0), _HEADER.size, "VMDK footer")
    directory: int = _HEADER.unpack(footer)[9]
    if footer[:4] != SPARSE_MAGIC or directory == GRAIN_DIRECTORY_AT_END:
        raise SourceCorrupt(
            f"{window.name} is cut short: the footer of its VMDK stream is missing at the end",
            hint="Copy it again or export it again.",
        )
    return directory


def _read_cow(window: Window) -> SparseHeader:
    raw = window.read(0, _COW.size, "VMDK header")
    _, _, _, sectors, grain, directory, _, _, _ = _COW.unpack(raw)
    header = SparseHeader(
        variant="vmfsSparse",
        capacity_bytes=sectors * SECTOR,
        grain_bytes=grain * SECTOR,
        table_entries=4096,
        directory_at=directory * SECTOR,
        descriptor_at=0,
        descriptor_bytes=0,
        compressed=False,
    )
    _check(window, header)
    return header


def _check(window: Window, header: SparseHeader) -> None:
    grain = header.grain_bytes
    if header.capacity_bytes <= 0 or grain < SECTOR or grain & (grain - 1):
        raise SourceCorrupt(
            f"{window.name} has an impossible VMDK header: "
            f"{header.capacity_bytes} bytes in grains of {grain}"
        )
    if not 0 < header.table_entries <= 4096:
        raise SourceCorrupt(
            f"{window.name} has an impossible VMDK header: {header.table_entries} entries a table"
        )
    last = 0
    for at in _table_positions(window, header):
        table = _numbers(window.read(at, header.table_entries * 4, "grain table"))
        last = max(last, *table)
    # 1 marks a grain of zeros, where the header allows it.
    end = _grain_end(window, header, last * SECTOR) if last > 1 else 0
    if end > window.size_bytes:
        raise SourceCorrupt(
            f"{window.name} is cut short: its grain tables reach byte {end}, "
            f"but it has {window.size_bytes} bytes",
            hint="Copy it again or restore it from a backup.",
        )


def _grain_end(window: Window, header: SparseHeader, at: int) -> int:
    """Where the grain at position *at* ends. The last grain of a disk may be a shorter one."""
    if not header.compressed:
        return at + (header.capacity_bytes % header.grain_bytes or header.grain_bytes)
    marker = window.read(at, _GRAIN_MARKER.size, "last grain")
    _, size = _GRAIN_MARKER.unpack(marker)
    return at + _GRAIN_MARKER.size + int(size)


def _table_positions(window: Window, header: SparseHeader) -> list[int]:
    """Positions of the grain tables that exist; only the first MAX_TABLES_READ of huge disks."""
    count = ceil_div(header.capacity_bytes, header.grain_bytes * header.table_entries)
    if count * 4 > 64 * MiB:
        raise SourceUnsupported(f"{window.name} has a grain directory of {count} entries")
    directory = _numbers(window.read(header.directory_at, count * 4, "grain directory"))
    return [sector * SECTOR for sector in directory if sector][:MAX_TABLES_READ]


def _numbers(raw: bytes) -> "array[int]":
    table = array("I", raw)
    if byteorder == "big":
        table.byteswap()
    return table
