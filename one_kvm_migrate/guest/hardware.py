"""Twin hardware: the KVM machine whose devices the guest already has drivers for.

Pure functions of a SourceVm. What OpenNebula's template language cannot say (PCI slots) is
kept apart: our driver's ``deploy`` reads it from the ``OKM`` attribute (templates/README.md).
"""

from dataclasses import dataclass

from one_kvm_migrate.model import DiskBus, Firmware, SourceNic, SourceVm

MACHINE = {"piix3": "pc", "ich9": "q35"}

# VirtualBox puts network adapter N at this device number of PCI bus 0, for both chipsets
# (src/VBox/Main/src-client/BusAssignmentManager.cpp); keeping it keeps the name enp0s3.
NIC_PCI_SLOT = (3, 8, 9, 10, 16, 17, 18, 19)

# One OpenNebula device prefix per bus. A virtual machine has one bus for all "sd" disks.
_PREFIX = {
    DiskBus.IDE: "hd",
    DiskBus.SATA: "sd",
    DiskBus.SCSI: "sd",
    DiskBus.SAS: "sd",
    DiskBus.NVME: "sd",
    DiskBus.USB: "sd",
    DiskBus.VIRTIO: "vd",
}
MAX_IDE_DISKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The KVM side of a machine. ``dev_prefixes`` has one entry per disk, in order."""

    machine: str
    firmware: Firmware
    dev_prefixes: tuple[str, ...]
    sd_disk_bus: str | None
    scsi_model: str | None
    nic_slots: tuple[int, ...]
    local_time: bool
    has_balloon_driver: bool
    notes: tuple[str, ...]


def twin(vm: SourceVm) -> Hardware:
    """Hardware of *vm* on KVM, with a note for each thing that could not stay the same."""
    notes: list[str] = []
    machine = MACHINE.get(vm.chipset)
    if machine is None:
        machine = "pc"
        notes.append(f"chipset {vm.chipset} becomes {machine}")
    prefixes = tuple(_PREFIX.get(disk.bus, "sd") for disk in vm.disks)
    if machine == "q35" and "hd" in prefixes:
        # A q35 has no IDE; oned would put hda and sda on the same SATA port.
        prefixes = tuple("sd" if prefix == "hd" else prefix for prefix in prefixes)
        notes.append("IDE disks become SATA: the q35 machine has no IDE controller")
    if prefixes.count("hd") > MAX_IDE_DISKS:
        notes.append(f"more than {MAX_IDE_DISKS} IDE disks: the guest gets only the first ones")
    sd_bus, scsi_model = _sd_bus(vm, prefixes, notes)
    return Hardware(
        machine=machine,
        firmware=vm.firmware,
        dev_prefixes=prefixes,
        sd_disk_bus=sd_bus,
        scsi_model=scsi_model,
        nic_slots=tuple(pci_slot(nic) for nic in vm.nics),
        # Windows keeps local time in the hardware clock; VirtualBox says so, else guess by OS.
        local_time=not vm.rtc_utc if vm.rtc_utc is not None else is_windows(vm.os_hint),
        has_balloon_driver=is_linux(vm.os_hint),
        notes=tuple(notes),
    )


def _sd_bus(
    vm: SourceVm, prefixes: tuple[str, ...], notes: list[str]
) -> tuple[str | None, str | None]:
    """(SD_DISK_BUS, SCSI controller model) for the disks named sd*, with notes on changes.

    OpenNebula has one bus for all of them. VirtualBox's LsiLogic SAS is qemu's lsisas1068
    (driver mptsas); its parallel LsiLogic 53c1030 and BusLogic exist nowhere else, and a
    guest is more likely to have an AHCI driver at boot than that of another SCSI card.
    """
    disks = [disk for disk in vm.disks if _PREFIX.get(disk.bus, "sd") == "sd"]
    if not disks:
        return ("sata", None) if "sd" in prefixes else (None, None)
    sas = disks[0].bus is DiskBus.SAS
    kept = DiskBus.SAS if sas else DiskBus.SATA
    notes += [
        f"disk on {disk.bus} port {disk.port} becomes {kept}: the guest needs a driver for it"
        for disk in disks
        if disk.bus is not kept
    ]
    return ("scsi", "lsisas1068") if sas else ("sata", None)


def pci_slot(nic: SourceNic) -> int:
    """PCI device number VirtualBox gave the adapter."""
    return NIC_PCI_SLOT[nic.slot] if nic.slot < len(NIC_PCI_SLOT) else 0


def is_windows(os_hint: str | None) -> bool:
    """True for VirtualBox's Windows guest types (``Windows10_64``, ``WindowsXP`` …)."""
    return (os_hint or "").lower().startswith("win")


_LINUX = (
    "linux",
    "debian",
    "ubuntu",
    "fedora",
    "redhat",
    "oracle",
    "opensuse",
    "suse",
    "sles",
    "arch",
    "gentoo",
    "mandriva",
    "turbo",
    "xandros",
    "centos",
    "rocky",
    "alma",
    "xubuntu",
    "lubuntu",
)


def is_linux(os_hint: str | None) -> bool:
    """True for guests whose kernel has brought virtio drivers for over ten years."""
    hint = (os_hint or "").lower()
    return hint.startswith(_LINUX) and not hint.startswith("linux22")
