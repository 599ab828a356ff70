"""What machines count for in the VM quotas of their owner and group."""

from one_kvm_migrate.sim import quotas
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm.machine import Machine

Usage = dict[str, float]


def of(template: Template) -> Usage:
    """The usage of one machine; oned counts it as running from the start."""
    cpu, memory = float(template.get("CPU", "0")), float(template.get("MEMORY", "0"))
    sizes = (disk for disk in template.vectors("DISK") if disk.get("CLONE_TARGET") != "SELF")
    disks_mib = sum(float(disk.get("SIZE") or 0) for disk in sizes if disk.get("SAVE") != "YES")
    return {
        "CPU": cpu,
        "MEMORY": memory,
        "RUNNING_CPU": cpu,
        "RUNNING_MEMORY": memory,
        "RUNNING_VMS": 1,
        "SYSTEM_DISK_SIZE": disks_mib,
        "VMS": 1,
    }


def charge(machine: Machine, template: Template) -> None:
    """Count a new machine. Raises OnedError(AUTHORIZATION) when a limit would be passed."""
    quotas.charge(machine.sim, _owner(machine), "VM", of(template))


def release(machine: Machine, template: Template) -> None:
    """Count a machine no more."""
    quotas.release(machine.sim, _owner(machine), "VM", of(template))


def change(machine: Machine, old: Template, new: Template) -> None:
    """Count the difference between two capacities. Raises OnedError when a limit is passed."""
    before, after = of(old), of(new)
    grown = {key: after[key] - before[key] for key in after if after[key] > before[key]}
    shrunk = {key: before[key] - after[key] for key in after if after[key] < before[key]}
    if grown:
        quotas.charge(machine.sim, _owner(machine), "VM", grown)
    if shrunk:
        quotas.release(machine.sim, _owner(machine), "VM", shrunk)


def moved(call: Call, before: Obj, after: Obj) -> None:
    """Count a machine for its new owner and group. Raises OnedError when a limit is passed."""
    if before.number("STATE") != VmState.DONE:
        release(Machine(call.sim, before), before.template())
        charge(Machine(call.sim, after), after.template())


def _owner(machine: Machine) -> tuple[int, int]:
    return machine.obj.uid, machine.obj.gid
