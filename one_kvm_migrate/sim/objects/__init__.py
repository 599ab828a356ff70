"""One module per kind of OpenNebula object; each has METHODS: RPC name -> handler."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from one_kvm_migrate.sim.call import Handler
from one_kvm_migrate.sim.objects import system
from one_kvm_migrate.sim.rpc import merged

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

METHODS: dict[str, Handler] = merged(system.METHODS)
PERIODIC: tuple[Callable[["Sim"], None], ...] = ()
