"""one.host.*, one.hostpool.*, and what monitoring writes."""

import logging
import time
from typing import TYPE_CHECKING

from one_kvm_migrate.sim import auth, doc, hostprobe
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import Element, cdata, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.hostprobe import HostReport, NumaNode
from one_kvm_migrate.sim.objects import clusters, common
from one_kvm_migrate.sim.states import HostState
from one_kvm_migrate.sim.store import Obj, Record
from one_kvm_migrate.sim.template import Template

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

log = logging.getLogger(__name__)

KEEP_SAMPLES = 100
SAMPLES = "hostmonitoring"
STATUS = {0: HostState.INIT, 1: HostState.DISABLED, 2: HostState.OFFLINE}
# Hosts in these states are not looked at, or keep their state when they are.
QUIET = (HostState.DISABLED, HostState.OFFLINE)
SHARE = ("MEM_USAGE", "CPU_USAGE", "TOTAL_MEM", "TOTAL_CPU", "MAX_MEM", "MAX_CPU", "RUNNING_VMS")


def create(sim: "Sim", name: str, im_mad: str, vm_mad: str, cluster_id: int = 0) -> int:
    """Write a host in INIT and queue its first monitoring; returns its number."""
    oid = sim.store.new_id("host")
    template = Template(
        [("IM_MAD", im_mad), ("VM_MAD", vm_mad), ("RESERVED_CPU", ""), ("RESERVED_MEM", "")]
    )
    share = node("HOST_SHARE", None, *(node(tag, 0) for tag in SHARE), node("VMS_THREAD", 1))
    share.extend([_disks({}), node("PCI_DEVICES"), node("NUMA_NODES")])
    body = node(
        "HOST",
        None,
        node("ID", oid),
        node("NAME", name),
        node("STATE", int(HostState.INIT)),
        node("PREV_STATE", int(HostState.INIT)),
        cdata("IM_MAD", im_mad),
        cdata("VM_MAD", vm_mad),
        node("CLUSTER_ID", -1),
        node("CLUSTER"),
        share,
        node("VMS"),
        template.to_xml(),
        node("MONITORING"),
    )
    clusters.join(sim, cluster_id, Obj("host", oid, body))
    _watch(sim, oid)
    return oid


def allocate(call: Call, name: str, im_mad: str, vm_mad: str, cluster_id: int = -1) -> int:
    """one.host.allocate"""
    auth.require_create(call, "host")
    common.require_new_name(call, "host", name, None)
    for key, value in (("IM_MAD_NAME", im_mad), ("VMM_MAD_NAME", vm_mad)):
        if not value:
            raise OnedError(Code.ALLOCATE, f"Error allocating a new host. {key} cannot be empty.")
    cluster_id = clusters.DEFAULT if cluster_id == -1 else cluster_id
    call.sim.store.get("cluster", cluster_id)
    return create(call.sim, name, im_mad, vm_mad, cluster_id)


def delete(call: Call, oid: int) -> int:
    """one.host.delete: only without machines."""
    host = call.sim.store.get("host", oid)
    auth.require(call, Right.ADMIN, host)
    if host.number("HOST_SHARE/RUNNING_VMS"):
        raise OnedError(Code.ACTION, "Cannot delete host. Can not remove a host with running VMs")
    clusters.leave_all(call.sim, host)
    call.sim.store.delete("host", oid)
    return oid


def status(call: Call, oid: int, wanted: int) -> int:
    """one.host.status: 0 enable, 1 disable, 2 offline."""
    host = call.sim.store.get("host", oid)
    auth.require(call, Right.ADMIN, host)
    if wanted not in STATUS:
        raise OnedError(Code.INTERNAL, f"Wrong status code [{wanted}]")
    host.set("STATE", int(STATUS[wanted]))
    call.sim.events.update(host)
    _watch(call.sim, oid)
    return oid


def enable(call: Call, oid: int, on: bool) -> int:
    """one.host.enable"""
    return status(call, oid, 0 if on else 1)


def info(call: Call, oid: int, decrypt: bool = False) -> str:
    """one.host.info, with the last monitoring sample."""
    host = call.sim.store.get("host", oid)
    auth.require(call, Right.USE, host)
    samples = call.sim.store.records(SAMPLES, oid)
    if samples:
        doc.replace(host.body, "MONITORING", doc.parse(samples[-1][1].body))
    return host.xml()


def monitoring(call: Call, oid: int) -> str:
    """one.host.monitoring"""
    auth.require(call, Right.USE, call.sim.store.get("host", oid))
    return _samples(call, oid)


def pool_monitoring(call: Call, seconds: int = -1) -> str:
    """one.hostpool.monitoring: samples of the last *seconds*, all with -1."""
    return _samples(call, None, seconds)


def _samples(call: Call, oid: int | None, seconds: int = -1) -> str:
    since = 0 if seconds < 0 else int(time.time()) - seconds
    found = [record for _, record in call.sim.store.records(SAMPLES, oid) if record.time >= since]
    return common.pool("MONITORING_DATA", (doc.parse(record.body) for record in found))


def uri(sim: "Sim", name: str) -> str | None:
    """libvirt URI of the host called *name*: its own, else the simulator's."""
    own = next((item.libvirt_uri for item in sim.config.hosts if item.name == name), None)
    return own or sim.config.libvirt_uri


def _watch(sim: "Sim", oid: int) -> None:
    sim.store.after_commit(
        lambda: sim.jobs.submit(lambda: look_at(sim, oid), label=f"monitor host {oid}")
    )


def monitor(sim: "Sim") -> None:
    """Look at all hosts that have a libvirt URI."""
    for host in sim.store.all("host"):
        look_at(sim, host.oid)


