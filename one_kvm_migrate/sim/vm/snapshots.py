"""System snapshots (memory and disks, made by the hypervisor)."""

from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import reach
from one_kvm_migrate.sim.vm.driver import Result
from one_kvm_migrate.sim.vm.hypervisor import Hypervisor
from one_kvm_migrate.sim.vm.machine import Machine, timestamp
from one_kvm_migrate.sim.vm.steps import Step, enter, error_text, register, running


def create(call: Call, oid: int, name: str = "") -> int:
    """one.vm.snapshotcreate; returns the snapshot's number."""
    machine = _running_machine(call, oid, "create")
    template = machine.template()
    known = (int(item["SNAPSHOT_ID"]) for item in template.vectors("SNAPSHOT"))
    number = max(known, default=-1) + 1
    snapshot = {
        "ACTION": "CREATE",
        "ACTIVE": "YES",
        "HYPERVISOR_ID": "",
        "NAME": name or f"snapshot-{number}",
        "SNAPSHOT_ID": str(number),
        "SYSTEM_DISK_SIZE": template.get("MEMORY"),
        "TIME": str(timestamp()),
    }
    template.add("SNAPSHOT", snapshot)
    machine.set_template(template)
    enter(machine, Lcm.HOTPLUG_SNAPSHOT)
    return number


def revert(call: Call, oid: int, number: int) -> int:
    """one.vm.snapshotrevert"""
    return _mark(call, oid, number, "REVERT")


def delete(call: Call, oid: int, number: int) -> int:
    """one.vm.snapshotdelete"""
    return _mark(call, oid, number, "DELETE")


def _running_machine(call: Call, oid: int, what: str) -> Machine:
    machine = reach.machine(call, oid)
    if not machine.active_in(Lcm.RUNNING):
        raise reach.refuse(
            f"Could not {what} snapshot for VM {oid}, wrong state {machine.state_name()}."
        )
    return machine


def _mark(call: Call, oid: int, number: int, what: str) -> int:
    machine = _running_machine(call, oid, what.lower())
    template = machine.template()
    wanted = str(number)
    found = next((s for s in template.vectors("SNAPSHOT") if s["SNAPSHOT_ID"] == wanted), None)
    if found is None:
        raise reach.refuse(
            f"Could not {what.lower()} snapshot {number} for VM {oid}, it does not exist."
        )
    found.update({"ACTION": what, "ACTIVE": "YES"})
    machine.set_template(template)
    enter(machine, Lcm.HOTPLUG_SNAPSHOT)
    return oid


def _active(template: Template) -> dict[str, str]:
    return next(item for item in template.vectors("SNAPSHOT") if item.get("ACTIVE") == "YES")


def _work(machine: Machine) -> Result:
    snapshot = _active(machine.template())
    what = snapshot["ACTION"].lower()
    key = "SNAPSHOT_ID" if what == "create" else "HYPERVISOR_ID"
    return Hypervisor(machine).snapshot(what, snapshot[key])


def _end(machine: Machine, *, dropped: str, hypervisor_id: str = "") -> None:
    """Take the marks off; the snapshot itself goes if what was done is *dropped*."""
    template = machine.template()
    snapshot = _active(template)
    if hypervisor_id:
        snapshot["HYPERVISOR_ID"] = hypervisor_id
    del snapshot["ACTIVE"]
    if snapshot.pop("ACTION") == dropped:
        kept = [item for item in template.vectors("SNAPSHOT") if item is not snapshot]
        template.remove("SNAPSHOT")
        for item in kept:
            template.add("SNAPSHOT", item)
    machine.set_template(template)
    running(machine)


def _success(machine: Machine, result: Result) -> None:
    created = _active(machine.template())["ACTION"] == "CREATE"
    words = result.info.split() if created else []
    _end(machine, dropped="DELETE", hypervisor_id=words[0] if words else "")


def _failure(machine: Machine, result: Result) -> None:
    what = _active(machine.template())["ACTION"]
    machine.set_error(error_text(f"SNAPSHOT{what}", result))
    _end(machine, dropped="CREATE")


register(
    {Lcm.HOTPLUG_SNAPSHOT: Step(work=_work, success=_success, failure=_failure, title="SNAPSHOT")}
)
