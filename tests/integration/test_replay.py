"""Every recorded call of a real oned, answered the same by the simulator."""

import re
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
from one_kvm_migrate.sim.vm import monitor
from tests.conftest import DATA
from tests.replay import (
    VNC_SHIFT,
    Paths,
    Recorded,
    differences,
    document_differences,
    load,
)
from tests.replay_remotes import Remotes, load_calls, plain

CALLS = load(DATA / "recordings" / "xmlrpc")
SESSION = "oneadmin:opennebula"
HOOK = "#!/bin/sh\nexit 0\n"
ALL_JOBS = 1000
# After these calls only so many background jobs had run when the next call came.
JOBS_AFTER = dict.fromkeys((271, 272, 273, 278, 279, 281, 329, 330, 331, 344, 380, 388, 427), 0)
DRIVER = DATA / "recordings" / "driver"


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
        self.driver_calls = base / "calls"
        remotes = Remotes(base / "remotes", DRIVER, self.driver_calls)
        remotes.write("vmm/kvm", "vmm")
        remotes.write("vnm/dummy", "vnm_dummy")
        remotes.write("tm/qcow2", "tm_qcow2", "snap_create_live")
        self.sim = Sim(
            SimConfig(
                dir=base / "sim",
                step=True,
                vm_mad="qemu",
                driver_dir="kvm",
                domain_type="qemu",
                vnc_base_port=VNC_SHIFT + 5900,
                remotes_source=base / "remotes",
                hosts=(HostConfig(name="localhost"),),
            )
        )
        self.sim.start()
        self.paths = Paths(self.sim.var, self.images)
        self.answers: dict[int, list[Any]] = {}
        self._left = iter(CALLS)
        self._before: dict[int, Callable[[], None]] = {
            248: self.first_state,
            347: lambda: monitor.report_poweroff(self.sim, 0),
            373: self.two_more_hosts,
            391: lambda: monitor.report_poweroff(self.sim, 1),
        }
        self._samples = recorded_samples()

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
        self.show_samples(call)
        params = tuple(self.paths.ours(value) for value in call.params)
        self.answers[call.number] = self._call(call.method, params)
        self.run_jobs(JOBS_AFTER.get(call.number, ALL_JOBS))

    def show_samples(self, call: Recorded) -> None:
        """Report what the monitor had seen of machines when *call* was recorded."""
        text = str(call.answer[1])
        if not text.startswith(("<VM>", "<MONITORING_DATA>")):
            return
        stamps = [int(item.text or "") for item in etree.fromstring(text).iter("TIMESTAMP")]
        while self._samples and stamps and int(self._samples[0]["TIMESTAMP"]) <= max(stamps):
            sample = self._samples.pop(0)
            monitor.add_sample(self.sim, int(sample["ID"]), sample)

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
            hosts.report(self.sim, oid, recorded_host("CGROUPS_VERSION", HOSTNAME=name))
        hosts.report(self.sim, 0, recorded_host())
        hook = self.sim.remotes / "hooks" / "rec.sh"
        hook.write_text(HOOK)
        hook.chmod(0o755)
        self.ask("one.host.status", 0, 1)
        self.ask("one.host.status", 0, 0)
        self.run_jobs(ALL_JOBS)


def recorded_samples() -> list[dict[str, str]]:
    """All samples of machines in the recorded answers, oldest first, each once."""
    found = {}
    for call in CALLS:
        text = str(call.answer[1])
        if text.startswith(("<VM>", "<MONITORING_DATA>")):
            for element in etree.fromstring(text).iter("MONITORING"):
                sample = {str(item.tag): item.text or "" for item in element}
                if sample:
                    found[int(sample["TIMESTAMP"]), sample["ID"]] = sample
    return [found[key] for key in sorted(found)]


def recorded_host(*without: str, **changed: str) -> HostReport:
    """The recorded monitoring of the first host, *without* some facts, others *changed*."""
    host = etree.fromstring(recorded(320).answer[1])

    def numbers(path: str) -> dict[str, int]:
        return {str(item.tag): int(item.text or "") for item in host.findall(f"{path}/*")}

    facts = {str(item.tag): item.text or "" for item in host.findall("TEMPLATE/*")}
    for key in ("IM_MAD", "VM_MAD", "RESERVED_CPU", "RESERVED_MEM", *without):
        del facts[key]
    facts.update(changed)
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


def as_recorded(text: str, paths: Paths) -> str:
    """*text* of our script call with the recorded paths and console ports."""
    return paths.recorded(plain(text)).replace(f"port='{VNC_SHIFT // 10000}59", "port='59")


@pytest.mark.parametrize("family", ["vmm", "vnm_dummy"])
def test_driver_scripts_are_called_as_recorded(replay: Replay, family: str) -> None:
    """Same scripts, per action in the same order, with the same words and documents."""
    replay.answer(CALLS[-1].number)
    ours = load_calls(replay.driver_calls / family)
    theirs = load_calls(DRIVER / family)
    assert ours.keys() == theirs.keys()
    found: list[str] = []
    for name, call in theirs.items():
        pairs = zip([*call.argv, call.stdin], [*ours[name].argv, ours[name].stdin], strict=True)
        for recorded_word, word in pairs:
            own = as_recorded(word, replay.paths)
            found += document_differences(name, plain(recorded_word), own)
    assert not found, "\n" + "\n".join(found[:60])


@pytest.mark.parametrize(
    "operation", ["clone", "context", "cpds", "delete", "ln", "mv", "mvds", "snap_create"]
)
def test_transfers_are_those_recorded(replay: Replay, operation: str) -> None:
    """What moves, where to, in which order: as the transfer driver was told."""
    replay.answer(CALLS[-1].number)
    ours = [
        line.split()[2:]
        for vm in (0, 1, 2)
        for line in transfer_lines(replay.sim.dir / "log" / f"{vm}.log")
        if line.split()[0].partition(".")[0] == operation.upper()
    ]
    family = DRIVER / "tm_qcow2"
    theirs = [
        (entry / "argv").read_text().split()
        for entry in sorted(family.iterdir())
        if entry.stem == operation
    ]
    assert [[replay.paths.recorded(word) for word in words] for words in ours] == [
        [re.sub("[0-9a-f]{32}", "", word) for word in words] for words in theirs
    ]


def transfer_lines(log: Path) -> list[str]:
    """Transfers in a machine's log; random file names are taken out."""
    lines = [line.partition("[TM][I]: ")[2].strip() for line in log.read_text().splitlines()]
    return [re.sub("[0-9a-f]{32}", "", line) for line in lines if line]
