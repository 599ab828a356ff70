"""``one-kvm-migrate inspect`` as users and programs call it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lxml import etree

from tests.unit.test_vbox import lager, web01

# The interface of ``inspect --json``: programs rely on these keys.
MACHINE_KEYS = {
    "name",
    "uuid",
    "memory_mib",
    "vcpus",
    "firmware",
    "chipset",
    "os_hint",
    "disks",
    "cdroms",
    "nics",
    "graphics",
    "snapshots",
    "warnings",
    "refusals",
}
DISK_KEYS = {"path", "bus", "port", "device", "capacity_bytes", "format", "chain"}
NIC_KEYS = {"mac", "mode", "network", "model", "cable", "slot"}


def inspect(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    program = "import sys; from one_kvm_migrate.cli.main import main; sys.exit(main())"
    argv = [sys.executable, "-c", program, "inspect", *map(str, arguments)]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)


def machines(*arguments: str | Path) -> list[dict[str, Any]]:
    done = inspect("--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_json_has_the_promised_keys(tmp_path: Path) -> None:
    (vm,) = machines(web01(tmp_path))
    assert set(vm) >= MACHINE_KEYS
    assert all(set(disk) >= DISK_KEYS for disk in vm["disks"])
    assert all(set(nic) >= NIC_KEYS for nic in vm["nics"])
    assert [disk["bus"] for disk in vm["disks"]] == ["sata", "nvme"]
    assert [disk["format"] for disk in vm["disks"]] == ["vdi", "vdi"]
    assert vm["disks"][0]["chain"] == [str(tmp_path / "web01.vdi")]
    assert vm["firmware"] == "bios"


def test_a_machine_that_cannot_be_moved_is_no_failure(tmp_path: Path) -> None:
    (vm,) = machines(lager(tmp_path))
    assert len(vm["disks"][0]["chain"]) == 3
    assert len(vm["refusals"]) == 1


def test_table_says_it_in_words(tmp_path: Path) -> None:
    done = inspect(lager(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Büro & Lager: cannot be moved: disk" in done.stdout
    assert "Büro & Lager: warning: " in done.stdout
    assert "Büro & Lager: snapshot frisch" in done.stdout
    assert "08:00:27:5d:00:03" in done.stdout
    assert "2048 MiB" in done.stdout
    assert "Traceback" not in done.stdout


def test_other_formats(tmp_path: Path) -> None:
    path = web01(tmp_path)
    assert yaml.safe_load(inspect("-y", path).stdout)[0]["name"] == "web01"
    root = etree.fromstring(inspect("-x", path).stdout.encode())
    assert (root.tag, root.findtext("ITEM/NAME")) == ("MACHINES", "web01")
    header, row = inspect("--csv", path).stdout.splitlines()
    assert (header.split(",")[0], row.split(",")[0]) == ("name", "web01")


def test_good_sources_are_shown_beside_bad_ones(tmp_path: Path) -> None:
    bad = tmp_path / "bad.vdi"
    bad.write_bytes(bytes(700))
    done = inspect("--json", tmp_path / "missing.vbox", web01(tmp_path), bad)
    assert [vm["name"] for vm in json.loads(done.stdout)] == ["web01"]
    first, second = done.stderr.splitlines()
    assert first.startswith("one-kvm-migrate: error: ")
    assert "missing.vbox does not exist" in first
    assert "bad.vdi is damaged" in second
    # The status of the first error, not of the last.
    assert done.returncode == 10
    assert inspect(bad, tmp_path / "missing.vbox").returncode == 12


def test_only_bad_sources_give_an_empty_list(tmp_path: Path) -> None:
    done = inspect("--json", tmp_path / "missing.vbox")
    assert (json.loads(done.stdout), done.returncode) == ([], 10)
    assert inspect(tmp_path / "missing.vbox").stdout == ""


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("a.vbox", b"<broken", 12),
        ("a.bmp", b"BM unknown", 11),
        ("a.vmdk", b'# Disk DescriptorFile\ncreateType="x"\nRW 1 FLAT "/etc/passwd" 0\n', 13),
    ],
)
def test_exit_statuses(tmp_path: Path, name: str, content: bytes, status: int) -> None:
    (tmp_path / name).write_bytes(content)
    done = inspect(tmp_path / name)
    assert done.returncode == status
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = web01(tmp_path)
    path.write_text(path.read_text().replace('name="web01"', 'name="&#x9b;31mred"'))
    assert "\x9b" not in inspect(path).stdout


def test_nothing_is_written(tmp_path: Path) -> None:
    path = lager(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    inspect(path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
