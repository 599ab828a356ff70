"""The KVM template of a migrated machine: a pure function of what was found and decided."""

from dataclasses import dataclass

from one_kvm_migrate.guest.hardware import Hardware
from one_kvm_migrate.model import Firmware, SourceNic, SourceVm
from one_kvm_migrate.opennebula.template import Attributes

DEFAULT_MEMORY_MIB = 1024
# Head-room for `onevm resize` on the running VM, without a reboot.
HEAD_ROOM = 2
VIDEO_VRAM_KIB = 16384


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateOptions:
    """What the administrator decides. ``None`` for a maximum means HEAD_ROOM times the size."""

    vnc_listen: str = "127.0.0.1"
    vcpu_max: int | None = None
    memory_max_mib: int | None = None
    keep_mac: bool = True


def attributes(
    vm: SourceVm,
    hardware: Hardware,
    *,
    name: str,
    image_ids: tuple[int, ...],
    network_id: int | None,
    options: TemplateOptions,
) -> Attributes:
    """Template attributes of *vm*, without run markers; ``image_ids`` in disk order."""
    result: list[tuple[str, str | dict[str, str]]] = [("NAME", name)]
    result += _capacity(vm, hardware, options)
    result.append(("OS", _os(hardware)))
    for image_id, prefix in zip(image_ids, hardware.dev_prefixes, strict=True):
        # DRIVER said here: a datastore without one may leave it to the host's default, raw.
        disk = {"IMAGE_ID": str(image_id), "DEV_PREFIX": prefix, "DRIVER": "qcow2"}
        result.append(("DISK", disk))
    if network_id is not None:
        result += [("NIC", _nic(nic, network_id, options)) for nic in vm.nics]
    result += _devices(hardware, options)
    result.append(("OKM", _for_our_driver(vm, hardware, network_id)))
    result.append(("VBOX", _provenance(vm)))
    return result


def _capacity(
    vm: SourceVm, hardware: Hardware, options: TemplateOptions
) -> list[tuple[str, str | dict[str, str]]]:
    memory = vm.memory_mib or DEFAULT_MEMORY_MIB
    vcpu_max = max(vm.vcpus, options.vcpu_max or vm.vcpus * HEAD_ROOM)
    memory_max = max(memory, options.memory_max_mib or memory * HEAD_ROOM)
    # Ballooning shows the guest MEMORY_MAX first and takes it back through a driver; a guest
    # without that driver would keep it all, so it gets DIMM slots instead.
    mode = "BALLOONING" if hardware.has_balloon_driver else "HOTPLUG"
    return [
        ("CPU", str(vm.vcpus)),
        ("VCPU", str(vm.vcpus)),
        ("VCPU_MAX", str(vcpu_max)),
        ("MEMORY", str(memory)),
        ("MEMORY_MAX", str(memory_max)),
        ("MEMORY_RESIZE_MODE", mode),
        ("HYPERVISOR", "kvm"),
        ("SCHED_REQUIREMENTS", 'HYPERVISOR="kvm"'),
    ]


def _os(hardware: Hardware) -> dict[str, str]:
    values = {"ARCH": "x86_64", "MACHINE": hardware.machine, "BOOT": "disk0"}
    if hardware.sd_disk_bus:
        values["SD_DISK_BUS"] = hardware.sd_disk_bus
    if hardware.firmware is Firmware.EFI:
        values |= {"FIRMWARE": "UEFI", "FIRMWARE_SECURE": "NO"}
    return values


def _nic(nic: SourceNic, network_id: int, options: TemplateOptions) -> dict[str, str]:
    values = {"NETWORK_ID": str(network_id), "MODEL": nic.model}
    if options.keep_mac and nic.mac:
        values["MAC"] = nic.mac
    return values


def _devices(
    hardware: Hardware, options: TemplateOptions
) -> list[tuple[str, str | dict[str, str]]]:
    return [
        ("GRAPHICS", {"TYPE": "VNC", "LISTEN": options.vnc_listen, "RANDOM_PASSWD": "YES"}),
        ("VIDEO", {"TYPE": "vga", "VRAM": str(VIDEO_VRAM_KIB)}),
        ("INPUT", {"TYPE": "tablet", "BUS": "usb"}),
        (
            "FEATURES",
            {
                "ACPI": "YES",
                "APIC": "YES",
                "PAE": "YES",
                "GUEST_AGENT": "YES",
                "LOCALTIME": "YES" if hardware.local_time else "NO",
            },
        ),
    ]


def _for_our_driver(vm: SourceVm, hardware: Hardware, network_id: int | None) -> dict[str, str]:
    values = {"SERIAL": "YES", "HOTPLUG_VCPUS": "YES"}
    if hardware.scsi_model:
        values["SCSI_MODEL"] = hardware.scsi_model
    if network_id is not None and vm.nics and hardware.machine == "pc":
        # q35 numbers its buses differently: slots can only be kept on the flat pc bus.
        values["NIC_SLOTS"] = ",".join(
            f"{number}:{slot}" for number, slot in enumerate(hardware.nic_slots)
        )
    return values


def _provenance(vm: SourceVm) -> dict[str, str]:
    values = {
        "NAME": vm.name,
        "CHIPSET": vm.chipset,
        "FIRMWARE": str(vm.firmware),
        "SOURCE": vm.source_path,
    }
    if vm.uuid:
        values["UUID"] = vm.uuid
    if vm.os_hint:
        values["OS_TYPE"] = vm.os_hint
    return values
