"""The files an OVF names, beside it or in the same OVA, and the disks among them."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from lxml import etree

from one_kvm_migrate.disks import safety
from one_kvm_migrate.disks.probe import DiskInfo, probe
from one_kvm_migrate.errors import SourceCorrupt, SourceError, SourceUnsupported
from one_kvm_migrate.model import ArchiveMember, DiskBus, DiskFormat, SourceDisk
from one_kvm_migrate.sources.disk import Place, describe
from one_kvm_migrate.sources.ovf_hardware import unit_bytes
from one_kvm_migrate.sources.xmlview import attribute, each, find, whole
from one_kvm_migrate.tools.archive import Member

_FORMATS = {"vmdk": DiskFormat.VMDK, "vhd": DiskFormat.VHD, "vdi": DiskFormat.VDI}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """An entry of References."""

    href: str
    compression: str
    chunked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRef:
    """An entry of DiskSection; ``capacity_bytes`` is None when it is not a plain number."""

    id: str
    file_id: str | None
    format: DiskFormat
    capacity_bytes: int | None
    has_parent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """Where the files of an OVF are: in *folder*, or in the archive *ova* (with *members*)."""

    path: Path
    folder: Path
    members: dict[str, Member] | None = None

    def locate(self, href: str) -> tuple[Path, ArchiveMember | None]:
        """File and, in an OVA, place of *href*.

        Raises SourceUnsafe (leaves the package), SourceUnsupported (on a server),
        SourceError (not there).
        """
        if "://" in href:
            raise SourceUnsupported(
                f"{self.path} refers to {href!r}", hint="Download it and name it in the OVF."
            )
        if self.members is None:
            return self._beside(href), None
        names = (str(PurePosixPath(name)) for name in (href, unquote(href)))
        member = next((self.members[name] for name in names if name in self.members), None)
        if member is None:
            raise SourceError(f"{self.path} does not hold the file {href!r} that it names")
        return self.path, ArchiveMember(
            path=str(self.path),
            member=member.name,
            offset_bytes=member.offset_bytes,
            size_bytes=member.size_bytes,
        )

    def _beside(self, href: str) -> Path:
        for name in (href, unquote(href)):
            path = safety.inside(self.folder, name, owner=str(self.path))
            if os.path.exists(path):
                return path
        raise SourceError(f"{self.path} names the file {href!r}, which does not exist")

    def probe(self, href: str) -> tuple[DiskInfo, ArchiveMember | None]:
        """The disk *href*, checked but for being a differencing one."""
        path, archive = self.locate(href)
        if archive is None:
            info = probe(path)
        else:
            name = f"{path}/{archive.member}"
            place = {"offset_bytes": archive.offset_bytes, "size_bytes": archive.size_bytes}
            info = probe(path, name=name, **place)
        safety.check(info, allow_differencing=True)
        return info, archive


def read_files(envelope: etree._Element) -> dict[str, FileRef]:
    """The references by id."""
    return {
        attribute(item, "id") or "": FileRef(
            href=attribute(item, "href") or "",
            compression=attribute(item, "compression") or "identity",
            chunked=attribute(item, "chunkSize") is not None,
        )
        for item in each(find(envelope, "References"), "File")
    }


def read_disks(envelope: etree._Element, where: str) -> dict[str, DiskRef]:
    """The disks by id. Raises SourceCorrupt on impossible capacities."""
    sections = list(each(envelope, "DiskSection"))
    sections += [
        section
        for section in each(envelope, "Section")
        if (attribute(section, "type") or "").endswith("DiskSection_Type")
    ]
    disks = {}
    for item in (item for section in sections for item in each(section, "Disk")):
        capacity = attribute(item, "capacity") or ""
        unit = unit_bytes(attribute(item, "capacityAllocationUnits") or "byte")
        known = capacity.isascii() and capacity.isdigit() and unit is not None
        name = (attribute(item, "format") or "").lower()
        largest = (1 << 62) // (unit or 1)
        number = whole(capacity if known else "0", f"a disk's capacity in {where}", largest=largest)
        disk = DiskRef(
            id=attribute(item, "diskId") or "",
            file_id=attribute(item, "fileRef"),
            format=next(
                (kind for word, kind in _FORMATS.items() if word in name), DiskFormat.UNKNOWN
            ),
            capacity_bytes=number * (unit or 1) if known else None,
            has_parent=attribute(item, "parentRef") is not None,
        )
        disks[disk.id] = disk
    return disks


def refuse_encoding(file: FileRef, where: str) -> None:
    """Raise SourceUnsupported for files that cannot be read in place."""
    if not file.href:
        raise SourceCorrupt(f"{where} names a file without href")
    if file.compression not in ("", "identity"):
        raise SourceUnsupported(
            f"{where} holds {file.href!r} compressed with {file.compression}",
            hint="Export it again without compression.",
        )
    if file.chunked:
        raise SourceUnsupported(
            f"{where} holds {file.href!r} in chunks", hint="Export it again in one piece."
        )


def absent_disk(disk: DiskRef, path: str, place: tuple[DiskBus, int, int]) -> SourceDisk:
    """A disk that is named but cannot be looked at."""
    bus, port, device = place
    return SourceDisk(
        path=path,
        bus=bus,
        port=port,
        device=device,
        capacity_bytes=disk.capacity_bytes,
        format=disk.format,
        chain=(path,),
    )


def present_disk(
    info: DiskInfo, archive: ArchiveMember | None, place: tuple[DiskBus, int, int]
) -> SourceDisk:
    """A disk that was looked at."""
    bus, port, device = place
    return describe(info, Place(bus=bus, port=port, device=device), archive=archive)
