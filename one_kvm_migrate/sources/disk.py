"""Disks as sources: described for a machine, or moved on their own."""

import os
from dataclasses import dataclass
from pathlib import Path

from one_kvm_migrate.disks import safety
from one_kvm_migrate.disks.probe import DiskInfo, probe
from one_kvm_migrate.model import ArchiveMember, DiskBus, Firmware, SourceDisk, SourceVm

DEFAULT_VCPUS = 1
DEFAULT_MEMORY_MIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a disk is attached."""

    bus: DiskBus = DiskBus.SATA
    port: int = 0
    device: int = 0


def open_disk(path: Path) -> SourceDisk:
    """The disk in the file *path*, fit to be converted on its own.

    Raises SourceError and its kinds: missing, unknown, damaged, reaching outside itself,
    or a differencing disk.
    """
    info = probe(absolute(path))
    safety.check(info)
    return describe(info, Place())


def inspect_disk(path: Path) -> SourceVm:
    """A bare disk as a machine named after the file; raises as ``open_disk`` does."""
    info = probe(absolute(path))
    safety.check(info)
    defaults = (
        f"{path.name} is only a disk: {DEFAULT_VCPUS} CPU, {DEFAULT_MEMORY_MIB} MiB of memory, "
        "BIOS and a SATA controller are assumed, and no network"
    )
    return SourceVm(
        name=path.stem,
        uuid=None,
        memory_mib=DEFAULT_MEMORY_MIB,
        vcpus=DEFAULT_VCPUS,
        firmware=Firmware.BIOS,
        chipset="piix3",
        os_hint=None,
        source_path=info.path,
        source_kind="disk",
        disks=(describe(info, Place()),),
        warnings=(defaults, *info.warnings),
    )


def describe(
    info: DiskInfo,
    place: Place,
    *,
    chain: tuple[str, ...] = (),
    archive: ArchiveMember | None = None,
) -> SourceDisk:
    """*info* as a disk of a machine. *chain* ends with the disk itself; empty means only it."""
    path = info.path if archive is None else f"{archive.path}/{archive.member}"
    return SourceDisk(
        path=path,
        bus=place.bus,
        port=place.port,
        device=place.device,
        capacity_bytes=info.capacity_bytes,
        format=info.format,
        chain=chain or (path,),
        uuid=info.uuid,
        archive=archive,
    )


def absolute(path: Path) -> Path:
    """*path* from the root, without resolving links: names stay as the user knows them."""
    return Path(os.path.abspath(path))
