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
    """From the number of CPUs now to *wanted*; a guest with an agent takes part."""

    def __init__(self, dom: "libvirt.virDomain", deploy_id: str, wanted: int, log: Log) -> None:
        self._dom = dom
        self._wanted = wanted
        self._log = log
        self._complaint = f"Failed to resize VCPU to {wanted} on {deploy_id}"
        with refusal(self._complaint):
            self._before = int(dom.vcpusFlags(LIVE))
            self._most = int(dom.vcpusFlags(LIVE | MAXIMUM))
        self._agent = domain.agent_connected(domain.live_xml(dom))

    def check(self) -> None:
        """Raise DriverError if the domain cannot take the change. Changes nothing."""
        if self._wanted > self._most:
            raise DriverError(
                f"{self._complaint}: the domain was started with at most {self._most} virtual CPUs",
                hint="Power it off, raise VCPU_MAX, and start it again.",
            )

    def apply(self, deadline: Deadline) -> None:
        """Make the change and return when it is real. Raises DriverError or DeadlineExceeded."""
        self._change(self._wanted, deadline)
        self._log.info(f"virtual CPUs: {self._before} to {self._wanted}{self._seen_by()}")

    def undo(self, deadline: Deadline) -> None:
        """Back to the former count. Safe to call after any part of ``apply``."""
        self._change(self._before, deadline)

    def _change(self, count: int, deadline: Deadline) -> None:
        if self._agent and count < self._count():
            self._set_online(count, deadline)
        with refusal(self._complaint):
            if self._count() != count:
                self._dom.setVcpusFlags(count, LIVE | HOTPLUGGABLE)
        wait_until(
            lambda: self._count() == count,
            deadline,
            what=f"{count} virtual CPUs",
            interval_s=domain.POLL_S,
        )
        if self._agent:
            self._set_online(count, deadline)

    def _count(self) -> int:
        with refusal(self._complaint):
            return int(self._dom.vcpusFlags(LIVE))

    def _set_online(self, count: int, deadline: Deadline) -> None:
        """Have exactly the first *count* CPUs online in the guest, and see that they are."""
        try:
            self._dom.agentSetResponseTimeout(AGENT_TIMEOUT_S, 0)
            wait_until(
                lambda: self._steer_guest(count),
                deadline,
                what=f"the guest to use {count} virtual CPUs",
                interval_s=domain.POLL_S,
            )
        except libvirt.libvirtError as error:
            raise DriverError(
                f"{self._complaint}: the guest agent refused: {reason(error)}"
            ) from error

    def _steer_guest(self, count: int) -> bool:
        present, online = self._in_guest()
        first = set(sorted(present)[:count])
        if len(first) < count:
            return False  # the guest has not noticed the new ones yet
        if online == first:
            return True
        for number in sorted(online ^ first):
            self._dom.setGuestVcpus(str(number), int(number in first), 0)
        return self._in_guest()[1] == first

    def _in_guest(self) -> tuple[set[int], set[int]]:
        answer = self._dom.guestVcpus(0)
        return cpu_set(answer["vcpus"]), cpu_set(answer["online"])

    def _seen_by(self) -> str:
        return ", also in the guest" if self._agent else "; the guest has no agent to confirm it"


def cpu_set(text: str) -> set[int]:
    """The numbers in a CPU list such as ``0-3,5``."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers
