"""What may be changed of a machine's description: attributes, configuration, name."""

from one_kvm_migrate.sim import auth
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.objects import common
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.sim.vm import context, disks, nics, reach, vnc
from one_kvm_migrate.sim.vm.hypervisor import Hypervisor
from one_kvm_migrate.sim.vm.machine import Machine
from one_kvm_migrate.sim.vm.steps import error_text

# Sections of one.vm.updateconf and their keys; None: any key.
SECTIONS: dict[str, frozenset[str] | None] = {
    "OS": None,
    "CPU_MODEL": None,
    "FEATURES": None,
    "INPUT": None,
    "VIDEO": None,
    "RAW": None,
    "CONTEXT": None,
    "GRAPHICS": frozenset({"TYPE", "LISTEN", "PASSWD", "KEYMAP", "COMMAND"}),
}
CONFIGURABLE = (VmState.PENDING, VmState.HOLD, VmState.POWEROFF, VmState.UNDEPLOYED)
KEPT_BY_CONTEXT = ("DISK_ID", "TARGET")


def update(call: Call, oid: int, text: str, mode: int = common.REPLACE) -> int:
    """one.vm.update: USER_TEMPLATE, replaced (0) or merged (1)."""
    machine = reach.machine(call, oid)
    given = common.parse(text, "Cannot update template. ")
    auth.require_unrestricted(call, "vm", given)
    user = common.updated(machine.obj.template("USER_TEMPLATE"), given, mode)
    machine.obj.set_template(user, "USER_TEMPLATE")
    machine.save()
    return oid


def rename(call: Call, oid: int, name: str) -> int:
    """one.vm.rename; unlike other objects, machines may share a name."""
    machine = reach.machine(call, oid)
    problem = common.check_name(name)
    if problem:
        raise reach.refuse(f"Cannot rename object. {problem}")
    machine.obj.set("NAME", name)
    machine.save()
    return oid


def updateconf(call: Call, oid: int, text: str, mode: int = common.REPLACE) -> int:
    """one.vm.updateconf: sections are replaced (0) or their keys merged (1).

    Takes effect at the next boot; only a running machine's CONTEXT reaches it at once.
    """
    machine = reach.machine(call, oid)
    live = machine.active_in(Lcm.RUNNING)
    if not live and machine.state not in CONFIGURABLE:
        raise reach.refuse(f"configuration cannot be updated in state {machine.state_name()}.")
    given = common.parse(text)
    auth.require_unrestricted(call, "vm", given)
    template = machine.template()
    for name in SECTIONS.keys() & given.names():
        _section(template, given, name, merge=mode == common.MERGE)
    if given.has("CONTEXT"):
        _complete_context(call, template)
    vnc.set_password(template)
    disks.set_boot_order(template)
    machine.set_template(template)
    machine.save()
    if live and given.has("CONTEXT"):
        _reconfigure(machine)
    return oid


def _section(template: Template, given: Template, name: str, *, merge: bool) -> None:
    allowed = SECTIONS[name]
    new = [
        {key: value for key, value in vector.items() if allowed is None or key in allowed}
        for vector in given.vectors(name)
    ]
    old = template.vectors(name)
    if name == "RAW" or not old:
        template.remove(name)
        for vector in new:
            template.add(name, vector)
        return
    kept = dict(old[0]) if merge else _untouchable(name, old[0], allowed)
    template.set(name, {**kept, **(new[0] if new else {})})


def _untouchable(name: str, old: dict[str, str], allowed: frozenset[str] | None) -> dict[str, str]:
    """Keys that stay when a section is replaced: those nobody may set."""
    if name == "CONTEXT":
        return {key: old[key] for key in KEPT_BY_CONTEXT if key in old}
    if name == "OS":
        return {"UUID": old["UUID"]} if "UUID" in old else {}
    return {key: value for key, value in old.items() if allowed is not None and key not in allowed}


def _complete_context(call: Call, template: Template) -> None:
    variables = template.vector("CONTEXT")
    assert variables is not None
    if "DISK_ID" not in variables:
        variables["DISK_ID"] = str(disks.next_id(template))
        disks.assign_targets(template)
    context.expand(variables, {"USER": call.user.template(), "TEMPLATE": template})
    for nic in template.vectors("NIC"):
        number = nic.get("NETWORK_ID", "")
        network = call.sim.store.find("vnet", int(number)) if number.isdigit() else None
        nics.add_context(template, nic, network.template() if network else Template())


def _reconfigure(machine: Machine) -> None:
    sim, oid = machine.sim, machine.oid

    def job() -> None:
        result = Hypervisor(Machine.load(sim, oid)).reconfigure()
        if not result.ok:
            with sim.store.transaction():
                failed = Machine.load(sim, oid)
                failed.set_error(error_text("UPDATECONF", result))
                failed.save()

    sim.store.after_commit(lambda: sim.jobs.submit(job, label=f"vm {oid} reconfigure"))
