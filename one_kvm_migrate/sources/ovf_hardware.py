"""Hardware of an OVF virtual system: the resource items of CIM (RASD), as values.

Numbers of resource types after DMTF DSP0004's CIM_ResourceAllocationSettingData; readings of
what VirtualBox and VMware write after VirtualBox's ``src/VBox/Main/xml/ovfreader.cpp``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from one_kvm_migrate.model import DiskBus, SourceNic
from one_kvm_migrate.sources.xmlview import attribute, each, find, text_of, whole
from one_kvm_migrate.units import MiB, ceil_div

PROCESSOR, MEMORY, IDE, SCSI, ETHERNET = 3, 4, 5, 6, 10
CD, DVD, HARD_DISK, OTHER_STORAGE = 15, 16, 17, 20
# Other devices (VMware's VMCI), floppy, serial, parallel, USB, graphics, sound: nothing is lost.
IGNORED = frozenset({1, 14, 21, 22, 23, 24, 35})

_UNIT = re.compile(r"byte(?:s)?(?:\*(\d{1,4})(?:\^(\d{1,3}))?)?")
_WORDS = {"kilo": 1, "mega": 2, "giga": 3, "tera": 4, "k": 1, "m": 2, "g": 3, "t": 4}
_WORD_UNIT = re.compile(r"(kilo|mega|giga|tera)bytes?|([kmgt])i?b")
_MAC = re.compile(r"([0-9a-f]{2}[:-]?){5}[0-9a-f]{2}")
_NIC_MODELS = (
    ("e1000e", "e1000e"),
    ("82574", "e1000e"),
    ("e1000", "e1000"),
    ("8254", "e1000"),
    ("pcnet", "pcnet"),
    ("am79c97", "pcnet"),
    ("vmxnet3", "vmxnet3"),
    ("virtio", "virtio"),
)
_MODES = {
    "nat": "nat",
    "bridged": "bridged",
    "hostonly": "hostonly",
    "internal": "internal",
    "natnetwork": "natnetwork",
    "generic": "generic",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One resource item; names as in the standard."""

    instance: str
    kind: int
    subtype: str
    name: str
    parent: str
    address: str
    address_on_parent: str
    host_resource: str
    connection: str
    quantity: str | None
    units: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Controller:
    """A storage controller; ``number`` counts those of its bus."""

    bus: DiskBus
    number: int


def read_items(system: etree._Element, configuration: str | None) -> list[Item]:
    """The resource items of *system* that apply in *configuration* (None: those of all)."""
    items = []
    for section in _hardware_sections(system):
        for element in each(section, "Item", "StorageItem", "EthernetPortItem"):
            wanted = (attribute(element, "configuration") or "").split()
            if wanted and configuration not in wanted:
                continue
            # Ranges of what is possible, not what the machine has.
            if attribute(element, "bound") in ("min", "max"):
                continue
            items.append(_item(element))
    return items


def _hardware_sections(system: etree._Element) -> Iterator[etree._Element]:
    yield from each(system, "VirtualHardwareSection")
    for section in each(system, "Section"):
        if (attribute(section, "type") or "").endswith("VirtualHardwareSection_Type"):
            yield section


def _item(element: etree._Element) -> Item:
    kind = text_of(element, "ResourceType") or "0"
    return Item(
        instance=text_of(element, "InstanceID", "InstanceId") or "",
        kind=int(kind) if kind.isascii() and kind.isdigit() and len(kind) < 6 else 0,
        subtype=text_of(element, "ResourceSubType") or "",
        name=text_of(element, "ElementName", "Caption", "Description") or "",
        parent=text_of(element, "Parent") or "",
        address=text_of(element, "Address") or "",
        address_on_parent=text_of(element, "AddressOnParent") or "",
        host_resource=text_of(element, "HostResource") or "",
        connection=text_of(element, "Connection") or "",
        quantity=text_of(element, "VirtualQuantity"),
        units=text_of(element, "AllocationUnits") or "",
    )


def unit_bytes(units: str) -> int | None:
    """``byte * 2^20``, ``MegaBytes`` or ``MB`` in bytes; None for what is no such unit."""
    text = "".join(units.split()).lower()
    match = _UNIT.fullmatch(text)
    if match:
        return int(int(match[1] or 1) ** int(match[2] or 1))
    match = _WORD_UNIT.fullmatch(text)
    if match:
        return int(1024 ** _WORDS[match[1] or match[2]])
    return None


