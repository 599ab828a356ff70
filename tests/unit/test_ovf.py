"""OVF of VirtualBox, VMware and version 2.0, beside their disks and inside OVAs."""

import subprocess
import tarfile
from pathlib import Path

import pytest

from one_kvm_migrate.errors import SourceCorrupt, SourceUnsafe, SourceUnsupported
from one_kvm_migrate.model import DiskBus, DiskFormat, Firmware
from one_kvm_migrate.sources.ovf import inspect_ova, inspect_ovf
from one_kvm_migrate.sources.ovf_hardware import unit_bytes
from one_kvm_migrate.units import GiB, MiB

DATA = Path(__file__).parents[1] / "data" / "ovf"


def vmdk(path: Path, size: str = "8M") -> Path:
    options = ["-f", "vmdk", "-o", "subformat=streamOptimized"]
    argv = ["qemu-img", "create", *options, str(path), size]
    subprocess.run(argv, check=True, timeout=60, capture_output=True)
    return path


def ovf(folder: Path, name: str, **replace: str) -> Path:
    text = (DATA / name).read_text()
    for old, new in replace.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return path


def mail(folder: Path, **replace: str) -> Path:
    vmdk(folder / "mail-disk001.vmdk")
    vmdk(folder / "mail-disk002.vmdk", "16M")
    return ovf(folder, "virtualbox.ovf", **replace)


def pack(ova: Path, *files: Path) -> Path:
    with tarfile.open(ova, "w") as archive:
        for file in files:
            archive.add(file, arcname=file.name)
    return ova


def test_virtualbox_export(tmp_path: Path) -> None:
    (vm,) = inspect_ovf(mail(tmp_path))
    assert (vm.name, vm.vcpus, vm.memory_mib, vm.os_hint) == ("mail", 2, 1536, "Debian_64")
    assert [(d.bus, d.port, d.device, d.capacity_bytes) for d in vm.disks] == [
        (DiskBus.SATA, 0, 0, 8 * MiB),
        (DiskBus.IDE, 0, 1, 16 * MiB),
    ]
    assert vm.disks[0].path == str(tmp_path / "mail-disk001.vmdk")
    assert [(c.path, c.bus, c.port, c.device) for c in vm.cdroms] == [(None, DiskBus.IDE, 1, 0)]
    assert (vm.warnings, vm.refusals) == ((), ())


def test_virtualbox_section_tells_what_ovf_cannot(tmp_path: Path) -> None:
    (vm,) = inspect_ovf(mail(tmp_path))
    assert vm.uuid == "77770000-0000-4000-8000-000000000001"
    assert (vm.firmware, vm.chipset, vm.rtc_utc) == (Firmware.EFI, "ich9", True)
    (nic,) = vm.nics
    assert (nic.slot, nic.mac, nic.mode, nic.network) == (1, "08:00:27:ca:fe:01", "bridged", "eno1")
    assert (vm.graphics["enabled"], vm.graphics["port"]) == (True, 3399)


def test_without_the_virtualbox_section(tmp_path: Path) -> None:
    path = mail(tmp_path)
    text = path.read_text()
    start, end = text.index("<vbox:Machine"), text.index("</vbox:Machine>")
    path.write_text(text[:start] + text[end + len("</vbox:Machine>") :])
    (vm,) = inspect_ovf(path)
    assert (vm.uuid, vm.firmware, vm.chipset, vm.rtc_utc) == (None, Firmware.BIOS, "piix3", None)
    (nic,) = vm.nics
    assert (nic.slot, nic.mac, nic.mode, nic.network) == (0, None, "bridged", None)
    assert (nic.model, vm.graphics) == ("e1000", {})


def test_ova_is_read_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    path = mail(folder)
    disks = [folder / "mail-disk001.vmdk", folder / "mail-disk002.vmdk"]
    ova = pack(tmp_path / "mail.ova", path, *disks)
    (vm,) = inspect_ova(ova)
    assert (vm.name, vm.source_kind, vm.source_path) == ("mail", "ova", str(ova))
    assert vm.refusals == ()
    content = ova.read_bytes()
    for disk, file in zip(vm.disks, disks, strict=True):
        place = disk.archive
        assert place is not None
        assert disk.path == f"{ova}/{file.name}" == disk.chain[0]
        assert (place.path, place.member) == (str(ova), file.name)
        end = place.offset_bytes + place.size_bytes
        assert content[place.offset_bytes : end] == file.read_bytes()
        assert disk.format is DiskFormat.VMDK
    assert sorted(tmp_path.iterdir()) == [ova, folder]


