"""What crosses the borders between modules: frozen data, with units in the names.

``None`` always means "the source does not say", never "no".
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Firmware(StrEnum):
    """How the guest is started."""

    BIOS = "bios"
    EFI = "efi"


class DiskBus(StrEnum):
    """Controller family a disk hangs on."""

    IDE = "ide"
    SATA = "sata"
    SCSI = "scsi"
    SAS = "sas"
    NVME = "nvme"
    VIRTIO = "virtio"
    USB = "usb"
    FLOPPY = "floppy"


class DiskFormat(StrEnum):
    """Container format of a disk file, by the names VirtualBox and qemu users know."""

    VDI = "vdi"
    VMDK = "vmdk"
    VHD = "vhd"
    RAW = "raw"
    QCOW2 = "qcow2"
    VHDX = "vhdx"
    PARALLELS = "parallels"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveMember:
    """A disk that lies uncompressed inside an OVA: read in place, never unpacked."""

    path: str
    member: str
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDisk:
    """One hard disk in attachment order.

    ``path`` is the leaf (current state) as an absolute path; for a disk inside an OVA it is
    ``<ova>/<member>`` and ``archive`` says where its bytes lie. ``chain`` holds the absolute
    paths from root to leaf and ends with ``path``. ``capacity_bytes`` is what the guest sees.
    """

    path: str
    bus: DiskBus
    port: int
    device: int
    capacity_bytes: int | None
    format: DiskFormat
    chain: tuple[str, ...]
    uuid: str | None = None
    archive: ArchiveMember | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCdrom:
    """A CD/DVD drive; ``path`` is None when it is empty."""

    path: str | None
    bus: DiskBus
    port: int
    device: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceNic:
    """A network adapter. ``mac`` is lower case with colons; ``model`` is qemu's name."""

    mac: str | None
    mode: str
    network: str | None
    model: str
    cable: bool
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceVm:
    """A machine as its source describes it, before anything is decided about it."""

    name: str
    uuid: str | None
    memory_mib: int | None
    vcpus: int
    firmware: Firmware
    chipset: str
    os_hint: str | None
    source_path: str
    source_kind: str
    disks: tuple[SourceDisk, ...] = ()
    cdroms: tuple[SourceCdrom, ...] = ()
    nics: tuple[SourceNic, ...] = ()
    graphics: dict[str, Any] = field(default_factory=dict)
    snapshots: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    rtc_utc: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data; the keys are an interface of ``inspect --json``."""
        return asdict(self)
