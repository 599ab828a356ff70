"""Telling libvirt again about a machine's snapshots, which a transient domain forgets."""

import os
import xml.etree.ElementTree as ET

import libvirt

from one_kvm_migrate.vmm.conn import reason
from one_kvm_migrate.vmm.log import Log


def redefine(dom: "libvirt.virDomain", vm_dir: str, log: Log) -> None:
    """Redefine every ``snap-N.xml`` of *vm_dir*, oldest first. Failures are only logged."""
    for _, path in sorted(_descriptions(vm_dir)):
        try:
            root = ET.parse(path).getroot()
            for uuid in root.iterfind("domain/uuid"):
                uuid.text = dom.UUIDString()
            dom.snapshotCreateXML(
                ET.tostring(root, encoding="unicode"), libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
            )
        except libvirt.libvirtError as error:
            log.error(f"snapshot {path} cannot be defined again: {reason(error)}")
        except (OSError, ET.ParseError) as error:
            log.error(f"snapshot {path} cannot be read: {error}")


def _descriptions(vm_dir: str) -> list[tuple[int, str]]:
    found = []
    for name in os.listdir(vm_dir):
        number = name.removeprefix("snap-").removesuffix(".xml")
        if name == f"snap-{number}.xml" and number.isdecimal():
            found.append((int(number), os.path.join(vm_dir, name)))
    return found
