"""The driver with a real guest inside: what it does is confirmed by the guest agent."""

import time
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.lab.guest import READY_MARK, GuestDisk
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from one_kvm_migrate.tools.run import run
from one_kvm_migrate.vmm.domain import agent_connected, live_xml
from tests.integration.driverkit import (
    UUID,
    Driver,
    Shape,
    domain_xml,
    okm_document,
    resize_document,
)

BOOT_S = 90


class Guest:
    """A booted demo guest, seen from the host."""

    def __init__(self, driver: Driver, vm_dir: Path) -> None:
        self.driver = driver
        self.vm_dir = vm_dir
        self._connection = libvirt.open(driver.uri)
        self._domain = self._connection.lookupByUUIDString(UUID)

    def close(self) -> None:
        self._connection.close()

    def starts(self) -> int:
        """How often the guest has announced itself on its serial console."""
        log = self.vm_dir / "serial.log"
        return log.read_bytes().count(READY_MARK.encode()) if log.exists() else 0

    def wait_for_start(self, number: int) -> None:
        what = f"the guest's start number {number}"
        wait_until(lambda: self.starts() >= number, Deadline(BOOT_S), what=what)

    def wait_for_agent(self) -> None:
        def connected() -> bool:
            return agent_connected(live_xml(self._domain))

        wait_until(connected, Deadline(BOOT_S), what="the guest agent")

    def cpus(self) -> tuple[str, str]:
        """CPUs that are present and online, as the guest counts them."""
        answer = self._domain.guestVcpus(0)
        return answer["vcpus"], answer["online"]

    def balloon_mib(self) -> int:
        return int(self._domain.memoryStats()["actual"]) // 1024

    def total_mib(self) -> int:
        """All memory the guest's kernel uses, by its balloon driver's statistics."""
        self._domain.setMemoryStatsPeriod(1, 0)
        total: int = wait_until(
            lambda: self._domain.memoryStats().get("available"),
            Deadline(20),
            what="memory statistics of the guest",
        )
        return total // 1024


def boot(driver: Driver, vm_dir: Path, disk: GuestDisk, shape: Shape) -> Guest:
    """Start the demo guest from an overlay and return when it is up."""
    vm_dir.mkdir()
    backing = ["-F", "raw", "-b", str(disk.raw_path)]
    run(
        ["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(vm_dir / "disk.0")],
        deadline=Deadline(20),
    )
    (vm_dir / "vm.xml").write_bytes(okm_document(SERIAL="LOG", HOTPLUG_VCPUS="YES"))
    answer = driver.deploy(vm_dir, domain_xml(vm_dir, shape))
    assert (answer.rc, answer.stdout) == (0, f"{UUID}\n"), answer.stderr
    guest = Guest(driver, vm_dir)
    guest.wait_for_start(1)
    return guest


@pytest.fixture
def driver(tmp_path: Path, libvirtd: PrivateLibvirtd) -> Iterator[Driver]:
    installed = Driver.install(tmp_path, libvirtd.uri)
    installed.set(SHUTDOWN_TIMEOUT="40")
    yield installed
    assert installed.call("cancel", UUID).rc == 0
    assert installed.domains() == []


@pytest.fixture
def guest(driver: Driver, tmp_path: Path, demo_guest: GuestDisk) -> Iterator[Guest]:
    """Two of four CPUs, 256 of 512 MiB, and an agent."""
    shape = Shape(vcpus=(2, 4), memory_mib=(256, 512), disk_format="qcow2", agent=True)
    booted = boot(driver, tmp_path / "0", demo_guest, shape)
    booted.wait_for_agent()
    yield booted
    booted.close()


def test_a_guest_grows_shrinks_reboots_and_shuts_down(guest: Guest) -> None:
    driver = guest.driver
    assert (guest.cpus(), guest.balloon_mib()) == (("0-1", "0-1"), 256)
    grow = resize_document((2, 4, 400), (1, 2, 256))
    for _ in range(2):
        answer = driver.resize(grow)
        assert (answer.rc, answer.message) == (0, "")
        assert (guest.cpus(), guest.balloon_mib()) == (("0-3", "0-3"), 400)

    answer = driver.resize(resize_document((1, 1, 300), (2, 4, 400)))
    assert (answer.rc, answer.message) == (0, "")
    assert (guest.cpus()[1], guest.balloon_mib()) == ("0", 300)

    answer = driver.resize(resize_document((1, 5, 280), (1, 1, 300)))
    assert answer.rc == 1
    assert "at most 4 virtual CPUs" in answer.message
    assert (guest.cpus()[1], guest.balloon_mib()) == ("0", 300)

    assert driver.call("reboot", UUID, "host", "0", "host").rc == 0
    guest.wait_for_start(2)
    guest.wait_for_agent()
    answer = driver.call("shutdown", UUID, "host", "0", "host")
    assert (answer.rc, answer.message) == (0, "")
    assert answer.log == [f"INFO: shutdown: domain {UUID} ended: shut down by the guest agent"]
    assert driver.domains() == []


def test_a_guest_without_agent_is_shut_down_by_acpi(
    driver: Driver, tmp_path: Path, demo_guest: GuestDisk
) -> None:
    shape = Shape(memory_mib=(256, 256), disk_format="qcow2")
    guest = boot(driver, tmp_path / "0", demo_guest, shape)
    assert driver.call("reset", UUID, "host", "0", "host").rc == 0
    guest.wait_for_start(2)
    guest.close()
    begin = time.monotonic()
    answer = driver.call("shutdown", UUID, "host", "0", "host")
    assert answer.log == [f"INFO: shutdown: domain {UUID} ended: shut down by ACPI"]
    assert answer.rc == 0
    assert time.monotonic() - begin < 40


def test_a_guest_uses_plugged_memory_and_may_refuse_to_give_it_back(
    driver: Driver, tmp_path: Path, demo_guest: GuestDisk
) -> None:
    shape = Shape(memory_mib=(256, 1024), disk_format="qcow2", modules=True)
    guest = boot(driver, tmp_path / "0", demo_guest, shape)
    before_mib = guest.total_mib()
    answer = driver.resize(resize_document((1, 1, 512), (1, 1, 256), "HOTPLUG"))
    assert (answer.rc, answer.message) == (0, "")
    wait_until(
        lambda: guest.total_mib() >= before_mib + 240,
        Deadline(20),
        what="the guest to use its new memory",
    )
    # Its kernel keeps data there by now, and nothing that it refuses is taken.
    answer = driver.resize(resize_document((1, 1, 256), (1, 1, 512), "HOTPLUG"))
    assert answer.rc == 1
    assert answer.message.startswith(f"Failed to resize memory to 256 MiB on {UUID}: ")
    assert "rejected by the guest" in answer.message
    assert answer.log[0] == "INFO: resize: everything is back to the former shape"
    assert guest.total_mib() >= before_mib + 240
    guest.close()
