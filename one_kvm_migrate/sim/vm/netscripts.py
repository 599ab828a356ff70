"""Network driver scripts (remotes/vnm/<VN_MAD>/pre, post, clean) around hypervisor actions.

The simulator's own networks need none, so a driver without scripts has nothing to do.
"""

import copy

from lxml import etree

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.doc import Element
from one_kvm_migrate.sim.vm.action_doc import for_local_script

# What the scripts get of the machine's document, in the recorded order.
PARTS = (
    "ID",
    "DEPLOY_ID",
    "TEMPLATE/CONTEXT",
    "USER_TEMPLATE",
    "TEMPLATE/SECURITY_GROUP_RULE",
    "HISTORY_RECORDS/HISTORY/HOSTNAME",
    "HISTORY_RECORDS/HISTORY/HID",
    "HISTORY_RECORDS/HISTORY/DS_ID",
    "HISTORY_RECORDS/HISTORY/VM_MAD",
    "TEMPLATE/NIC",
    "TEMPLATE/NIC_ALIAS",
    "TEMPLATE/PCI",
)


def drivers(vm: Element) -> list[str]:
    """The network drivers of the machine's NICs, each once."""
    found = [doc.get(nic, "VN_MAD") for nic in vm.iterfind("TEMPLATE/NIC")]
    return list(dict.fromkeys(name for name in found if name))


def reduced(vm: Element) -> bytes:
    """The stdin of the scripts: every part in a copy of its own path, as Base64."""
    root = etree.Element("VM")
    for path in PARTS:
        *parents, _ = path.split("/")
        for found in vm.findall(path):
            place = root
            for tag in parents:
                place = etree.SubElement(place, tag)
            place.append(copy.deepcopy(found))
    return for_local_script(doc.dumps(root))
