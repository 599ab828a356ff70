"""A VirtualBox machine's hardware, from its settings of any schema from 1.3 to 1.22.

Defaults for what a file does not say are VirtualBox's own: constructors of ``Hardware``,
``NetworkAdapter`` and ``VRDESettings`` in ``src/VBox/Main/xml/Settings.cpp``. They depend on
the schema, because a setting at its default is not written since 1.16 (VirtualBox 5.1).
Memory has no default there: a file without it is refused.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from one_kvm_migrate.disks.identity import plain_uuid
from one_kvm_migrate.errors import SourceCorrupt
from one_kvm_migrate.model import DiskBus, Firmware, SourceNic
from one_kvm_migrate.sources.xmlview import attribute, each, find, flag, required, whole
from one_kvm_migrate.tools.xmlsafe import local_name

Version = tuple[int, int]

NO_DEFAULTS_WRITTEN: Version = (1, 16)
PLATFORM_APART: Version = (1, 20)
LATEST: Version = (1, 22)

NIC_MODELS = {
    "Am79C970A": "pcnet",
    "Am79C973": "pcnet",
    "Am79C960": "pcnet",
    "82540EM": "e1000",
    "82543GC": "e1000",
    "82545EM": "e1000",
    "82583V": "e1000e",
    "82574": "e1000e",
    "virtio": "virtio",
    "NE1000": "ne2k_pci",
    "NE2000": "ne2k_pci",
}
NIC_MODES = {
    "NAT": "nat",
    "HostInterface": "bridged",
    "BridgedInterface": "bridged",
    "InternalNetwork": "internal",
    "HostOnlyInterface": "hostonly",
    "HostOnlyNetwork": "hostonly",
    "NATNetwork": "natnetwork",
    "GenericInterface": "generic",
    "VDE": "generic",
    "CloudNetwork": "cloud",
}
BUSES = {
    "AHCI": DiskBus.SATA,
    "PIIX3": DiskBus.IDE,
    "PIIX4": DiskBus.IDE,
    "ICH6": DiskBus.IDE,
    "LsiLogic": DiskBus.SCSI,
    "BusLogic": DiskBus.SCSI,
    "LsiLogicSas": DiskBus.SAS,
    "NVMe": DiskBus.NVME,
    "VirtioSCSI": DiskBus.VIRTIO,
    "USB": DiskBus.USB,
    "I82078": DiskBus.FLOPPY,
}
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})")
_MAC = re.compile(r"[0-9A-Fa-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Something in a drive bay. ``medium`` is a UUID; None for an empty or a host's drive."""

    kind: str
    bus: DiskBus
    port: int
    device: int
    medium: str | None
    host_drive: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The part of a machine that needs no look at its disks."""

    memory_mib: int
    vcpus: int
    firmware: Firmware
    chipset: str
    rtc_utc: bool
    nics: tuple[SourceNic, ...]
    graphics: dict[str, Any]
    warnings: tuple[str, ...] = ()
    refusals: tuple[str, ...] = field(default=())


def schema_version(text: str | None) -> Version:
    """``1.19-linux`` as (1, 19); a file that does not say is taken for a recent one."""
    match = _VERSION.match(text or "")
    return (int(match[1]), int(match[2])) if match else LATEST


def read_hardware(machine: etree._Element, version: Version, where: str) -> Hardware:
    """Hardware of the current state of *machine*; *where* names it in errors.

    Raises SourceCorrupt when what VirtualBox requires is missing or no number.
    """
    hardware = find(machine, "Hardware")
    if hardware is None:
        raise SourceCorrupt(f"{where} has no Hardware section", hint="Restore it from a backup.")
    # Since 1.20 CPUs, chipset and clock are in a Platform section of their own.
    platform = find(machine, "Platform") if version >= PLATFORM_APART else hardware
    memory = attribute(find(hardware, "Memory"), "RAMSize")
    if memory is None:
        raise SourceCorrupt(f"{where} does not say how much memory the machine has")
    cpu = find(platform, "CPU")
    count = attribute(cpu, "count") or attribute(find(cpu, "CPUCount"), "count")
    refusals = []
    architecture = attribute(find(machine, "Platform"), "architecture") or "x86"
    if architecture.lower() != "x86":
        refusals.append(f"it is a machine for {architecture} processors, only x86 can be moved")
    nics, warnings = read_nics(hardware, version, where)
    firmware = (attribute(find(hardware, "Firmware"), "type") or "BIOS").upper()
    chipset = (attribute(find(platform, "Chipset"), "type") or "PIIX3").lower()
    return Hardware(
        memory_mib=whole(memory, f"the memory size in {where}", largest=1 << 24),
        vcpus=whole(count, f"the CPU count in {where}", default=1, largest=1024) or 1,
        # "2" is what some development versions wrote for EFI.
        firmware=Firmware.EFI if firmware.startswith("EFI") or firmware == "2" else Firmware.BIOS,
        chipset=chipset if chipset in ("piix3", "ich9") else "piix3",
        rtc_utc=attribute(find(platform, "RTC"), "localOrUTC") == "UTC",
        nics=nics,
        graphics=read_graphics(hardware, version, where),
        warnings=(*warnings, *_left_out(hardware)),
        refusals=tuple(refusals),
    )


def _left_out(hardware: etree._Element) -> list[str]:
    warnings = []
    tpm = attribute(find(hardware, "TrustedPlatformModule"), "type") or "None"
    if tpm != "None":
        warnings.append(f"its TPM ({tpm}) is left out: what the guest sealed with it is lost")
    passed_through = sum(1 for _ in each(find(hardware, "HostPci", "Devices"), "Device"))
    if passed_through:
        warnings.append(f"{passed_through} PCI device(s) of its host are left out")
    return warnings


def read_nics(
    hardware: etree._Element, version: Version, where: str
) -> tuple[tuple[SourceNic, ...], list[str]]:
    """The enabled adapters by slot, and warnings about what cannot be kept."""
    nics: dict[int, SourceNic] = {}
    warnings: list[str] = []
    for adapter in each(find(hardware, "Network"), "Adapter"):
        if not flag(adapter, "enabled", False):
            continue
        slot = whole(required(adapter, "slot", where), f"an adapter slot in {where}")
        recent = version >= NO_DEFAULTS_WRITTEN
        kind = attribute(adapter, "type") or ("Am79C973" if recent else "Am79C970A")
        model = NIC_MODELS.get(kind)
        if model is None:
            warnings.append(f"network adapter {slot} is a {kind}, which becomes an e1000")
        mode, network = _network(adapter)
        mac = attribute(adapter, "MACAddress") or ""
        if not _MAC.fullmatch(mac):
            warnings.append(f"network adapter {slot} has no valid MAC address: it gets a new one")
        nics[slot] = SourceNic(
            mac=_colons(mac) if _MAC.fullmatch(mac) else None,
            mode=mode,
            network=network,
            model=model or "e1000",
            cable=flag(adapter, "cable", recent),
            slot=slot,
        )
    return tuple(nics[slot] for slot in sorted(nics)), warnings


def _colons(mac: str) -> str:
    return ":".join(mac[at : at + 2] for at in range(0, 12, 2)).lower()


def _network(adapter: etree._Element) -> tuple[str, str | None]:
    """How an adapter is attached; settings kept for other modes are in DisabledModes."""
    for child in each(adapter, *NIC_MODES):
        name = attribute(child, "name", "network", "driver")
        return NIC_MODES[local_name(child)], name or None
    return "none", None


def read_graphics(hardware: etree._Element, version: Version, where: str) -> dict[str, Any]:
    """The remote display server and the screen, as plain data."""
    remote = find(hardware, "RemoteDisplay")
    properties = {
        attribute(item, "name"): attribute(item, "value")
        for item in each(find(remote, "VRDEProperties"), "Property")
    }
    port = properties.get("TCP/Ports") or attribute(remote, "port") or "3389"
    display = find(hardware, "Display")
    vram = attribute(display, "VRAMSize")
    monitors = attribute(display, "monitorCount", "MonitorCount")
    return {
        "enabled": flag(remote, "enabled", version < NO_DEFAULTS_WRITTEN),
        # A range such as 5000-5010 stays text.
        "port": int(port) if port.isascii() and port.isdigit() else port,
        "address": properties.get("TCP/Address") or attribute(remote, "netAddress") or None,
        "auth": (attribute(remote, "authType") or "Null").lower(),
        "vram_mib": whole(vram, f"the video memory in {where}", default=8),
        "controller": attribute(display, "controller") or "VBoxVGA",
        "monitors": whole(monitors, f"the number of monitors in {where}", default=1),
    }


def read_attachments(machine: etree._Element, where: str) -> list[Attachment]:
    """Everything attached to *machine* now: by controller as written, then port, then device.

    Raises SourceCorrupt when a place is missing or no number.
    """
    found: list[Attachment] = []
    # 1.7 and later; recent versions also write the section below Hardware.
    for section in (
        find(machine, "Hardware", "StorageControllers"),
        find(machine, "StorageControllers"),
    ):
        for controller in each(section, "StorageController"):
            kind = required(controller, "type", where)
            if kind not in BUSES:
                raise SourceCorrupt(f"{where} has a storage controller of unknown type {kind!r}")
            devices = [
                _attachment(device, BUSES[kind], where)
                for device in each(controller, "AttachedDevice")
            ]
            found += sorted(devices, key=lambda item: (item.port, item.device))
    return found + _old_hard_disks(machine, where) + _old_dvd(machine)


def _attachment(device: etree._Element, bus: DiskBus, where: str) -> Attachment:
    image = find(device, "Image")
    return Attachment(
        kind=attribute(device, "type") or "HardDisk",
        bus=bus,
        port=whole(required(device, "port", where), f"a port in {where}"),
        device=whole(required(device, "device", where), f"a device in {where}"),
        medium=plain_uuid(attribute(image, "uuid")),
        host_drive=attribute(find(device, "HostDrive"), "src"),
    )


def _old_hard_disks(machine: etree._Element, where: str) -> list[Attachment]:
    """Before 1.7: a list of its own, with channels instead of ports."""
    buses = {"IDE": DiskBus.IDE, "SATA": DiskBus.SATA, "SCSI": DiskBus.SCSI}
    found = []
    for item in each(find(machine, "HardDiskAttachments"), "HardDiskAttachment"):
        bus = required(item, "bus", where).upper()
        if bus not in buses:
            raise SourceCorrupt(f"{where} attaches a disk to the unknown bus {bus!r}")
        attachment = Attachment(
            kind="HardDisk",
            bus=buses[bus],
            port=whole(required(item, "channel", where), f"a channel in {where}"),
            device=whole(required(item, "device", where), f"a device in {where}"),
            medium=plain_uuid(attribute(item, "hardDisk")),
        )
        found.append(attachment)
    order = list(buses.values())
    return sorted(found, key=lambda item: (order.index(item.bus), item.port, item.device))


def _old_dvd(machine: etree._Element) -> list[Attachment]:
    """Before 1.9: the one CD drive was always the second IDE master."""
    drive = find(machine, "Hardware", "DVDDrive")
    if drive is None:
        return []
    return [
        Attachment(
            kind="DVD",
            bus=DiskBus.IDE,
            port=1,
            device=0,
            medium=plain_uuid(attribute(find(drive, "Image"), "uuid")),
            host_drive=attribute(find(drive, "HostDrive"), "src"),
        )
    ]
