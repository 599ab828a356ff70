"""The demo guest boots on what VirtualBox machines become, and does what the demo needs."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.lab.guest import GuestDisk
from one_kvm_migrate.lab.inside import Inside
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from tests.integration.domains import AGENT, DISK, NIC, SERIAL, domain, overlay, runs

BOOT_TIMEOUT_S = 90.0


@pytest.fixture(scope="module")
def booted(
    libvirtd: PrivateLibvirtd, demo_guest: GuestDisk, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Inside]]:
    """The guest on a ``pc`` machine with SATA disk and e1000, its agent answering."""
    disk = overlay(demo_guest.vdi_path, tmp_path_factory.mktemp("boot") / "disk.qcow2")
    started = time.monotonic()
    with (
        domain(libvirtd.uri, "guest", DISK.format(path=disk) + NIC + AGENT + SERIAL) as made,
        Inside.open(libvirtd.uri, "guest") as inside,
    ):
        assert time.monotonic() - started < BOOT_TIMEOUT_S
        yield made, inside


def test_its_files_are_there(booted: tuple[Any, Inside], demo_guest: GuestDisk) -> None:
    _, inside = booted
    for marker in demo_guest.markers:
        assert inside.sha256(marker.path) == marker.sha256


def test_its_adapter_works(booted: tuple[Any, Inside]) -> None:
    _, inside = booted
    assert inside.mac() == "08:00:27:01:02:03"


def test_processors_and_memory_grow_while_it_runs(booted: tuple[Any, Inside]) -> None:
    made, inside = booted
    deadline = Deadline(60)
    before = inside.settled_shape(384, deadline=deadline)
    assert before.nproc == 1
    made.setVcpusFlags(2, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    def online() -> bool:
        try:
            made.setVcpusFlags(2, libvirt.VIR_DOMAIN_VCPU_GUEST)
        except libvirt.libvirtError:
            return False  # the guest has not yet noticed its second processor
        return inside.shape().nproc == 2

    wait_until(online, deadline, what="a second processor")
    made.setMemoryFlags(512 * 1024, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    wait_until(
        lambda: inside.shape().memory_total_mib >= before.memory_total_mib + 120,
        deadline,
        what="the balloon to give memory back",
    )


def test_the_power_button_switches_it_off(
    libvirtd: PrivateLibvirtd, demo_guest: GuestDisk, tmp_path: Path
) -> None:
    disk = overlay(demo_guest.vdi_path, tmp_path / "disk.qcow2")
    with domain(libvirtd.uri, "button", DISK.format(path=disk) + AGENT) as made:
        with Inside.open(libvirtd.uri, "button"):
            made.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        wait_until(lambda: not runs(made), Deadline(60), what="the guest to switch off")
