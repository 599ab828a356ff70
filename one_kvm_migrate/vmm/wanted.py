"""What a resize asks for, read from OpenNebula's action document."""

import xml.etree.ElementTree as ET
from typing import NamedTuple

from one_kvm_migrate.errors import UsageError
from one_kvm_migrate.vmm.document import value

TEMPLATE = "VM/TEMPLATE"
FORMER = f"{TEMPLATE}/RESIZE"


class Wanted(NamedTuple):
    """New values; None where nothing is to change. ``cpu`` is a share of physical CPUs."""

    vcpus: int | None
    memory_mib: int | None
    cpu: float | None
    former_cpu: float | None
    by_hotplug: bool


def read(root: ET.Element) -> Wanted:
    """The request in a ``VMM_DRIVER_ACTION_DATA`` document. Raises UsageError.

    As in OpenNebula's script, only what differs from the former values is a request.
    """
    cpu = _changed(root, "CPU")
    former_cpu = value(root, f"{FORMER}/CPU")
    vcpus = _changed(root, "VCPU")
    memory = _changed(root, "MEMORY")
    return Wanted(
        vcpus=_whole("VCPU", vcpus) if vcpus else None,
        memory_mib=_whole("MEMORY", memory) if memory else None,
        cpu=_share("CPU", cpu) if cpu else None,
        former_cpu=_share("RESIZE/CPU", former_cpu) if former_cpu else None,
        by_hotplug=value(root, f"{TEMPLATE}/MEMORY_RESIZE_MODE").upper() == "HOTPLUG",
    )


def _changed(root: ET.Element, key: str) -> str:
    new, old = value(root, f"{TEMPLATE}/{key}"), value(root, f"{FORMER}/{key}")
    return "" if new == old else new


def _whole(key: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{key} is {text}, but must be a whole number above 0")
    return int(text)


def _share(key: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 10**6:
        raise UsageError(f"{key} is {text}, but must be a number above 0")
    return share