def look_at(sim: "Sim", oid: int) -> None:
    """Probe one host and write what came out; hosts without URI or offline are left alone."""
    host = sim.store.find("host", oid)
    address = None if host is None else uri(sim, host.name)
    if host is None or address is None or host.number("STATE") == HostState.OFFLINE:
        return
    try:
        found = hostprobe.probe(address)
    except hostprobe.ProbeFailed as exc:
        log.warning("host=%s %s", oid, exc)
        _failed(sim, oid, exc.message)
        return
    report(sim, oid, found)


def _failed(sim: "Sim", oid: int, why: str) -> None:
    with sim.store.transaction():
        host = sim.store.find("host", oid)
        if host is None or host.number("STATE") in QUIET:
            return
        template = host.template()
        template.set("ERROR", f"{time.ctime()} : Error monitoring Host {host.name} ({oid}): {why}")
        host.set_template(template)
        host.set("STATE", int(HostState.ERROR))
        sim.events.update(host)


def report(sim: "Sim", oid: int, found: HostReport) -> None:
    """Write *found* as oned does with a monitor message; an INIT host becomes MONITORED."""
    with sim.store.transaction():
        host = sim.store.find("host", oid)
        if host is None:
            return
        template = host.template()
        template.remove("ERROR")
        template.merge(Template([*found.facts.items()]))
        host.set_template(template)
        _write_share(sim, host, found, template)
        if host.number("STATE") not in QUIET:
            host.set("STATE", int(HostState.MONITORED))
        sim.events.update(host)
        now = int(time.time())
        seq = sim.store.new_id(f"{SAMPLES}:{oid}")
        sample = Record(seq, now, doc.dumps(_sample(oid, now, found)))
        sim.store.add_record(SAMPLES, oid, sample, keep=KEEP_SAMPLES)


def _write_share(sim: "Sim", host: Obj, found: HostReport, template: Template) -> None:
    reserved_cpu, reserved_mem = (
        int(text) if text.lstrip("-").isdigit() else 0
        for text in (template.get("RESERVED_CPU"), template.get("RESERVED_MEM"))
    )
    host.set("HOST_SHARE/TOTAL_MEM", found.memory_kib)
    host.set("HOST_SHARE/TOTAL_CPU", found.cpus * 100)
    host.set("HOST_SHARE/MAX_MEM", found.memory_kib - reserved_mem)
    host.set("HOST_SHARE/MAX_CPU", found.cpus * 100 - reserved_cpu)
    system = sim.store.find("datastore", 0)
    known = (
        {}
        if system is None
        else {
            "FREE_DISK": system.text("FREE_MB"),
            "MAX_DISK": system.text("TOTAL_MB"),
            "USED_DISK": system.text("USED_MB"),
        }
    )
    doc.replace(host.body, "HOST_SHARE/DATASTORES", _disks(known))
    nodes = node("NUMA_NODES", None, *(_numa_share(item) for item in found.nodes))
    doc.replace(host.body, "HOST_SHARE/NUMA_NODES", nodes)


def _disks(known: dict[str, str]) -> Element:
    keys = ("DISK_USAGE", "FREE_DISK", "MAX_DISK", "USED_DISK")
    return node("DATASTORES", None, *(cdata(key, known.get(key, "0")) for key in keys))


def _numa_share(found: NumaNode) -> Element:
    def vector(tag: str, values: dict[str, str | int]) -> Element:
        return node(tag, None, *(cdata(key, value) for key, value in values.items()))

    element = node("NODE")
    for core, cpus in found.cores:
        shown = ",".join(f"{cpu}:-1" for cpu in cpus)
        free = len(cpus)
        element.append(vector("CORE", {"CPUS": shown, "DEDICATED": "NO", "FREE": free, "ID": core}))
    for size, pages in found.hugepages:
        element.append(vector("HUGEPAGE", {"PAGES": pages, "SIZE": size, "USAGE": 0}))
    memory: dict[str, str | int] = {"DISTANCE": found.node_id, "TOTAL": found.memory_kib}
    element.append(vector("MEMORY", memory | {"USAGE": 0}))
    element.append(cdata("NODE_ID", found.node_id))
    return element


def _sample(oid: int, now: int, found: HostReport) -> Element:
    def numbers(tag: str, values: dict[str, int]) -> Element:
        return node(tag, None, *(cdata(key, values[key]) for key in sorted(values)))

    sample = node("MONITORING", None, node("TIMESTAMP", now), node("ID", oid))
    sample.extend([numbers("CAPACITY", found.usage), numbers("SYSTEM", found.network)])
    for item in found.nodes:
        pages = [numbers("HUGEPAGE", {"FREE": free, "SIZE": size}) for size, free in item.hugepages]
        used = {"FREE": item.memory_kib, "USED": 0}
        sample.append(
            node("NUMA_NODE", None, *pages, numbers("MEMORY", used), cdata("NODE_ID", item.node_id))
        )
    return sample


def _fix(call: Call, host: Obj, template: Template) -> None:
    old = host.template()
    for key in ("IM_MAD", "VM_MAD", "HYPERVISOR", "RESERVED_CPU", "RESERVED_MEM"):
        if not template.has(key):
            template.set(key, old.get(key))


METHODS: dict[str, Handler] = {
    "one.host.allocate": allocate,
    "one.host.delete": delete,
    "one.host.status": status,
    "one.host.enable": enable,
    "one.host.info": info,
    "one.host.monitoring": monitoring,
    "one.host.rename": common.renamer("host", per_owner=False),
    "one.host.update": common.updater("host", _fix),
    "one.hostpool.info": common.lister_of_all("host", "HOST_POOL"),
    "one.hostpool.monitoring": pool_monitoring,
}
