"""The driver's scripts against a real libvirtd, with a domain that has nothing to boot."""

import base64
import signal
import socket
import subprocess
import time
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from one_kvm_migrate import __version__
from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from one_kvm_migrate.tools.run import run
from one_kvm_migrate.vmm.host import direct_works, kvm_obstacle, link_target
from tests.integration.driverkit import (
    UUID,
    Driver,
    Shape,
    domain_xml,
    drop,
    has_socket,
    okm_document,
    one,
    recording,
)

OTHER_UUID = "11111111-2222-4333-8444-555555555555"


def test_deploy_starts_what_it_was_given(driver: Driver, vm_dir: Path) -> None:
    xml = domain_xml(vm_dir)
    answer = driver.deploy(vm_dir, xml)
    assert (answer.rc, answer.stdout) == (0, f"{UUID}\n")
    assert answer.stderr == f"INFO: deploy: domain {UUID} started by kvm_py {__version__}\n"
    assert driver.domains() == [UUID]
    assert (vm_dir / "deployment.0").read_bytes() == xml
    assert sorted(x.name for x in vm_dir.iterdir()) == ["deployment.0", "disk.0"]


def test_deploy_twice_is_deploy_once(running: Driver, vm_dir: Path) -> None:
    answer = running.deploy(vm_dir, domain_xml(vm_dir))
    assert (answer.rc, answer.stdout) == (0, f"{UUID}\n")
    assert answer.log == [f"INFO: deploy: domain {UUID} runs already"]
    assert running.domains() == [UUID]


def test_deploy_takes_base64_as_local_actions_get_it(driver: Driver, vm_dir: Path) -> None:
    xml = domain_xml(vm_dir)
    (vm_dir / "vm.xml").write_bytes(base64.b64encode(okm_document(SERIAL="YES")))
    assert driver.deploy(vm_dir, base64.b64encode(xml)).stdout == f"{UUID}\n"
    assert driver.live().find("devices/serial") is not None


def test_deploy_makes_the_directory(driver: Driver, vm_dir: Path) -> None:
    assert driver.deploy(vm_dir / "new" / "place", domain_xml(vm_dir)).rc == 0


def test_deploy_uses_what_a_disk_link_points_at(driver: Driver, vm_dir: Path) -> None:
    (vm_dir / "disk.0").rename(vm_dir / "image")
    (vm_dir / "disk.0").symlink_to("image")
    assert driver.deploy(vm_dir, domain_xml(vm_dir)).rc == 0
    assert one(driver.live(), "devices/disk/source").get("file") == str(vm_dir / "image")


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_deploy_grants_the_machines_wishes(driver: Driver, vm_dir: Path, machine: str) -> None:
    wishes = okm_document(
        SERIAL="LOG", NIC_SLOTS="0:3", HOTPLUG_VCPUS="YES", SCSI_MODEL="lsisas1068"
    )
    (vm_dir / "vm.xml").write_bytes(wishes)
    answer = driver.deploy(vm_dir, domain_xml(vm_dir, Shape(machine=machine)))
    assert answer.rc == 0, answer.stderr
    live = driver.live()
    address = one(live, "devices/interface/address")
    assert (address.get("bus"), address.get("slot")) == ("0x00", "0x03")
    assert one(live, "devices/serial/log").get("file") == str(vm_dir / "serial.log")
    assert one(live, "devices/controller[@type='scsi']").get("model") == "lsisas1068"
    assert [x.get("hotpluggable") for x in live.iterfind("vcpus/vcpu")] == ["no"] + ["yes"] * 3
    # What libvirt was given is what the deployment file says.
    assert b"serial.log" in (vm_dir / "deployment.0").read_bytes()


def test_deploy_changes_the_type_as_configured(driver: Driver, vm_dir: Path) -> None:
    root = etree.fromstring(domain_xml(vm_dir))
    root.set("type", "kvm")
    cpu = etree.SubElement(root, "cpu", {"mode": "host-passthrough"})
    driver.set(DOMAIN_TYPE="qemu")
    answer = driver.deploy(vm_dir, etree.tostring(root))
    assert answer.rc == 0, answer.stderr
    assert driver.live().get("type") == "qemu"
    assert cpu.get("mode") == "host-passthrough"
    assert any("host-passthrough changed to maximum" in line for line in answer.log)


