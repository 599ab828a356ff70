"""What machines take from their host: CPU, memory, and a place in its list."""

from typing import TYPE_CHECKING

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template
from one_kvm_migrate.units import KiB

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim


def needs(template: Template) -> tuple[int, int]:
    """CPU in percent of one core and memory in KiB that a machine's TEMPLATE asks for."""
    return round(float(template.get("CPU", "0")) * 100), int(template.get("MEMORY", "0")) * KiB


def free(host: Obj) -> tuple[int, int]:
    """CPU (percent) and memory (KiB) that the host has left."""
    share = "HOST_SHARE"
    cpu = host.number(f"{share}/MAX_CPU") - host.number(f"{share}/CPU_USAGE")
    return cpu, host.number(f"{share}/MAX_MEM") - host.number(f"{share}/MEM_USAGE")


def require(host: Obj, cpu: int, memory_kib: int) -> None:
    """Raise OnedError(ACTION) unless the host has that much left."""
    free_cpu, free_memory_kib = free(host)
    if cpu > free_cpu or memory_kib > free_memory_kib:
        what = "CPU" if cpu > free_cpu else "memory"
        raise OnedError(
            Code.ACTION, f"Host {host.oid} does not have enough {what} capacity to run the VM."
        )


def occupy(sim: "Sim", host_id: int, vm_id: int, template: Template) -> None:
    """Put machine *vm_id* on the host. Does nothing when it is there already."""
    host = sim.store.get("host", host_id)
    if vm_id in doc.ids(host.body, "VMS"):
        return
    doc.add_id(host.body, "VMS", vm_id)
    _change(host, *needs(template), vms=1)
    sim.store.put(host)


def vacate(sim: "Sim", host_id: int, vm_id: int, template: Template) -> None:
    """Take machine *vm_id* off the host. Does nothing when it is not there."""
    host = sim.store.find("host", host_id)
    if host is None or vm_id not in doc.ids(host.body, "VMS"):
        return
    doc.remove_id(host.body, "VMS", vm_id)
    cpu, memory_kib = needs(template)
    _change(host, -cpu, -memory_kib, vms=-1)
    sim.store.put(host)


def swap(sim: "Sim", host_id: int, old: Template, new: Template) -> None:
    """A machine on the host changes from *old* to *new* needs."""
    host = sim.store.get("host", host_id)
    before, after = needs(old), needs(new)
    _change(host, after[0] - before[0], after[1] - before[1], vms=0)
    sim.store.put(host)


def _change(host: Obj, cpu: int, memory_kib: int, *, vms: int) -> None:
    for tag, change in (("CPU_USAGE", cpu), ("MEM_USAGE", memory_kib), ("RUNNING_VMS", vms)):
        path = f"HOST_SHARE/{tag}"
        host.set(path, max(0, host.number(path) + change))
