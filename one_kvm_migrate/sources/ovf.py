"""OVF 0.9, 1.x and 2.x, as a file or inside an OVA, from VirtualBox, VMware and others.

VirtualBox adds its own settings to what it exports (``vbox:Machine``): they tell what OVF has
no words for (MAC addresses, adapter slots, firmware, chipset, clock, remote display).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lxml import etree

from one_kvm_migrate.disks import safety
from one_kvm_migrate.disks.identity import plain_uuid
from one_kvm_migrate.errors import OkmError, SourceCorrupt, SourceUnsafe
from one_kvm_migrate.model import DiskFormat, Firmware, SourceCdrom, SourceDisk, SourceVm
from one_kvm_migrate.sources import ovf_hardware as rasd
from one_kvm_migrate.sources.disk import absolute
from one_kvm_migrate.sources.ovf_files import (
    DiskRef,
    FileRef,
    Package,
    absent_disk,
    present_disk,
    read_disks,
    read_files,
    refuse_encoding,
)
from one_kvm_migrate.sources.vbox_hardware import read_hardware, schema_version
from one_kvm_migrate.sources.xmlview import attribute, each, find, text_of
from one_kvm_migrate.tools.archive import list_members, read_member
from one_kvm_migrate.tools.xmlsafe import MAX_XML_BYTES, local_name, parse_bytes, parse_file


@dataclass(slots=True)
class _Found:
    """Filled while the drives are looked at."""

    disks: list[SourceDisk] = field(default_factory=list)
    cdroms: list[SourceCdrom] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Envelope:
    """What all machines of one OVF share."""

    package: Package
    files: dict[str, FileRef]
    disks: dict[str, DiskRef]
    configuration: str | None
    kind: str

    @property
    def where(self) -> str:
        return str(self.package.path)


def inspect_ovf(path: Path) -> list[SourceVm]:
    """The machines of an OVF file whose disks lie beside it.

    Raises SourceCorrupt, SourceUnsafe (a disk outside its folder) and other SourceErrors.
    """
    package = Package(path=absolute(path), folder=path.resolve().parent)
    return _inspect(parse_file(path), package, "ovf")


def inspect_ova(path: Path) -> list[SourceVm]:
    """The machines of an OVA; its disks are read in place. Raises as ``inspect_ovf`` does."""
    path = absolute(path)
    members = {member.name: member for member in list_members(path)}
    descriptor = next((name for name in members if name.lower().endswith(".ovf")), None)
    if descriptor is None:
        raise SourceCorrupt(
            f"{path} holds no OVF file", hint="It may be a tar archive of another kind."
        )
    data = read_member(path, members[descriptor], max_bytes=MAX_XML_BYTES)
    root = parse_bytes(data, where=f"{path}/{descriptor}")
    return _inspect(root, Package(path=path, folder=path.parent, members=members), "ova")


def _inspect(root: etree._Element, package: Package, kind: str) -> list[SourceVm]:
    if local_name(root) != "Envelope":
        raise SourceCorrupt(f"{package.path} is no OVF: it begins with {local_name(root)}")
    envelope = _Envelope(
        package=package,
        files=read_files(root),
        disks=read_disks(root, str(package.path)),
        configuration=rasd.default_configuration(root),
        kind=kind,
    )
    machines = [_machine(system, envelope) for system in _systems(root)]
    if not machines:
        raise SourceCorrupt(f"{package.path} describes no machine")
    return machines


def _systems(parent: etree._Element) -> Iterator[etree._Element]:
    """Virtual systems in order; 0.9 called them Content with a type. Collections may nest."""
    for child in each(parent, "VirtualSystem", "VirtualSystemCollection", "Content"):
        kind = attribute(child, "type") or ""
        if local_name(child) == "VirtualSystem" or kind.endswith("VirtualSystem_Type"):
            yield child
        else:
            yield from _systems(child)


def _machine(system: etree._Element, envelope: _Envelope) -> SourceVm:
    items = rasd.read_items(system, envelope.configuration)
    vbox = find(system, "Machine")
    own = None
    if vbox is not None:
        own = read_hardware(vbox, schema_version(attribute(vbox, "version")), envelope.where)
    found = _Found()
    memory, found.refusals = rasd.memory_mib(items, envelope.where)
    if memory is None and own is not None:
        memory, found.refusals = own.memory_mib, []
    by_instance, warnings = rasd.controllers(items)
    found.warnings += [*rasd.unknown_items(items), *warnings]
    for item in items:
        if item.kind == rasd.HARD_DISK:
            _attach_disk(item, by_instance, envelope, found)
        elif item.kind in (rasd.CD, rasd.DVD):
            _attach_cdrom(item, by_instance, envelope, found)
    nics, nic_warnings = rasd.read_nics(items)
    if own is not None:
        nics, nic_warnings = own.nics, list(own.warnings)
        found.refusals += own.refusals
    return SourceVm(
        name=_name(system, vbox),
        uuid=plain_uuid(attribute(vbox, "uuid")),
        memory_mib=memory,
        vcpus=rasd.cpu_count(items, envelope.where),
        firmware=own.firmware if own is not None else _vmware_firmware(system),
        chipset=own.chipset if own is not None else "piix3",
        os_hint=_os_hint(system),
        source_path=envelope.where,
        source_kind=envelope.kind,
        disks=tuple(found.disks),
        cdroms=tuple(found.cdroms),
        nics=nics,
        graphics=own.graphics if own is not None else {},
        warnings=(*found.warnings, *nic_warnings),
        refusals=tuple(found.refusals),
        rtc_utc=own.rtc_utc if own is not None else None,
    )


def _name(system: etree._Element, vbox: etree._Element | None) -> str:
    candidates = (text_of(system, "Name"), attribute(system, "id"), attribute(vbox, "name"))
    return next((name for name in candidates if name), "unnamed")


def _os_hint(system: etree._Element) -> str | None:
    """What the guest runs, in the most exact words there are."""
    sections = [*each(system, "OperatingSystemSection")]
    for section in each(system, "Section"):
        if (attribute(section, "type") or "").endswith("OperatingSystemSection_Type"):
            sections.append(section)
    for section in sections:
        words = [text_of(section, "OSType"), attribute(section, "osType")]
        words += [text_of(section, "Description"), attribute(section, "id")]
        return next((word for word in words if word), None)
    return None


def _vmware_firmware(system: etree._Element) -> Firmware:
    for section in each(system, "VirtualHardwareSection"):
        for config in each(section, "Config"):
            if attribute(config, "key") == "firmware":
                value = (attribute(config, "value") or "").lower()
                return Firmware.EFI if value == "efi" else Firmware.BIOS
    return Firmware.BIOS


def _disk_of(item: rasd.Item, envelope: _Envelope) -> DiskRef | None:
    """The disk that ``ovf:/disk/ID`` (also written without scheme or with //) stands for."""
    kind, _, wanted = item.host_resource.removeprefix("ovf:").strip("/").partition("/")
    if kind == "file":
        return DiskRef(
            id=wanted,
            file_id=wanted,
            format=DiskFormat.UNKNOWN,
            capacity_bytes=None,
            has_parent=False,
        )
    return envelope.disks.get(wanted) if kind == "disk" else None


def _attach_disk(
    item: rasd.Item, by_instance: dict[str, rasd.Controller], envelope: _Envelope, found: _Found
) -> None:
    place = rasd.place(item, by_instance)
    disk = _disk_of(item, envelope)
    if disk is None:
        found.refusals.append(
            f"disk {item.name!r} names no disk of the OVF: {item.host_resource!r}"
        )
        return
    file = envelope.files.get(disk.file_id or "")
    if file is None:
        found.refusals.append(f"disk {item.name!r} has no file: it was exported without its data")
        found.disks.append(absent_disk(disk, disk.file_id or disk.id, place))
        return
    try:
        refuse_encoding(file, envelope.where)
        info, archive = envelope.package.probe(file.href)
    except SourceUnsafe:
        raise
    except OkmError as exc:
        found.refusals.append(exc.sentence())
        found.disks.append(absent_disk(disk, str(envelope.package.folder / file.href), place))
        return
    found.warnings += info.warnings
    if info.is_differencing or disk.has_parent:
        found.refusals.append(
            f"disk {info.name} holds only the changes against a parent. {safety.MERGE_HINT}"
        )
    if disk.capacity_bytes not in (None, info.capacity_bytes):
        found.warnings.append(
            f"disk {info.name} has {info.capacity_bytes} bytes, the OVF says {disk.capacity_bytes}"
        )
    found.disks.append(present_disk(info, archive, place))


def _attach_cdrom(
    item: rasd.Item, by_instance: dict[str, rasd.Controller], envelope: _Envelope, found: _Found
) -> None:
    bus, port, device = rasd.place(item, by_instance)
    disk = _disk_of(item, envelope)
    file = envelope.files.get(disk.file_id or "") if disk is not None else None
    path = _cd_image(file.href, envelope, found) if file is not None else None
    found.cdroms.append(SourceCdrom(path=path, bus=bus, port=port, device=device))


def _cd_image(href: str, envelope: _Envelope, found: _Found) -> str | None:
    """File of a CD image; None with a warning when it is not there or lies inside the OVA."""
    try:
        location, archive = envelope.package.locate(href)
    except SourceUnsafe:
        raise
    except OkmError as exc:
        found.warnings.append(f"its CD drive is left empty: {exc.message}")
        return None
    if archive is not None:
        found.warnings.append(f"the CD image {href!r} inside the OVA is left out")
        return None
    return str(location)