def test_deploy_emulates_where_kvm_cannot_be_used(driver: Driver, vm_dir: Path) -> None:
    root = etree.fromstring(domain_xml(vm_dir))
    root.set("type", "kvm")
    driver.set(DOMAIN_TYPE="auto")
    # A host whose /dev/kvm is there but useless, also where there is none.
    hide = 'if [ -e /dev/kvm ]; then mount --bind /dev/null /dev/kvm; fi; exec "$@"'
    argv = ["unshare", "--mount", "--", "sh", "-euc", hide, "sh"]
    argv += [driver.script("deploy"), str(vm_dir / "deployment.0")]
    done = run(argv, deadline=Deadline(30), stdin=etree.tostring(root))
    assert done.stdout.decode() == f"{UUID}\n"
    assert "domain type kvm changed to qemu: KVM cannot be used here" in done.stderr_tail
    assert driver.live().get("type") == "qemu"


def test_deploy_refuses_an_unknown_type(driver: Driver, vm_dir: Path) -> None:
    driver.set(DOMAIN_TYPE="xen")
    answer = driver.deploy(vm_dir, domain_xml(vm_dir))
    assert answer.rc == 1
    assert answer.message.startswith("DOMAIN_TYPE=xen in okm.conf is none of keep, kvm, qemu, auto")


def test_deploy_names_a_missing_emulator(driver: Driver, vm_dir: Path) -> None:
    root = etree.fromstring(domain_xml(vm_dir))
    one(root, "devices/emulator").text = "/usr/bin/qemu-kvm-none"
    driver.set(EMULATOR="")
    answer = driver.deploy(vm_dir, etree.tostring(root))
    assert answer.rc == 1
    assert answer.message == (
        "the emulator /usr/bin/qemu-kvm-none does not exist on this host. "
        "Install the package opennebula-node-kvm, or set EMULATOR in okm.conf."
    )


def test_a_failed_deploy_leaves_no_domain_and_no_variables(driver: Driver, vm_dir: Path) -> None:
    (vm_dir / "disk.0").unlink()
    template = vm_dir / "empty_VARS.fd"
    template.write_bytes(b"variables")
    driver.set(OVMF_NVRAM=str(template))
    root = etree.fromstring(domain_xml(vm_dir))
    nvram = vm_dir / "lamp_VARS.fd"
    loader = etree.SubElement(one(root, "os"), "loader", {"readonly": "yes", "type": "pflash"})
    loader.text = "/usr/share/OVMF/OVMF_CODE_4M.fd"
    etree.SubElement(one(root, "os"), "nvram").text = str(nvram)
    answer = driver.deploy(vm_dir, etree.tostring(root))
    assert (answer.rc, answer.stdout) == (1, "")
    assert answer.message.startswith("Could not create domain: ")
    reason, _, path = answer.message.removeprefix("Could not create domain: ").rpartition(" (")
    assert "disk.0" in reason
    assert path == f"{vm_dir}/deployment.0)"
    assert driver.domains() == []
    assert not nvram.exists()


def test_deploy_says_when_the_variables_are_missing(driver: Driver, vm_dir: Path) -> None:
    driver.set(OVMF_NVRAM="/nonexistent")
    root = etree.fromstring(domain_xml(vm_dir))
    etree.SubElement(one(root, "os"), "nvram").text = str(vm_dir / "VARS.fd")
    answer = driver.deploy(vm_dir, etree.tostring(root))
    assert answer.rc == 1
    assert answer.message.startswith(
        "cannot copy the UEFI variables: No such file or directory (/nonexistent to "
    )


def test_deploy_refuses_a_name_that_is_taken(running: Driver, vm_dir: Path) -> None:
    root = etree.fromstring(domain_xml(vm_dir))
    one(root, "uuid").text = OTHER_UUID
    answer = running.deploy(vm_dir, etree.tostring(root))
    assert answer.rc == 1
    assert "already exists with uuid" in answer.message
    assert running.domains() == [UUID]


def test_cancel_ends_a_domain_and_again_is_success(running: Driver) -> None:
    for _ in range(2):
        answer = running.call("cancel", UUID, "host", "0", "host")
        assert (answer.rc, answer.stdout, answer.stderr) == (0, "", "")
        assert running.domains() == []


def test_actions_take_a_name_as_well(running: Driver) -> None:
    assert running.call("reset", "one-0", "host", "0", "host").rc == 0
    assert running.call("cancel", "one-0", "host", "0", "host").rc == 0
    assert running.domains() == []


@pytest.mark.parametrize("action", ["reboot", "reset"])
def test_reboot_and_reset_keep_the_domain(running: Driver, action: str) -> None:
    answer = running.call(action, UUID, "host", "0", "host")
    assert (answer.rc, answer.stdout, answer.stderr) == (0, "", "")
    assert running.domains() == [UUID]