def memory_mib(items: list[Item], where: str) -> tuple[int | None, list[str]]:
    """Memory of the machine, rounded up to MiB; None and a refusal when it cannot be known."""
    item = next((item for item in items if item.kind == MEMORY), None)
    if item is None or item.quantity is None:
        return None, [f"{where} does not say how much memory the machine has"]
    quantity = whole(item.quantity, f"the memory size in {where}")
    # VMware leaves the unit out where it means MiB.
    unit = unit_bytes(item.units) if item.units else MiB
    if unit is None or quantity * unit > 1 << 60:
        return None, [f"{where} gives the memory size as {quantity} {item.units!r}"]
    return ceil_div(quantity * unit, MiB), []


def cpu_count(items: list[Item], where: str) -> int:
    """Number of processors, 1 when the file does not say."""
    item = next((item for item in items if item.kind == PROCESSOR), None)
    quantity = item.quantity if item is not None else None
    return whole(quantity, f"the CPU count in {where}", default=1, largest=1024) or 1


def controllers(items: list[Item]) -> tuple[dict[str, Controller], list[str]]:
    """Storage controllers by instance id, and warnings about those that have no match."""
    found: dict[str, Controller] = {}
    warnings: list[str] = []
    counts: dict[DiskBus, int] = {}
    for item in items:
        bus = _bus(item, warnings)
        if bus is None:
            continue
        # VMware lists its second IDE controller first: the address says which is which.
        number = int(item.address) if item.address in ("0", "1", "2", "3") else counts.get(bus, 0)
        found[item.instance] = Controller(bus=bus, number=number)
        counts[bus] = counts.get(bus, 0) + 1
    return found, warnings


def _bus(item: Item, warnings: list[str]) -> DiskBus | None:
    subtype = item.subtype.lower()
    if item.kind == IDE:
        return DiskBus.IDE
    if item.kind == SCSI:
        if "virtual" in subtype:
            warnings.append(f"the controller {item.name!r} (VMware paravirtual) becomes plain SCSI")
        return DiskBus.SAS if "sas" in subtype else DiskBus.SCSI
    if item.kind != OTHER_STORAGE:
        return None
    if "nvme" in subtype:
        return DiskBus.NVME
    if "virtio" in subtype:
        return DiskBus.VIRTIO
    if "ahci" not in subtype and "sata" not in subtype:
        warnings.append(f"the controller {item.name!r} of type {item.subtype!r} becomes SATA")
    return DiskBus.SATA


def place(item: Item, by_instance: dict[str, Controller]) -> tuple[DiskBus, int, int]:
    """Bus, port and device of a drive; one without a known controller goes to SATA."""
    controller = by_instance.get(item.parent)
    text = item.address_on_parent
    address = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if controller is None:
        return DiskBus.SATA, address, 0
    if controller.bus is DiskBus.IDE:
        # One controller with all four places, or two with two each.
        return DiskBus.IDE, controller.number + address // 2, address % 2
    return controller.bus, address, 0


def read_nics(items: list[Item]) -> tuple[tuple[SourceNic, ...], list[str]]:
    """Network adapters in the file's order, and warnings about models that have no match."""
    nics = []
    warnings = []
    for slot, item in enumerate(item for item in items if item.kind == ETHERNET):
        subtype = item.subtype.lower()
        model = next((model for word, model in _NIC_MODELS if word in subtype), None)
        if model is None and subtype:
            warnings.append(f"network adapter {slot} is a {item.subtype}, which becomes an e1000")
        mac = item.address.lower()
        digits = mac.replace(":", "").replace("-", "") if _MAC.fullmatch(mac) else ""
        mode = _MODES.get(item.connection.lower())
        nics.append(
            SourceNic(
                mac=":".join(digits[at : at + 2] for at in range(0, 12, 2)) if digits else None,
                mode=mode or ("bridged" if item.connection else "none"),
                network=None if mode else item.connection or None,
                model=model or "e1000",
                cable=True,
                slot=slot,
            )
        )
    return tuple(nics), warnings


def unknown_items(items: list[Item]) -> list[str]:
    """A warning for each item of a type that is neither used nor known to be harmless."""
    used = {PROCESSOR, MEMORY, IDE, SCSI, ETHERNET, CD, DVD, HARD_DISK, OTHER_STORAGE}
    return [
        f"the hardware item {item.name!r} of resource type {item.kind} is left out"
        for item in items
        if item.kind not in used | IGNORED
    ]


def default_configuration(envelope: etree._Element) -> str | None:
    """Id of the deployment configuration that applies when nobody chooses."""
    options = list(each(find(envelope, "DeploymentOptionSection"), "Configuration"))
    chosen = [item for item in options if attribute(item, "default") in ("true", "1")] or options
    return attribute(chosen[0], "id") if chosen else None
