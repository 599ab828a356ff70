"""Attaching and detaching disks and NICs, while a machine runs or is powered off."""

from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import context, disks, files, history, imageuse, nics, reach
from one_kvm_migrate.sim.vm.driver import Result
from one_kvm_migrate.sim.vm.history import Action
from one_kvm_migrate.sim.vm.hypervisor import Hypervisor
from one_kvm_migrate.sim.vm.machine import Machine
from one_kvm_migrate.sim.vm.steps import Step, enter, error_text, register, rest, running


def _require_state(machine: Machine, what: str) -> bool:
    """True if it runs, False if it is off; raises OnedError in any other state."""
    live = machine.active_in(Lcm.RUNNING)
    if not live and machine.state != VmState.POWEROFF:
        raise reach.refuse(
            f"Could not {what} VM {machine.oid}, wrong state {machine.state_name()}."
        )
    return live


def attach(call: Call, oid: int, text: str) -> int:
    """one.vm.attach: one DISK."""
    machine = reach.machine(call, oid)
    live = _require_state(machine, "add a new disk to")
    given = Template.parse(text)
    disk = given.vector("DISK")
    if disk is None:
        raise reach.refuse("Error parsing DISK attribute")
    template = machine.template()
    disks.take(call, oid, disk, disks.next_id(template))
    disk["ATTACH"] = "YES"
    disk["TM_MAD_SYSTEM"] = machine.place().tm_mad
    template.add("DISK", disk)
    disks.assign_targets(template)
    machine.renew_record(Action.DISK_ATTACH, reach.actor(call))
    machine.set_template(template)
    enter(machine, Lcm.HOTPLUG if live else Lcm.HOTPLUG_PROLOG_POWEROFF)
    return oid


def detach(call: Call, oid: int, disk_id: int) -> int:
    """one.vm.detach"""
    machine = reach.machine(call, oid)
    live = _require_state(machine, "detach disk from")
    template = machine.template()
    disk = disks.by_id(template, disk_id)
    if disk is None:
        raise reach.refuse(
            f"Could not detach disk with DISK_ID {disk_id}, it does not exist or is not a disk"
        )
    disk["ATTACH"] = "YES"
    machine.renew_record(Action.DISK_DETACH, reach.actor(call))
    machine.set_template(template)
    enter(machine, Lcm.HOTPLUG if live else Lcm.HOTPLUG_EPILOG_POWEROFF)
    return oid


def _marked(template: Template, name: str) -> dict[str, str]:
    return next(vector for vector in template.vectors(name) if vector.get("ATTACH") == "YES")


def _is_attach(machine: Machine) -> bool:
    doing = history.action_of(machine.before_last())
    return doing in (Action.DISK_ATTACH, Action.NIC_ATTACH)


def _plug_disk(machine: Machine) -> Result:
    disk = _marked(machine.template(), "DISK")
    undo = files.take_away(machine, disk, plugged=True)
    hypervisor = Hypervisor(machine)
    if _is_attach(machine):
        return hypervisor.attach_disk(disk, files.bring(machine, disk, plugged=True), undo)
    return hypervisor.detach_disk(disk, undo)


def _bring_disk(machine: Machine) -> Result:
    disk = _marked(machine.template(), "DISK")
    return Hypervisor(machine).transfer([files.bring(machine, disk)], "attach")


def _take_disk(machine: Machine) -> Result:
    disk = _marked(machine.template(), "DISK")
    return Hypervisor(machine).transfer([files.take_away(machine, disk)], "detach")


def _keep_disk(machine: Machine) -> None:
    template = machine.template()
    del _marked(template, "DISK")["ATTACH"]
    machine.set_template(template)


def _drop_disk(machine: Machine) -> None:
    template = machine.template()
    kept = [disk for disk in template.vectors("DISK") if disk.get("ATTACH") != "YES"]
    gone = _marked(template, "DISK")
    template.remove("DISK")
    for disk in kept:
        template.add("DISK", disk)
    machine.set_template(template)
    if gone.get("IMAGE_ID", "").isdigit():
        imageuse.release(machine.sim, int(gone["IMAGE_ID"]), machine.oid)


def _disk_done(machine: Machine, result: Result) -> None:
    (_keep_disk if _is_attach(machine) else _drop_disk)(machine)
    _back(machine)


