"""Changing the memory of a running domain: by its balloon, or by plugging memory modules."""

import itertools
import xml.etree.ElementTree as ET

import libvirt

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.units import KiB, MiB
from one_kvm_migrate.vmm import domain
from one_kvm_migrate.vmm.conn import DriverError, reason, refusal
from one_kvm_migrate.vmm.log import Log

KIB_PER_MIB = MiB // KiB
LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
# A balloon works in pages of 4 KiB and the guest may round; a MiB is below what users can ask.
TOLERANCE_KIB = 1 * KIB_PER_MIB


def _complaint(deploy_id: str, wanted_mib: int) -> str:
    return f"Failed to resize memory to {wanted_mib} MiB on {deploy_id}"


class BalloonChange:
    """Inflate or deflate the balloon until the guest holds *wanted_mib*."""

    def __init__(self, dom: "libvirt.virDomain", deploy_id: str, wanted_mib: int, log: Log) -> None:
        self._dom = dom
        self._log = log
        self._wanted_kib = wanted_mib * KIB_PER_MIB
        self._complaint = _complaint(deploy_id, wanted_mib)
        with refusal(self._complaint):
            self._most_kib = int(dom.maxMemory())
            self._before_kib = int(dom.memoryStats().get("actual", dom.info()[2]))

    def check(self) -> None:
        """Raise DriverError if the domain cannot take the change. Changes nothing."""
        if self._wanted_kib > self._most_kib:
            raise DriverError(
                f"{self._complaint}: the domain was started with at most "
                f"{self._most_kib // KIB_PER_MIB} MiB",
                hint="Power it off, raise MEMORY_MAX, and start it again.",
            )

    def apply(self, deadline: Deadline) -> None:
        """Make the change and return when the balloon confirms it.

        Raises DriverError or DeadlineExceeded.
        """
        self._change(self._wanted_kib, deadline)
        before, now = self._before_kib // KIB_PER_MIB, self._actual_kib() // KIB_PER_MIB
        self._log.info(f"memory: {before} to {now} MiB, confirmed by the balloon")

    def undo(self, deadline: Deadline) -> None:
        """Back to the former size."""
        self._change(self._before_kib, deadline)

    def _change(self, size_kib: int, deadline: Deadline) -> None:
        with refusal(self._complaint):
            self._dom.setMemoryFlags(size_kib, LIVE)
        wait_until(
            lambda: abs(self._actual_kib() - size_kib) <= TOLERANCE_KIB,
            deadline,
            what=f"the guest's balloon to reach {size_kib // KIB_PER_MIB} MiB",
            interval_s=domain.POLL_S,
        )

    def _actual_kib(self) -> int:
        with refusal(self._complaint):
            return int(self._dom.memoryStats().get("actual", self._dom.info()[2]))


class ModuleChange:
    """Plug one memory module, or unplug those that make up the difference."""

    def __init__(self, dom: "libvirt.virDomain", deploy_id: str, wanted_mib: int, log: Log) -> None:
        self._dom = dom
        self._log = log
        self._wanted_kib = wanted_mib * KIB_PER_MIB
        self._complaint = _complaint(deploy_id, wanted_mib)
        self._xml = domain.live_xml(dom)
        self._before_kib = self._size_kib()
        self._plugged = ""
        self._unplugged: list[str] = []

    def check(self) -> None:
        """Raise DriverError if the domain cannot take the change. Changes nothing."""
        limit = self._xml.find("maxMemory")
        most_kib = int(limit.text or 0) if limit is not None else 0
        if not most_kib:
            raise DriverError(
                f"{self._complaint}: the domain was started without slots for memory modules",
                hint="Power it off, set MEMORY_MAX and MEMORY_SLOTS, and start it again.",
            )
        if self._wanted_kib > most_kib:
            raise DriverError(
                f"{self._complaint}: the domain was started with at most "
                f"{most_kib // KIB_PER_MIB} MiB",
                hint="Power it off, raise MEMORY_MAX, and start it again.",
            )
        if self._wanted_kib < self._before_kib:
            self._choose()

    def apply(self, deadline: Deadline) -> None:
        """Make the change and return when it is real. Raises DriverError or DeadlineExceeded."""
        if self._wanted_kib > self._before_kib:
            module = module_xml(self._wanted_kib - self._before_kib, self._node())
            with refusal(self._complaint):
                self._dom.attachDeviceFlags(module, LIVE)
            self._plugged = module
        else:
            for text in self._choose():
                self._unplug(text, deadline)
        self._await_size(self._wanted_kib, deadline)
        before, now = self._before_kib // KIB_PER_MIB, self._wanted_kib // KIB_PER_MIB
        self._log.info(f"memory: {before} to {now} MiB by modules")

    def undo(self, deadline: Deadline) -> None:
        """Unplug what was plugged, and plug again what was unplugged."""
        if self._plugged:
            self._unplug(self._plugged, deadline)
            self._plugged = ""
        while self._unplugged:
            with refusal(self._complaint):
                self._dom.attachDeviceFlags(self._unplugged[-1], LIVE)
            self._unplugged.pop()
        self._await_size(self._before_kib, deadline)

    def _choose(self) -> list[str]:
        """The fewest plugged modules that together are the difference."""
        modules = [m for m in self._xml.iterfind("devices/memory") if m.get("model") == "dimm"]
        missing_kib = self._before_kib - self._wanted_kib
        for count in range(1, len(modules) + 1):
            for some in itertools.combinations(modules, count):
                if sum(map(_module_kib, some)) == missing_kib:
                    return [module_xml(_module_kib(m), self._node()) for m in some]
        sizes = ", ".join(f"{_module_kib(m) // KIB_PER_MIB} MiB" for m in modules) or "none"
        raise DriverError(
            f"{self._complaint}: no plugged memory modules ({sizes}) make up a difference of "
            f"{missing_kib // KIB_PER_MIB} MiB",
            hint="Choose a size that leaves whole modules out.",
        )

    def _unplug(self, module: str, deadline: Deadline) -> None:
        target_kib = self._size_kib() - int(ET.fromstring(module).findtext("target/size") or 0)
        try:
            self._dom.detachDeviceFlags(module, LIVE)
        except libvirt.libvirtError as error:
            raise DriverError(
                f"{self._complaint}: {reason(error)}",
                hint="A guest gives a module back only if it uses it as movable memory.",
            ) from error
        # libvirt returns before the guest has let go of it.
        self._await_size(target_kib, deadline)
        self._unplugged.append(module)

    def _await_size(self, size_kib: int, deadline: Deadline) -> None:
        wait_until(
            lambda: self._size_kib() == size_kib,
            deadline,
            what=f"the domain to have {size_kib // KIB_PER_MIB} MiB in modules",
            interval_s=domain.POLL_S,
        )

    def _size_kib(self) -> int:
        with refusal(self._complaint):
            return int(self._dom.maxMemory())

    def _node(self) -> str:
        cell = self._xml.find("cpu/numa/cell")
        return cell.get("id", "0") if cell is not None else "0"


def module_xml(size_kib: int, node: str) -> str:
    """A memory module as libvirt takes it."""
    memory = ET.Element("memory", {"model": "dimm"})
    target = ET.SubElement(memory, "target")
    ET.SubElement(target, "size", {"unit": "KiB"}).text = str(size_kib)
    ET.SubElement(target, "node").text = node
    return ET.tostring(memory, encoding="unicode")


def _module_kib(module: ET.Element) -> int:
    return int(module.findtext("target/size") or 0)
