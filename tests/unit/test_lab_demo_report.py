"""What the demo tells people: no more than was so."""

from pathlib import Path
from typing import Any

import pytest

from one_kvm_migrate.lab.demo_report import closing_lines, domain_words, migration_lines
from one_kvm_migrate.lab.libvirtd import ensure_lock_directory


def moved(serial: dict[str, Any]) -> dict[str, Any]:
    proof = {"verdict": "proven", "seconds": 7.9, "evidence": ["screen"], "serial": serial}
    vnc = {"host": "localhost", "port": 5900}
    return {
        "images": [],
        "template_id": 0,
        "vm_id": 0,
        "vm_state": "RUNNING",
        "vnc": vnc,
        "proof": proof,
    }


@pytest.mark.parametrize(
    ("serial", "line"),
    [
        ({"state": "speaks", "tail": ["demo login:"]}, "serial line: demo login:"),
        ({"state": "absent"}, "serial line: nothing was read, it is absent"),
        (
            {"state": "busy", "reason": "cannot open the console: no lock file"},
            "serial line: nothing was read, it is busy (cannot open the console: no lock file)",
        ),
    ],
)
def test_a_serial_line_that_was_not_read_says_why(serial: dict[str, Any], line: str) -> None:
    assert migration_lines(moved(serial))[-1] == line


def test_the_end_is_over(tmp_path: Path) -> None:
    folder = tmp_path / "my demo"
    told = "\n".join(
        closing_lines({"vm_state": "RUNNING", "domain_type": domain_words("qemu")}, folder)
    )
    assert "The VM was RUNNING, domain type qemu (emulated); everything" in told
    assert "is stopped now" in told
    assert f"sim --dir '{folder}'/one" in told
    assert f"rm -rf '{folder}'" in told


@pytest.mark.parametrize("dangling", [True, False])
def test_the_lock_directory_is_made_where_it_is_missing(dangling: bool, tmp_path: Path) -> None:
    place = tmp_path / "lock"
    if dangling:
        place.symlink_to(tmp_path / "run" / "lock")
    for _ in range(2):
        ensure_lock_directory(place)
        assert place.stat().st_mode & 0o7777 == 0o1777


def test_a_lock_directory_that_is_there_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    ensure_lock_directory(tmp_path)
    assert tmp_path.stat().st_mode & 0o7777 == 0o750
