"""What a virtual machine's ``OKM=[…]`` attribute asks of its domain XML.

OpenNebula's template language cannot say these things; the migration writes them into the
virtual machine's template and ``deploy`` finds them in ``vm.xml`` beside the deployment file.
"""

import os
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import NamedTuple

from one_kvm_migrate.errors import UsageError

LAST_SLOT = 31
ANY_SLOT = 0  # written for adapters whose place the source does not tell
# QEMU puts the host bridge in slot 0 of every machine, and its south bridge and the primary
# video card in slots 1 and 2 of a "pc" machine.
FIRST_SLOT = 3
SCSI_MODELS = ("virtio-scsi", "lsilogic", "lsisas1068", "lsisas1078")
SERIAL_LOG = "serial.log"

Change = Callable[[ET.Element], list[str]]


class Wish(NamedTuple):
    """One key of OKM, and how its value becomes a change of the domain."""

    key: str
    change: Callable[[ET.Element, str, str], list[str]]


def of_machine(vm: ET.Element) -> dict[str, str]:
    """The OKM attributes of a ``<VM>`` document; the user template's win."""
    found: dict[str, str] = {}
    for path in ("TEMPLATE/OKM", "USER_TEMPLATE/OKM"):
        for vector in vm.iterfind(path):
            found.update({item.tag: (item.text or "").strip() for item in vector})
    return found


def apply(domain: ET.Element, wanted: dict[str, str], vm_dir: str) -> list[str]:
    """Change *domain* as *wanted* says; *vm_dir* is where the machine's files live.

    Keys that are none of ours are left alone: the migration keeps its own notes there.
    Raises UsageError for a value that makes no sense.
    """
    changes: list[str] = []
    for wish in WISHES:
        value = wanted.get(wish.key, "")
        if value:
            changes += wish.change(domain, value, vm_dir)
    return changes


def _yes(key: str, value: str) -> bool:
    if value.upper() not in ("YES", "NO"):
        raise UsageError(f"OKM/{key} is {value}, but must be YES or NO")
    return value.upper() == "YES"


def _serial(domain: ET.Element, value: str, vm_dir: str) -> list[str]:
    to_file = value.upper() == "LOG"
    if not to_file and not _yes("SERIAL", value):
        return []
    if domain.find("devices/serial") is not None or domain.find("devices/console") is not None:
        return []
    serial = ET.SubElement(_devices(domain), "serial", {"type": "pty"})
    if to_file:
        ET.SubElement(serial, "log", {"file": os.path.join(vm_dir, SERIAL_LOG), "append": "on"})
    ET.SubElement(serial, "target", {"port": "0"})
    return ["serial console added" + (f", kept in {SERIAL_LOG}" if to_file else "")]


def _nic_slots(domain: ET.Element, value: str, _vm_dir: str) -> list[str]:
    slots = _parse_slots(value)
    nics = {_nic_id(nic): nic for nic in domain.iterfind("devices/interface")}
    changes = []
    for nic_id, slot in slots.items():
        nic = nics.get(nic_id)
        if nic is None or nic.find("address") is not None or slot == ANY_SLOT:
            continue
        where = {"domain": "0x0000", "bus": "0x00", "slot": f"0x{slot:02x}", "function": "0x0"}
        ET.SubElement(nic, "address", {"type": "pci", **where})
        changes.append(f"NIC {nic_id} placed in PCI slot {slot}")
    return changes


def _parse_slots(value: str) -> dict[int, int]:
    slots: dict[int, int] = {}
    for item in value.split(","):
        nic_id, _, slot = (part.strip() for part in item.partition(":"))
        if not (nic_id.isdecimal() and slot.isdecimal()):
            raise UsageError(f"OKM/NIC_SLOTS is {value}, but must look like 0:3,1:8 (NIC:slot)")
        number = int(slot)
        if number != ANY_SLOT and not FIRST_SLOT <= number <= LAST_SLOT:
            raise UsageError(
                f"OKM/NIC_SLOTS asks for PCI slot {slot}, but {FIRST_SLOT} to {LAST_SLOT} are free"
            )
        if number != ANY_SLOT and number in slots.values():
            raise UsageError(f"OKM/NIC_SLOTS gives PCI slot {slot} to two NICs")
        slots[int(nic_id)] = number
    return slots


def _nic_id(nic: ET.Element) -> int:
    """OpenNebula names the host side of a NIC ``one-<vm id>-<NIC id>``."""
    target = nic.find("target")
    number = target.get("dev", "").rpartition("-")[2] if target is not None else ""
    return int(number) if number.isdecimal() else -1


def _scsi_model(domain: ET.Element, value: str, _vm_dir: str) -> list[str]:
    model = value.lower()
    if model not in SCSI_MODELS:
        raise UsageError(f"OKM/SCSI_MODEL is {value}, but must be one of {', '.join(SCSI_MODELS)}")
    changes = []
    for controller in domain.iterfind("devices/controller[@type='scsi']"):
        if controller.get("model") == model:
            continue
        controller.set("model", model)
        for driver in controller.findall("driver"):
            controller.remove(driver)  # queues and threads are virtio's own
        changes.append(f"SCSI controller {controller.get('index')} is a {model}")
    return changes


def _hotplug_vcpus(domain: ET.Element, value: str, _vm_dir: str) -> list[str]:
    vcpu = domain.find("vcpu")
    if not _yes("HOTPLUG_VCPUS", value) or vcpu is None or domain.find("vcpus") is not None:
        return []
    most = int((vcpu.text or "1").strip())
    present = int(vcpu.get("current", most))
    vcpus = ET.Element("vcpus")
    for number in range(most):
        attributes = {"id": str(number), "enabled": "yes" if number < present else "no"}
        # CPU 0 can never be taken away.
        attributes["hotpluggable"] = "no" if number == 0 else "yes"
        ET.SubElement(vcpus, "vcpu", attributes)
    domain.insert(list(domain).index(vcpu) + 1, vcpus)
    return [f"virtual CPUs 1 to {most - 1} can be unplugged"]


def _devices(domain: ET.Element) -> ET.Element:
    devices = domain.find("devices")
    return devices if devices is not None else ET.SubElement(domain, "devices")


WISHES = (
    Wish("SERIAL", _serial),
    Wish("NIC_SLOTS", _nic_slots),
    Wish("SCSI_MODEL", _scsi_model),
    Wish("HOTPLUG_VCPUS", _hotplug_vcpus),
)
