"""Transfers with the real tools: what is in the datastores afterwards."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from one_kvm_migrate.sim.process import Processes
from one_kvm_migrate.sim.vm.transfer import Executor, Transfer


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A qcow2 of 4 MiB with a pattern at its start, in an image datastore."""
    base = tmp_path / "1"
    base.mkdir()
    path = base / "image"
    raw = base / "raw"
    raw.write_bytes(b"pattern" + bytes((4 << 20) - 7))
    argv = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(path)]
    subprocess.run(argv, check=True)
    raw.unlink()
    return path


@pytest.fixture
def home(tmp_path: Path) -> str:
    """The machine's directory, spelt with oned's double slash."""
    return f"{tmp_path}//0/7"


def run(op: str, *args: str, form: str = "qcow2", ok: bool = True) -> str:
    """Carry one transfer out; its message."""
    transfer = Transfer(op=op, tm_mad="qcow2", args=(*args, "7", "1"), form=form)
    result = Executor(Processes()).run([transfer])
    assert result.ok == ok, result.info
    return result.info


def info(path: str) -> dict[str, object]:
    done = subprocess.run(
        ["qemu-img", "info", "-f", "qcow2", "--output=json", path], check=True, capture_output=True
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def content(path: str, form: str = "qcow2") -> bytes:
    raw = f"{path}.raw"
    subprocess.run(["qemu-img", "convert", "-f", form, "-O", "raw", path, raw], check=True)
    found = Path(raw).read_bytes()[:7]
    os.unlink(raw)
    return found


def test_a_clone_is_an_overlay_in_the_recorded_layout(image: Path, home: str) -> None:
    run("CLONE", f"vm:{image}", f"localhost:{home}/disk.0")
    assert os.readlink(f"{home}/disk.0") == "disk.0.snap/0"
    assert os.readlink(f"{home}/disk.0.snap/disk.0.snap") == "."
    found = info(f"{home}/disk.0")
    assert found["backing-filename"] == str(image)
    assert found["backing-filename-format"] == "qcow2"
    assert content(f"{home}/disk.0") == b"pattern"


def test_a_raw_clone_is_a_copy_and_a_cd_a_link(tmp_path: Path, home: str) -> None:
    source = tmp_path / "raw"
    source.write_bytes(b"rawdata")
    run("CLONE", f"vm:{source}", f"h:{home}/disk.0", form="raw")
    run("CLONE", f"vm:{source}", f"h:{home}/disk.1", form="iso")
    assert not Path(f"{home}/disk.0").is_symlink()
    assert Path(f"{home}/disk.0").read_bytes() == b"rawdata"
    assert os.readlink(f"{home}/disk.1") == str(source)


def test_a_persistent_disk_is_the_image_and_stays_when_the_machine_goes(
    image: Path, home: str
) -> None:
    run("LN.qcow2", f"vm:{image}", f"h:{home}/disk.0")
    assert Path(f"{home}/disk.0").resolve() == image
    run("MVDS", f"h:{home}/disk.0", str(image))
    run("DELETE", f"h:{home}")
    assert image.is_file()
    assert not Path(home).exists()


def test_snapshots_chain_and_go_back(image: Path, home: str) -> None:
    disk = f"{home}/disk.0"
    run("CLONE", f"vm:{image}", f"h:{disk}")
    run("SNAP_CREATE", f"h:{disk}", "0")
    assert os.readlink(disk) == "disk.0.snap/1"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 88 0 7", disk], check=True)
    assert content(disk) == b"X" * 7
    run("SNAP_CREATE", f"h:{disk}", "1")
    run("CPDS", f"h:{disk}", f"{image}.copy", "1")
    assert content(f"{image}.copy") == b"X" * 7
    run("SNAP_REVERT", f"h:{disk}", "0")
    assert content(disk) == b"pattern"
    run("SNAP_DELETE", f"h:{disk}", "1")
    assert content(disk) == b"pattern"
    run("DELETE", f"h:{disk}")
    assert not Path(f"{disk}.snap").exists()


def test_snapshots_of_a_persistent_disk_end_in_the_image(image: Path, home: str) -> None:
    disk = f"{home}/disk.0"
    run("LN", f"vm:{image}", f"h:{disk}")
    run("SNAP_CREATE", f"h:{disk}", "0")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 88 0 7", disk], check=True)
    assert content(str(image)) == b"pattern"
    assert content(disk) == b"X" * 7
    run("SNAP_CREATE", f"h:{disk}", "1")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 89 0 2", disk], check=True)
    run("MVDS", f"h:{disk}", str(image))
    assert not os.path.lexists(disk)
    assert content(str(image)) == b"YYXXXXX"


def test_volatile_disks(home: str) -> None:
    run("MKIMAGE", "3", "qcow2", f"h:{home}/disk.1")
    assert info(f"{home}/disk.1")["virtual-size"] == 3 << 20
    run("RESIZE", f"h:{home}/disk.1", "5")
    assert info(f"{home}/disk.1")["virtual-size"] == 5 << 20
    run("MKSWAP", "1", f"h:{home}/disk.2", form="raw")
    assert Path(f"{home}/disk.2").read_bytes()[4086:4096] == b"SWAPSPACE2"


def test_moves_between_datastores_and_not_between_hosts(
    image: Path, home: str, tmp_path: Path
) -> None:
    run("CLONE", f"vm:{image}", f"one:{home}/disk.0")
    run("MV", f"one:{home}/disk.0", f"two:{home}/disk.0")
    assert content(f"{home}/disk.0") == b"pattern"
    other = f"{tmp_path}/5/7"
    Path(f"{home}/vm.xml").write_text("x")
    run("MV", f"one:{home}/disk.0", f"two:{other}/disk.0")
    run("MV", f"one:{home}", f"two:{other}")
    assert content(f"{other}/disk.0") == b"pattern"
    assert Path(f"{other}/vm.xml").exists()
    assert not Path(home).exists()


def test_context_cd_holds_the_script(tmp_path: Path, home: str) -> None:
    script = tmp_path / "vms" / "7" / "context.sh"
    script.parent.mkdir(parents=True)
    script.write_text("NETWORK='YES'\n")
    run("CONTEXT", str(script), f"h:{home}/disk.1")
    argv = ["xorriso", "-indev", f"{home}/disk.1", "-find", "/", "-type", "f"]
    found = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert "/context.sh" in found.lower()
    assert not (script.parent / "context.d").exists()


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("CLONE", ("vm:/nowhere/image", "h:{home}/disk.0")),
        ("RESIZE", ("h:{home}/missing", "10")),
        ("CONTEXT", ("/nowhere/context.sh", "h:{home}/disk.1")),
        ("SNAP_CREATE", ("h:{home}/missing", "0")),
    ],
)
def test_a_failure_is_one_message_with_the_operation(
    op: str, args: tuple[str, ...], home: str
) -> None:
    message = run(op, *(arg.format(home=home) for arg in args), ok=False)
    assert message.startswith(f"{op.lower()}: ")
    assert "\n" not in message.strip()
