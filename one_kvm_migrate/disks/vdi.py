"""Header and block map of a VirtualBox VDI, versions 1.0 (0.x layout) and 1.1.

Layout after VirtualBox ``src/VBox/Storage/VDICore.h``: a pre-header (64 bytes of text,
signature, version), then one of two little-endian headers, then the block map.
"""

import struct
import sys
from array import array
from dataclasses import dataclass
from typing import Final

from one_kvm_migrate.disks.identity import guid
from one_kvm_migrate.errors import SourceCorrupt, SourceUnsupported
from one_kvm_migrate.tools.files import Window
from one_kvm_migrate.units import MiB, ceil_div

SIGNATURE: Final = b"\x7f\x10\xda\xbe"
SIGNATURE_AT: Final = 64
TYPES: Final = {1: "dynamic", 2: "fixed", 3: "undo", 4: "differencing"}
# Map entries from here on mean "no data in this file": 0xfffffffe zero, 0xffffffff free.
UNALLOCATED: Final = 0xFFFFFFFE
MAX_MAP_BYTES: Final = 64 * MiB

_PRE = struct.Struct("<64sIHH")
_V0 = struct.Struct("<II256s16sQIII16s16s16s")
_V1 = struct.Struct("<III256sII16sIQIIII16s16s16s16s")


@dataclass(frozen=True, slots=True, kw_only=True)
class VdiHeader:
    """What a VDI says of itself; sizes and positions in bytes from the start of the disk."""

    version: str
    variant: str
    capacity_bytes: int
    block_bytes: int
    block_extra_bytes: int
    blocks: int
    blocks_allocated: int
    map_at: int
    data_at: int
    uuid: str | None
    parent_uuid: str | None

    @property
    def is_differencing(self) -> bool:
        """True when unallocated blocks must be read from a parent."""
        return self.variant in ("differencing", "undo") or self.parent_uuid is not None


def matches(window: Window) -> bool:
    """True when the signature of a VDI is there."""
    return window.peek(SIGNATURE_AT, 4) == SIGNATURE


def read_header(window: Window) -> VdiHeader:
    """The header, checked against the size of the file and its block map.

    Raises SourceCorrupt (cut short, or numbers that cannot be true) and SourceUnsupported.
    """
    _, _, minor, major = _PRE.unpack(window.read(0, _PRE.size, "VDI header"))
    if major == 0:
        header = _read_v0(window, f"{major}.{minor}")
    elif major == 1:
        header = _read_v1(window, f"{major}.{minor}")
    else:
        raise SourceUnsupported(
            f"{window.name} is a VDI of version {major}.{minor}",
            hint="Versions 0.x and 1.x are known; clone it with VBoxManage clonemedium.",
        )
    _check(window, header)
    return header


def _variant(window: Window, number: int) -> str:
    if number not in TYPES:
        raise SourceCorrupt(f"{window.name} is a VDI of the unknown type {number}")
    return TYPES[number]


def _read_v0(window: Window, version: str) -> VdiHeader:
    fields = _V0.unpack(window.read(_PRE.size, _V0.size, "VDI header"))
    kind, _, _, _, capacity, block, blocks, allocated, uuid, _, parent = fields
    map_at = _PRE.size + _V0.size
    return VdiHeader(
        version=version,
        variant=_variant(window, kind),
        capacity_bytes=capacity,
        block_bytes=block,
        block_extra_bytes=0,
        blocks=blocks,
        blocks_allocated=allocated,
        map_at=map_at,
        data_at=map_at + 4 * blocks,
        uuid=guid(uuid),
        parent_uuid=guid(parent),
    )


def _read_v1(window: Window, version: str) -> VdiHeader:
    fields = _V1.unpack(window.read(_PRE.size, _V1.size, "VDI header"))
    (_, kind, _, _, map_at, data_at, _, _, capacity) = fields[:9]
    (block, extra, blocks, allocated, uuid, _, parent, _) = fields[9:]
    return VdiHeader(
        version=version,
        variant=_variant(window, kind),
        capacity_bytes=capacity,
        block_bytes=block,
        block_extra_bytes=extra,
        blocks=blocks,
        blocks_allocated=allocated,
        map_at=map_at,
        data_at=data_at,
        uuid=guid(uuid),
        parent_uuid=guid(parent),
    )


def _check(window: Window, header: VdiHeader) -> None:
    block = header.block_bytes
    if block < 512 or block & (block - 1) or header.capacity_bytes <= 0:
        raise SourceCorrupt(
            f"{window.name} has an impossible VDI header: "
            f"{header.capacity_bytes} bytes in blocks of {block}"
        )
    if header.blocks < ceil_div(header.capacity_bytes, block):
        raise SourceCorrupt(
            f"{window.name} has an impossible VDI header: {header.blocks} blocks of {block} bytes "
            f"cannot hold {header.capacity_bytes} bytes"
        )
    last = max((entry for entry in read_map(window, header) if entry < UNALLOCATED), default=-1)
    end = header.data_at + (last + 1) * (block + header.block_extra_bytes)
    if end > window.size_bytes:
        raise SourceCorrupt(
            f"{window.name} is cut short: its block map reaches byte {end}, "
            f"but it has {window.size_bytes} bytes",
            hint="Copy it again or restore it from a backup.",
        )


def read_map(window: Window, header: VdiHeader) -> "array[int]":
    """The block map, one entry per block of the disk that the guest sees."""
    entries = ceil_div(header.capacity_bytes, header.block_bytes)
    if entries * 4 > MAX_MAP_BYTES:
        raise SourceUnsupported(f"{window.name} has a block map of more than {MAX_MAP_BYTES} bytes")
    table = array("I", window.read(header.map_at, entries * 4, "block map"))
    if sys.byteorder == "big":
        table.byteswap()
    return table
