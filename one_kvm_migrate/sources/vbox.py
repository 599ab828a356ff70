"""VirtualBox machine files (``.vbox``; ``.xml`` before 4.0): the state now, not a snapshot's."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lxml import etree

from one_kvm_migrate.disks import safety
from one_kvm_migrate.disks.identity import plain_uuid
from one_kvm_migrate.disks.probe import DiskInfo, probe
from one_kvm_migrate.errors import OkmError, SourceCorrupt, SourceUnsupported
from one_kvm_migrate.model import DiskBus, DiskFormat, SourceCdrom, SourceDisk, SourceVm
from one_kvm_migrate.sources.disk import Place, absolute, describe
from one_kvm_migrate.sources.vbox_hardware import (
    Attachment,
    read_attachments,
    read_hardware,
    schema_version,
)
from one_kvm_migrate.sources.vbox_media import Media, Medium, locate
from one_kvm_migrate.sources.xmlview import attribute, each, find, flag, required
from one_kvm_migrate.tools.xmlsafe import local_name, parse_file


@dataclass(slots=True)
class _Found:
    """Filled while the attachments are looked at."""

    disks: list[SourceDisk] = field(default_factory=list)
    cdroms: list[SourceCdrom] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def inspect_vbox(path: Path) -> SourceVm:
    """The machine that the file *path* describes.

    What makes it impossible to move this machine (a missing disk, a saved state, encryption)
    is in ``refusals``. Raises SourceError and its kinds when the file itself is unusable.
    """
    root = parse_file(path)
    machine = _machine_element(root, path)
    version = schema_version(attribute(root, "version"))
    where = str(path)
    folder = path.resolve().parent
    hardware = read_hardware(machine, version, where)
    media = Media(machine, folder)
    found = _Found(warnings=list(hardware.warnings), refusals=list(hardware.refusals))
    _state(machine, found)
    for attachment in read_attachments(machine, where):
        _attach(attachment, media, folder, found)
    snapshots = read_snapshots(machine)
    if snapshots:
        found.warnings.append(f"its {len(snapshots)} snapshot(s) stay behind: only now is moved")
    return SourceVm(
        name=required(machine, "name", where) or path.stem,
        uuid=plain_uuid(attribute(machine, "uuid")),
        memory_mib=hardware.memory_mib,
        vcpus=hardware.vcpus,
        firmware=hardware.firmware,
        chipset=hardware.chipset,
        os_hint=attribute(machine, "OSType") or None,
        source_path=str(absolute(path)),
        source_kind="vbox",
        disks=tuple(found.disks),
        cdroms=tuple(found.cdroms),
        nics=hardware.nics,
        graphics=hardware.graphics,
        snapshots=tuple(snapshots),
        warnings=tuple(found.warnings),
        refusals=tuple(found.refusals),
        rtc_utc=hardware.rtc_utc,
    )


def _machine_element(root: etree._Element, path: Path) -> etree._Element:
    if find(root, "MachineEncrypted") is not None:
        raise SourceUnsupported(
            f"{path} is encrypted as a whole",
            hint="Decrypt the machine in VirtualBox (VBoxManage encryptvm) and try again.",
        )
    if find(root, "Global") is not None:
        raise SourceUnsupported(
            f"{path} is VirtualBox's list of all machines", hint="Give the .vbox files it names."
        )
    machine = find(root, "Machine")
    if local_name(root) != "VirtualBox" or machine is None:
        raise SourceCorrupt(f"{path} describes no VirtualBox machine")
    return machine


def _state(machine: etree._Element, found: _Found) -> None:
    if attribute(machine, "stateFile"):
        found.refusals.append(
            "it is saved, not shut down. "
            "Start it in VirtualBox and shut it down, or discard the saved state"
        )
    if flag(machine, "aborted", False):
        found.warnings.append("it was not shut down properly: its file systems may need a check")


def read_snapshots(machine: etree._Element) -> list[dict[str, Any]]:
    """All snapshots as plain data, parents before children, in the file's order."""
    current = plain_uuid(attribute(machine, "currentSnapshot"))

    def walk(holder: etree._Element, parent: str | None) -> Iterator[dict[str, Any]]:
        todo = [(snapshot, parent) for snapshot in each(holder, "Snapshot")]
        while todo:
            snapshot, above = todo.pop(0)
            uuid = plain_uuid(attribute(snapshot, "uuid"))
            yield {
                "uuid": uuid,
                "name": attribute(snapshot, "name") or "",
                "taken": attribute(snapshot, "timeStamp"),
                "parent": above,
                "current": uuid is not None and uuid == current,
                "online": bool(attribute(snapshot, "stateFile")),
            }
            children = each(find(snapshot, "Snapshots"), "Snapshot")
            todo = [(child, uuid) for child in children] + todo

    return list(walk(machine, None))


