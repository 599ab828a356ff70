"""One module per kind of OpenNebula object; each has METHODS: RPC name -> handler."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from one_kvm_migrate.sim.call import Handler
from one_kvm_migrate.sim.objects import (
    acls,
    clusters,
    datastores,
    groups,
    hooks,
    hosts,
    images,
    secgroups,
    system,
    templates,
    users,
    vnets,
)
from one_kvm_migrate.sim.rpc import merged

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

METHODS: dict[str, Handler] = merged(
    acls.METHODS,
    clusters.METHODS,
    datastores.METHODS,
    groups.METHODS,
    hooks.METHODS,
    hosts.METHODS,
    images.METHODS,
    secgroups.METHODS,
    system.METHODS,
    templates.METHODS,
    users.METHODS,
    vnets.METHODS,
)
PERIODIC: tuple[Callable[["Sim"], None], ...] = (datastores.monitor, hosts.monitor)
