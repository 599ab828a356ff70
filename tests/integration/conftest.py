"""The driver on a host of its own, and a machine for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from tests.integration.driverkit import Driver, domain_xml


@pytest.fixture
def driver(tmp_path: Path, libvirtd: PrivateLibvirtd) -> Iterator[Driver]:
    """The driver on a host without domains."""
    installed = Driver.install(tmp_path, libvirtd.uri)
    assert installed.domains() == []
    yield installed
    for uuid in installed.domains():
        assert installed.call("cancel", uuid).rc == 0
    assert installed.domains() == []


@pytest.fixture
def vm_dir(tmp_path: Path) -> Path:
    """A machine's directory with an empty disk."""
    where = tmp_path / "0"
    where.mkdir()
    with (where / "disk.0").open("wb") as disk:
        disk.truncate(1 << 20)
    return where


@pytest.fixture
def running(driver: Driver, vm_dir: Path) -> Driver:
    """The driver with the standard domain running."""
    assert driver.deploy(vm_dir, domain_xml(vm_dir)).rc == 0
    return driver
