"""Letting a domain's CPU weight follow OpenNebula's CPU attribute, which its script forgets."""

import math

import libvirt

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.vmm.conn import reason, refusal
from one_kvm_migrate.vmm.log import Log

LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
KEY = "cpu_shares"
V1_PER_CPU = 1024
V2_PER_CPU = 100
V2_MOST = 10000


class ShareChange:
    """From the weight that fits *former_cpu* to the one that fits *cpu*.

    A weight that OpenNebula did not set, and a host without the CPU controller, are left alone.
    """

    def __init__(
        self, dom: "libvirt.virDomain", former_cpu: float | None, cpu: float, log: Log
    ) -> None:
        self._dom = dom
        self._log = log
        self._before = self._read()
        self._wanted = following(self._before, former_cpu, cpu)

    def check(self) -> None:
        """Nothing to refuse: the weight is a matter of fairness, not of capacity."""

    def apply(self, deadline: Deadline) -> None:
        """Set the new weight. Raises DriverError."""
        if self._before is None or self._wanted is None:
            self._log.info("CPU shares are left as they are")
            return
        self._set(self._wanted)
        self._log.info(f"CPU shares: {self._before} to {self._wanted}")

    def undo(self, deadline: Deadline) -> None:
        """Back to the former weight."""
        if self._before is not None and self._wanted is not None:
            self._set(self._before)

    def _read(self) -> int | None:
        try:
            found = self._dom.schedulerParametersFlags(LIVE).get(KEY)
        except libvirt.libvirtError as error:
            self._log.info(f"this host has no CPU shares: {reason(error)}")
            return None
        return int(found) if found is not None else None

    def _set(self, weight: int) -> None:
        with refusal(f"cannot set CPU shares to {weight}"):
            self._dom.setSchedulerParametersFlags({KEY: weight}, LIVE)


def following(now: int | None, former_cpu: float | None, cpu: float) -> int | None:
    """The weight for *cpu*, by the rule that made *now* from *former_cpu*; None if none did.

    OpenNebula writes ceil(1024 * CPU), or 100 * CPU within 1 to 10000 with CGROUPS_VERSION=2.
    """
    if now is None or former_cpu is None:
        return None
    if now == _v1(former_cpu):
        return _v1(cpu)
    if now == _v2(former_cpu):
        return _v2(cpu)
    return None


def _v1(cpu: float) -> int:
    return math.ceil(V1_PER_CPU * cpu)


def _v2(cpu: float) -> int:
    return min(max(math.ceil(V2_PER_CPU * cpu), 1), V2_MOST)
