"""What monitord reports: samples of running domains, and machines whose domain is gone."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.doc import cdata, node
from one_kvm_migrate.sim.states import LcmState as Lcm
from one_kvm_migrate.sim.states import VmState
from one_kvm_migrate.sim.store import Record
from one_kvm_migrate.sim.vm import domains, history
from one_kvm_migrate.sim.vm.domains import Sample
from one_kvm_migrate.sim.vm.history import Action, Actor
from one_kvm_migrate.sim.vm.machine import Machine, timestamp
from one_kvm_migrate.sim.vm.nodes import host_config
from one_kvm_migrate.sim.vm.steps import rest, running

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

log = logging.getLogger(__name__)

KEEP_SAMPLES = 100
# The stock probe believes that a domain is gone after it missed it that often.
MISSES = 2


@dataclass(slots=True)
class _Memory:
    """What one simulator saw in earlier rounds, by number of the machine."""

    missed: dict[int, int] = field(default_factory=dict)
    cpu: dict[int, tuple[int, int]] = field(default_factory=dict)


_memories: WeakKeyDictionary["Sim", _Memory] = WeakKeyDictionary()


def look(sim: "Sim") -> None:
    """One round over all hosts; called every few seconds."""
    memory = _memories.setdefault(sim, _Memory())
    machines = [Machine(sim, obj) for obj in sim.store.all("vm")]
    uris: dict[str, list[Machine]] = {}
    for machine in machines:
        if machine.state not in (VmState.ACTIVE, VmState.POWEROFF) or not machine.records():
            continue
        uri = host_config(sim, machine.place().host_name).libvirt_uri
        if uri:
            uris.setdefault(uri, []).append(machine)
    for uri, here in uris.items():
        try:
            found = domains.samples(uri)
        except OkmError as exc:
            log.warning("monitoring %s: %s", uri, exc)
            continue
        for machine in here:
            _compare(memory, machine, found.get(machine.oid))


def _compare(memory: _Memory, machine: Machine, sample: Sample | None) -> None:
    sim, oid = machine.sim, machine.oid
    if sample is not None or not machine.active_in(Lcm.RUNNING):
        memory.missed.pop(oid, None)
    else:
        memory.missed[oid] = memory.missed.get(oid, 0) + 1
    gone = memory.missed.get(oid, 0) >= MISSES
    if gone:
        report_poweroff(sim, oid)
    elif sample is not None and machine.active_in(Lcm.RUNNING):
        add_sample(sim, oid, _values(memory, oid, sample))
    elif sample is not None and machine.state == VmState.POWEROFF:
        report_running(sim, oid, sample.uuid)


def _values(memory: _Memory, oid: int, sample: Sample) -> dict[str, str]:
    now = timestamp()
    then, cpu_before = memory.cpu.get(oid, (now, sample.cpu_ns))
    memory.cpu[oid] = (now, sample.cpu_ns)
    elapsed = max(1, now - then)
    percent = max(0.0, (sample.cpu_ns - cpu_before) / 1e7 / elapsed)
    return {
        "CPU": f"{percent:.2f}",
        "DISKRDBYTES": str(sample.disk_bytes[0]),
        "DISKRDIOPS": str(sample.disk_requests[0]),
        "DISKWRBYTES": str(sample.disk_bytes[1]),
        "DISKWRIOPS": str(sample.disk_requests[1]),
        "MEMORY": str(sample.memory_kib),
        "NETRX": str(sample.net[0]),
        "NETTX": str(sample.net[1]),
    }


def add_sample(sim: "Sim", oid: int, values: dict[str, str]) -> None:
    """Keep a sample of machine *oid*; one.vm.info shows the newest."""
    now = timestamp()
    known = {"TIMESTAMP": str(now), **values, "ID": str(oid)}
    element = node("MONITORING", None, *(cdata(key, known[key]) for key in sorted(known)))
    with sim.store.transaction():
        rows = sim.store.records("vm", oid)
        seq = rows[-1][1].seq + 1 if rows else 0
        record = Record(seq=seq, time=int(known["TIMESTAMP"]), body=doc.dumps(element))
        sim.store.add_record("vm", oid, record, keep=KEEP_SAMPLES)


def report_poweroff(sim: "Sim", oid: int) -> None:
    """The domain of a running machine is gone: POWEROFF, as monitord makes it."""
    with sim.store.transaction():
        machine = Machine.load(sim, oid)
        if not machine.active_in(Lcm.RUNNING, Lcm.UNKNOWN):
            return
        machine.set_active(Lcm.SHUTDOWN_POWEROFF)
        machine.save()
        history.stamp(machine.last(), timestamp(), "RETIME")
        machine.set_action(Action.MONITOR, Actor())
        rest(machine, VmState.POWEROFF)


def report_running(sim: "Sim", oid: int, uuid: str) -> None:
    """The domain of a machine that is off runs: someone started it by hand."""
    with sim.store.transaction():
        machine = Machine.load(sim, oid)
        if machine.state != VmState.POWEROFF:
            return
        history.stamp(machine.last(), timestamp(), "ETIME")
        machine.open_record(machine.place())
        history.stamp(machine.last(), timestamp(), "RSTIME")
        machine.obj.set("DEPLOY_ID", uuid)
        running(machine)