def _disk_failed(machine: Machine, result: Result) -> None:
    if _is_attach(machine):
        _drop_disk(machine)
    else:
        _keep_disk(machine)
        if machine.active_in(Lcm.HOTPLUG):
            machine.set_error(error_text("DETACHDISK", result))
    _back(machine)


def _back(machine: Machine) -> None:
    if machine.active_in(Lcm.HOTPLUG, Lcm.HOTPLUG_NIC):
        running(machine)
    else:
        rest(machine, VmState.POWEROFF)


# -- NICs -------------------------------------------------------------------------------


def attachnic(call: Call, oid: int, text: str) -> int:
    """one.vm.attachnic: one NIC. A machine that is off needs no driver for it."""
    machine = reach.machine(call, oid)
    live = _require_state(machine, "add a new NIC to")
    nic = Template.parse(text).vector("NIC")
    if nic is None:
        raise reach.refuse("Error parsing NIC attribute")
    template = machine.template()
    network = nics.take(call, oid, nic, nics.next_id(template))
    nics.add_context(template, nic, network)
    if live:
        nic["ATTACH"] = "YES"
    template.add("NIC", nic)
    nics.add_rules(call.sim, template)
    machine.renew_record(Action.NIC_ATTACH, reach.actor(call))
    _go_on(machine, template, live=live)
    return oid


def detachnic(call: Call, oid: int, nic_id: int) -> int:
    """one.vm.detachnic"""
    machine = reach.machine(call, oid)
    live = _require_state(machine, "detach NIC from")
    template = machine.template()
    nic = nics.by_id(template, nic_id)
    if nic is None:
        raise reach.refuse(f"NIC with NIC_ID {nic_id} does not exist")
    context.remove_nic(template.vector("CONTEXT") or {}, str(nic_id))
    machine.renew_record(Action.NIC_DETACH, reach.actor(call))
    nic["ATTACH"] = "YES"
    if not live:
        _without_marked_nic(machine, template)
    _go_on(machine, template, live=live)
    return oid


def _go_on(machine: Machine, template: Template, *, live: bool) -> None:
    machine.set_template(template)
    if live:
        enter(machine, Lcm.HOTPLUG_NIC)
    else:
        machine.save()


def _plug_nic(machine: Machine) -> Result:
    nic = _marked(machine.template(), "NIC")
    hypervisor = Hypervisor(machine)
    return hypervisor.attach_nic(nic) if _is_attach(machine) else hypervisor.detach_nic(nic)


def _without_marked_nic(machine: Machine, template: Template) -> None:
    gone = _marked(template, "NIC")
    kept = [nic for nic in template.vectors("NIC") if nic is not gone]
    template.remove("NIC")
    for nic in kept:
        template.add("NIC", nic)
    context.remove_nic(template.vector("CONTEXT") or {}, gone["NIC_ID"])
    nics.release(machine.sim, machine.oid, gone)
    nics.add_rules(machine.sim, template)


def _nic_done(machine: Machine, result: Result) -> None:
    template = machine.template()
    if _is_attach(machine):
        del _marked(template, "NIC")["ATTACH"]
    else:
        _without_marked_nic(machine, template)
    machine.set_template(template)
    running(machine)


def _nic_failed(machine: Machine, result: Result) -> None:
    template = machine.template()
    if _is_attach(machine):
        _without_marked_nic(machine, template)
    else:
        machine.set_error(error_text("DETACHNIC", result))
        nic = _marked(template, "NIC")
        del nic["ATTACH"]
        number = nic.get("NETWORK_ID", "")
        network = machine.sim.store.find("vnet", int(number)) if number.isdigit() else None
        nics.add_context(template, nic, network.template() if network else Template())
    machine.set_template(template)
    running(machine)


register(
    {
        Lcm.HOTPLUG: Step(
            work=_plug_disk, success=_disk_done, failure=_disk_failed, title="ATTACHDISK"
        ),
        Lcm.HOTPLUG_PROLOG_POWEROFF: Step(
            work=_bring_disk, success=_disk_done, failure=_disk_failed
        ),
        Lcm.HOTPLUG_EPILOG_POWEROFF: Step(
            work=_take_disk, success=_disk_done, failure=_disk_failed
        ),
        Lcm.HOTPLUG_NIC: Step(
            work=_plug_nic, success=_nic_done, failure=_nic_failed, title="ATTACHNIC"
        ),
    }
)
