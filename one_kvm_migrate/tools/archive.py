"""OVA files (tar archives) read in place: where each member lies, never unpacking one.

An archive from strangers is hostile until shown otherwise: names are checked, links and devices
refused, and no header may make us read more than a little.
"""

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from one_kvm_migrate.errors import SourceCorrupt, SourceUnsafe, SourceUnsupported
from one_kvm_migrate.tools.files import Window, open_regular
from one_kvm_migrate.units import MiB

MAX_MEMBERS = 4096
MAX_HEADER_READ_BYTES = MiB
TAR_MAGIC_AT = 257
_COMPRESSED = (
    (b"\x1f\x8b", "gzip", "gunzip"),
    (b"BZh", "bzip2", "bunzip2"),
    (b"\xfd7zXZ\0", "xz", "unxz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
    (b"PK\x03\x04", "zip", "unzip"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file inside an archive. ``name`` is normalised: no leading ``./``."""

    name: str
    offset_bytes: int
    size_bytes: int


class _Reader:
    """A file for tarfile that refuses the large reads which only hostile headers ask for."""

    def __init__(self, stream: BinaryIO, where: str) -> None:
        self._stream = stream
        self._where = where

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MAX_HEADER_READ_BYTES:
            raise SourceCorrupt(f"{self._where} has a tar header of {count} bytes, far too large")
        return self._stream.read(count)

    def seek(self, at: int) -> int:
        return self._stream.seek(at)

    def tell(self) -> int:
        return self._stream.tell()


def looks_like_tar(window: Window) -> bool:
    """True when a ustar or GNU header is at the start; those of 1979 have no magic."""
    return window.peek(TAR_MAGIC_AT, 5) == b"ustar"


def refuse_compressed(window: Window) -> None:
    """Raise SourceUnsupported with the tool to use when *window* is compressed."""
    head = window.peek(0, 8)
    for magic, name, tool in _COMPRESSED:
        if head.startswith(magic):
            raise SourceUnsupported(
                f"{window.name} is compressed with {name}", hint=f"Unpack it with {tool} first."
            )


def list_members(path: Path) -> tuple[Member, ...]:
    """The files in the tar archive *path*, in their order; folders are left out.

    Raises SourceUnsupported (compressed), SourceCorrupt (no tar archive, cut short, damaged),
    SourceUnsafe (names that leave the archive, links, devices, a name twice).
    """
    with Window(path) as window:
        refuse_compressed(window)
    members: dict[str, Member] = {}
    with os.fdopen(open_regular(path), "rb") as stream:
        for info in _headers(stream, str(path)):
            member = _member(info, path)
            if member is None:
                continue
            if member.name in members:
                raise SourceUnsafe(f"{path} holds {member.name!r} twice")
            members[member.name] = member
            if len(members) > MAX_MEMBERS:
                raise SourceCorrupt(f"{path} holds more than {MAX_MEMBERS} files")
        size = os.fstat(stream.fileno()).st_size
    for member in members.values():
        if member.offset_bytes + member.size_bytes > size:
            raise SourceCorrupt(
                f"{path} is cut short: {member.name!r} ends at byte "
                f"{member.offset_bytes + member.size_bytes}, but the file has {size} bytes",
                hint="Copy it again or export it again.",
            )
    return tuple(members.values())


def read_member(path: Path, member: Member, *, max_bytes: int) -> bytes:
    """The whole *member* of *path*. Raises SourceCorrupt when it is larger than *max_bytes*."""
    name = f"{path}/{member.name}"
    if member.size_bytes > max_bytes:
        raise SourceCorrupt(f"{name} has {member.size_bytes} bytes, more than {max_bytes}")
    place = {"offset_bytes": member.offset_bytes, "size_bytes": member.size_bytes}
    with Window(path, name=name, **place) as window:
        return window.read(0, member.size_bytes, "contents")


def _headers(stream: BinaryIO, where: str) -> list[tarfile.TarInfo]:
    found = []
    try:
        reader = _Reader(stream, where)
        with tarfile.open(fileobj=reader, mode="r:") as archive:  # type: ignore[call-overload]
            for info in archive:
                found.append(info)
                if len(found) > 2 * MAX_MEMBERS:
                    raise SourceCorrupt(f"{where} holds more than {MAX_MEMBERS} files")
    except (tarfile.TarError, ValueError, OverflowError, OSError, EOFError) as exc:
        raise SourceCorrupt(
            f"{where} is not a usable tar archive: {exc}", hint="Copy it again or export it again."
        ) from exc
    return found


def _member(info: tarfile.TarInfo, path: Path) -> Member | None:
    pure = PurePosixPath(info.name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in info.name or "\0" in info.name:
        raise SourceUnsafe(f"{path} holds {info.name!r}, a name that leads out of the archive")
    if info.isdir():
        return None
    if info.issparse():
        raise SourceUnsupported(
            f"{path} holds {info.name!r} as a sparse member",
            hint="Pack it again without the option -S of tar.",
        )
    if not info.isreg() or not pure.parts:
        raise SourceUnsafe(f"{path} holds {info.name!r}, which is not an ordinary file")
    return Member(name=str(pure), offset_bytes=info.offset_data, size_bytes=info.size)
