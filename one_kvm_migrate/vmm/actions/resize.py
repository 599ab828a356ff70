"""Give a running domain more or fewer CPUs and memory, or leave it exactly as it was.

OpenNebula checks no limit of the domain and undoes nothing on the host. So everything is checked
before anything is changed, each change is confirmed, and a failure puts the former shape back.
"""

from typing import Protocol

import libvirt

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import DeadlineExceeded, OkmError
from one_kvm_migrate.vmm import document, domain, hostmem, wanted
from one_kvm_migrate.vmm.call import Call
from one_kvm_migrate.vmm.conn import DriverError, connect
from one_kvm_migrate.vmm.kvmrc import Settings
from one_kvm_migrate.vmm.log import Log
from one_kvm_migrate.vmm.memory import BalloonChange, ModuleChange
from one_kvm_migrate.vmm.shares import ShareChange
from one_kvm_migrate.vmm.vcpus import VcpuChange

UNDO_TIMEOUT_S = 15.0
# Three changes to undo, each with its time, and a call that is still in libvirt when time is up.
GRACE_S = 60.0


class Change(Protocol):
    """One property of the domain on its way to another value."""

    def check(self) -> None:
        """Raise DriverError if it cannot be done; change nothing."""

    def apply(self, deadline: Deadline) -> None:
        """Do it and return when it is real."""

    def undo(self, deadline: Deadline) -> None:
        """Put back what was there before."""


def timeout_s(settings: Settings) -> float:
    """Seconds for the guest to take part in all changes."""
    return settings.seconds("RESIZE_TIMEOUT", 120)


def run(call: Call) -> str:
    """Apply what the action document asks for. Safe to run again.

    Raises DriverError or DeadlineExceeded; then the domain has its former shape again, or the
    sentence says what could not be put back.
    """
    deploy_id = call.argv[0]
    request = wanted.read(document.parse(call.read_stdin(), "the action document"))
    dom = domain.require(connect(call.uri), deploy_id, "Could not resize")
    changes = _changes(dom, deploy_id, request, call.log)
    for change in changes:
        change.check()
    if request.memory_mib is not None:
        hostmem.compact(call.settings, hostmem.ON_START, call.log)
    apply_all(changes, call.deadline, call.log)
    if request.memory_mib is not None:
        hostmem.compact(call.settings, hostmem.ON_STOP, call.log)
    return ""


def _changes(
    dom: "libvirt.virDomain", deploy_id: str, request: wanted.Wanted, log: Log
) -> list[Change]:
    changes: list[Change] = []
    if request.memory_mib is not None:
        kind = ModuleChange if request.by_hotplug else BalloonChange
        changes.append(kind(dom, deploy_id, request.memory_mib, log))
    if request.vcpus is not None:
        changes.append(VcpuChange(dom, deploy_id, request.vcpus, log))
    if request.cpu is not None:
        changes.append(ShareChange(dom, request.former_cpu, request.cpu, log))
    return changes


def apply_all(changes: list[Change], deadline: Deadline, log: Log) -> None:
    """Apply *changes* in order. When one fails, undo it and those before, and raise its error."""
    for number, change in enumerate(changes):
        try:
            change.apply(deadline)
        except (DriverError, DeadlineExceeded) as error:
            stuck = _undo_all(changes[: number + 1], log)
            if stuck:
                raise DriverError(f"{error}; putting back failed: {'; '.join(stuck)}") from error
            log.info("everything is back to the former shape")
            raise


def _undo_all(changes: list[Change], log: Log) -> list[str]:
    """Undo *changes*, last first; what could not be undone."""
    stuck = []
    for change in reversed(changes):
        try:
            change.undo(Deadline(UNDO_TIMEOUT_S))
        except OkmError as error:
            log.error(f"undo: {error}")
            stuck.append(str(error))
    return stuck
