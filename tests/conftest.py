"""Fixtures that several test files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from one_kvm_migrate.lab.guest import GuestDisk, build_guest
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd

DATA = Path(__file__).parent / "data"
GUEST_CACHE = DATA.parents[1] / "build" / "guest-cache"


@pytest.fixture(scope="session")
def data() -> Path:
    """The directory with recorded and generated test data."""
    return DATA


@pytest.fixture(scope="session")
def libvirtd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateLibvirtd]:
    """A libvirtd of the test session's own; every test removes the domains it made."""
    with PrivateLibvirtd(tmp_path_factory.mktemp("libvirtd")) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def demo_guest(tmp_path_factory: pytest.TempPathFactory) -> GuestDisk:
    """A bootable guest named ``demo`` (raw and VDI); boot it from an overlay or a copy only."""
    return build_guest(tmp_path_factory.mktemp("guest"), name="demo", cache_dir=GUEST_CACHE)