def test_vmware_collection(tmp_path: Path) -> None:
    vmdk(tmp_path / "erp disk1.vmdk")
    (tmp_path / "tools.iso").write_bytes(bytes(2048))
    erp, other = inspect_ovf(ovf(tmp_path, "vmware.ovf"))
    assert (erp.name, erp.vcpus, erp.memory_mib) == ("erp", 8, 4096)
    assert (erp.os_hint, erp.firmware) == ("rhel7_64Guest", Firmware.EFI)
    assert [(d.path, d.bus, d.port) for d in erp.disks] == [
        (str(tmp_path / "erp disk1.vmdk"), DiskBus.SCSI, 0)
    ]
    assert [(c.path, c.bus, c.port, c.device) for c in erp.cdroms] == [
        (str(tmp_path / "tools.iso"), DiskBus.IDE, 1, 0)
    ]
    assert [(n.slot, n.mac, n.model, n.mode, n.network) for n in erp.nics] == [
        (0, "00:50:56:ab:cd:01", "vmxnet3", "bridged", "VM Network"),
        (1, None, "e1000", "bridged", "VM Network"),
    ]
    assert erp.refusals == ()
    words = " ".join(erp.warnings)
    assert "'FC HBA' of resource type 7 is left out" in words
    assert "paravirtual" in words
    assert "Flexible" in words
    assert len(erp.warnings) == 3
    assert (other.name, other.vcpus, other.memory_mib) == ("vm-2", 1, 2048)
    assert other.refusals == ("disk 'Hard Disk 1' has no file: it was exported without its data",)
    assert other.disks[0].capacity_bytes == 40 * GiB


def test_cd_images_are_not_needed(tmp_path: Path) -> None:
    vmdk(tmp_path / "erp disk1.vmdk")
    path = ovf(tmp_path, "vmware.ovf")
    erp, _ = inspect_ovf(path)
    assert [c.path for c in erp.cdroms] == [None]
    assert any("'tools.iso', which does not exist" in warning for warning in erp.warnings)
    (tmp_path / "tools.iso").write_bytes(bytes(2048))
    files = [path, tmp_path / "erp disk1.vmdk", tmp_path / "tools.iso"]
    erp, _ = inspect_ova(pack(tmp_path / "a.ova", *files))
    assert [c.path for c in erp.cdroms] == [None]
    assert any("inside the OVA is left out" in warning for warning in erp.warnings)
    assert erp.refusals == ()


def test_version_2(tmp_path: Path) -> None:
    vmdk(tmp_path / "two.vmdk")
    (vm,) = inspect_ovf(ovf(tmp_path, "ovf-2.0.ovf"))
    assert (vm.name, vm.vcpus, vm.memory_mib) == ("two dot oh", 1, 512)
    assert [(d.bus, d.port) for d in vm.disks] == [(DiskBus.SAS, 4)]
    assert [(n.model, n.mode, n.network) for n in vm.nics] == [("pcnet", "nat", None)]


@pytest.mark.parametrize(
    ("units", "size"),
    [
        ("byte * 2^20", MiB),
        ("byte*2^30", GiB),
        ("bytes", 1),
        ("byte * 1024", 1024),
        ("byte * 10^6", 10**6),
        ("MegaBytes", MiB),
        ("MB", MiB),
        ("GigaBytes", GiB),
        ("KB", 1024),
        ("GiB", GiB),
        ("hertz * 10^6", None),
        ("furlongs", None),
    ],
)
def test_allocation_units(units: str, size: int | None) -> None:
    assert unit_bytes(units) == size


def test_memory_that_cannot_be_known(tmp_path: Path) -> None:
    vmdk(tmp_path / "two.vmdk")
    for new in ("furlongs", "byte * 9999^99"):
        (vm,) = inspect_ovf(ovf(tmp_path, "ovf-2.0.ovf", **{"byte * 2^20": new}))
        assert vm.memory_mib is None
        assert len(vm.refusals) == 1
        assert "memory size" in vm.refusals[0]


