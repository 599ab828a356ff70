"""Fixtures of the simulator's tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyone
import pytest

from one_kvm_migrate.sim.service import Sim, SimConfig
from tests.integration.simulator.asker import ADMIN, Asker


@pytest.fixture
def settings(tmp_path: Path) -> SimConfig:
    return SimConfig(dir=tmp_path / "sim", monitor_interval_s=60.0)


@pytest.fixture
def sim(settings: SimConfig) -> Iterator[Sim]:
    with Sim(settings) as running:
        yield running


@pytest.fixture
def ask(sim: Sim) -> Asker:
    return Asker(sim)


@pytest.fixture
def ana(ask: Asker) -> Asker:
    """A user of the group "students", number 2 in group 100."""
    gid = ask("one.group.allocate", "students")
    ask("one.user.allocate", "ana", "secret", "core", [gid])
    return Asker(ask.sim, "ana:secret")


@pytest.fixture
def one(sim: Sim) -> Any:
    return pyone.OneServer(sim.endpoint, session=ADMIN)