def _attach(attachment: Attachment, media: Media, folder: Path, found: _Found) -> None:
    if attachment.bus is DiskBus.FLOPPY or attachment.kind == "Floppy":
        if attachment.medium is not None:
            found.warnings.append("its floppy disk is left out")
    elif attachment.kind == "DVD":
        _attach_cdrom(attachment, media, folder, found)
    elif attachment.kind == "HardDisk":
        _attach_disk(attachment, media, folder, found)
    else:
        found.warnings.append(f"a device of the unknown kind {attachment.kind!r} is left out")


def _attach_cdrom(attachment: Attachment, media: Media, folder: Path, found: _Found) -> None:
    path: Path | None = None
    if attachment.host_drive:
        found.warnings.append(f"its CD drive uses its host's {attachment.host_drive}: left empty")
    if attachment.medium is not None:
        medium = media.get(attachment.medium)
        path = locate(medium, folder)[0] if medium is not None else None
        if path is None or not os.path.isfile(path):
            found.warnings.append(
                f"its CD image {path or attachment.medium} is not there: left empty"
            )
            path = None
    found.cdroms.append(
        SourceCdrom(
            path=str(path) if path is not None else None,
            bus=attachment.bus,
            port=attachment.port,
            device=attachment.device,
        )
    )


def _attach_disk(attachment: Attachment, media: Media, folder: Path, found: _Found) -> None:
    uuid = attachment.medium
    chain = media.chain(uuid) if uuid is not None else []
    if not chain:
        place = f"{attachment.bus} port {attachment.port} device {attachment.device}"
        found.refusals.append(
            f"disk {uuid or 'without a UUID'} on {place} is in no media registry. "
            "Put VirtualBox.xml beside the machine file, or attach the disk again in VirtualBox"
        )
        return
    located = [locate(medium, folder) for medium in chain]
    found.warnings += [warning for _, warning in located if warning]
    paths = tuple(str(path) for path, _ in located)
    leaf = chain[-1]
    found.refusals += _chain_refusals(chain, paths)
    info = None
    if leaf.format_name.lower() != "iscsi":
        info = _probe(located[-1][0], found)
    if info is not None:
        _compare(leaf, info, len(chain) > 1, found)
    found.disks.append(_disk(attachment, leaf, paths, info))


def _chain_refusals(chain: list[Medium], paths: tuple[str, ...]) -> list[str]:
    refusals = []
    leaf = chain[-1]
    if leaf.format_name.lower() == "iscsi":
        refusals.append(f"disk {leaf.location} is an iSCSI target, not a file")
        return refusals
    if any(medium.encrypted for medium in chain):
        refusals.append(f"disk {paths[-1]} is encrypted. Decrypt it in VirtualBox and try again")
    if len(chain) > 1:
        refusals.append(
            f"disk {paths[-1]} holds only the changes against {paths[-2]} "
            f"(a snapshot or linked clone). {safety.MERGE_HINT}"
        )
    missing = [path for path in paths[:-1] if not os.path.isfile(path)]
    refusals += [f"the parent disk {path} does not exist. Bring it back" for path in missing]
    return refusals


def _probe(path: Path, found: _Found) -> DiskInfo | None:
    """The disk at *path*; None with a refusal when it cannot be used."""
    try:
        info = probe(path)
        safety.check(info, allow_differencing=True)
    except OkmError as exc:
        found.refusals.append(exc.sentence())
        return None
    found.warnings += info.warnings
    return info


def _compare(leaf: Medium, info: DiskInfo, registered_parent: bool, found: _Found) -> None:
    """What the registry and the file's own header disagree on."""
    if info.is_differencing and not registered_parent:
        parent = f" {info.parent_uuid}" if info.parent_uuid else ""
        found.refusals.append(
            f"disk {info.path} holds only the changes against a parent{parent} that is in no "
            f"media registry. {safety.MERGE_HINT}"
        )
    if info.uuid is not None and info.uuid != leaf.uuid:
        found.warnings.append(
            f"disk {info.path} has the UUID {info.uuid}, the machine file says {leaf.uuid}"
        )
    if leaf.kind not in ("Normal", "Writethrough"):
        found.warnings.append(
            f"disk {info.path} is of the type {leaf.kind}: it becomes a normal one"
        )


def _disk(
    attachment: Attachment, leaf: Medium, paths: tuple[str, ...], info: DiskInfo | None
) -> SourceDisk:
    place = Place(bus=attachment.bus, port=attachment.port, device=attachment.device)
    if info is not None:
        return describe(info, place, chain=paths)
    is_file = leaf.format is not DiskFormat.UNKNOWN
    return SourceDisk(
        path=paths[-1] if is_file else leaf.location,
        bus=attachment.bus,
        port=attachment.port,
        device=attachment.device,
        capacity_bytes=None,
        format=leaf.format,
        chain=paths if is_file else (leaf.location,),
        uuid=leaf.uuid,
    )
