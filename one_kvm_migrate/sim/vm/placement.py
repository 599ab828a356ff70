"""one.vm.deploy and one.vm.migrate: where machines run."""

from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import capacity, history, reach, steps, vnc
from one_kvm_migrate.sim.vm.history import Action, Place
from one_kvm_migrate.sim.vm.lifecycle import stamp
from one_kvm_migrate.sim.vm.machine import Machine

SYSTEM_DS = 1
COLD = {0: Action.MIGRATE, 1: Action.POFF_MIGRATE, 2: Action.POFF_HARD_MIGRATE}
DEPLOYABLE = {
    VmState.PENDING: Lcm.PROLOG,
    VmState.HOLD: Lcm.PROLOG,
    VmState.STOPPED: Lcm.PROLOG_RESUME,
    VmState.UNDEPLOYED: Lcm.PROLOG_UNDEPLOY,
}


def deploy(  # the call has these parameters
    call: Call, oid: int, host_id: int, enforce: bool = False, ds_id: int = -1, extra: str = ""
) -> int:
    """one.vm.deploy"""
    machine = reach.machine(call, oid, Right.ADMIN)
    if machine.state not in DEPLOYABLE:
        raise reach.refuse(f"Deploy action is not available for state {machine.state_name()}")
    host = call.sim.store.get("host", host_id)
    if extra:
        template = machine.template()
        _choose_networks(template, Template.parse(extra))
        machine.set_template(template)
    if enforce or not call.is_admin:
        capacity.require(host, *capacity.needs(machine.template()))
    start(machine, host, system_datastore(machine, host, ds_id))
    return oid


def _choose_networks(template: Template, extra: Template) -> None:
    """Apply the one thing that deploy's template is for: attributes of NICs, by NIC_ID."""
    for chosen in extra.vectors("NIC"):
        for nic in template.vectors("NIC"):
            if nic.get("NIC_ID") == chosen.get("NIC_ID"):
                nic.update(chosen)


def start(machine: Machine, host: Obj, datastore: Obj) -> None:
    """Put a machine that waits on *host* and queue its way to RUNNING.

    Call it inside a transaction. Raises OnedError when there is no console port left.
    """
    first = _first_step(machine)
    template = machine.template()
    try:
        vnc.set_port(machine.sim, machine.oid, template)
    except OkmError as exc:
        raise OnedError(Code.INTERNAL, exc.message) from exc
    template.set("TM_MAD_SYSTEM", datastore.text("TM_MAD"))
    machine.set_template(template)
    capacity.occupy(machine.sim, host.oid, machine.oid, template)
    machine.open_record(_place(host, datastore))
    stamp(machine, "PSTIME")
    steps.enter(machine, first)


def _first_step(machine: Machine) -> Lcm:
    """A machine that was undeployed or stopped and then resumed is PENDING as well."""
    if machine.state in (VmState.PENDING, VmState.HOLD) and machine.records():
        if history.action_of(machine.last()) == Action.STOP:
            return Lcm.PROLOG_RESUME
        if history.action_of(machine.last()) in (Action.UNDEPLOY, Action.UNDEPLOY_HARD):
            return Lcm.PROLOG_UNDEPLOY
    return DEPLOYABLE[machine.state]


def _place(host: Obj, datastore: Obj) -> Place:
    return Place(
        host_id=host.oid,
        host_name=host.name,
        cluster_id=host.number("CLUSTER_ID"),
        vm_mad=host.text("VM_MAD"),
        tm_mad=datastore.text("TM_MAD"),
        datastore_id=datastore.oid,
    )


def system_datastore(machine: Machine, host: Obj, ds_id: int) -> Obj:
    """System datastore *ds_id*; for -1 the fitting one with the most free space.

    A machine that was undeployed or stopped stays in its datastore. Raises OnedError.
    """
    store = machine.sim.store
    if ds_id >= 0:
        datastore = store.get("datastore", ds_id)
        if datastore.number("TYPE") != SYSTEM_DS:
            raise reach.refuse(f"Datastore {ds_id} is not a system datastore.")
        return datastore
    if machine.records():
        return store.get("datastore", machine.place().datastore_id)
    fitting = system_datastores(machine, host)
    if not fitting:
        raise reach.refuse("No suitable system datastore found.")
    return max(fitting, key=lambda item: item.number("FREE_MB"))