@pytest.mark.parametrize("name", ["cancel.01", "reboot.01", "reset.01"])
def test_recorded_calls_for_an_absent_domain(driver: Driver, name: str) -> None:
    argv, stdin, expected = recording(name)
    answer = driver.call(name.partition(".")[0], *argv, stdin=stdin)
    assert (answer.rc, answer.stdout) == (expected.rc, expected.stdout)
    assert answer.message.startswith(expected.message)
    assert bool(answer.message) == bool(expected.message)


def test_shutdown_of_an_absent_domain_is_success(driver: Driver) -> None:
    argv, stdin, _ = recording("shutdown.01")
    answer = driver.call("shutdown", *argv, stdin=stdin)
    assert (answer.rc, answer.stdout, answer.stderr) == (0, "", "")


def test_shutdown_destroys_when_the_site_allows_it(running: Driver) -> None:
    running.set(SHUTDOWN_TIMEOUT="2", FORCE_DESTROY="yes")
    answer = running.call("shutdown", UUID, "host", "0", "host")
    assert (answer.rc, answer.message) == (0, "")
    _, _, expected = recording("shutdown.01")
    assert answer.log[0] == expected.log[0].replace("29a63063-3734-431b-8a29-3677140f2007", UUID)
    assert running.domains() == []


def test_shutdown_fails_otherwise_and_the_domain_stays(running: Driver) -> None:
    running.set(SHUTDOWN_TIMEOUT="1")
    answer = running.call("shutdown", UUID, "host", "0", "host")
    assert answer.rc == 1
    assert answer.message.startswith(f"Timed out shutting down {UUID}: it still runs after 1 s")
    assert running.domains() == [UUID]


def test_shutdown_without_acpi_does_not_wait(driver: Driver, vm_dir: Path) -> None:
    root = etree.fromstring(domain_xml(vm_dir))
    drop(one(root, "features"))
    driver.set(SHUTDOWN_TIMEOUT="60", CANCEL_NO_ACPI="yes")
    assert driver.deploy(vm_dir, etree.tostring(root)).rc == 0
    answer = driver.call("shutdown", UUID, "host", "0", "host", timeout_s=20)
    assert answer.rc == 0
    assert answer.log == [f"INFO: shutdown: domain {UUID} ended: destroyed, since it has no ACPI"]


def test_an_action_outlives_its_ssh_session(running: Driver) -> None:
    running.set(SHUTDOWN_TIMEOUT="2", FORCE_DESTROY="yes")
    argv = [running.script("shutdown"), UUID, "host", "0", "host"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        # Its handlers are in place once it has made its connection to libvirt.
        wait_until(lambda: has_socket(process.pid), Deadline(10), what="the driver to connect")
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        process.stderr.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert running.domains() == []


@pytest.mark.parametrize("action", ["reset", "deploy"])
def test_a_hung_libvirtd_is_given_up(driver: Driver, vm_dir: Path, action: str) -> None:
    path = vm_dir / "mute"
    uri = f"qemu:///system?socket={path}"
    driver.set(LIBVIRT_URI=uri, ACTION_TIMEOUT="1", DEPLOY_TIMEOUT="1")
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(path))
        mute.listen()
        begin = time.monotonic()
        argv = [str(vm_dir / "deployment.0")] if action == "deploy" else [UUID]
        answer = driver.call(action, *argv, stdin=domain_xml(vm_dir), timeout_s=30)
    assert time.monotonic() - begin < 15
    assert answer.rc == 1
    assert answer.message.startswith(f"{action} gave up: libvirt did not answer within 6 s.")


def test_kvm_is_not_taken_for_granted(tmp_path: Path, libvirtd: PrivateLibvirtd) -> None:
    connection = libvirt.open(libvirtd.uri)
    no_device = tmp_path / "kvm"
    assert (
        kvm_obstacle(connection, None, str(no_device)) == f"{no_device}: No such file or directory"
    )
    no_device.write_bytes(b"")
    assert kvm_obstacle(connection, None, str(no_device)).startswith(f"{no_device}: ")
    connection.close()


def test_questions_about_files(tmp_path: Path) -> None:
    file = tmp_path / "disk.0"
    file.write_bytes(b"")
    (tmp_path / "link").symlink_to("disk.0")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert link_target(str(file)) is None
    assert link_target(str(tmp_path / "link")) == str(file)
    assert link_target(str(tmp_path / "dangling")) is None
    # A file system that knows O_DIRECT, and a file that cannot be opened with it.
    assert direct_works(str(file))
    assert not direct_works("/proc/self/status")
