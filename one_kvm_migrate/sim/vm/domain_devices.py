"""The ``<devices>`` part of the deployment file."""

from lxml import etree

from one_kvm_migrate.sim.vm.attributes import Attributes, number, value
from one_kvm_migrate.sim.vm.markup import quoted

IOTUNE = tuple(
    f"{kind}_{unit}_sec{suffix}"
    for unit in ("bytes", "iops")
    for suffix in ("", "_max", "_max_length")
    for kind in ("total", "read", "write")
)
BANDWIDTH = (("inbound", "INBOUND"), ("outbound", "OUTBOUND"))
SATA_PORTS = 6


def devices(attrs: Attributes) -> list[str]:
    """Lines of all devices, in oned's order."""
    lines = [f"\t\t<emulator><![CDATA[{_emulator(attrs)}]]></emulator>"]
    sata = 0
    for disk in attrs.vectors("DISK"):
        if value(disk, "TYPE").upper() == "FILESYSTEM":
            lines += _filesystem(attrs, disk)
            continue
        lines += _disk(attrs, disk, sata)
        sata += _bus(attrs, value(disk, "TARGET"), cdrom=_is_cdrom(disk)) == "sata"
    lines += [
        f"\t\t<controller type='sata' index='{index}'/>"
        for index in range(1, (sata + SATA_PORTS - 1) // SATA_PORTS)
    ]
    lines += _context(attrs)
    lines += _scsi_controller(attrs)
    for nic in attrs.vectors("NIC"):
        lines += _interface(attrs, nic)
    lines += _graphics(attrs)
    lines += _video(attrs)
    lines += _input(attrs)
    lines += _pci_controllers(attrs)
    return lines + _tpm(attrs)


def _emulator(attrs: Attributes) -> str:
    return attrs.own("EMULATOR") or attrs.around.emulator or attrs.outside("EMULATOR")


def _pcie(attrs: Attributes) -> bool:
    machine = attrs.get("OS", "MACHINE")
    return "q35" in machine or "virt" in machine


def _is_cdrom(disk: etree._Element) -> bool:
    return value(disk, "TYPE").upper().endswith("CDROM")


def _bus(attrs: Attributes, target: str, *, cdrom: bool = False) -> str:
    if target.startswith("v"):
        return "virtio"
    if target.startswith("s") and not cdrom:
        return attrs.get("OS", "SD_DISK_BUS")
    return "sata" if _pcie(attrs) else "ide"


def _disk(attrs: Attributes, disk: etree._Element, sata_index: int) -> list[str]:
    cdrom = _is_cdrom(disk)
    target = value(disk, "TARGET")
    bus = _bus(attrs, target, cdrom=cdrom)
    path = f"{attrs.around.system_dir}/disk.{value(disk, 'DISK_ID')}"
    if value(disk, "TYPE").upper().startswith("BLOCK"):
        head = ("block", f"dev={quoted(path)}")
    else:
        head = ("file", f"file={quoted(path)}")
    lines = [
        f"\t\t<disk type='{head[0]}' device='{'cdrom' if cdrom else 'disk'}'>",
        f"\t\t\t<source {head[1]}/>",
        f"\t\t\t<target dev={quoted(target)} bus={quoted(bus)}/>",
    ]
    order = value(disk, "ORDER")
    if order:
        lines.append(f"\t\t\t<boot order={quoted(order)}/>")
    if cdrom or value(disk, "READONLY").upper() == "YES":
        lines.append("\t\t\t<readonly/>")
    if value(disk, "SHAREABLE").upper() == "YES":
        lines.append("\t\t\t<shareable/>")
    serial = value(disk, "SERIAL")
    if serial:
        lines.append(f"\t\t\t<serial>{_text(serial)}</serial>")
    lines.append(_disk_driver(attrs, disk, cdrom=cdrom, bus=bus))
    lines += _iotune(attrs, disk)
    lines += _address(target, bus, sata_index, cdrom=cdrom)
    return [*lines, "\t\t</disk>"]


def _text(text: str) -> str:
    element = etree.Element("x")
    element.text = text
    return etree.tostring(element, encoding="unicode")[len("<x>") : -len("</x>")]


def _disk_driver(attrs: Attributes, disk: etree._Element, *, cdrom: bool, bus: str) -> str:
    form = "raw" if cdrom else value(disk, "DRIVER") or attrs.outside("DISK", "DRIVER")
    text = f"\t\t\t<driver name='qemu' type={quoted(form)}"
    for key in ("CACHE", "IO", "DISCARD"):
        setting = value(disk, key) or attrs.outside("DISK", key)
        if setting:
            text += f" {key.lower()}={quoted(setting)}"
    thread = number(value(disk, "IOTHREAD"), 0)
    if thread and bus == "virtio":
        text += f" iothread='{thread}'"
    queues = value(disk, "VIRTIO_BLK_QUEUES") or attrs.get("FEATURES", "VIRTIO_BLK_QUEUES")
    if queues and bus == "virtio":
        text += f" queues={quoted(attrs.auto(queues))}"
    return text + "/>"


def _iotune(attrs: Attributes, disk: etree._Element) -> list[str]:
    limits = [
        (name, value(disk, name.upper()) or attrs.outside("DISK", name.upper())) for name in IOTUNE
    ]
    limits.append(("size_iops_sec", value(disk, "SIZE_IOPS_SEC")))
    inner = [f"\t\t\t\t<{name}>{_text(limit)}</{name}>" for name, limit in limits if limit]
    return ["\t\t\t<iotune>", *inner, "\t\t\t</iotune>"] if inner else []


def _address(target: str, bus: str, sata_index: int, *, cdrom: bool) -> list[str]:
    if not target.startswith("sd") or cdrom:
        return []
    if bus == "sata":
        place = f"controller='{sata_index // SATA_PORTS}' bus='0' target='0'"
        return [f"\t\t\t<address type='drive' {place} unit='{sata_index % SATA_PORTS}'/>"]
    scsi_target = ord(target[-1]) - ord("a")
    return [f"\t\t\t<address type='drive' controller='0' bus='0' target='{scsi_target}' unit='0'/>"]


def _filesystem(attrs: Attributes, disk: etree._Element) -> list[str]:
    path = f"{attrs.around.system_dir}/disk.{value(disk, 'DISK_ID')}"
    return [
        "\t\t<filesystem type='mount' accessmode='passthrough'>",
        "\t\t\t<driver type='virtiofs'/>",
        f"\t\t\t<source dir={quoted(path)}/>",
        f"\t\t\t<target dir={quoted(value(disk, 'MOUNT_TAG'))}/>",
        "\t\t</filesystem>",
    ]


def _context(attrs: Attributes) -> list[str]:
    target = attrs.own("CONTEXT", "TARGET")
    if not target:
        return []
    path = f"{attrs.around.system_dir}/disk.{attrs.own('CONTEXT', 'DISK_ID')}"
    bus = _bus(attrs, target, cdrom=True)
    return [
        "\t\t<disk type='file' device='cdrom'>",
        f"\t\t\t<source file={quoted(path)}/>",
        f"\t\t\t<target dev={quoted(target)} bus={quoted(bus)}/>",
        "\t\t\t<readonly/>",
        "\t\t\t<driver name='qemu' type='raw' cache='none'/>",
        "\t\t</disk>",
    ]


def _scsi_controller(attrs: Attributes) -> list[str]:
    queues = attrs.auto(attrs.get("FEATURES", "VIRTIO_SCSI_QUEUES"))
    threads = number(attrs.get("FEATURES", "IOTHREADS"), 0)
    extra = " iothread='1'" if threads > 0 else ""
    return [
        "\t\t<controller type='scsi' index='0' model='virtio-scsi'>",
        f"\t\t\t<driver queues={quoted(queues)}{extra}/>",
        "\t\t</controller>",
    ]


def _interface(attrs: Attributes, nic: etree._Element) -> list[str]:
    bridge = value(nic, "BRIDGE")
    if not bridge or value(nic, "NETWORK_MODE").upper() == "DUMMY":
        lines = ["\t\t<interface type='ethernet'>"]
    else:
        lines = ["\t\t<interface type='bridge'>"]
        if value(nic, "BRIDGE_TYPE") == "openvswitch":
            lines.append("\t\t\t<virtualport type='openvswitch'/>")
        lines.append(f"\t\t\t<source bridge={quoted(bridge)}/>")
    for tag, attribute, key in (
        ("mac", "address", "MAC"),
        ("target", "dev", "TARGET"),
        ("boot", "order", "ORDER"),
        ("script", "path", "SCRIPT"),
    ):
        if value(nic, key):
            lines.append(f"\t\t\t<{tag} {attribute}={quoted(value(nic, key))}/>")
    lines += _nic_model(attrs, nic)
    lines += _filter(attrs, nic)
    return [*lines, *_bandwidth(nic), "\t\t</interface>"]


def _nic_model(attrs: Attributes, nic: etree._Element) -> list[str]:
    model = value(nic, "MODEL") or attrs.outside("NIC", "MODEL")
    if not model:
        return []
    lines = [f"\t\t\t<model type={quoted(model)}/>"]
    queues = value(nic, "VIRTIO_QUEUES") or attrs.outside("NIC", "VIRTIO_QUEUES")
    if queues and model == "virtio":
        lines.append(f"\t\t\t<driver name='vhost' queues={quoted(attrs.auto(queues))}/>")
    return lines


def _filter(attrs: Attributes, nic: etree._Element) -> list[str]:
    name = value(nic, "FILTER") or attrs.outside("NIC", "FILTER")
    address = value(nic, "IP")
    if not name or not address:
        return []
    return [
        f"\t\t\t<filterref filter={quoted(name)}>",
        f"\t\t\t\t<parameter name='IP' value={quoted(address)}/>",
        "\t\t\t</filterref>",
    ]


def _bandwidth(nic: etree._Element) -> list[str]:
    lines: list[str] = []
    for tag, prefix in BANDWIDTH:
        words = [
            f" {name}={quoted(value(nic, f'{prefix}_{key}'))}"
            for name, key in (("average", "AVG_BW"), ("peak", "PEAK_BW"), ("burst", "PEAK_KB"))
            if value(nic, f"{prefix}_{key}")
        ]
        if words:
            lines.append(f"\t\t\t\t<{tag}{''.join(words)}/>")
    return ["\t\t\t<bandwidth>", *lines, "\t\t\t</bandwidth>"] if lines else []


def _graphics(attrs: Attributes) -> list[str]:
    if not attrs.has("GRAPHICS"):
        return []
    kind = attrs.get("GRAPHICS", "TYPE").lower()
    if kind not in ("vnc", "spice"):
        return []
    text = f"\t\t<graphics type='{kind}'"
    settings = (
        ("listen", attrs.get("GRAPHICS", "LISTEN")),
        ("port", attrs.own("GRAPHICS", "PORT")),
        ("passwd", attrs.get("GRAPHICS", "PASSWD")),
        ("keymap", attrs.get("GRAPHICS", "KEYMAP")),
    )
    text += "".join(f" {name}={quoted(setting)}" for name, setting in settings if setting)
    lines = [text + "/>"]
    return [*lines, f"\t\t{attrs.outside('SPICE_OPTIONS')}"] if kind == "spice" else lines


def _video(attrs: Attributes) -> list[str]:
    if not attrs.has("VIDEO"):
        return []
    lines = ["\t\t<video>"]
    flags = [f" {k.lower()}='on'" for k in ("IOMMU", "ATS") if attrs.yes("VIDEO", k)]
    if flags:
        lines.append(f"\t\t\t<driver{''.join(flags)}/>")
    text = f"\t\t\t<model type={quoted(attrs.get('VIDEO', 'TYPE'))}"
    vram = attrs.get("VIDEO", "VRAM")
    if vram:
        text += f" vram={quoted(vram)}"
    width, _, height = attrs.get("VIDEO", "RESOLUTION").lower().partition("x")
    if width and height:
        inner = f"\t\t\t\t<resolution x={quoted(width)} y={quoted(height)}/>"
        lines += [f"{text}>", inner, "\t\t\t</model>"]
    else:
        lines.append(f"{text}/>")
    return [*lines, "\t\t</video>"]


def _input(attrs: Attributes) -> list[str]:
    kind, bus = attrs.own("INPUT", "TYPE"), attrs.own("INPUT", "BUS")
    if not kind:
        return []
    extra = f" bus={quoted(bus)}" if bus else ""
    return [f"\t\t<input type={quoted(kind)}{extra}/>"]


def _pci_controllers(attrs: Attributes) -> list[str]:
    if not _pcie(attrs):
        return []
    ports = number(attrs.outside("Q35_ROOT_PORTS"), 16)
    return [
        "\t\t<controller index='0' type='pci' model='pcie-root'/>",
        *(
            f"\t\t<controller type='pci' index='{index}' model='pcie-root-port'/>"
            for index in range(1, ports + 1)
        ),
        f"\t\t<controller type='pci' index='{ports + 1}' model='pcie-to-pci-bridge'/>",
    ]


def _tpm(attrs: Attributes) -> list[str]:
    model = attrs.own("TPM", "MODEL")
    if not model:
        return []
    return [
        f"\t\t<tpm model={quoted(model)}>",
        "\t\t\t<backend type='emulator' version='2.0'/>",
        "\t\t</tpm>",
    ]
