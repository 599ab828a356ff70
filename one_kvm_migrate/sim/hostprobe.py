"""What the information driver's probes report about a hypervisor, taken from its libvirt."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lxml import etree

from one_kvm_migrate.errors import OkmError
from one_kvm_migrate.sim.config import VERSION

if TYPE_CHECKING:
    import libvirt

KIB_PER_MIB = 1024


class ProbeFailed(OkmError):
    """The hypervisor does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumaNode:
    """One NUMA node. ``cores`` are (core id, CPU ids); ``hugepages`` are (KiB, pages)."""

    node_id: int
    memory_kib: int
    cores: tuple[tuple[int, tuple[int, ...]], ...]
    hugepages: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """``facts`` go to the host's template, ``usage`` and ``network`` to its monitoring."""

    cpus: int
    memory_kib: int
    facts: dict[str, str]
    usage: dict[str, int]
    network: dict[str, int]
    nodes: tuple[NumaNode, ...] = field(default=())


def probe(uri: str) -> HostReport:
    """Ask the libvirt at *uri*. Raises ProbeFailed."""
    import libvirt

    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        connection = libvirt.open(uri)
        try:
            info = connection.getInfo()
            memory = _memory(connection)
            capabilities = connection.getCapabilities()
            models = connection.getCPUModelNames(info[0])
        finally:
            connection.close()
    except libvirt.libvirtError as exc:
        raise ProbeFailed(f"libvirt at {uri} does not answer: {exc}") from exc
    root = etree.fromstring(capabilities.encode())
    return _report(root, info, memory, models)


def _memory(connection: "libvirt.virConnect") -> dict[str, int]:
    """The node's memory in KiB; empty when this hypervisor driver does not tell."""
    import libvirt

    try:
        stats: dict[str, int] = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
    except libvirt.libvirtError as exc:
        if exc.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return {}
    return stats


def _report(
    root: etree._Element, info: list[str | int], memory: dict[str, int], models: list[str]
) -> HostReport:
    cpus, mhz = int(info[2]), int(info[3])
    total_kib = int(memory.get("total", int(info[1]) * KIB_PER_MIB))
    free_kib = int(memory.get("free", 0)) + int(memory.get("cached", 0))
    used_cpu = min(cpus * 100, round(os.getloadavg()[0] * 100))
    machines = {item.text or "" for item in root.findall("guest/arch/machine")}
    facts = {
        "ARCH": str(info[0]),
        "CGROUPS_VERSION": "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
        "CPUSPEED": str(mhz),
        "HOSTNAME": socket.gethostname(),
        "HYPERVISOR": "kvm",
        "KVM_CPU_MODEL": root.findtext("host/cpu/model") or "",
        "KVM_CPU_MODELS": " ".join(models or ()),
        "KVM_MACHINES": " ".join(sorted(machines)),
        "MODELNAME": _model_name(),
        "TOTALCPU": str(cpus * 100),
        "TOTALMEMORY": str(total_kib),
        "VERSION": VERSION,
    }
    usage = {
        "FREE_CPU": cpus * 100 - used_cpu,
        "FREE_MEMORY": min(free_kib, total_kib),
        "USED_CPU": used_cpu,
        "USED_MEMORY": max(0, total_kib - free_kib),
    }
    cells = root.findall("host/topology/cells/cell")
    return HostReport(
        cpus=cpus,
        memory_kib=total_kib,
        facts=facts,
        usage=usage,
        network=_network(),
        nodes=tuple(_node(cell) for cell in cells),
    )


def _node(cell: etree._Element) -> NumaNode:
    cores: dict[int, list[int]] = {}
    for cpu in cell.findall("cpus/cpu"):
        number = int(cpu.get("id", "0"))
        cores.setdefault(int(cpu.get("core_id", number)), []).append(number)
    pages = [(int(item.get("size", "0")), int(item.text or "0")) for item in cell.findall("pages")]
    return NumaNode(
        node_id=int(cell.get("id", "0")),
        memory_kib=int(cell.findtext("memory") or "0"),
        cores=tuple((core, tuple(ids)) for core, ids in sorted(cores.items(), reverse=True)),
        # The first entry is the normal page size; huge pages come after it.
        hugepages=tuple(pages[1:]),
    )


def _model_name() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def _network() -> dict[str, int]:
    received = sent = 0
    for line in Path("/proc/net/dev").read_text("utf-8").splitlines()[2:]:
        name, _, numbers = line.partition(":")
        words = numbers.split()
        if name.strip() != "lo" and len(words) >= 9:
            received += int(words[0])
            sent += int(words[8])
    return {"NETRX": received, "NETTX": sent}
