"""Copies of disks into new images (one.vm.disksaveas)."""

import time

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.sim import auth
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.imagefiles import SAVE_AS
from one_kvm_migrate.sim.objects import common, images
from one_kvm_migrate.sim.states import ImageState, ImageType, VmState
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import disks, domains, files, reach
from one_kvm_migrate.sim.vm.disksnapshots import require_snapshot
from one_kvm_migrate.sim.vm.driver import Result
from one_kvm_migrate.sim.vm.hypervisor import Hypervisor
from one_kvm_migrate.sim.vm.machine import Machine
from one_kvm_migrate.sim.vm.nodes import host_config
from one_kvm_migrate.sim.vm.steps import Step, enter, register, rest, running

SOURCE_TIMEOUT_S = 60.0
SAVE_STATES = {
    VmState.POWEROFF: Lcm.HOTPLUG_SAVEAS_POWEROFF,
    VmState.SUSPENDED: Lcm.HOTPLUG_SAVEAS_SUSPENDED,
    VmState.UNDEPLOYED: Lcm.HOTPLUG_SAVEAS_UNDEPLOYED,
    VmState.STOPPED: Lcm.HOTPLUG_SAVEAS_STOPPED,
}


def saveas(  # the call has these parameters
    call: Call, oid: int, disk_id: int, name: str, kind: str = "", snapshot: int = -1
) -> int:
    """one.vm.disksaveas; returns the number of the image that is being made."""
    machine = reach.machine(call, oid)
    live = machine.active_in(Lcm.RUNNING)
    if not live and machine.state not in SAVE_STATES:
        raise reach.refuse("VM state must be RUNNING, POWEROFF, SUSPENDED, UNDEPLOYED or STOPPED")
    template = machine.template()
    disk = disks.by_id(template, disk_id)
    if disk is None or not disks.is_image(disk) or disks.is_cdrom(disk):
        raise reach.refuse("Cannot use selected DISK")
    if snapshot >= 0:
        require_snapshot(machine, disk, snapshot)
    image = _new_image(call, machine, disk, name, kind)
    disk.update({"HOTPLUG_SAVE_AS": str(image.oid), "HOTPLUG_SAVE_AS_ACTIVE": "YES",
                 "HOTPLUG_SAVE_AS_SNAPSHOT_ID": str(snapshot)})  # fmt: skip
    machine.set_template(template)
    enter(machine, Lcm.HOTPLUG_SAVEAS if live else SAVE_STATES[machine.state])
    return image.oid


def _new_image(call: Call, machine: Machine, disk: dict[str, str], name: str, kind: str) -> Obj:
    auth.require_create(call, "image")
    datastore = call.sim.store.get("datastore", int(disk["DATASTORE_ID"]))
    auth.require(call, Right.USE, datastore)
    common.require_new_name(call, "image", name, call.uid)
    source = call.sim.store.get("image", int(disk["IMAGE_ID"]))
    wanted = kind.upper() or ImageType(source.number("TYPE")).name
    if wanted not in ImageType.__members__:
        raise reach.refuse(f"Unknown image type {kind}")
    saved = {
        "SAVED_DISK_ID": disk["DISK_ID"],
        "SAVED_IMAGE_ID": disk["IMAGE_ID"],
        "SAVED_VM_ID": str(machine.oid),
        "SAVE_AS_HOT": "YES",
        "DEV_PREFIX": disk["DEV_PREFIX"],
    }
    new = images.NewImage(
        name=name,
        type=ImageType[wanted],
        datastore=datastore,
        template=Template(list(saved.items())),
        size_mib=int(disk["SIZE"]),
        format=SAVE_AS,
    )
    return images.insert(call, new)


def _saving(template: Template) -> dict[str, str]:
    return next(d for d in template.vectors("DISK") if "HOTPLUG_SAVE_AS_ACTIVE" in d)


def _copy(machine: Machine) -> Result:
    disk = _saving(machine.template())
    store, image_id = machine.sim.store, int(disk["HOTPLUG_SAVE_AS"])

    def source() -> str | None:
        image = store.find("image", image_id)
        return (image.text("SOURCE") or None) if image else None

    # Another job asks the datastore for the path; it was queued before this one.
    target = wait_until(source, Deadline(SOURCE_TIMEOUT_S), what=f"the path of image {image_id}")
    snapshot = int(disk["HOTPLUG_SAVE_AS_SNAPSHOT_ID"])
    transfer = files.copy_out(machine, disk, target, snapshot)
    if not machine.active_in(Lcm.HOTPLUG_SAVEAS):
        return Hypervisor(machine).transfer([transfer], "cpds")
    place = machine.place()
    uri = host_config(machine.sim, place.host_name).libvirt_uri
    # The stock script compares the driver's name, not what the driver can do.
    machine.log(transfer.line, part="TM")
    if place.vm_mad != "kvm" or not uri:
        return Result(ok=False, info=f"cpds: Live operation not supported on {place.vm_mad}")
    try:
        with domains.paused(uri, machine.deploy_id):
            return Hypervisor(machine).transfer([transfer], "cpds")
    except OkmError as exc:
        return Result(ok=False, info=f"cpds: {exc.message}")


def _saved(machine: Machine, result: Result) -> None:
    template = machine.template()
    disk = _saving(template)
    image = machine.sim.store.find("image", int(disk["HOTPLUG_SAVE_AS"]))
    if image is not None:
        image.set("FORMAT", files.disk_form(disk))
        image.set("STATE", int(ImageState.READY))
        machine.sim.events.update(image)
    _end_save(machine, template)


def _not_saved(machine: Machine, result: Result) -> None:
    template = machine.template()
    disk = _saving(template)
    image = machine.sim.store.find("image", int(disk["HOTPLUG_SAVE_AS"]))
    if image is not None:
        inner = image.template()
        inner.set("ERROR", f"{time.ctime()} : Error saving the disk of VM {machine.oid}")
        image.set_template(inner)
        image.set("STATE", int(ImageState.ERROR))
        machine.sim.events.update(image)
    _end_save(machine, template)


def _end_save(machine: Machine, template: Template) -> None:
    disk = _saving(template)
    for key in [key for key in disk if key.startswith("HOTPLUG_SAVE_AS")]:
        del disk[key]
    machine.set_template(template)
    if machine.active_in(Lcm.HOTPLUG_SAVEAS):
        running(machine)
        return
    rest(machine, next(state for state, lcm in SAVE_STATES.items() if lcm == machine.lcm))


_STEP = Step(work=_copy, success=_saved, failure=_not_saved)
register(dict.fromkeys((Lcm.HOTPLUG_SAVEAS, *SAVE_STATES.values()), _STEP))