def test_missing_disk_is_a_refusal(tmp_path: Path) -> None:
    path = mail(tmp_path)
    (tmp_path / "mail-disk002.vmdk").unlink()
    (vm,) = inspect_ovf(path)
    (refusal,) = vm.refusals
    assert "'mail-disk002.vmdk', which does not exist" in refusal
    assert vm.disks[1].capacity_bytes == 16 * MiB
    ova = pack(tmp_path / "a.ova", path, tmp_path / "mail-disk001.vmdk")
    (vm,) = inspect_ova(ova)
    assert "does not hold the file 'mail-disk002.vmdk'" in vm.refusals[0]


@pytest.mark.parametrize(
    "href", ["/etc/passwd", "../secret.vmdk", "..\\secret.vmdk", "link.vmdk", "%2e%2e/secret.vmdk"]
)
def test_disks_outside_the_folder(tmp_path: Path, href: str) -> None:
    folder = tmp_path / "vm"
    folder.mkdir()
    vmdk(tmp_path / "secret.vmdk")
    (folder / "link.vmdk").symlink_to(tmp_path / "secret.vmdk")
    path = mail(folder, **{'"mail-disk001.vmdk"': f'"{href}"'})
    with pytest.raises(SourceUnsafe, match="outside its folder"):
        inspect_ovf(path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"mail-disk001.vmdk"', '"https://example.org/a.vmdk"', "refers to"),
        (
            '"mail-disk001.vmdk"',
            '"mail-disk001.vmdk" ovf:compression="gzip"',
            "compressed with gzip",
        ),
        ('"mail-disk001.vmdk"', '"mail-disk001.vmdk" ovf:chunkSize="1024"', "in chunks"),
        ('"mail-disk001.vmdk"', '""', "without href"),
        (
            'ovf:diskId="vmdisk1"',
            'ovf:diskId="vmdisk1" ovf:parentRef="vmdisk2"',
            "only the changes",
        ),
        ("/disk/vmdisk1", "/disk/vmdisk9", "names no disk of the OVF"),
    ],
)
def test_disks_that_cannot_be_moved(tmp_path: Path, old: str, new: str, words: str) -> None:
    (vm,) = inspect_ovf(mail(tmp_path, **{old: new}))
    (refusal,) = vm.refusals
    assert words in refusal


def test_capacity_that_is_not_true(tmp_path: Path) -> None:
    (vm,) = inspect_ovf(mail(tmp_path, **{'capacity="8388608"': 'capacity="4194304"'}))
    assert any("8388608 bytes, the OVF says 4194304" in warning for warning in vm.warnings)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("</Envelope>", "", "not valid XML"),
        ("VirtualSystem", "VirtualGadget", "describes no machine"),
        ("VirtualQuantity>2<", "VirtualQuantity>many<", "no whole number"),
        ('capacity="8388608"', f'capacity="{"9" * 30}"', "not between"),
    ],
)
def test_broken_files(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = mail(tmp_path, **{old: new})
    with pytest.raises(SourceCorrupt, match=words):
        inspect_ovf(path)
    with pytest.raises(SourceCorrupt, match=words):
        inspect_ova(pack(tmp_path / "a.ova", path, tmp_path / "mail-disk001.vmdk"))


def test_ova_without_an_ovf(tmp_path: Path) -> None:
    with pytest.raises(SourceCorrupt, match="holds no OVF file"):
        inspect_ova(pack(tmp_path / "a.ova", vmdk(tmp_path / "a.vmdk")))


def test_descriptor_inside_an_ova_that_names_other_files(tmp_path: Path) -> None:
    path = mail(tmp_path)
    (tmp_path / "mail-disk001.vmdk").write_text(
        '# Disk DescriptorFile\ncreateType="monolithicFlat"\nRW 16384 FLAT "/etc/passwd" 0\n'
    )
    ova = pack(tmp_path / "a.ova", path, *sorted(tmp_path.glob("*.vmdk")))
    (vm,) = inspect_ova(ova)
    assert "needs '/etc/passwd'" in vm.refusals[0]
    with pytest.raises(SourceUnsafe):
        inspect_ovf(path)


def test_not_an_envelope(tmp_path: Path) -> None:
    path = tmp_path / "a.ovf"
    path.write_text("<Something/>")
    with pytest.raises(SourceCorrupt, match="no OVF"):
        inspect_ovf(path)


def test_compressed_ova(tmp_path: Path) -> None:
    path = tmp_path / "a.ova"
    path.write_bytes(b"\x1f\x8b\x08\0" + bytes(100))
    with pytest.raises(SourceUnsupported, match="gzip"):
        inspect_ova(path)
