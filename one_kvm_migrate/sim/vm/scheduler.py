"""A simple scheduler: machines that wait go to the host with the most room."""

import logging
from functools import partial
from typing import TYPE_CHECKING

from one_kvm_migrate.sim.errors import OnedError
from one_kvm_migrate.sim.states import HostState, VmState
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.vm import capacity, placement, reach
from one_kvm_migrate.sim.vm.machine import Machine
from one_kvm_migrate.sim.vm.requirements import BadExpression, matches

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

log = logging.getLogger(__name__)


def schedule(sim: "Sim") -> None:
    """Called every few seconds; does nothing in a simulator without scheduler."""
    if sim.config.scheduler:
        place_waiting(sim)


def place_waiting(sim: "Sim") -> None:
    """Place every PENDING machine that fits somewhere, oldest first."""
    waiting = [obj.oid for obj in sim.store.all("vm") if obj.number("STATE") == VmState.PENDING]
    for oid in sorted(waiting):
        with sim.store.transaction():
            _place(Machine.load(sim, oid))


def _place(machine: Machine) -> None:
    if machine.state != VmState.PENDING:
        return
    try:
        host = choose_host(machine)
        datastore = choose_datastore(machine, host)
        placement.start(machine, host, datastore)
    except (BadExpression, OnedError) as exc:
        text = exc.text if isinstance(exc, OnedError) else f"bad requirements: {exc}"
        message = f"SCHED: Cannot dispatch VM: {text}"
        if message not in machine.obj.text("USER_TEMPLATE/SCHED_MESSAGE"):
            user = machine.obj.template("USER_TEMPLATE")
            user.set("SCHED_MESSAGE", message)
            machine.obj.set_template(user, "USER_TEMPLATE")
            machine.save()
            log.info("vm=%d %s", machine.oid, message)


def choose_host(machine: Machine) -> Obj:
    """The MONITORED host that fits and has the most memory left.

    Raises OnedError when there is none, BadExpression for requirements we cannot read.
    """
    needed = capacity.needs(machine.template())
    wanted = [
        machine.obj.text("TEMPLATE/AUTOMATIC_REQUIREMENTS"),
        machine.obj.text("USER_TEMPLATE/SCHED_REQUIREMENTS"),
    ]
    hosts = [
        host
        for host in machine.sim.store.all("host")
        if host.number("STATE") in (HostState.MONITORED, HostState.MONITORING_MONITORED)
        and all(matches(text, partial(lookup, host)) for text in wanted)
    ]
    fitting = [
        host for host in hosts
        if all(left >= need for left, need in zip(capacity.free(host), needed, strict=True))
        and placement.system_datastores(machine, host)
    ]  # fmt: skip
    if not fitting:
        why = "No host with enough capacity" if hosts else "No host meets the requirements"
        raise reach.refuse(why)
    return max(fitting, key=lambda host: (capacity.free(host)[1], -host.oid))


def choose_datastore(machine: Machine, host: Obj) -> Obj:
    """The system datastore for a machine on *host*. Raises OnedError or BadExpression."""
    wanted = [
        machine.obj.text("TEMPLATE/AUTOMATIC_DS_REQUIREMENTS"),
        machine.obj.text("USER_TEMPLATE/SCHED_DS_REQUIREMENTS"),
    ]
    if machine.records():
        return placement.system_datastore(machine, host, -1)
    fitting = [
        item
        for item in placement.system_datastores(machine, host)
        if all(matches(text, partial(lookup, item)) for text in wanted)
    ]
    if not fitting:
        raise reach.refuse("No system datastore meets the requirements")
    return max(fitting, key=lambda item: (item.number("FREE_MB"), -item.oid))


def lookup(obj: Obj, name: str) -> str:
    """Value of attribute *name* of a host or datastore; lists of numbers with commas."""
    if name == "CURRENT_VMS":
        return ",".join(item.text or "" for item in obj.body.iterfind("VMS/ID"))
    found = obj.body.findall(name)
    if found:
        return ",".join(item.text or "" for item in found)
    return obj.text(f"TEMPLATE/{name}")
