"""VirtualBox's media registries: which file a UUID stands for, and on which parents it builds.

After ``readMediumOne`` of VirtualBox's ``src/VBox/Main/xml/Settings.cpp``. Differencing disks
are nested inside their parents. Since settings 1.11 (VirtualBox 4.0) a machine file has its
own registry; before, and for media shared between machines, it is in VirtualBox.xml.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from lxml import etree

from one_kvm_migrate.disks.identity import plain_uuid
from one_kvm_migrate.disks.probe import probe
from one_kvm_migrate.errors import OkmError, SourceCorrupt
from one_kvm_migrate.model import DiskFormat
from one_kvm_migrate.sources.disk import absolute
from one_kvm_migrate.sources.xmlview import attribute, each, find
from one_kvm_migrate.tools.xmlsafe import local_name, parse_file

MAX_CHAIN = 300
# Before 1.4 the element told the format.
_OLD_FORMATS = {
    "VirtualDiskImage": "VDI",
    "VMDKImage": "VMDK",
    "VHDImage": "VHD",
    "ISCSIHardDisk": "iSCSI",
    "CustomHardDisk": "",
}
_FORMATS = {
    "VDI": DiskFormat.VDI,
    "VMDK": DiskFormat.VMDK,
    "VHD": DiskFormat.VHD,
    "VHDX": DiskFormat.VHDX,
    "PARALLELS": DiskFormat.PARALLELS,
    "QCOW": DiskFormat.QCOW2,
    "QCOW2": DiskFormat.QCOW2,
    "RAW": DiskFormat.RAW,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Medium:
    """A registered disk or CD image. ``folder`` is what a relative location is relative to."""

    uuid: str
    location: str
    format_name: str
    kind: str
    parent_uuid: str | None
    encrypted: bool
    folder: Path

    @property
    def format(self) -> DiskFormat:
        """The registered format; UNKNOWN for those that are no files."""
        return _FORMATS.get(self.format_name.upper(), DiskFormat.UNKNOWN)

    @property
    def path(self) -> Path:
        """Absolute path of the file as registered."""
        return absolute(self.folder / self.location)


def read_registry(holder: etree._Element | None, folder: Path) -> dict[str, Medium]:
    """All media below *holder*, the element with ``MediaRegistry`` or ``DiskRegistry`` in it."""
    media: dict[str, Medium] = {}
    for registry in each(holder, "MediaRegistry", "DiskRegistry"):
        todo: list[tuple[etree._Element, str | None]] = []
        for group in each(registry, "HardDisks", "DVDImages", "FloppyImages"):
            todo += [(medium, None) for medium in each(group, "HardDisk", "Image")]
        while todo:
            element, parent = todo.pop()
            medium = _medium(element, parent, folder)
            if medium is None:
                continue
            media.setdefault(medium.uuid, medium)
            todo += [(child, medium.uuid) for child in each(element, "HardDisk", "DiffHardDisk")]
    return media


def _medium(element: etree._Element, parent: str | None, folder: Path) -> Medium | None:
    uuid = plain_uuid(attribute(element, "uuid"))
    if uuid is None:
        return None
    location = attribute(element, "location", "src")
    format_name = attribute(element, "format") or ""
    for child in each(element, *_OLD_FORMATS):
        location = attribute(child, "filePath", "location") or location
        default = _OLD_FORMATS[local_name(child)]
        format_name = format_name or attribute(child, "format") or default
    properties = [attribute(item, "name") or "" for item in each(element, "Property")]
    default = "VDI" if local_name(element).endswith("HardDisk") else "RAW"
    return Medium(
        uuid=uuid,
        location=location or "",
        format_name=format_name or default,
        kind=(attribute(element, "type") or "Normal").capitalize(),
        parent_uuid=parent,
        encrypted=any(name.startswith("CRYPT/") for name in properties),
        folder=folder,
    )


class Media:
    """The media a machine can use: its own registry first, then those around it, read late."""

    def __init__(self, machine: etree._Element, folder: Path) -> None:
        self._folder = folder
        self._media = read_registry(machine, folder)
        self._others_read = False

    def get(self, uuid: str) -> Medium | None:
        """The medium with *uuid*, or None when no registry around has it."""
        if uuid not in self._media and not self._others_read:
            self._others_read = True
            for path in _registry_files(self._folder):
                self._add(path)
        return self._media.get(uuid)

    def chain(self, uuid: str) -> list[Medium]:
        """Media from the root to *uuid*; empty when unknown. Raises SourceCorrupt on rings."""
        found: list[Medium] = []
        wanted: str | None = uuid
        while wanted is not None:
            medium = self.get(wanted)
            if medium is None:
                break
            found.insert(0, medium)
            wanted = medium.parent_uuid
            if len(found) > MAX_CHAIN:
                raise SourceCorrupt(f"disk {uuid} builds on more than {MAX_CHAIN} others")
        return found

    def _add(self, path: Path) -> None:
        try:
            root = parse_file(path)
        except OkmError:
            # A registry of other machines that cannot be read only means: not found there.
            return
        holder = find(root, "Global")
        for uuid, medium in read_registry(holder, path.parent).items():
            self._media.setdefault(uuid, medium)


def _registry_files(folder: Path) -> Iterable[Path]:
    """VirtualBox.xml beside or above the machine, or in the usual folder of a home above."""
    for place in (folder, *list(folder.parents)[:3]):
        for inner in (".", ".config/VirtualBox", ".VirtualBox"):
            path = place / inner / "VirtualBox.xml"
            if os.path.isfile(path):
                yield path


def locate(medium: Medium, folder: Path) -> tuple[Path, str | None]:
    """Where the file of *medium* is, and a warning when that is not where it is registered.

    A machine folder copied from elsewhere names files of the old place: a file of that name
    beside the machine file is taken when its header has the UUID.
    """
    registered = medium.path
    if os.path.exists(registered):
        return registered, None
    slashes = absolute(medium.folder / medium.location.replace("\\", "/"))
    if os.path.exists(slashes):
        return slashes, None
    name = PureWindowsPath(medium.location).name
    for candidate in (folder / name, folder / "Snapshots" / name):
        if not name or not os.path.isfile(candidate):
            continue
        try:
            same = probe(candidate).uuid == medium.uuid
        except OkmError:
            same = False
        if same:
            return candidate, f"{registered} is not there; {candidate} has its UUID and is used"
    return registered, None
