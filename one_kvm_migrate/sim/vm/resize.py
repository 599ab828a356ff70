"""one.vm.resize and one.vm.diskresize."""

from math import inf

from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.template import Template, is_yes
from one_kvm_migrate.sim.vm import capacity, disks, files, reach, usage
from one_kvm_migrate.sim.vm.driver import Result
from one_kvm_migrate.sim.vm.history import Action
from one_kvm_migrate.sim.vm.hypervisor import Hypervisor
from one_kvm_migrate.sim.vm.machine import Machine
from one_kvm_migrate.sim.vm.steps import Step, enter, register, rest, running

KEYS = ("CPU", "MEMORY", "VCPU")
IDLE = (VmState.PENDING, VmState.HOLD, VmState.UNDEPLOYED, VmState.CLONING,
        VmState.CLONING_FAILURE)  # fmt: skip


def resize(call: Call, oid: int, text: str, enforce: bool = True) -> int:
    """one.vm.resize: CPU, VCPU and MEMORY; 0 or absent keeps one."""
    machine = reach.machine(call, oid)
    wanted = _wanted(Template.parse(text))
    live = machine.active_in(Lcm.RUNNING)
    if not live and machine.state not in (*IDLE, VmState.POWEROFF):
        raise reach.refuse(f"Cannot resize a VM in state {machine.state_name()}")
    kind = _driver(machine) if live else {}
    if live and not is_yes(kind.get("LIVE_RESIZE", "")):
        raise reach.refuse(f"Cannot live resize a VM with driver {machine.place().vm_mad}")
    old = machine.template()
    new = old.copy()
    for key, value in wanted.items():
        new.set(key, value)
    if all(old.get(key) == new.get(key) for key in KEYS):
        return oid
    usage.change(machine, old, new)
    if live or machine.state == VmState.POWEROFF:
        _on_host(call, machine, (old, new), enforce=enforce)
        machine.renew_record(Action.RESIZE, reach.actor(call))
    if live:
        new.set("RESIZE", {key: old.get(key) for key in KEYS})
    machine.set_template(new)
    if live:
        enter(machine, Lcm.HOTPLUG_RESIZE)
    else:
        machine.save()
    return oid


def _driver(machine: Machine) -> dict[str, str]:
    return machine.sim.oned.named("VM_MAD", machine.place().vm_mad) or {}


def _wanted(given: Template) -> dict[str, str]:
    found: dict[str, str] = {}
    for key in KEYS:
        text = given.get(key)
        if not text:
            continue
        try:
            number = float(text) if key == "CPU" else int(text)
        except ValueError:
            number = -1
        if not 0 <= number < inf:
            kind = "float or integer" if key == "CPU" else "integer"
            raise OnedError(Code.INTERNAL, f"{key} must be a positive {kind} value.")
        if number:
            found[key] = text
    return found


def _on_host(
    call: Call, machine: Machine, change: tuple[Template, Template], *, enforce: bool
) -> None:
    old, new = change
    host_id = machine.place().host_id
    if enforce or not call.is_admin:
        before, after = capacity.needs(old), capacity.needs(new)
        grown = (max(0, after[0] - before[0]), max(0, after[1] - before[1]))
        capacity.require(call.sim.store.get("host", host_id), *grown)
    capacity.swap(machine.sim, host_id, old, new)


def _resized(machine: Machine, result: Result) -> None:
    template = machine.template()
    template.remove("RESIZE")
    machine.set_template(template)
    running(machine)


def _not_resized(machine: Machine, result: Result) -> None:
    """Everything goes back to what RESIZE remembers; the driver undid its own part."""
    new = machine.template()
    old = new.copy()
    remembered = old.vector("RESIZE") or {}
    old.remove("RESIZE")
    for key in KEYS:
        if remembered.get(key):
            old.set(key, remembered[key])
        else:
            old.remove(key)
    capacity.swap(machine.sim, machine.place().host_id, new, old)
    usage.change(machine, new, old)
    machine.set_template(old)
    running(machine)


def diskresize(call: Call, oid: int, disk_id: int, size: str) -> int:
    """one.vm.diskresize: *size* in MB as text; disks only grow."""
    machine = reach.machine(call, oid)
    states = {VmState.POWEROFF: Lcm.DISK_RESIZE_POWEROFF,
              VmState.UNDEPLOYED: Lcm.DISK_RESIZE_UNDEPLOYED}  # fmt: skip
    live = machine.active_in(Lcm.RUNNING)
    if not live and machine.state not in states:
        raise reach.refuse(f"Could not resize a disk of VM {oid}, wrong state "
                           f"{machine.state_name()}.")  # fmt: skip
    template = machine.template()
    disk = disks.by_id(template, disk_id)
    if disk is None:
        raise reach.refuse(f"VM disk {disk_id} does not exist")
    if not size.isdigit() or int(size) <= int(disk["SIZE"]):
        raise reach.refuse("New disk size has to be greater than current one")
    old = machine.template()
    disk.update({"SIZE_PREV": disk["SIZE"], "SIZE": size, "RESIZE": "YES"})
    usage.change(machine, old, template)
    if machine.records():
        machine.renew_record(Action.DISK_RESIZE, reach.actor(call))
    machine.set_template(template)
    enter(machine, Lcm.DISK_RESIZE if live else states[machine.state])
    return oid


def _growing(template: Template) -> dict[str, str]:
    return next(disk for disk in template.vectors("DISK") if "RESIZE" in disk)


def _grow_live(machine: Machine) -> Result:
    disk = _growing(machine.template())
    return Hypervisor(machine).resize_disk(disk, files.grow(machine, disk))


def _grow_file(machine: Machine) -> Result:
    disk = _growing(machine.template())
    return Hypervisor(machine).transfer([files.grow(machine, disk)], "disk_resize")


def _grown(machine: Machine, result: Result) -> None:
    template = machine.template()
    disk = _growing(template)
    del disk["RESIZE"], disk["SIZE_PREV"]
    machine.set_template(template)
    _back(machine)


def _not_grown(machine: Machine, result: Result) -> None:
    template = machine.template()
    disk = _growing(template)
    before = machine.template()
    disk["SIZE"] = disk.pop("SIZE_PREV")
    del disk["RESIZE"]
    usage.change(machine, before, template)
    machine.set_template(template)
    _back(machine)


def _back(machine: Machine) -> None:
    if machine.active_in(Lcm.DISK_RESIZE):
        running(machine)
    elif machine.active_in(Lcm.DISK_RESIZE_POWEROFF):
        rest(machine, VmState.POWEROFF)
    else:
        rest(machine, VmState.UNDEPLOYED)


register(
    {
        Lcm.HOTPLUG_RESIZE: Step(
            work=lambda vm: Hypervisor(vm).resize(),
            success=_resized,
            failure=_not_resized,
            title="RESIZE",
        ),
        Lcm.DISK_RESIZE: Step(
            work=_grow_live, success=_grown, failure=_not_grown, title="RESIZEDISK"
        ),
        Lcm.DISK_RESIZE_POWEROFF: Step(work=_grow_file, success=_grown, failure=_not_grown),
        Lcm.DISK_RESIZE_UNDEPLOYED: Step(work=_grow_file, success=_grown, failure=_not_grown),
    }
)
