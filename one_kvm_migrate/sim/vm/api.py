"""What the service needs of virtual machines: methods, periodic work, taking up again."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from one_kvm_migrate.sim.call import Handler
from one_kvm_migrate.sim.objects import common
from one_kvm_migrate.sim.vm import (
    actions,
    attach,
    cloning,
    conf,
    create,
    disksnapshots,
    monitor,
    placement,
    pool,
    recover,
    resize,
    saveas,
    scheduler,
    snapshots,
    steps,
    usage,
)

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

METHODS: dict[str, Handler] = {
    **common.owned_methods("vm", "one.vm", moved=usage.moved),
    "one.vm.action": actions.action,
    "one.vm.allocate": create.allocate,
    "one.vm.attach": attach.attach,
    "one.vm.attachnic": attach.attachnic,
    "one.vm.deploy": placement.deploy,
    "one.vm.detach": attach.detach,
    "one.vm.detachnic": attach.detachnic,
    "one.vm.diskresize": resize.diskresize,
    "one.vm.disksaveas": saveas.saveas,
    "one.vm.disksnapshotcreate": disksnapshots.snapshot_create,
    "one.vm.disksnapshotdelete": disksnapshots.snapshot_delete,
    "one.vm.disksnapshotrevert": disksnapshots.snapshot_revert,
    "one.vm.info": pool.info,
    "one.vm.migrate": placement.migrate,
    "one.vm.monitoring": pool.monitoring,
    "one.vm.recover": recover.recover,
    "one.vm.rename": conf.rename,
    "one.vm.resize": resize.resize,
    "one.vm.snapshotcreate": snapshots.create,
    "one.vm.snapshotdelete": snapshots.delete,
    "one.vm.snapshotrevert": snapshots.revert,
    "one.vm.update": conf.update,
    "one.vm.updateconf": conf.updateconf,
    "one.vmpool.info": pool.short,
    "one.vmpool.infoextended": pool.extended,
    "one.vmpool.infoset": pool.some,
    "one.vmpool.monitoring": pool.pool_monitoring,
}
# Called every monitor_interval_s seconds, each in a thread of its own, never in step mode.
PERIODIC: tuple[Callable[["Sim"], None], ...] = (
    cloning.check,
    scheduler.schedule,
    monitor.look,
)


def resume(sim: "Sim") -> None:
    """Called once after start, when everything runs: queue what a stop interrupted."""
    steps.resume(sim)
