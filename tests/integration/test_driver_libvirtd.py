"""The private libvirtd keeps to itself and leaves nothing behind."""

import os
from pathlib import Path

import libvirt
import pytest
from lxml import etree

from one_kvm_migrate.errors import UsageError
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from tests.integration.driverkit import UUID, domain_xml


def processes(root: Path) -> list[int]:
    """Processes in the mount namespace of the libvirtd below *root*."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.path.samefile(f"/proc/{name}/root/run/libvirt", root / "run"):
                found.append(int(name))
        except OSError:
            continue
    return found


def host_uuid(connection: libvirt.virConnect) -> str | None:
    """How libvirt tells one host from another, as in a migration."""
    return etree.fromstring(connection.getCapabilities()).findtext("host/uuid")


@pytest.fixture
def domain(tmp_path: Path) -> str:
    """A domain with an empty disk."""
    with (tmp_path / "disk.0").open("wb") as disk:
        disk.truncate(1 << 20)
    return domain_xml(tmp_path).decode()


def test_two_instances_do_not_see_each_other(tmp_path: Path, domain: str) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    with PrivateLibvirtd(tmp_path / "a") as first, PrivateLibvirtd(tmp_path / "b") as second:
        one, two = libvirt.open(first.uri), libvirt.open(second.uri)
        one.createXML(domain)
        assert [d.UUIDString() for d in one.listAllDomains()] == [UUID]
        assert two.listAllDomains() == []
        assert host_uuid(one) != host_uuid(two)
        assert Path("/proc/self/mountinfo").read_text() == mounts
        assert len(processes(tmp_path / "a")) == 2
        one.close()
        two.close()
    assert processes(tmp_path / "a") == processes(tmp_path / "b") == []
    assert Path("/proc/self/mountinfo").read_text() == mounts


def test_a_start_ends_what_a_killed_owner_left(tmp_path: Path, domain: str) -> None:
    lost = PrivateLibvirtd(tmp_path / "a")
    lost.start()
    connection = libvirt.open(lost.uri)
    connection.createXML(domain)
    left = processes(tmp_path / "a")
    assert len(left) == 2
    with PrivateLibvirtd(tmp_path / "a") as again:
        assert not set(left) & set(processes(tmp_path / "a"))
        connection = libvirt.open(again.uri)
        assert connection.listAllDomains() == []
        connection.close()
    # The lost owner's child has ended; collect it.
    lost.stop()
    assert processes(tmp_path / "a") == []


def test_a_path_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too long for a socket"):
        PrivateLibvirtd(tmp_path / ("x" * 100)).start()
