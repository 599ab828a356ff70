"""Every recorded call of a real oned, answered the same by the simulator."""

import subprocess
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from one_kvm_migrate.sim.hostprobe import HostReport, NumaNode
from one_kvm_migrate.sim.objects import hosts
from one_kvm_migrate.sim.service import HostConfig, Sim, SimConfig
from tests.conftest import DATA
from tests.replay import Paths, Recorded, differences, load

CALLS = load(DATA / "recordings" / "xmlrpc")
SESSION = "oneadmin:opennebula"
HOOK = "#!/bin/sh\nexit 0\n"
ALL_JOBS = 1000
# After these calls only so many background jobs had run when the next call came.
JOBS_AFTER = {271: 0, 272: 0, 273: 0, 274: ALL_JOBS, 278: 0, 279: 0, 281: 0}


def recorded(number: int) -> Recorded:
    """The recorded call with that number."""
    return next(call for call in CALLS if call.number == number)


class Replay:
    """A simulator in step mode that is asked what was recorded, in order, once."""

    def __init__(self, base: Path) -> None:
        self.images = base / "images"
        self.images.mkdir()
        small = self.images / "small.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", small, "10G"], check=True)
        self.sim = Sim(
            SimConfig(
                dir=base / "sim", step=True, vm_mad="qemu", hosts=(HostConfig(name="localhost"),)
            )
        )
        self.sim.start()
        self.paths = Paths(self.sim.var, self.images)
        self.answers: dict[int, list[Any]] = {}
        self._left = iter(CALLS)
        self._before: dict[int, Callable[[], None]] = {
            248: self.first_state,
            373: self.two_more_hosts,
        }

    def answer(self, number: int) -> list[Any]:
        """Our answer to the recorded call *number*; plays what comes before it first."""
        while number not in self.answers:
            self._play(next(self._left))
        return self.answers[number]

    def ask(self, method: str, *params: Any) -> Any:
        """One unrecorded call as oneadmin; its value."""
        done, value = self._call(method, (SESSION, *params))[:2]
        assert done, value
        return value

    def _play(self, call: Recorded) -> None:
        if call.number in self._before:
            self._before[call.number]()
        params = tuple(self.paths.ours(value) for value in call.params)
        self.answers[call.number] = self._call(call.method, params)
        self.run_jobs(JOBS_AFTER.get(call.number, ALL_JOBS))

    def _call(self, method: str, params: tuple[Any, ...]) -> list[Any]:
        server = xmlrpc.client.ServerProxy(self.sim.endpoint)
        answer: list[Any] = getattr(server, method)(*params)
        return answer

    def run_jobs(self, count: int) -> None:
        """Run at most *count* background jobs, and the hooks they cause."""
        for _ in range(count):
            if not self.sim.jobs.run_next():
                break
        while self.sim.events.jobs.run_next():
            continue

    def first_state(self) -> None:
        """What was done before the recording: a hook made and deleted, a host monitored."""
        self.run_jobs(ALL_JOBS)
        self.ask("one.hook.allocate", "NAME=x\nTYPE=api\nCALL=one.vm.resize\nCOMMAND=x")
        self.ask("one.hook.delete", 0)
        hosts.report(self.sim, 0, recorded_host())
        # The local system datastore is measured on the host, which it was not yet.
        with self.sim.store.transaction():
            system = self.sim.store.get("datastore", 0)
            for tag in ("TOTAL_MB", "FREE_MB", "USED_MB"):
                system.set(tag, 0)
            self.sim.store.put(system)

    def two_more_hosts(self) -> None:
        """Between calls 372 and 373: two hosts, a host disabled once, the hook script."""
        for name in ("node1", "node2"):
            oid = self.ask("one.host.allocate", name, "qemu", "qemu", -1)
            hosts.report(self.sim, oid, recorded_host("CGROUPS_VERSION"))
        hosts.report(self.sim, 0, recorded_host())
        hook = self.sim.remotes / "hooks" / "rec.sh"
        hook.write_text(HOOK)
        hook.chmod(0o755)
        self.ask("one.host.status", 0, 1)
        self.ask("one.host.status", 0, 0)
        self.run_jobs(ALL_JOBS)


def recorded_host(*without: str) -> HostReport:
    """The recorded monitoring of the first host, but for some facts."""
    host = etree.fromstring(recorded(320).answer[1])

    def numbers(path: str) -> dict[str, int]:
        return {str(item.tag): int(item.text or "") for item in host.findall(f"{path}/*")}

    facts = {str(item.tag): item.text or "" for item in host.findall("TEMPLATE/*")}
    for key in ("IM_MAD", "VM_MAD", "RESERVED_CPU", "RESERVED_MEM", *without):
        del facts[key]
    memory = host.findtext("HOST_SHARE/NUMA_NODES/NODE/MEMORY/TOTAL")
    assert memory is not None
    node = NumaNode(
        node_id=0,
        memory_kib=int(memory),
        cores=((1, (1,)), (0, (0,))),
        hugepages=((2048, 0), (1048576, 0)),
    )
    return HostReport(
        cpus=int(facts["TOTALCPU"]) // 100,
        memory_kib=int(facts["TOTALMEMORY"]),
        facts=facts,
        usage=numbers("MONITORING/CAPACITY"),
        network=numbers("MONITORING/SYSTEM"),
        nodes=(node,),
    )


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    """One replay for the whole file: the calls build on each other."""
    played = Replay(tmp_path_factory.mktemp("replay"))
    yield played
    played.sim.stop()


@pytest.mark.parametrize("call", CALLS, ids=[call.title for call in CALLS])
def test_answers_as_recorded(replay: Replay, call: Recorded) -> None:
    found = differences(call.answer, replay.answer(call.number), replay.paths)
    assert not found, "\n" + "\n".join(found[:40])
