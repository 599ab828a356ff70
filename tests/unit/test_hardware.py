"""Twin hardware and the template made of it."""

import pytest

from one_kvm_migrate.guest.hardware import is_linux, is_windows, twin
from one_kvm_migrate.model import DiskBus, DiskFormat, Firmware, SourceDisk, SourceNic, SourceVm
from one_kvm_migrate.opennebula.vmtemplate import TemplateOptions, attributes


def disk(bus: DiskBus, port: int = 0) -> SourceDisk:
    return SourceDisk(
        path=f"/m/{port}.vdi",
        bus=bus,
        port=port,
        device=0,
        capacity_bytes=1 << 20,
        format=DiskFormat.VDI,
        chain=(f"/m/{port}.vdi",),
    )


def nic(slot: int, mac: str | None = "08:00:27:00:00:01") -> SourceNic:
    return SourceNic(mac=mac, mode="nat", network=None, model="e1000", cable=True, slot=slot)


def machine(
    *disks: SourceDisk,
    nics: tuple[SourceNic, ...] = (),
    chipset: str = "piix3",
    os_hint: str | None = "Debian_64",
    firmware: Firmware = Firmware.BIOS,
    rtc_utc: bool | None = None,
) -> SourceVm:
    return SourceVm(
        name="web",
        uuid="11111111-2222-3333-4444-555555555555",
        memory_mib=512,
        vcpus=2,
        firmware=firmware,
        chipset=chipset,
        os_hint=os_hint,
        source_path="/m/web.vbox",
        source_kind="vbox",
        disks=disks,
        nics=nics,
        rtc_utc=rtc_utc,
    )


def test_the_same_chipset_bus_and_slots() -> None:
    hardware = twin(machine(disk(DiskBus.SATA), nics=(nic(0), nic(2))))
    assert hardware.machine == "pc"
    assert hardware.dev_prefixes == ("sd",)
    assert (hardware.sd_disk_bus, hardware.scsi_model) == ("sata", None)
    assert hardware.nic_slots == (3, 9)
    assert hardware.notes == ()
    q35 = twin(machine(disk(DiskBus.IDE), disk(DiskBus.SATA, 1), chipset="ich9"))
    assert (q35.machine, q35.dev_prefixes, q35.sd_disk_bus) == ("q35", ("sd", "sd"), "sata")
    assert "no IDE controller" in q35.notes[0]


def test_sas_keeps_its_controller_and_scsi_says_what_changes() -> None:
    sas = twin(machine(disk(DiskBus.SAS)))
    assert (sas.sd_disk_bus, sas.scsi_model, sas.notes) == ("scsi", "lsisas1068", ())
    scsi = twin(machine(disk(DiskBus.SCSI)))
    assert (scsi.sd_disk_bus, scsi.scsi_model) == ("sata", None)
    assert "becomes sata" in scsi.notes[0]
    mixed = twin(machine(disk(DiskBus.SATA), disk(DiskBus.NVME, 1), disk(DiskBus.VIRTIO, 2)))
    assert mixed.dev_prefixes == ("sd", "sd", "vd")
    assert len(mixed.notes) == 1


@pytest.mark.parametrize(
    ("rtc_utc", "os_hint", "local"),
    [
        (True, "Windows10_64", False),
        (False, "Debian", True),
        (None, "Windows7", True),
        (None, None, False),
    ],
)
def test_clock(rtc_utc: bool | None, os_hint: str | None, local: bool) -> None:
    assert twin(machine(disk(DiskBus.IDE), rtc_utc=rtc_utc, os_hint=os_hint)).local_time is local


def test_os_families() -> None:
    assert is_linux("Ubuntu22_LTS_64") and is_linux("Debian") and is_linux("Linux26_64")
    assert not is_linux("Linux22") and not is_linux("Windows10") and not is_linux(None)
    assert is_windows("WindowsXP") and not is_windows("Debian") and not is_windows(None)


def template(vm: SourceVm, network: int | None = 5, **options: object) -> dict[str, object]:
    made = attributes(
        vm,
        twin(vm),
        name="web",
        image_ids=tuple(range(10, 10 + len(vm.disks))),
        network_id=network,
        options=TemplateOptions(**options),  # type: ignore[arg-type]
    )
    return dict(made)


def test_template_of_a_linux_guest() -> None:
    made = template(machine(disk(DiskBus.SATA), nics=(nic(0), nic(1, None))))
    assert (made["CPU"], made["VCPU"], made["VCPU_MAX"]) == ("2", "2", "4")
    assert (made["MEMORY"], made["MEMORY_MAX"]) == ("512", "1024")
    assert made["MEMORY_RESIZE_MODE"] == "BALLOONING"
    assert made["OS"] == {"ARCH": "x86_64", "MACHINE": "pc", "BOOT": "disk0", "SD_DISK_BUS": "sata"}
    assert made["DISK"] == {"IMAGE_ID": "10", "DEV_PREFIX": "sd", "DRIVER": "qcow2"}
    assert made["GRAPHICS"] == {"TYPE": "VNC", "LISTEN": "127.0.0.1", "RANDOM_PASSWD": "YES"}
    assert made["NIC"] == {"NETWORK_ID": "5", "MODEL": "e1000"}
    assert made["OKM"] == {"SERIAL": "YES", "HOTPLUG_VCPUS": "YES", "NIC_SLOTS": "0:3,1:8"}
    assert made["VBOX"]["UUID"].startswith("11111111")  # type: ignore[index]


def test_template_of_a_windows_efi_guest() -> None:
    vm = machine(disk(DiskBus.SATA), os_hint="Windows10_64", firmware=Firmware.EFI, chipset="ich9")
    made = template(vm, network=None, vnc_listen="10.0.0.1", vcpu_max=2, memory_max_mib=100)
    assert made["MEMORY_RESIZE_MODE"] == "HOTPLUG"
    assert made["MEMORY_MAX"] == "512"
    assert made["OS"]["FIRMWARE"] == "UEFI"  # type: ignore[index]
    assert made["GRAPHICS"]["LISTEN"] == "10.0.0.1"  # type: ignore[index]
    assert made["FEATURES"]["LOCALTIME"] == "YES"  # type: ignore[index]
    assert "NIC" not in made
    assert "NIC_SLOTS" not in made["OKM"]  # type: ignore[operator]


def test_macs_are_kept_or_not() -> None:
    vm = machine(disk(DiskBus.IDE), nics=(nic(0),))
    assert template(vm)["NIC"] == {"NETWORK_ID": "5", "MODEL": "e1000", "MAC": "08:00:27:00:00:01"}
    assert "MAC" not in template(vm, keep_mac=False)["NIC"]  # type: ignore[operator]
