"""Looking at libvirt from the front-end: what monitord's probes and live copies need.

Only reading, pausing and disk snapshots; everything else goes through the driver scripts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import libvirt
from lxml import etree

from one_kvm_migrate.errors import EnvironmentMissing, ToolFailed

NAME_PREFIX = "one-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at a domain. Times in nanoseconds, memory in KiB, the rest in bytes."""

    uuid: str
    cpu_ns: int
    memory_kib: int
    net: tuple[int, int]
    disk_bytes: tuple[int, int]
    disk_requests: tuple[int, int]


@contextmanager
def connection(uri: str) -> Iterator[libvirt.virConnect]:
    """A connection for a moment; raises EnvironmentMissing when libvirt does not answer."""
    libvirt.registerErrorHandler(_silent, None)
    try:
        conn = libvirt.open(uri)
    except libvirt.libvirtError as exc:
        raise EnvironmentMissing(f"libvirt at {uri} does not answer: {exc}") from exc
    try:
        yield conn
    except libvirt.libvirtError as exc:
        raise ToolFailed(["libvirt"], 1, str(exc)) from exc
    finally:
        conn.close()


def _silent(context: object, error: object) -> None:
    """libvirt prints each error on stderr unless told otherwise; ours come as exceptions."""


def samples(uri: str) -> dict[int, Sample]:
    """All active domains called one-<number>, by that number. Raises OkmError."""
    found: dict[int, Sample] = {}
    with connection(uri) as conn:
        for domain in conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            number = domain.name().removeprefix(NAME_PREFIX)
            if not domain.name().startswith(NAME_PREFIX) or not number.isdigit():
                continue
            sample = _sample(domain)
            if sample is not None:
                found[int(number)] = sample
    return found


def _sample(domain: libvirt.virDomain) -> Sample | None:
    try:
        info = domain.info()
        root = etree.fromstring(domain.XMLDesc().encode())
        net = _sum(domain.interfaceStats(name)[i] for name in _targets(root, "interface")
                   for i in (0, 4))  # fmt: skip
        blocks = [domain.blockStats(name) for name in _targets(root, "disk")]
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            return None
        raise
    return Sample(
        uuid=domain.UUIDString(),
        cpu_ns=info[4],
        memory_kib=info[2],
        net=net,
        disk_bytes=(sum(b[1] for b in blocks), sum(b[3] for b in blocks)),
        disk_requests=(sum(b[0] for b in blocks), sum(b[2] for b in blocks)),
    )


def _sum(numbers: Iterator[int]) -> tuple[int, int]:
    values = list(numbers)
    return sum(values[0::2]), sum(values[1::2])


def _targets(root: etree._Element, kind: str) -> list[str]:
    found = root.iterfind(f"devices/{kind}/target")
    return [str(target.get("dev")) for target in found if target.get("dev")]


@contextmanager
def paused(uri: str, uuid: str) -> Iterator[None]:
    """Hold the domain still, as the stock driver does for copies without a guest agent."""
    with connection(uri) as conn:
        domain = conn.lookupByUUIDString(uuid)
        domain.suspend()
        try:
            yield
        finally:
            domain.resume()


def switch_disk(uri: str, uuid: str, target: str, overlay: str) -> None:
    """Let the running domain write its disk *target* into *overlay* from now on.

    *overlay* exists already and is based on what the domain writes now. Raises OkmError.
    """
    with connection(uri) as conn:
        domain = conn.lookupByUUIDString(uuid)
        root = etree.Element("domainsnapshot")
        disks = etree.SubElement(root, "disks")
        for name in _targets(etree.fromstring(domain.XMLDesc().encode()), "disk"):
            chosen = name == target
            disk = etree.SubElement(disks, "disk", name=name)
            disk.set("snapshot", "external" if chosen else "no")
            if chosen:
                etree.SubElement(disk, "driver", type="qcow2")
                etree.SubElement(disk, "source", file=overlay)
        flags = (
            libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
            | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
        )
        domain.snapshotCreateXML(etree.tostring(root, encoding="unicode"), flags)
