"""The entry scripts: one body, quick to start, and free of the front-end's libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.tools.run import Outcome, run
from one_kvm_migrate.vmm.registry import OURS, STOCK

ROOT = Path(__file__).parents[2]
ENTRIES = ROOT / "remotes" / "vmm" / "kvm_py"
LOAD_ALL = """
import sys
sys.path[:0] = [{root!r}]
sys.path.append("/usr/lib/python3/dist-packages")
from importlib import import_module
from one_kvm_migrate.vmm import main
for name in {actions!r}:
    import_module("one_kvm_migrate.vmm.actions." + name)
print(*sys.modules)
"""
# Slow to load, or not on the hosts.
UNWANTED = {"dataclasses", "inspect", "logging", "asyncio", "xmlrpc", "importlib.metadata"}


def call(script: Path, *argv: str, stdin: bytes = b"") -> Outcome:
    return run([str(script), *argv], deadline=Deadline(20), ok=(0, 1), stdin=stdin)


def staged(tmp_path: Path) -> Path:
    """The driver as installed, without any libvirt to talk to."""
    run([str(ROOT / "install.sh"), "--dir", str(tmp_path / "remotes")], deadline=Deadline(30))
    kvmrc = tmp_path / "remotes" / "etc" / "vmm" / "kvm" / "kvmrc"
    kvmrc.write_text(f"LIBVIRT_URI=qemu:///system?socket={tmp_path}/none\n")
    return tmp_path / "remotes" / "vmm" / "kvm_py"


def test_every_action_has_the_same_executable_entry() -> None:
    entries = [path for path in ENTRIES.iterdir() if path.is_file()]
    assert {path.name for path in entries} == set(OURS) | STOCK
    assert len({path.read_bytes() for path in entries}) == 1
    assert all(os.access(path, os.X_OK) for path in entries)
    assert len(entries[0].read_text().splitlines()) < 25


def test_only_the_white_list_is_loaded() -> None:
    program = LOAD_ALL.format(root=str(ROOT), actions=sorted(OURS))
    argv = ["/usr/bin/python3", "-IS", "-c", program]
    loaded = set(run(argv, deadline=Deadline(20)).stdout.decode().split())
    foreign = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert foreign <= {"__main__", "one_kvm_migrate", "libvirt", "libvirtmod"}
    assert not loaded & UNWANTED
    ours = {name.split(".")[1] for name in loaded if name.startswith("one_kvm_migrate.")}
    assert ours == {"errors", "units", "deadline", "vmm"}


def test_an_action_of_the_stock_driver_gets_the_same_call(tmp_path: Path) -> None:
    entries = staged(tmp_path)
    stock = entries.parent / "kvm" / "attach_disk"
    stock.parent.mkdir()
    stock.write_text('#!/bin/sh\necho "$0|$1|$2"\ncat\nexit 1\n')
    stock.chmod(0o755)
    done = call(entries / "attach_disk", "a b", "$x", stdin=b"<VM/>")
    assert (done.rc, done.stdout) == (1, f"{stock}|a b|$x\n<VM/>".encode())


def test_a_missing_stock_action_is_one_sentence(tmp_path: Path) -> None:
    done = call(staged(tmp_path) / "migrate", "uuid", "host")
    assert done.rc == 1
    assert len(plain_lines(done)) == 1
    assert "vmm/kvm/migrate is missing" in plain_lines(done)[0]


@pytest.mark.parametrize("action", sorted(OURS))
def test_without_arguments_it_says_what_is_needed(action: str, tmp_path: Path) -> None:
    done = call(staged(tmp_path) / action)
    assert done.rc == 1
    assert plain_lines(done) == [f"{action} needs the argument {OURS[action][0]}"]


@pytest.mark.parametrize("action", sorted(set(OURS) - {"deploy"}))
def test_an_absent_libvirtd_is_one_sentence(action: str, tmp_path: Path) -> None:
    stdin = b"<VMM_DRIVER_ACTION_DATA/>"
    done = call(staged(tmp_path) / action, "one-1", "host", "1", "host", stdin=stdin)
    assert (done.rc, done.stdout) == (1, b"")
    assert len(plain_lines(done)) == 1
    assert "Check that libvirtd runs on this host" in plain_lines(done)[0]


@pytest.mark.parametrize("stdin", [b"", b"junk", b"<domain><title>a & b</title></domain>"])
def test_deploy_refuses_what_is_no_domain(stdin: bytes, tmp_path: Path) -> None:
    done = call(staged(tmp_path) / "deploy", str(tmp_path / "vm" / "deployment.0"), stdin=stdin)
    assert done.rc == 1
    assert len(plain_lines(done)) == 1
    assert not (tmp_path / "vm").exists()


def test_settings_that_are_wrong_are_one_sentence(tmp_path: Path) -> None:
    entries = staged(tmp_path)
    conf = tmp_path / "remotes" / "etc" / "vmm" / "kvm" / "okm.conf"
    conf.write_text("CANCEL_TIMEOUT=soon\n")
    done = call(entries / "cancel", "one-1")
    assert done.rc == 1
    assert plain_lines(done) == [
        "CANCEL_TIMEOUT=soon is not a number of seconds. "
        "Correct it in remotes/etc/vmm/kvm and run onehost sync."
    ]


def test_installing_twice_and_uninstalling(tmp_path: Path) -> None:
    entries = staged(tmp_path)
    conf = tmp_path / "remotes" / "etc" / "vmm" / "kvm" / "okm.conf"
    conf.write_text("DOMAIN_TYPE=auto\n")
    (entries / "stale").write_text("of an older version")
    staged(tmp_path)
    assert conf.read_text() == "DOMAIN_TYPE=auto\n"
    assert not (entries / "stale").exists()
    assert list((entries / "lib").rglob("main.cpython-*.pyc"))
    install = [str(ROOT / "install.sh"), "--dir", str(tmp_path / "remotes")]
    run([*install, "--uninstall"], deadline=Deadline(20))
    assert not entries.exists()
    assert conf.exists()
    conf.write_bytes((ROOT / "remotes/etc/vmm/kvm/okm.conf").read_bytes())
    run([*install, "--uninstall"], deadline=Deadline(20))
    assert not conf.exists()
    assert (entries.parent.parent / "etc" / "vmm" / "kvm" / "kvmrc").exists()


def test_the_installer_says_what_comes_next(tmp_path: Path) -> None:
    install = [str(ROOT / "install.sh"), "--dir", str(tmp_path / "new" / "remotes")]
    told = run(install, deadline=Deadline(30)).stdout.decode().splitlines()
    assert told[-1].startswith('Next: run "onehost sync --force" as oneadmin, then switch it on')
    assert Path(told[-1].rpartition("see ")[2]).is_file()
    told = run([*install, "--uninstall"], deadline=Deadline(20)).stdout.decode().splitlines()
    assert told[-1].startswith("Next: ARGUMENTS of VM_MAD must say kvm again")


@pytest.mark.parametrize("present", [True, False])
def test_uninstalling_what_is_not_there(present: bool, tmp_path: Path) -> None:
    remotes = tmp_path / "remotes"
    if present:
        (remotes / "vmm").mkdir(parents=True)
    done = run(
        [str(ROOT / "install.sh"), "--dir", str(remotes), "--uninstall"], deadline=Deadline(9)
    )
    assert done.stdout.decode() == (
        f"nothing to remove: the driver is not installed in {remotes}\n"
    )
    assert (remotes / "vmm").exists() == remotes.exists() == present


def test_uninstalling_leaves_no_directory(tmp_path: Path) -> None:
    install = [str(ROOT / "install.sh"), "--dir", str(tmp_path / "remotes")]
    run(install, deadline=Deadline(30))
    run([*install, "--uninstall"], deadline=Deadline(20))
    assert list(tmp_path.iterdir()) == []


def test_the_stanzas_differ_from_the_stock_ones_only_in_the_driver() -> None:
    text = (ROOT / "templates" / "vm_mad.conf").read_text()
    arguments = [x.split('"')[1] for x in text.splitlines() if x.lstrip().startswith("ARGUMENTS")]
    assert [line.replace("kvm_py", "kvm") for line in arguments] == [
        "-t 15 -r 0 kvm -p",
        "-t 15 -r 0 kvm",
    ]
    assert all("kvm_py" in line for line in arguments)


def test_the_installer_refuses_its_own_source() -> None:
    argv = [str(ROOT / "install.sh"), "--dir", str(ROOT / "remotes"), "--uninstall"]
    done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
    assert done.returncode == 2
    assert (ENTRIES / "deploy").exists()


def plain_lines(done: Outcome) -> list[str]:
    """The lines that OpenNebula shows to users, as its driver filters them."""
    lines = done.stderr_tail.splitlines()
    return [x for x in lines if not x.startswith(("INFO: ", "ERROR: ", "WARN: ", "DEBUG: "))]
