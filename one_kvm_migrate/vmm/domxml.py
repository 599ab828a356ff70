"""Changes to the domain XML that OpenNebula wrote, each a function on the parsed document.

A function returns what it changed, as sentences for the log; an empty list means the text
stays as it is, byte for byte. Questions about the host come in as functions.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator

from one_kvm_migrate.errors import EnvironmentMissing

NAMESPACES = {
    "qemu": "http://libvirt.org/schemas/domain/qemu/1.0",
    "one": "http://opennebula.org/xmlns/libvirt/1.0",
}
# A cache mode that opens the file with O_DIRECT, and the nearest one that does not.
WITHOUT_DIRECT = {"none": "writeback", "directsync": "writethrough"}

for _prefix, _uri in NAMESPACES.items():
    ET.register_namespace(_prefix, _uri)


def serialise(domain: ET.Element) -> bytes:
    """*domain* as text for libvirt."""
    return bytes(ET.tostring(domain, encoding="utf-8"))


def file_disks(domain: ET.Element) -> Iterator[tuple[ET.Element, ET.Element, str]]:
    """Each disk that is a file: its element, its ``<source>``, the path."""
    # oned writes two <devices> elements; libvirt merges them, and so does this search.
    for disk in domain.iterfind("devices/disk[@type='file']"):
        source = disk.find("source")
        path = source.get("file") if source is not None else None
        if source is not None and path:
            yield disk, source, path


def resolve_links(domain: ET.Element, target_of: Callable[[str], str | None]) -> list[str]:
    """Replace disks ``…/disk.N`` that are symbolic links by what they point at.

    *target_of* gives the target of a path that is a link to something that exists.
    """
    changes = []
    for disk, source, path in file_disks(domain):
        stem, dot, number = os.path.basename(path).partition(".")
        if disk.get("device") != "disk" or (stem, dot) != ("disk", ".") or not number.isdecimal():
            continue
        target = target_of(path)
        if target is not None:
            source.set("file", target)
            changes.append(f"{path} is a link, using {target}")
    return changes


def set_type(domain: ET.Element, wanted: str, why: str) -> list[str]:
    """Make the domain of type *wanted*, ``kvm`` or ``qemu``, and fit the CPU model to it."""
    changes = []
    if domain.get("type") != wanted:
        changes.append(f"domain type {domain.get('type')} changed to {wanted}: {why}")
        domain.set("type", wanted)
    cpu = domain.find("cpu")
    if wanted == "qemu" and cpu is not None and cpu.get("mode") == "host-passthrough":
        # Emulation has no host CPU to pass through; "maximum" is all that QEMU can emulate.
        cpu.attrib.pop("migratable", None)
        cpu.attrib.pop("check", None)
        cpu.set("mode", "maximum")
        changes.append("CPU mode host-passthrough changed to maximum for emulation")
    return changes


def fit_emulator(domain: ET.Element, replacement: str, exists: Callable[[str], bool]) -> list[str]:
    """Use *replacement* (may be "") where the emulator named in the domain is missing.

    Raises EnvironmentMissing when neither exists.
    """
    emulator = domain.find("devices/emulator")
    path = (emulator.text or "").strip() if emulator is not None else ""
    if emulator is None or not path or exists(path):
        return []
    if not replacement:
        raise EnvironmentMissing(
            f"the emulator {path} does not exist on this host",
            hint="Install the package opennebula-node-kvm, or set EMULATOR in okm.conf.",
        )
    if not exists(replacement):
        raise EnvironmentMissing(
            f"neither the emulator {path} nor {replacement}, EMULATOR in okm.conf, exists",
            hint="Correct EMULATOR in remotes/etc/vmm/kvm/okm.conf and run onehost sync.",
        )
    emulator.text = replacement
    return [f"{path} does not exist here, using {replacement}"]


def relax_cache(domain: ET.Element, direct_works: Callable[[str], bool]) -> list[str]:
    """Change cache modes that need O_DIRECT on file systems that do not have it."""
    changes = []
    for disk, _, path in file_disks(domain):
        driver = disk.find("driver")
        cache = driver.get("cache", "") if driver is not None else ""
        if driver is None or cache not in WITHOUT_DIRECT or direct_works(path):
            continue
        driver.set("cache", WITHOUT_DIRECT[cache])
        if driver.get("io") == "native":
            driver.attrib.pop("io")  # needs O_DIRECT too
        changes.append(f"no O_DIRECT for {path}: cache {cache} changed to {WITHOUT_DIRECT[cache]}")
    return changes
