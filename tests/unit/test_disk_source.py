"""Bare disks as sources, and the choice of the reader by content."""

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from one_kvm_migrate.errors import (
    OkmError,
    SourceCorrupt,
    SourceError,
    SourceUnsafe,
    SourceUnsupported,
)
from one_kvm_migrate.model import DiskBus, DiskFormat, Firmware
from one_kvm_migrate.sources.base import inspect, inspect_all
from one_kvm_migrate.sources.disk import open_disk
from one_kvm_migrate.units import MiB

DATA = Path(__file__).parents[1] / "data"


def create(path: Path, driver: str, *options: str) -> Path:
    argv = ["qemu-img", "create", "-f", driver, *options, str(path), "8M"]
    subprocess.run(argv, check=True, timeout=60, capture_output=True)
    return path


def test_a_disk_becomes_a_machine_of_stated_defaults(tmp_path: Path) -> None:
    (vm,) = inspect(create(tmp_path / "old server.vdi", "vdi"))
    assert (vm.name, vm.uuid, vm.vcpus, vm.memory_mib) == ("old server", None, 1, 1024)
    assert (vm.firmware, vm.chipset, vm.nics, vm.source_kind) == (
        Firmware.BIOS,
        "piix3",
        (),
        "disk",
    )
    (disk,) = vm.disks
    assert (disk.bus, disk.port, disk.device) == (DiskBus.SATA, 0, 0)
    assert (disk.format, disk.capacity_bytes) == (DiskFormat.VDI, 8 * MiB)
    assert disk.chain == (disk.path,) == (str(tmp_path / "old server.vdi"),)
    (warning,) = vm.warnings
    assert "1 CPU, 1024 MiB of memory, BIOS and a SATA controller are assumed" in warning


def test_paths_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create(tmp_path / "a.img", "raw")
    monkeypatch.chdir(tmp_path)
    assert open_disk(Path("a.img")).path == str(tmp_path / "a.img")
    assert inspect(Path("a.img"))[0].disks[0].path == str(tmp_path / "a.img")


def test_the_same_disk_both_ways(tmp_path: Path) -> None:
    path = create(tmp_path / "a.qcow2", "qcow2")
    assert inspect(path)[0].disks == (open_disk(path),)


def test_disks_that_are_refused(tmp_path: Path) -> None:
    base = create(tmp_path / "base.vmdk", "vmdk")
    child = create(tmp_path / "child.vmdk", "vmdk", "-b", str(base), "-F", "vmdk")
    overlay = create(tmp_path / "overlay.qcow2", "qcow2", "-b", str(base), "-F", "vmdk")
    cases: list[tuple[Path, type[OkmError]]] = [
        (child, SourceUnsupported),
        (overlay, SourceUnsafe),
        (tmp_path / "missing.vdi", SourceError),
        (tmp_path, SourceError),
    ]
    for path, error in cases:
        for reader in (inspect, open_disk):
            with pytest.raises(error):
                reader(path)


def pack(path: Path, *files: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for file in files:
            archive.add(file, arcname=file.name)
    return path


def test_content_decides_before_the_suffix(tmp_path: Path) -> None:
    create(tmp_path / "two.vmdk", "vmdk", "-o", "subformat=streamOptimized")
    ovf = tmp_path / "descriptor.txt"
    shutil.copy(DATA / "ovf" / "ovf-2.0.ovf", ovf)
    assert [vm.source_kind for vm in inspect(ovf)] == ["ovf"]
    ovf.rename(tmp_path / "a.ovf")
    ova = pack(tmp_path / "box.tar", tmp_path / "a.ovf", tmp_path / "two.vmdk")
    assert [vm.source_kind for vm in inspect(ova)] == ["ova"]
    vbox = tmp_path / "machine.vbox-prev"
    shutil.copy(DATA / "vbox" / "schema-1.19.vbox", vbox)
    assert [vm.source_kind for vm in inspect(vbox)] == ["vbox"]
    utf_16 = tmp_path / "machine"
    text = vbox.read_text().replace('<?xml version="1.0"?>', "")
    utf_16.write_bytes(text.lstrip().encode("utf-16"))
    assert [vm.source_kind for vm in inspect(utf_16)] == ["vbox"]
    disk = create(tmp_path / "no suffix", "vdi")
    assert [vm.source_kind for vm in inspect(disk)] == ["disk"]


def test_a_raw_disk_that_holds_an_archive_is_a_disk(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("notes")
    assert inspect(pack(tmp_path / "a.img", tmp_path / "notes"))[0].source_kind == "disk"


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("a.vbox", b"not xml", SourceCorrupt, "not valid XML"),
        ("a.ovf", b"", SourceCorrupt, "not valid XML"),
        ("a.xml", b"<?xml version='1.0'?><domain/>", SourceUnsupported, "describes no machine"),
        ("a.ova", b"not tar" * 200, SourceCorrupt, "tar archive"),
        ("a.ova", b"\x1f\x8b\x08" + bytes(600), SourceUnsupported, "compressed with gzip"),
        ("a.tar.xz", b"\xfd7zXZ\0" + bytes(600), SourceUnsupported, "compressed with xz"),
        ("a.zip", b"PK\x03\x04" + bytes(600), SourceUnsupported, "compressed with zip"),
        ("a.vmx", b'config.version = "8"\n', SourceUnsupported, "VMware machine file"),
        ("a.docx", b"words", SourceUnsupported, "unknown format"),
        ("a.vdi", bytes(100), SourceCorrupt, "does not begin as a VDI"),
    ],
)
def test_what_is_no_source(
    tmp_path: Path, name: str, content: bytes, error: type[OkmError], words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=words) as caught:
        inspect(tmp_path / name)
    assert str(tmp_path / name) in caught.value.sentence()
    assert "\n" not in caught.value.sentence()


def test_one_bad_source_does_not_hide_the_others(tmp_path: Path) -> None:
    good = create(tmp_path / "a.vdi", "vdi")
    bad = tmp_path / "b.vdi"
    results = inspect_all([good, bad, good])
    assert [path for path, _ in results] == [good, bad, good]
    assert [isinstance(result, OkmError) for _, result in results] == [False, True, False]