def system_datastores(machine: Machine, host: Obj) -> list[Obj]:
    """System datastores that host and machine can use together."""
    cluster = host.number("CLUSTER_ID")
    drivers = {disk.get("TM_MAD") for disk in machine.template().vectors("DISK")} - {None}
    return [
        item
        for item in machine.sim.store.all("datastore")
        if item.number("TYPE") == SYSTEM_DS
        and not item.number("STATE")
        and any(found.text == str(cluster) for found in item.body.iterfind("CLUSTERS/ID"))
        and (not drivers or item.text("TM_MAD") in drivers)
    ]


def migrate(  # the call has these parameters
    call: Call,
    oid: int,
    host_id: int,
    live: bool,
    enforce: bool = False,
    ds_id: int = -1,
    kind: int = 0,
) -> int:
    """one.vm.migrate: live, or cold by saving (0), powering off (1), or cutting the power (2)."""
    machine = reach.machine(call, oid, Right.ADMIN)
    movable = machine.state in (VmState.POWEROFF, VmState.SUSPENDED) or machine.active_in(
        Lcm.RUNNING, Lcm.UNKNOWN
    )
    if not movable:
        raise reach.refuse(f"Migrate action is not available for state {machine.state_name()}")
    if kind not in COLD:
        raise reach.refuse(f"Unknown migration type {kind}")
    host = call.sim.store.get("host", host_id)
    here = machine.place()
    datastore = system_datastore(machine, host, here.datastore_id if ds_id < 0 else ds_id)
    if (host.oid, datastore.oid) == (here.host_id, here.datastore_id):
        raise reach.refuse(
            f"VM is already running on host [{host.oid}] and datastore [{datastore.oid}]"
        )
    if datastore.text("TM_MAD") != here.tm_mad:
        raise reach.refuse("Cannot migrate to a system datastore with a different TM driver")
    if enforce or not call.is_admin:
        capacity.require(host, *capacity.needs(machine.template()))
    _require_tm(machine)
    capacity.occupy(machine.sim, host.oid, machine.oid, machine.template())
    _go(machine, _place(host, datastore), COLD[kind], live, reach.actor(call))
    return oid


def _require_tm(machine: Machine) -> None:
    """From now on only system datastores with the same transfer driver will do."""
    template = machine.template()
    wanted = template.get("AUTOMATIC_DS_REQUIREMENTS")
    rule = f'(TM_MAD = "{machine.place().tm_mad}")'
    if wanted and rule not in wanted:
        template.set("AUTOMATIC_DS_REQUIREMENTS", f"{wanted} & {rule}")
        machine.set_template(template)


def _go(machine: Machine, target: Place, cold: Action, live: bool, actor: history.Actor) -> None:
    if machine.active_in(Lcm.RUNNING) and live:
        machine.set_action(Action.LIVE_MIGRATE, actor)
        machine.open_record(target)
        steps.enter(machine, Lcm.MIGRATE)
    elif machine.active_in(Lcm.RUNNING, Lcm.UNKNOWN):
        machine.set_action(cold, actor)
        machine.open_record(target)
        machine.set_action(cold, actor)
        steps.enter(machine, Lcm.SAVE_MIGRATE)
    else:
        stays = history.action_of(machine.last())
        suspended = machine.state == VmState.SUSPENDED
        machine.set_action(Action.MIGRATE, actor)
        machine.open_record(target)
        machine.set_action(stays, history.Actor())
        stamp(machine, "PSTIME")
        steps.enter(
            machine, Lcm.PROLOG_MIGRATE_SUSPEND if suspended else Lcm.PROLOG_MIGRATE_POWEROFF
        )
