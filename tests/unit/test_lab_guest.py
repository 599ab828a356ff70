"""The demo guest's disk: layout, content, and refusals, without booting it."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from one_kvm_migrate.errors import UsageError
from one_kvm_migrate.lab.guest import DATA_START, GuestDisk, build_guest, vdi_uuid
from one_kvm_migrate.lab.guestroot import READY_MARK


def output(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


def test_both_containers_hold_the_same(demo_guest: GuestDisk) -> None:
    argv = ["qemu-img", "compare", "-f", "raw", "-F", "vdi"]
    assert "identical" in output(*argv, str(demo_guest.raw_path), str(demo_guest.vdi_path))


def test_partitions(demo_guest: GuestDisk) -> None:
    lines = output("sfdisk", "--dump", str(demo_guest.raw_path)).splitlines()
    assert "type=e, bootable" in lines[-2]
    assert f"start={DATA_START // 512:>12}" in lines[-1]
    assert "type=83" in lines[-1]
    sectors = demo_guest.virtual_bytes // 512
    assert f"size={sectors - DATA_START // 512:>12}" in lines[-1]


def test_the_host_name_is_on_the_kernel_command_line(demo_guest: GuestDisk) -> None:
    disk = f"{demo_guest.raw_path}@@{1 << 20}"
    assert "hostname=demo" in output("mtype", "-i", disk, "::syslinux.cfg")


def test_data_files_are_the_promised_ones(demo_guest: GuestDisk, tmp_path: Path) -> None:
    part = tmp_path / "data.img"
    with demo_guest.raw_path.open("rb") as disk, part.open("wb") as copy:
        disk.seek(DATA_START)
        while chunk := disk.read(1 << 20):
            copy.write(chunk)
    subprocess.run(["e2fsck", "-fn", str(part)], check=True, capture_output=True, timeout=60)
    assert {Path(marker.path).name for marker in demo_guest.markers} == {
        "journal.log",
        "marker.txt",
        "random.bin",
    }
    for marker in demo_guest.markers:
        target = tmp_path / "file"
        command = f"dump /{Path(marker.path).name} {target}"
        output("debugfs", "-R", command, str(part))
        data = target.read_bytes()
        assert len(data) == marker.size_bytes
        assert hashlib.sha256(data).hexdigest() == marker.sha256


def test_uuid_is_read_as_virtualbox_stores_it(demo_guest: GuestDisk) -> None:
    assert vdi_uuid(demo_guest.vdi_path) == demo_guest.vdi_uuid
    first_part = bytes.fromhex(demo_guest.vdi_uuid[:8])[::-1]
    with demo_guest.vdi_path.open("rb") as stream:
        stream.seek(0x188)
        assert stream.read(4) == first_part


@pytest.mark.parametrize("name", ["", "Demo", "a b", "-a", "a;reboot", "x" * 64])
def test_bad_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a host name"):
        build_guest(tmp_path / "out", name=name, cache_dir=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_a_disk_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs 128 MiB, not 64"):
        build_guest(tmp_path / "out", name="a", cache_dir=tmp_path / "cache", size_mib=64)


def test_the_ready_mark_is_an_interface() -> None:
    assert READY_MARK == "OKM-GUEST-READY"
