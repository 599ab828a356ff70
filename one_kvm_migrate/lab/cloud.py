"""The demo's OpenNebula: the embedded one as a separate process, set up over XML-RPC.

Everything goes through pyone, as an administrator's own script would.
"""

import json
import os
import signal
import subprocess
import xmlrpc.client
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyone

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import DeadlineExceeded, OpenNebulaError, ToolFailed
from one_kvm_migrate.tools.run import kill_group, run

EMULATOR = "/usr/bin/qemu-system-x86_64"
READY_TIMEOUT_S = 30.0
MONITORED, ACTIVE, DONE, LCM_RUNNING = 2, 3, 6, 3
HOST_FAILED = (3, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Ids of what an administrator has to have before a migration."""

    image_datastore: int
    system_datastore: int
    host: int
    network: int


@contextmanager
def embedded_opennebula(
    program: str, folder: Path, libvirt_uri: str, log: Path
) -> Iterator[dict[str, Any]]:
    """Run ``one-kvm-migrate sim`` in *folder*; yields its ready file, and stops it at the end.

    Raises ToolFailed when it ends at once, DeadlineExceeded when it does not become ready.
    """
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    argv = [program, "sim", "--dir", str(folder), "--port", "0", "--libvirt-uri", libvirt_uri]
    argv += ["--domain-type", "qemu", "--emulator", EMULATOR, "--ready-file", str(ready)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # A Ctrl-C is for the demo; the demo then ends this process itself.
            start_new_session=True,
        )
    try:

        def is_ready() -> dict[str, Any] | None:
            if process.poll() is not None:
                raise ToolFailed(argv, process.returncode, log.read_text("utf-8", "replace"))
            return json.loads(ready.read_text()) if ready.exists() else None

        deadline = Deadline(READY_TIMEOUT_S)
        yield wait_until(is_ready, deadline, what="the embedded OpenNebula", interval_s=0.1)
    finally:
        kill_group(process)


def end_forgotten(folder: Path) -> None:
    """Stop an embedded OpenNebula that a killed demo left running in *folder*."""
    try:
        pid = int(json.loads((folder / "ready.json").read_text())["pid"])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, KeyError):
        return  # never started, stopped as it should, or ended meanwhile
    if os.fsencode(folder) not in command:
        return  # the number belongs to somebody else by now
    alive = Path(f"/proc/{pid}/ns/mnt")  # gone with the process, even before it is reaped
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        with suppress(DeadlineExceeded):
            wait_until(lambda: not alive.exists(), Deadline(10), what="an old demo to end")
            return


@contextmanager
def bridge(name: str, address: str) -> Iterator[str]:
    """A Linux bridge of our own with *address* (a.b.c.d/n), removed at the end.

    One that a killed run left behind is taken over.
    """
    deadline = Deadline(20)
    if not Path(f"/sys/class/net/{name}").exists():
        run(["ip", "link", "add", name, "type", "bridge"], deadline=deadline)
    try:
        run(["ip", "address", "replace", address, "dev", name], deadline=deadline)
        run(["ip", "link", "set", name, "up"], deadline=deadline)
        yield name
    finally:
        run(["ip", "link", "delete", name], deadline=Deadline(20), ok=(0, 1))


class Administrator:
    """What the administrator does in OpenNebula before and after the migration."""

    def __init__(self, endpoint: str, session: str) -> None:
        self._server: Any = pyone.OneServer(endpoint, session=session)

    def prepare(self, bridge_name: str) -> Setup:
        """Make the datastores, host and network a migration needs; waits for the host."""
        images = 'NAME = "demo-images"\nTYPE = "IMAGE_DS"\nDS_MAD = "fs"\nTM_MAD = "qcow2"'
        system = 'NAME = "demo-system"\nTYPE = "SYSTEM_DS"\nTM_MAD = "qcow2"'
        network = (
            f'NAME = "demo-net"\nVN_MAD = "dummy"\nBRIDGE = "{bridge_name}"\n'
            'AR = [ TYPE = "IP4", IP = "10.213.47.10", SIZE = "50" ]'
        )
        setup = Setup(
            image_datastore=int(self._call("datastore.allocate", images, 0)),
            system_datastore=int(self._call("datastore.allocate", system, 0)),
            network=int(self._call("vn.allocate", network, 0)),
            host=self._host("localhost"),
        )

        def monitored() -> bool:
            state = int(self._call("host.info", setup.host).STATE)
            if state in HOST_FAILED:
                raise OpenNebulaError(f"host {setup.host} cannot be monitored (state {state})")
            return state == MONITORED

        wait_until(monitored, Deadline(60), what="the host to be monitored")
        return setup

    def _host(self, name: str) -> int:
        # The embedded OpenNebula comes with the machine it runs on as its first host.
        for host in self._call("hostpool.info").HOST:
            if name == host.NAME:
                return int(host.ID)
        return int(self._call("host.allocate", name, "kvm", "kvm", 0))

    def vm_state(self, vm_id: int) -> str:
        """``RUNNING``, or the two state numbers of a VM that does not run."""
        state, lcm = self._states(vm_id)
        return "RUNNING" if (state, lcm) == (ACTIVE, LCM_RUNNING) else f"{state}/{lcm}"

    def resize(self, vm_id: int, *, vcpus: int, memory_mib: int, deadline: Deadline) -> None:
        """Resize the running VM and wait until OpenNebula says it is done.

        Raises OpenNebulaError with the VM's own error text when the resize was undone.
        """
        template = f'CPU = "{vcpus}"\nVCPU = "{vcpus}"\nMEMORY = "{memory_mib}"'
        self._call("vm.resize", vm_id, template, True)
        wait_until(
            lambda: self.vm_state(vm_id) == "RUNNING", deadline, what=f"VM {vm_id} to be resized"
        )
        vm = self._call("vm.info", vm_id)
        if (int(vm.TEMPLATE["VCPU"]), int(vm.TEMPLATE["MEMORY"])) != (vcpus, memory_mib):
            reason = vm.USER_TEMPLATE.get("ERROR", "no reason given")
            raise OpenNebulaError(f"VM {vm_id} was not resized: {reason}")

    def terminate(self, vm_id: int, deadline: Deadline) -> None:
        """End the VM and wait until it is gone."""
        self._call("vm.action", "terminate-hard", vm_id)
        try:
            wait_until(lambda: self._states(vm_id)[0] == DONE, deadline, what=f"VM {vm_id} to end")
        except DeadlineExceeded as exc:
            raise OpenNebulaError(f"VM {vm_id} does not end: {exc.message}") from exc

    def _call(self, method: str, *arguments: Any) -> Any:
        family, name = method.split(".")
        try:
            return getattr(getattr(self._server, family), name)(*arguments)
        except (pyone.OneException, xmlrpc.client.Error, OSError) as exc:
            raise OpenNebulaError(f"one.{method} failed: {exc}") from exc

    def _states(self, vm_id: int) -> tuple[int, int]:
        vm = self._call("vm.info", vm_id)
        return int(vm.STATE), int(vm.LCM_STATE)


def credentials(folder: Path) -> str:
    """The session string that the embedded OpenNebula left for its owner."""
    return (folder / "one_auth").read_text().strip()


def user_environment(endpoint: str, auth_file: Path, state_dir: Path) -> dict[str, str]:
    """What an administrator's shell would hold: nothing but the usual variables."""
    return {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "ONE_XMLRPC": endpoint,
        "ONE_AUTH": str(auth_file),
        "OKM_STATE_DIR": str(state_dir),
    }
