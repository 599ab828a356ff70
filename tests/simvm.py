"""A simulator in step mode with hosts that need no libvirt: scripts that only say yes."""

import subprocess
import xmlrpc.client
from pathlib import Path
from typing import Any

from lxml import etree

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.sim.hostprobe import HostReport
from one_kvm_migrate.sim.objects import hosts
from one_kvm_migrate.sim.service import HostConfig, Sim, SimConfig
from one_kvm_migrate.sim.states import LcmState, VmState

OK = "#!/bin/sh\ncat > /dev/null\necho answer-of-$(basename $0)$ON_HOST\n"
ACTIONS = (
    "attach_disk attach_nic cancel deploy detach_disk detach_nic migrate prereconfigure reboot "
    "reconfigure reset resize resize_disk restore save shutdown snapshot_create snapshot_delete "
    "snapshot_revert"
)
GIB_KIB = 1 << 20
JOB_LIMIT = 200
SETTLE_S = 30.0
MACHINE = (
    "NAME=web\nCPU=1\nMEMORY=512\nDISK=[IMAGE_ID=0]\nNIC=[NETWORK_ID=0]\nCONTEXT=[NETWORK=YES]\n"
    "GRAPHICS=[TYPE=VNC,RANDOM_PASSWD=YES]\n"
)


class StepCloud:
    """Two hosts, a qcow2 image (0), a network (0); nothing happens until ``work`` is called."""

    def __init__(self, base: Path, *, step: bool = True) -> None:
        self.base = base
        self.step = step
        self.driver = base / "remotes" / "vmm" / "kvm"
        self.driver.mkdir(parents=True)
        for action in ACTIONS.split():
            self.script(action, OK)
        self.sim = self.new_sim()
        self.sim.start()
        hosts.create(self.sim, "two", "kvm", "kvm")
        for number in (0, 1):
            hosts.report(self.sim, number, report())
        self.ask("one.vn.allocate", "NAME=lab\nVN_MAD=dummy\nAR=[TYPE=IP4,IP=10.0.0.1,SIZE=4]", -1)
        self.add_image("system")
        self.settle()

    def new_sim(self) -> Sim:
        """The simulator of this directory; a second one goes on where the first stopped."""
        return Sim(
            SimConfig(
                dir=self.base / "one",
                step=self.step,
                scheduler=False,
                monitor_interval_s=0.2,
                driver_dir="kvm",
                remotes_source=self.base / "remotes",
                vnc_base_port=47900,
                hosts=(HostConfig(name="one", prefix=("env", "ON_HOST=-one")),),
            )
        )

    def restart(self) -> None:
        """Stop the simulator in whatever it is doing and start it again."""
        self.sim.stop()
        self.sim = self.new_sim()
        self.sim.start()

    def script(self, action: str, text: str) -> None:
        """Put *text* in the place of a driver script, before or while the simulator runs."""
        directories = [self.driver]
        if (self.base / "one").exists():
            directories.append(self.base / "one" / "var" / "remotes" / "vmm" / "kvm")
        for directory in directories:
            (directory / action).write_text(text)
            (directory / action).chmod(0o755)

    def fail(self, action: str, message: str = "no") -> None:
        """Let *action* fail from now on."""
        self.script(action, f"#!/bin/sh\ncat > /dev/null\necho '{message}' >&2\nexit 1\n")

    def add_image(self, name: str, options: str = "") -> int:
        """A qcow2 of 64 MiB registered with SOURCE."""
        base = etree.fromstring(self.ask("one.datastore.info", 1)).findtext("BASE_PATH")
        source = f"{base}/{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", source, "64M"], check=True)
        text = f'NAME={name}\nTYPE=OS\nSOURCE="{source}"\nFORMAT=qcow2\nSIZE=64\n{options}'
        number: int = self.ask("one.image.allocate", text, 1)
        return number

    def answer(self, method: str, *params: Any, session: str = "oneadmin:opennebula") -> list[Any]:
        """One call; the whole answer."""
        server = xmlrpc.client.ServerProxy(self.sim.endpoint)
        found: list[Any] = getattr(server, method)(session, *params)
        return found

    def ask(self, method: str, *params: Any) -> Any:
        """One call as oneadmin; its value."""
        done, value = self.answer(method, *params)[:2]
        assert done, value
        return value

    def refused(self, method: str, *params: Any) -> tuple[str, int]:
        """One call that is refused; text and code."""
        done, text, code = self.answer(method, *params)[:3]
        assert not done
        return text, code

    def work(self, jobs: int = JOB_LIMIT) -> int:
        """Run so many background jobs; how many there were."""
        count = 0
        while count < jobs and self.sim.jobs.run_next():
            count += 1
        assert count < JOB_LIMIT, "jobs without end"
        return count

    def settle(self) -> None:
        """Let everything that is queued end."""
        self.sim.settle(Deadline(SETTLE_S))

    def vm(self, oid: int) -> etree._Element:
        """one.vm.info"""
        return etree.fromstring(self.ask("one.vm.info", oid))

    def state(self, oid: int) -> str:
        """The machine's state as people see it."""
        vm = self.vm(oid)
        state = VmState(int(vm.findtext("STATE") or ""))
        lcm = LcmState(int(vm.findtext("LCM_STATE") or ""))
        return lcm.name if state == VmState.ACTIVE else state.name

    def error(self, oid: int) -> str:
        """USER_TEMPLATE/ERROR without the date."""
        return (self.vm(oid).findtext("USER_TEMPLATE/ERROR") or "")[26:]

    def running(self, text: str = MACHINE) -> int:
        """A machine in RUNNING on host 0."""
        oid: int = self.ask("one.vm.allocate", text, False)
        self.ask("one.vm.deploy", oid, 0, False, 0, "")
        self.work()
        assert self.state(oid) == "RUNNING", self.error(oid)
        return oid

    def share(self, host: int) -> tuple[int, int, int]:
        """CPU, memory (KiB) and machines that count on a host."""
        document = etree.fromstring(self.ask("one.host.info", host))
        keys = ("CPU_USAGE", "MEM_USAGE", "RUNNING_VMS")
        cpu, memory, vms = (int(document.findtext(f"HOST_SHARE/{key}") or "") for key in keys)
        return cpu, memory, vms


def report() -> HostReport:
    """What a host of 4 CPUs and 8 GiB tells."""
    return HostReport(
        cpus=4,
        memory_kib=8 * GIB_KIB,
        facts={"HYPERVISOR": "kvm", "ARCH": "x86_64"},
        usage={"FREE_CPU": 400, "FREE_MEMORY": 8 * GIB_KIB, "USED_CPU": 0, "USED_MEMORY": 0},
        network={"NETRX": 0, "NETTX": 0},
    )
