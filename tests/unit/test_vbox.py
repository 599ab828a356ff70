"""Machine files of VirtualBox 2.0 to 7.1, written as VirtualBox writes them, on real disks."""

import shutil
import struct
import subprocess
import uuid
from pathlib import Path

import pytest

from one_kvm_migrate.errors import OkmError, SourceCorrupt, SourceUnsafe, SourceUnsupported
from one_kvm_migrate.model import DiskBus, DiskFormat, Firmware, SourceVm
from one_kvm_migrate.sources.vbox import inspect_vbox
from one_kvm_migrate.units import MiB

DATA = Path(__file__).parents[1] / "data" / "vbox"


def qemu_img(*arguments: str | Path) -> None:
    subprocess.run(["qemu-img", *map(str, arguments)], check=True, timeout=60, capture_output=True)


def vdi(path: Path, own: str, parent: str | None = None, size: str = "8M") -> Path:
    """A VDI with VirtualBox's UUIDs in its header; with *parent* a differencing one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    qemu_img("create", "-f", "vdi", path, size)
    with path.open("r+b") as stream:
        stream.seek(0x188)
        stream.write(uuid.UUID(own).bytes_le)
        if parent is not None:
            stream.seek(0x4C)
            stream.write(struct.pack("<I", 4))
            stream.seek(0x1A8)
            stream.write(uuid.UUID(parent).bytes_le)
    return path


def machine(folder: Path, name: str, **replace: str) -> Path:
    """The machine file *name* in *folder*, with pieces of its text replaced."""
    text = (DATA / name).read_text()
    for old, new in replace.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / name
    path.write_text(text)
    return path


def web01(folder: Path) -> Path:
    vdi(folder / "web01.vdi", "c0de0000-0000-4000-8000-000000000001")
    vdi(folder / "web01-data.vdi", "c0de0000-0000-4000-8000-000000000002", size="16M")
    (folder / "install.iso").write_bytes(bytes(2048))
    return machine(folder, "schema-1.19.vbox")


def test_a_recent_machine(tmp_path: Path) -> None:
    vm = inspect_vbox(web01(tmp_path))
    assert (vm.name, vm.uuid) == ("web01", "1c9d9f0a-7b1e-4d6f-8b47-5d1f6a2c3e4f")
    assert (vm.memory_mib, vm.vcpus, vm.firmware, vm.chipset) == (2048, 2, Firmware.BIOS, "piix3")
    assert (vm.os_hint, vm.rtc_utc, vm.refusals) == ("Debian_64", True, ())
    first, second = vm.disks
    assert (first.bus, first.port, first.device) == (DiskBus.SATA, 0, 0)
    assert (first.capacity_bytes, first.format) == (8 * MiB, DiskFormat.VDI)
    assert first.path == str(tmp_path / "web01.vdi")
    assert first.chain == (first.path,)
    assert first.uuid == "c0de0000-0000-4000-8000-000000000001"
    assert (second.bus, second.capacity_bytes) == (DiskBus.NVME, 16 * MiB)


def test_drives_of_a_recent_machine(tmp_path: Path) -> None:
    vm = inspect_vbox(web01(tmp_path))
    places = [(c.path, c.bus, c.port, c.device) for c in vm.cdroms]
    assert places == [
        (str(tmp_path / "install.iso"), DiskBus.SATA, 2, 0),
        (None, DiskBus.IDE, 0, 0),
        (None, DiskBus.IDE, 0, 1),
    ]
    assert any("/dev/sr0" in warning for warning in vm.warnings)


def test_adapters_of_a_recent_machine(tmp_path: Path) -> None:
    vm = inspect_vbox(web01(tmp_path))
    seen = [(n.slot, n.mac, n.model, n.mode, n.network, n.cable) for n in vm.nics]
    assert seen == [
        (0, "08:00:27:12:34:ab", "e1000", "bridged", "eno1", True),
        (1, "08:00:27:12:34:ac", "virtio", "nat", None, False),
        (2, "08:00:27:12:34:ad", "pcnet", "none", None, True),
        (3, "08:00:27:12:34:ae", "e1000", "none", None, True),
    ]
    assert [w for w in vm.warnings if "WD8013" in w]


def test_what_recent_files_leave_out_is_virtualbox_default(tmp_path: Path) -> None:
    assert inspect_vbox(web01(tmp_path)).graphics == {
        "enabled": False,
        "port": 3389,
        "address": None,
        "auth": "null",
        "vram_mib": 16,
        "controller": "VMSVGA",
        "monitors": 1,
    }


def test_oldest_schema_with_its_registry_above(tmp_path: Path) -> None:
    home = tmp_path / ".VirtualBox"
    base = "7c1fb2a4-0000-4000-8000-000000000009"
    vdi(home / "VDI/system.vdi", "7c1fb2a4-0000-4000-8000-000000000001")
    vdi(home / "VDI/base.vdi", base)
    vdi(home / "VDI/data.vdi", "7c1fb2a4-0000-4000-8000-000000000002", parent=base)
    (home / "ISO").mkdir()
    (home / "ISO/install.iso").write_bytes(bytes(2048))
    shutil.copy(DATA / "schema-1.3-registry.xml", home / "VirtualBox.xml")
    folder = home / "Machines" / "oldest"
    folder.mkdir(parents=True)
    vm = inspect_vbox(machine(folder, "schema-1.3.xml"))
    assert (vm.memory_mib, vm.vcpus, vm.chipset, vm.rtc_utc) == (384, 1, "piix3", False)
    assert [(d.bus, d.path, d.capacity_bytes) for d in vm.disks] == [
        (DiskBus.IDE, str(home / "VDI/system.vdi"), 8 * MiB),
        (DiskBus.SATA, str(home / "VDI/data.vdi"), 8 * MiB),
    ]
    assert vm.disks[1].chain == (str(home / "VDI/base.vdi"), str(home / "VDI/data.vdi"))
    assert [(c.path, c.bus, c.port) for c in vm.cdroms] == [
        (str(home / "ISO/install.iso"), DiskBus.IDE, 1)
    ]
    assert [(n.mac, n.model, n.mode, n.network) for n in vm.nics] == [
        ("08:00:27:aa:bb:cc", "pcnet", "bridged", "br0")
    ]
    expected = {"enabled": False, "port": 3390, "address": "10.0.0.1", "auth": "external"}
    assert {key: vm.graphics[key] for key in expected} == expected
    assert len(vm.refusals) == 1


def lager(folder: Path) -> Path:
    ids = [f"d15c0000-0000-4000-8000-00000000000{number}" for number in range(5)]
    vdi(folder / "lager.vdi", ids[1])
    vdi(folder / f"Snapshots/{{{ids[2]}}}.vdi", ids[2], parent=ids[1])
    vdi(folder / f"Snapshots/{{{ids[3]}}}.vdi", ids[3], parent=ids[2])
    vdi(folder / "shared.vdi", ids[4])
    return machine(folder, "schema-1.12.vbox")


def test_current_state_of_a_machine_with_snapshots(tmp_path: Path) -> None:
    vm = inspect_vbox(lager(tmp_path))
    assert (vm.name, vm.memory_mib, vm.vcpus, vm.chipset) == ("Büro & Lager", 2048, 2, "ich9")
    snapshot_folder = tmp_path / "Snapshots"
    assert vm.disks[0].chain == (
        str(tmp_path / "lager.vdi"),
        str(snapshot_folder / "{d15c0000-0000-4000-8000-000000000002}.vdi"),
        str(snapshot_folder / "{d15c0000-0000-4000-8000-000000000003}.vdi"),
    )
    assert vm.disks[0].path == vm.disks[0].chain[-1]
    assert [(d.bus, d.port, d.device) for d in vm.disks] == [
        (DiskBus.IDE, 0, 0),
        (DiskBus.IDE, 0, 1),
    ]
    assert [n.mac for n in vm.nics] == [
        "08:00:27:5d:00:00",
        "08:00:27:5d:00:02",
        "08:00:27:5d:00:03",
    ]
    modes = [(n.slot, n.mode, n.network, n.model, n.cable) for n in vm.nics]
    assert modes == [
        (0, "nat", None, "e1000", True),
        # Before 1.16 what is not written is Am79C970A with its cable out.
        (2, "hostonly", "vboxnet0", "pcnet", False),
        (3, "internal", "intnet", "e1000", False),
    ]
    assert (vm.graphics["enabled"], vm.graphics["port"]) == (True, "5000-5010")
    assert (vm.graphics["monitors"], vm.graphics["controller"]) == (2, "VBoxVGA")


def test_snapshots_are_listed_and_refused_for_now(tmp_path: Path) -> None:
    vm = inspect_vbox(lager(tmp_path))
    assert [(s["name"], s["current"], s["online"]) for s in vm.snapshots] == [
        ("frisch", False, False),
        ("vor dem Update", True, True),
    ]
    assert vm.snapshots[1]["parent"] == vm.snapshots[0]["uuid"]
    (refusal,) = vm.refusals
    assert "000000000003}.vdi holds only the changes against" in refusal
    assert "Merge the snapshots in VirtualBox (delete them) and try again." in refusal
    words = " ".join(vm.warnings)
    assert "2 snapshot(s) stay behind" in words
    assert "not shut down properly" in words
    assert "floppy" in words
    assert "shared.vdi is of the type Shareable" in words
    assert "win7.iso is not there" in words


def test_controllers_formats_and_encryption(tmp_path: Path) -> None:
    qemu_img("create", "-f", "vmdk", tmp_path / "os.vmdk", "8M")
    qemu_img("create", "-f", "vpc", "-o", "force_size=on", tmp_path / "data.vhd", "8M")
    vdi(tmp_path / "secret.vdi", "a15c0000-0000-4000-8000-000000000003")
    vm = inspect_vbox(machine(tmp_path, "schema-1.15.vbox"))
    assert vm.firmware is Firmware.EFI
    assert [(d.bus, d.port, d.format) for d in vm.disks] == [
        (DiskBus.SCSI, 0, DiskFormat.VMDK),
        (DiskBus.SAS, 1, DiskFormat.VDI),
        (DiskBus.SAS, 2, DiskFormat.VHD),
        (DiskBus.USB, 0, DiskFormat.UNKNOWN),
    ]
    assert vm.disks[3].path == "10.0.0.7|iqn.2015-09.test:lun0"
    assert len(vm.refusals) == 2
    assert "secret.vdi is encrypted" in vm.refusals[0]
    assert "iSCSI" in vm.refusals[1]
    assert [(n.mode, n.network, n.model, n.mac is None) for n in vm.nics] == [
        ("natnetwork", "NatNetwork", "virtio", False),
        ("generic", "UDPTunnel", "pcnet", False),
        ("none", None, "pcnet", True),
    ]
    assert vm.graphics["auth"] == "guest"
    assert any("no valid MAC address" in warning for warning in vm.warnings)


def test_platform_section_of_1_20(tmp_path: Path) -> None:
    vdi(tmp_path / "db01.vdi", "db000000-0000-4000-8000-000000000001")
    vm = inspect_vbox(machine(tmp_path, "schema-1.20.vbox"))
    assert (vm.vcpus, vm.memory_mib, vm.chipset, vm.rtc_utc) == (4, 8192, "ich9", True)
    assert vm.firmware is Firmware.EFI
    assert [d.bus for d in vm.disks] == [DiskBus.VIRTIO]
    assert [(n.model, n.mode, n.network) for n in vm.nics] == [
        ("e1000e", "hostonly", "HostNetwork")
    ]
    assert (vm.graphics["enabled"], vm.graphics["port"]) == (True, 3391)
    assert any("TPM" in warning for warning in vm.warnings)
    (refusal,) = vm.refusals
    assert refusal.startswith("it is saved, not shut down")


def test_other_architectures(tmp_path: Path) -> None:
    vdi(tmp_path / "db01.vdi", "db000000-0000-4000-8000-000000000001")
    path = machine(tmp_path, "schema-1.20.vbox", **{'architecture="x86"': 'architecture="ARM"'})
    assert any("ARM processors" in refusal for refusal in inspect_vbox(path).refusals)


def test_missing_disk_file(tmp_path: Path) -> None:
    path = web01(tmp_path)
    (tmp_path / "web01.vdi").unlink()
    vm = inspect_vbox(path)
    assert vm.refusals == (f"{tmp_path}/web01.vdi does not exist. Check the path.",)
    assert (vm.disks[0].path, vm.disks[0].capacity_bytes) == (str(tmp_path / "web01.vdi"), None)
    assert vm.disks[0].format is DiskFormat.VDI
    assert len(vm.disks) == 2


def test_missing_parent_file(tmp_path: Path) -> None:
    path = lager(tmp_path)
    (tmp_path / "lager.vdi").unlink()
    refusals = inspect_vbox(path).refusals
    assert any("parent disk" in refusal and "lager.vdi" in refusal for refusal in refusals)


def test_truncated_disk(tmp_path: Path) -> None:
    path = web01(tmp_path)
    with (tmp_path / "web01.vdi").open("r+b") as stream:
        stream.truncate(300)
    (refusal,) = inspect_vbox(path).refusals
    assert "web01.vdi is damaged or cut short" in refusal


def test_disk_that_reaches_outside(tmp_path: Path) -> None:
    path = web01(tmp_path)
    (tmp_path / "web01.vdi").write_text(
        '# Disk DescriptorFile\ncreateType="monolithicFlat"\nRW 8 FLAT "/etc/passwd" 0\n'
    )
    (refusal,) = inspect_vbox(path).refusals
    assert "outside its folder" in refusal


def test_unregistered_disk(tmp_path: Path) -> None:
    web01(tmp_path)
    changes = {
        '<HardDisk uuid="{c0de0000-0000-4000-8000-000000000002}" location="web01-data.vdi" '
        'format="VDI" type="Normal"/>': ""
    }
    (refusal,) = inspect_vbox(machine(tmp_path, "schema-1.19.vbox", **changes)).refusals
    assert "000000000002 on nvme port 0 device 0 is in no media registry" in refusal


def test_differencing_disk_that_the_registry_takes_for_a_whole_one(tmp_path: Path) -> None:
    path = web01(tmp_path)
    parent = "c0de0000-0000-4000-8000-0000000000aa"
    vdi(tmp_path / "web01.vdi", "c0de0000-0000-4000-8000-000000000001", parent=parent)
    (refusal,) = inspect_vbox(path).refusals
    assert f"against a parent {parent}" in refusal


def test_a_disk_of_another_uuid_is_told(tmp_path: Path) -> None:
    path = web01(tmp_path)
    vdi(tmp_path / "web01.vdi", "c0de0000-0000-4000-8000-0000000000ff")
    vm = inspect_vbox(path)
    assert vm.refusals == ()
    assert any("0000000000ff, the machine file says" in warning for warning in vm.warnings)


def test_a_copied_folder_finds_its_disks(tmp_path: Path) -> None:
    web01(tmp_path)
    for old in ("/home/anna/VMs/web01/web01.vdi", "C:\\Users\\anna\\web01\\web01.vdi"):
        changes = {'location="web01.vdi"': f'location="{old}"'}
        vm = inspect_vbox(machine(tmp_path, "schema-1.19.vbox", **changes))
        assert vm.refusals == ()
        assert vm.disks[0].path == str(tmp_path / "web01.vdi")
        assert any("has its UUID and is used" in warning for warning in vm.warnings)
    vdi(tmp_path / "web01.vdi", "c0de0000-0000-4000-8000-0000000000ff")
    assert inspect_vbox(machine(tmp_path, "schema-1.19.vbox", **changes)).refusals


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('<Memory RAMSize="2048"/>', "<Memory/>", "how much memory"),
        ('RAMSize="2048"', 'RAMSize="lots"', "no whole number"),
        ('RAMSize="2048"', 'RAMSize="-1"', "not between"),
        ('<CPU count="2">', '<CPU count="9999999">', "not between"),
        ('<Adapter slot="0" ', "<Adapter ", "no attribute 'slot'"),
        ('type="AHCI"', 'type="Teleport"', "unknown type 'Teleport'"),
        ('port="2" device="0"', 'device="0"', "no attribute 'port'"),
        ('name="web01" ', "", "no attribute 'name'"),
        ("</VirtualBox>", "", "not valid XML"),
        ("Hardware>", "Software>", "no Hardware section"),
        ("Machine", "Gadget", "describes no VirtualBox machine"),
    ],
)
def test_broken_files(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = machine(tmp_path, "schema-1.19.vbox", **{old: new})
    with pytest.raises(SourceCorrupt, match=words):
        inspect_vbox(path)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("<VirtualBox><MachineEncrypted/></VirtualBox>", SourceUnsupported, "encrypted as a whole"),
        ("<VirtualBox><Global/></VirtualBox>", SourceUnsupported, "list of all machines"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><VirtualBox/>", SourceUnsafe, "document type"),
        ("<Other/>", SourceCorrupt, "describes no VirtualBox machine"),
    ],
)
def test_not_a_machine_file(tmp_path: Path, text: str, error: type[OkmError], words: str) -> None:
    path = tmp_path / "a.vbox"
    path.write_text(text)
    with pytest.raises(error, match=words):
        inspect_vbox(path)


def test_a_broken_registry_around_is_only_not_found(tmp_path: Path) -> None:
    (tmp_path / "VirtualBox.xml").write_text("<VirtualBox><Global>")
    path = machine(tmp_path, "schema-1.3.xml")
    vm: SourceVm = inspect_vbox(path)
    assert len(vm.refusals) == 2
    assert all("no media registry" in refusal for refusal in vm.refusals)
