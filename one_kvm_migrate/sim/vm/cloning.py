"""Machines whose images are still being made: CLONING until they can be taken."""

from typing import TYPE_CHECKING

from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.errors import OnedError
from one_kvm_migrate.sim.states import ImageState, VmState
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import disks
from one_kvm_migrate.sim.vm.machine import Machine
from one_kvm_migrate.sim.vm.steps import rest

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

WAITING = str(int(ImageState.LOCKED))


def waits(template: Template) -> bool:
    """True if a disk's image is not there yet."""
    return any(disk.get("IMAGE_STATE") == WAITING for disk in template.vectors("DISK"))


def check(sim: "Sim") -> None:
    """Take the images that have become ready; called every few seconds."""
    for obj in sim.store.all("vm"):
        if obj.number("STATE") == VmState.CLONING:
            with sim.store.transaction():
                _take_ready(Machine.load(sim, obj.oid))


def _take_ready(machine: Machine) -> None:
    if machine.state != VmState.CLONING:
        return
    sim, template = machine.sim, machine.template()
    owner = sim.store.find("user", machine.obj.uid)
    if owner is None:
        return
    call = Call(sim, owner, "one.vm.allocate")
    for disk in template.vectors("DISK"):
        image = sim.store.find("image", int(disk.get("IMAGE_ID") or -1))
        if disk.get("IMAGE_STATE") != WAITING or (image and image.number("STATE") == int(WAITING)):
            continue
        try:
            disks.take(call, machine.oid, disk, int(disk["DISK_ID"]))
        except OnedError as exc:
            machine.set_error(exc.text)
            rest(machine, VmState.CLONING_FAILURE)
            return
    machine.set_template(template)
    if waits(template):
        machine.save()
        return
    rest(machine, VmState.HOLD if template.yes("SUBMIT_ON_HOLD") else VmState.PENDING)
