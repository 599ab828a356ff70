"""What the service needs of virtual machines: methods, periodic work, taking up again."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from one_kvm_migrate.sim.call import Handler

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

METHODS: dict[str, Handler] = {}
# Called every monitor_interval_s seconds, each in a thread of its own, never in step mode.
PERIODIC: tuple[Callable[["Sim"], None], ...] = ()


def resume(sim: "Sim") -> None:
    """Called once after start, when everything runs: queue what a stop interrupted."""
