"""What a fresh simulator holds, and what a restarted one takes up again."""

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from one_kvm_migrate.sim.config import new_key

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim


def one_key(directory: Path) -> str:
    """The ONE_KEY of the simulator in *directory*, made on the first start."""
    path = directory / "one_key"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(new_key())
    return path.read_text()


def fill(sim: "Sim") -> None:
    """Make what a fresh OpenNebula has; does nothing when the state is not empty."""
    with sim.store.transaction():
        if sim.store.find("user", 0) is None:
            secrets.token_hex(1)


def resume(sim: "Sim") -> None:
    """Take up work that a stop interrupted."""
