"""Changing the number of virtual CPUs of a running domain, checked in libvirt and the guest."""

import libvirt

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.vmm import domain
from one_kvm_migrate.vmm.conn import DriverError, reason, refusal
from one_kvm_migrate.vmm.log import Log

LIVE = libvirt.VIR_DOMAIN_VCPU_LIVE
HOTPLUGGABLE = libvirt.VIR_DOMAIN_VCPU_HOTPLUGGABLE
MAXIMUM = libvirt.VIR_DOMAIN_VCPU_MAXIMUM
AGENT_TIMEOUT_S = 10


class VcpuChange:
    """From the number of CPUs now to *wanted*; a guest with an agent takes part.

    An emulated domain (type qemu) never loses a CPU: its guest stops using it instead. QEMU 7.2
    without KVM forgets to report the unplugged CPU and crashes at the next reset.
    """

    def __init__(self, dom: "libvirt.virDomain", deploy_id: str, wanted: int, log: Log) -> None:
        self._dom = dom
        self._wanted = wanted
        self._log = log
        self._complaint = f"Failed to resize VCPU to {wanted} on {deploy_id}"
        xml = domain.live_xml(dom)
        self._emulated = xml.get("type") == "qemu"
        with refusal(self._complaint):
            self._most = int(dom.vcpusFlags(LIVE | MAXIMUM))
        self._before = self._count()
        self._agent = domain.agent_connected(xml) and self._agent_answers()

    def check(self) -> None:
        """Raise DriverError if the domain cannot take the change. Changes nothing."""
        if self._wanted > self._most:
            raise DriverError(
                f"{self._complaint}: the domain was started with at most {self._most} virtual CPUs",
                hint="Power it off, raise VCPU_MAX, and start it again.",
            )
        if self._emulated and not self._agent and self._wanted < self._count():
            raise DriverError(
                f"{self._complaint}: an emulated domain cannot lose a CPU without the guest's help",
                hint="Start the guest agent in it, or power it off first.",
            )

    def apply(self, deadline: Deadline) -> None:
        """Make the change and return when it is real. Raises DriverError or DeadlineExceeded."""
        self._change(self._wanted, deadline)
        seen = ", also in the guest" if self._agent else "; the guest has no agent to confirm it"
        self._log.info(f"virtual CPUs: {self._before} to {self._wanted}{seen}")

    def undo(self, deadline: Deadline) -> None:
        """Back to the former number. Safe to call after any part of ``apply``."""
        self._change(self._before, deadline)

    def _change(self, count: int, deadline: Deadline) -> None:
        if count > self._count():
            with refusal(self._complaint):
                self._dom.setVcpusFlags(count, LIVE | HOTPLUGGABLE)
        if self._agent:
            self._set_online(count, deadline)
        if count < self._count():
            if self._emulated:
                self._log.info(
                    "emulated CPUs are offline in the guest until it reboots, not unplugged"
                )
                return
            self._unplug(count, deadline)
        if self._count() != count:
            raise DriverError(f"{self._complaint}: libvirt counts {self._count()}")

    def _unplug(self, count: int, deadline: Deadline) -> None:
        """Take CPUs away. libvirt waits 5 s for each; a busy guest may need longer."""
        asked_at = 0

        def unplugged() -> bool:
            nonlocal asked_at
            now = self._count()
            if now > count and now != asked_at:
                asked_at = now
                self._request(count)
            return self._count() <= count

        what = f"the guest to give back all but {count} virtual CPUs"
        wait_until(unplugged, deadline, what=what, interval_s=domain.POLL_S)

    def _request(self, count: int) -> None:
        try:
            self._dom.setVcpusFlags(count, LIVE | HOTPLUGGABLE)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_OPERATION_TIMEOUT:
                raise DriverError(f"{self._complaint}: {reason(error)}") from error

    def _agent_answers(self) -> bool:
        """Ask the agent for its CPUs, which are those that count. Some are hung or not allowed."""
        try:
            self._dom.agentSetResponseTimeout(AGENT_TIMEOUT_S, 0)
            self._before = len(self._in_guest()[1])
        except libvirt.libvirtError as error:
            self._log.info(f"the guest agent is left out: {reason(error)}")
            return False
        return True

    def _count(self) -> int:
        with refusal(self._complaint):
            return int(self._dom.vcpusFlags(LIVE))

    def _set_online(self, count: int, deadline: Deadline) -> None:
        """Have exactly the first *count* CPUs online in the guest, and see that they are."""
        with refusal(f"{self._complaint}: the guest agent refused"):
            wait_until(
                lambda: self._steer_guest(count),
                deadline,
                what=f"the guest to use {count} virtual CPUs",
                interval_s=domain.POLL_S,
            )

    def _steer_guest(self, count: int) -> bool:
        present, online = self._in_guest()
        first = set(sorted(present)[:count])
        if len(first) < count:
            return False  # the guest has not noticed the new ones yet
        for number in sorted(online ^ first):
            self._dom.setGuestVcpus(str(number), int(number in first), 0)
        return self._in_guest()[1] == first

    def _in_guest(self) -> tuple[set[int], set[int]]:
        answer = self._dom.guestVcpus(0)
        return cpu_set(answer["vcpus"]), cpu_set(answer["online"])


def cpu_set(text: str) -> set[int]:
    """The numbers in a CPU list such as ``0-3,5``."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers
