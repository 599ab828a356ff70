"""Resizing a domain that has nothing to boot: limits, refusals, and putting back."""

import subprocess
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from tests.integration.driverkit import (
    UUID,
    Driver,
    Shape,
    domain_xml,
    has_socket,
    one,
    recording,
    resize_document,
)


def test_resize_checks_the_domains_limits_first(running: Driver) -> None:
    _, _, expected = recording("resize.02")
    before = etree.tostring(running.live())
    answer = running.resize(resize_document((1, 5, 96), (1, 1, 64)))
    assert answer.rc == expected.rc
    assert answer.message.startswith(expected.message.replace("to 4 on", "to 5 on"))
    assert "at most 4 virtual CPUs" in answer.message
    answer = running.resize(resize_document((1, 2, 256), (1, 1, 64)))
    assert answer.rc == 1
    assert "the domain was started with at most 128 MiB" in answer.message
    assert etree.tostring(running.live()) == before


def test_resize_without_a_difference_does_nothing(running: Driver) -> None:
    before = etree.tostring(running.live())
    answer = running.resize(resize_document((1, 3, 96), (1, 3, 96)))
    assert (answer.rc, answer.stderr) == (0, "")
    assert etree.tostring(running.live()) == before


def test_resize_plugs_cpus_also_without_an_agent(running: Driver) -> None:
    request = resize_document((1, 3, 64), (1, 1, 64))
    for before in (1, 3):
        answer = running.resize(request)
        assert (answer.rc, answer.message) == (0, "")
        assert f"virtual CPUs: {before} to 3; the guest has no agent" in answer.log[-1]
        assert one(running.live(), "vcpu").get("current") == "3"


def test_an_emulated_domain_without_agent_keeps_its_cpus(running: Driver) -> None:
    assert running.resize(resize_document((1, 3, 64), (1, 1, 64))).rc == 0
    answer = running.resize(resize_document((1, 2, 64), (1, 3, 64)))
    assert answer.rc == 1
    assert "cannot lose a CPU without the guest's help" in answer.message
    assert one(running.live(), "vcpu").get("current") == "3"


def test_resize_puts_memory_back_when_no_guest_answers(running: Driver) -> None:
    running.set(RESIZE_TIMEOUT="2")
    answer = running.resize(resize_document((1, 2, 96), (1, 1, 64)))
    assert answer.rc == 1
    assert "the guest's balloon to reach 96 MiB" in answer.message
    assert "INFO: resize: everything is back to the former shape" in answer.log
    live = running.live()
    assert one(live, "vcpu").get("current") == "1"
    assert one(live, "currentMemory").text == str(128 * 1024)


def test_a_terminated_resize_puts_everything_back(running: Driver) -> None:
    argv = [running.script("resize"), UUID, "0", "host"]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdin is not None
        process.stdin.write(resize_document((1, 1, 96), (1, 1, 64)))
        process.stdin.close()
        process.stdin = None
        wait_until(lambda: has_socket(process.pid), Deadline(10), what="the driver to connect")
        process.terminate()
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1
    assert b"ERROR: resize: stopped by signal 15" in stderr
    assert one(running.live(), "currentMemory").text == str(128 * 1024)


def test_resize_plugs_memory_modules(driver: Driver, vm_dir: Path) -> None:
    shape = Shape(memory_mib=(64, 512), modules=True)
    answer = driver.deploy(vm_dir, domain_xml(vm_dir, shape))
    assert answer.rc == 0, answer.stderr
    answer = driver.resize(resize_document((1, 1, 192), (1, 1, 64), "HOTPLUG"))
    assert answer.rc == 0, answer.stderr
    assert answer.log == ["INFO: resize: memory: 64 to 192 MiB by modules"]
    assert one(driver.live(), "devices/memory/target/size").text == str(128 * 1024)
    answer = driver.resize(resize_document((1, 1, 100), (1, 1, 192), "HOTPLUG"))
    assert answer.rc == 1
    assert "no plugged memory modules (128 MiB) make up a difference of 92 MiB" in answer.message


def test_resize_names_a_domain_without_module_slots(running: Driver) -> None:
    answer = running.resize(resize_document((1, 1, 96), (1, 1, 64), "HOTPLUG"))
    assert answer.rc == 1
    assert "started without slots for memory modules" in answer.message


def test_resize_of_an_absent_domain(driver: Driver) -> None:
    answer = driver.resize(resize_document((1, 2, 64), (1, 1, 64)))
    assert answer.rc == 1
    assert answer.message == f"Could not resize: no domain {UUID} runs on this host"


def test_cpu_shares_follow_cpu(tmp_path: Path, vm_dir: Path) -> None:
    if not (Path("/sys/fs/cgroup/cpu").is_dir() or _cgroup2_has_cpu()):
        pytest.skip("this machine mounts no CPU control group")
    with PrivateLibvirtd(tmp_path / "v", cgroups=True) as daemon:
        driver = Driver.install(tmp_path, daemon.uri)
        assert driver.deploy(vm_dir, domain_xml(vm_dir)).rc == 0
        answer = driver.resize(resize_document((1.5, 1, 64), (1, 1, 64)))
        assert (answer.rc, answer.log) == (0, ["INFO: resize: CPU shares: 1024 to 1536"])
        connection = libvirt.open(daemon.uri)
        assert connection.lookupByUUIDString(UUID).schedulerParameters()["cpu_shares"] == 1536
        connection.close()


def _cgroup2_has_cpu() -> bool:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    return controllers.exists() and "cpu" in controllers.read_text().split()
