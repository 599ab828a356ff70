"""A real guest through the whole way: a fault on the host, resume, proof, rollback."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from one_kvm_migrate.lab.guest import GuestDisk
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from one_kvm_migrate.lab.vboxfile import VboxDisk, VboxMachine, VboxNic, write_vbox
from tests.integration.cloud import MAC, running_cloud

BRIDGE = "br-lab"


@contextmanager
def bridge(name: str) -> Iterator[None]:
    """A bridge of the test's own."""
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


@pytest.mark.e2e
@pytest.mark.timeout(300)
def test_fault_resume_proof_rollback(
    libvirtd: PrivateLibvirtd, demo_guest: GuestDisk, tmp_path: Path
) -> None:
    disk = VboxDisk(path=demo_guest.vdi_path, uuid=demo_guest.vdi_uuid)
    machine = VboxMachine(
        name="lamp & co", memory_mib=384, vcpus=1, disks=(disk,), nics=(VboxNic(mac=MAC),)
    )
    vbox = write_vbox(tmp_path / "lamp.vbox", machine)
    options = ("--libvirt-uri", libvirtd.uri, "--domain-type", "qemu")
    with running_cloud(tmp_path, *options) as cloud:
        wrong = "qemu+unix:///system?socket=/nonexistent"
        arguments = ["-d", "default", "--network", "lab", "--libvirt-uri", wrong, "--json"]
        failed = cloud.run("run", vbox, *arguments, timeout_s=200)
        result = json.loads(failed.stdout)
        assert failed.returncode == 35, failed.stderr
        assert "did not start" in failed.stderr and f"resume {result['run_id']}" in failed.stderr
        with bridge(BRIDGE):
            unproven = cloud.run("resume", result["run_id"], "--json", timeout_s=200)
            assert unproven.returncode == 50, unproven.stderr
            assert "draws a screen" in unproven.stderr and "--libvirt-uri" in unproven.stderr
            good = ["--libvirt-uri", libvirtd.uri, "--json"]
            resumed = cloud.run("resume", result["run_id"], *good, timeout_s=200)
            assert resumed.returncode == 0, resumed.stderr
            (moved,) = json.loads(resumed.stdout)["machines"]
            assert (moved["name"], moved["vm_state"]) == ("lamp - co", "RUNNING")
            assert moved["proof"]["verdict"] == "proven"
            assert Path(moved["proof"]["vnc"]["screenshot"]).read_bytes()[:4] == b"\x89PNG"
            undone = cloud.run("rollback", result["run_id"], timeout_s=200)
            assert undone.returncode == 0, undone.stderr
        left = cloud.leftovers()
        assert left == {key: [] for key in left}
