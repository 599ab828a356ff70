"""Making machines: what goes where in the document, and what oned adds."""

import uuid
from math import isfinite

from one_kvm_migrate.sim import auth
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call
from one_kvm_migrate.sim.objects import common
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template, is_yes
from one_kvm_migrate.sim.vm import cloning, context, disks, nics, requirements, steps, usage, vnc
from one_kvm_migrate.sim.vm.imageuse import refused
from one_kvm_migrate.sim.vm.machine import Machine, new_body

# What oned moves from the user's template into TEMPLATE; all else is USER_TEMPLATE.
CORE = frozenset(
    {
        "CONTEXT", "CPU", "CPU_COST", "CPU_MODEL", "DISK", "DISK_COST", "EMULATOR", "FEATURES",
        "GRAPHICS", "INPUT", "MEMORY", "MEMORY_COST", "MEMORY_ENCRYPTION", "MEMORY_MAX",
        "MEMORY_RESIZE_MODE", "MEMORY_SLOTS", "NIC", "NIC_ALIAS", "NUMA_NODE", "OS", "PCI", "RAW",
        "SUBMIT_ON_HOLD", "TEMPLATE_ID", "TOPOLOGY", "TPM", "VCPU", "VCPU_MAX", "VIDEO",
    }
)  # fmt: skip
INTEGERS = ("VCPU", "VCPU_MAX", "MEMORY_MAX", "MEMORY_SLOTS")
FLAGS = ("PAE", "ACPI", "APIC", "LOCALTIME", "HYPERV", "GUEST_AGENT")
RESIZE_MODES = ("BALLOONING", "HOTPLUG")
DEFAULT_MACHINE = "q35"


def allocate(call: Call, template: str, hold: bool = False) -> int:
    """one.vm.allocate"""
    auth.require_create(call, "vm")
    return create(call, Template.parse(template), hold=hold)


def instantiate(call: Call, source: Obj, name: str, *, hold: bool = False, extra: str = "") -> int:
    """A machine from the VM template *source*; *extra* (template text) wins over it.

    Called by one.template.instantiate. Raises OnedError when the caller may not use the
    template or images, or an attribute is wrong.
    """
    auth.require(call, Right.USE, source)
    wanted = source.template()
    if extra:
        added = Template.parse(extra)
        auth.require_unrestricted(call, "vm", added)
        wanted.merge(added)
    wanted.remove("NAME")
    wanted.set("TEMPLATE_ID", str(source.oid))
    if name:
        wanted.set("NAME", name)
    return create(call, wanted, hold=hold, prefix=source.name, trusted=True)


def create(
    call: Call, wanted: Template, *, hold: bool, prefix: str = "one", trusted: bool = False
) -> int:
    """Make a machine of *wanted* and return its number; PENDING, or HOLD if asked.

    ``prefix`` names it <prefix>-<id> if it has no NAME. A ``trusted`` template was checked for
    restricted attributes when it was registered.
    """
    if not trusted:
        auth.require_unrestricted(call, "vm", wanted)
    name = _only_text(wanted, "NAME")
    problem = common.check_name(name) if name else ""
    if problem:
        raise refused(problem)
    core, user = split(wanted)
    _check_capacity(core)
    oid = call.sim.store.new_id("vm")
    body = new_body(oid, name or f"{prefix}-{oid}", call.user, call.gid)
    machine = Machine(call.sim, Obj("vm", oid, body))
    if hold or is_yes(call.sim.oned.get("VM_SUBMIT_ON_HOLD")):
        core.set("SUBMIT_ON_HOLD", "YES")
    core.set("VMID", str(oid))
    complete(call, oid, core)
    usage.charge(machine, core)
    machine.set_template(core)
    machine.obj.set_template(user, "USER_TEMPLATE")
    state = VmState.HOLD if core.yes("SUBMIT_ON_HOLD") else VmState.PENDING
    steps.rest(machine, VmState.CLONING if cloning.waits(core) else state)
    return oid


def _only_text(template: Template, name: str) -> str:
    value = template.get(name)
    template.remove(name)
    return value


def split(wanted: Template) -> tuple[Template, Template]:
    """(TEMPLATE, USER_TEMPLATE) of a new machine."""
    core, user = Template(), Template()
    for name, value in wanted.copy().items():
        (core if name in CORE else user).add(name, value)
    return core, user


def complete(call: Call, oid: int, core: Template) -> None:
    """Check and complete *core*, take its images and lease its addresses.

    Runs in the call's transaction, so that a refusal undoes what was taken before it.
    """
    _normalise(core)
    vnc.set_password(core)
    for number, disk in enumerate(core.vectors("DISK")):
        disks.take(call, oid, disk, number, may_wait=True)
    variables = core.vector("CONTEXT")
    if variables is not None:
        variables["DISK_ID"] = str(len(core.vectors("DISK")))
        context.expand(variables, {"USER": call.user.template(), "TEMPLATE": core})
    disks.assign_targets(core)
    for number, nic in enumerate(core.vectors("NIC")):
        network = nics.take(call, oid, nic, number)
        nics.add_context(core, nic, network)
    nics.add_rules(call.sim, core)
    disks.set_boot_order(core)
    requirements.add_automatic(call, core)


def _normalise(core: Template) -> None:
    features = core.vector("FEATURES") or {}
    for key in FLAGS:
        if key in features:
            features[key] = "YES" if is_yes(features[key]) else "NO"
    if core.has("MEMORY_RESIZE_MODE"):
        mode = core.get("MEMORY_RESIZE_MODE").upper()
        if mode not in RESIZE_MODES:
            raise refused(f"Unsupported MEMORY_RESIZE_MODE : {mode}")
        core.set("MEMORY_RESIZE_MODE", mode)
    system = core.vector("OS")
    if system is None:
        core.set("OS", {})
        system = core.vector("OS")
        assert system is not None
    system.setdefault("MACHINE", DEFAULT_MACHINE)
    system.setdefault("UUID", str(uuid.uuid4()))


def _check_capacity(core: Template) -> None:
    if _float(core.get("CPU")) <= 0:
        raise refused("CPU attribute must be a positive float or integer value.")
    if _int(core.get("MEMORY")) <= 0:
        raise refused("MEMORY attribute must be a positive integer value.")
    for key in INTEGERS:
        if core.has(key) and _int(core.get(key)) <= 0:
            raise refused(f"{key} attribute must be a positive integer value.")


def _float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if isfinite(number) else 0.0


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0
