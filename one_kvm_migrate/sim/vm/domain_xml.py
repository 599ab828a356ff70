"""The libvirt deployment file, written line by line as oned 7.5.80's KVM driver does.

The text itself is the contract (drivers have been known to grep it), so it is composed as
text in oned's own layout, every value escaped, instead of being serialised from a tree.
"""

from math import ceil
from xml.sax.saxutils import escape

from lxml import etree

from one_kvm_migrate.sim.config import VERSION
from one_kvm_migrate.sim.vm import domain_devices
from one_kvm_migrate.sim.vm.attributes import Attributes, Surroundings, number
from one_kvm_migrate.sim.vm.defaults import OVMF_UEFIS
from one_kvm_migrate.sim.vm.markup import cdata, quoted

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"


def deployment_file(vm: etree._Element, around: Surroundings) -> str:
    """Domain XML for the ``<VM>`` document *vm*. Pure: same input, same text."""
    attrs = Attributes(vm, around)
    lines = [
        f"<domain type={quoted(around.domain_type)} xmlns:qemu='{QEMU_NAMESPACE}'>",
        *_identity(attrs),
        *_capacity(attrs),
        *_boot(attrs),
        *_cpu(attrs),
        "\t<devices>",
        *domain_devices.devices(attrs),
        "\t</devices>",
        *_features(attrs),
        *_clock(attrs),
        *_guest_agent(attrs),
        *_raw(attrs),
        *_metadata(attrs),
        "</domain>",
    ]
    return "\n".join(lines) + "\n"


def _identity(attrs: Attributes) -> list[str]:
    uuid = attrs.own("OS", "UUID")
    lines = [
        f"\t<name>one-{attrs.vm.findtext('ID')}</name>",
        f"\t<title>{escape(attrs.vm.findtext('NAME') or '')}</title>",
    ]
    return [*lines, f"\t<uuid>{escape(uuid)}</uuid>"] if uuid else lines


def _capacity(attrs: Attributes) -> list[str]:
    vcpu_max = number(attrs.own("VCPU_MAX"), 0)
    vcpu = attrs.vcpus()
    if vcpu_max:
        lines = [f"\t<vcpu current='{vcpu}'>{cdata(str(vcpu_max))}</vcpu>"]
    else:
        lines = [f"\t<vcpu>{cdata(str(vcpu))}</vcpu>"]
    share = float(attrs.own("CPU") or "1")
    lines += ["\t<cputune>", f"\t\t<shares>{_shares(attrs, share)}</shares>", "\t</cputune>"]
    return lines + _memory(attrs)


def _shares(attrs: Attributes, cpu: float) -> int:
    if attrs.outside("CGROUPS_VERSION") == "2":
        return max(1, min(10000, ceil(cpu * 100)))
    return ceil(cpu * 1024)


def _memory(attrs: Attributes) -> list[str]:
    memory_mib = number(attrs.own("MEMORY"), 0)
    maximum_mib = number(attrs.own("MEMORY_MAX"), 0)
    if maximum_mib <= memory_mib:
        return [f"\t<memory>{memory_mib * 1024}</memory>"]
    if _hotplug(attrs):
        slots = number(attrs.get("MEMORY_SLOTS"), 16)
        lines = [f"\t<memory>{memory_mib * 1024}</memory>"]
        if not attrs.has("TOPOLOGY"):
            lines.append(f"\t<maxMemory slots='{slots}'>{maximum_mib * 1024}</maxMemory>")
        return lines
    return [
        f"\t<memory>{maximum_mib * 1024}</memory>",
        f"\t<currentMemory>{memory_mib * 1024}</currentMemory>",
    ]


def _hotplug(attrs: Attributes) -> bool:
    growing = number(attrs.own("MEMORY_MAX"), 0) > number(attrs.own("MEMORY"), 0)
    return growing and attrs.own("MEMORY_RESIZE_MODE").upper() == "HOTPLUG"


def _boot(attrs: Attributes) -> list[str]:
    firmware = attrs.get("OS", "FIRMWARE")
    arch = attrs.get("OS", "ARCH")
    automatic = firmware.upper() == "UEFI"
    lines = ["\t<os firmware='efi'>" if automatic else "\t<os>"]
    machine = attrs.get("OS", "MACHINE")
    kind = f"\t\t<type arch={quoted(arch)}"
    lines.append(
        f"{kind} machine={quoted(machine)}>hvm</type>" if machine else f"{kind}>hvm</type>"
    )
    lines += _kernel(attrs)
    secure = attrs.yes("OS", "FIRMWARE_SECURE")
    if automatic:
        flag = "yes" if secure else "no"
        lines += [
            "\t\t<firmware>",
            f"\t\t\t<feature name='secure-boot' enabled='{flag}'/>",
            "\t\t</firmware>",
        ]
    elif firmware in OVMF_UEFIS:
        lines += _loader(attrs, firmware, secure)
    lines.append("\t</os>")
    if firmware in OVMF_UEFIS and arch != "aarch64":
        lines += ["\t<pm>", "\t\t<suspend-to-disk enabled='no'/>"]
        lines += ["\t\t<suspend-to-mem enabled='no'/>", "\t</pm>"]
    return lines


def _kernel(attrs: Attributes) -> list[str]:
    kernel = attrs.own("OS", "KERNEL")
    if not kernel:
        loader = attrs.get("OS", "BOOTLOADER")
        return [f"\t\t<bootloader>{cdata(loader)}</bootloader>"] if loader else []
    lines = [f"\t\t<kernel>{cdata(kernel)}</kernel>"]
    initrd = attrs.own("OS", "INITRD")
    if initrd:
        lines.append(f"\t\t<initrd>{cdata(initrd)}</initrd>")
    words = [attrs.own("OS", "KERNEL_CMD")]
    root = attrs.own("OS", "ROOT")
    if root:
        words.insert(0, f"root=/dev/{root}")
    command = " ".join(word for word in words if word)
    return [*lines, f"\t\t<cmdline>{cdata(command)}</cmdline>"] if command else lines


def _loader(attrs: Attributes, firmware: str, secure: bool) -> list[str]:
    flag = "yes" if secure else "no"
    store = f"{attrs.around.system_dir}/{attrs.vm.findtext('NAME')}_VARS.fd"
    form = attrs.own("OS", "FIRMWARE_FORMAT")
    extra = f" format={quoted(form)}" if form else ""
    return [
        f'\t\t<loader readonly="yes" type="pflash" secure="{flag}">{escape(firmware)}</loader>',
        f"\t\t<nvram{extra}>{escape(store)}</nvram>",
    ]


def _cpu(attrs: Attributes) -> list[str]:
    model = attrs.get("CPU_MODEL", "MODEL")
    topology = next(attrs.vectors("TOPOLOGY"), None)
    inner: list[str] = []
    if model and model != "host-passthrough":
        inner.append(f"\t\t<model fallback='forbid'>{escape(model)}</model>")
    if model:
        names = (part.strip() for part in attrs.get("CPU_MODEL", "FEATURES").split(","))
        inner += [f"\t\t<feature policy='require' name={quoted(n)}/>" for n in names if n]
    if topology is not None:
        keys = ("SOCKETS", "CORES", "THREADS")
        shape = [topology.findtext(key) or "1" for key in keys]
        inner.append(
            f"\t\t<topology sockets='{shape[0]}' cores='{shape[1]}' threads='{shape[2]}'/>"
        )
    elif _hotplug(attrs):
        memory_kib = number(attrs.own("MEMORY"), 0) * 1024
        inner += [
            "\t\t<numa>",
            f"\t\t\t<cell id='0' cpus='0-{attrs.vcpus() - 1}' memory='{memory_kib}' unit='KiB'/>",
            "\t\t</numa>",
        ]
    lines = _cpu_element(model, inner)
    threads = number(attrs.get("FEATURES", "IOTHREADS"), 0)
    return [*lines, f"\t<iothreads>{threads}</iothreads>"] if threads > 0 else lines


def _cpu_element(model: str, inner: list[str]) -> list[str]:
    if not model and not inner:
        return []
    mode = ""
    if model:
        mode = " mode='host-passthrough'" if model == "host-passthrough" else " mode='custom'"
    return [f"\t<cpu{mode}>", *inner, "\t</cpu>"] if inner else [f"\t<cpu{mode}/>"]


def _features(attrs: Attributes) -> list[str]:
    lines = [f"\t\t<{name.lower()}/>" for name in ("PAE", "ACPI", "APIC") if _feature(attrs, name)]
    if _feature(attrs, "HYPERV"):
        lines += ["\t\t<hyperv>", attrs.outside("HYPERV_OPTIONS"), "\t\t</hyperv>"]
    if attrs.yes("OS", "FIRMWARE_SECURE"):
        lines.append('\t\t<smm state="on"/>')
    return ["\t<features>", *lines, "\t</features>"] if lines else []


def _feature(attrs: Attributes, name: str) -> bool:
    return attrs.yes("FEATURES", name)


def _clock(attrs: Attributes) -> list[str]:
    local, hyperv = _feature(attrs, "LOCALTIME"), _feature(attrs, "HYPERV")
    if not local and not hyperv:
        return []
    offset = "localtime" if local else "utc"
    timers = [attrs.outside("HYPERV_TIMERS")] if hyperv else []
    return [f"\t<clock offset='{offset}'>", *timers, "\t</clock>"]


def _guest_agent(attrs: Attributes) -> list[str]:
    if not _feature(attrs, "GUEST_AGENT"):
        return []
    return [
        "\t<devices>",
        "\t\t<channel type='unix'>",
        "\t\t\t<source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/>",
        "\t\t</channel>",
        "\t</devices>",
    ]


def _raw(attrs: Attributes) -> list[str]:
    """RAW text is passed through verbatim, as in oned; a broken one fails in libvirt."""
    own = [
        f"\t{raw.findtext('DATA') or ''}"
        for raw in attrs.vectors("RAW")
        if (raw.findtext("TYPE") or "").upper() == "KVM"
    ]
    added = attrs.outside("RAW")
    return [*own, f"\t{added}"] if added else own


def _metadata(attrs: Attributes) -> list[str]:
    vm, around = attrs.vm, attrs.around
    rows = (
        ("system_datastore", cdata(around.system_dir)),
        ("name", cdata(vm.findtext("NAME") or "")),
        ("uname", cdata(vm.findtext("UNAME") or "")),
        ("uid", vm.findtext("UID") or ""),
        ("gname", cdata(vm.findtext("GNAME") or "")),
        ("gid", vm.findtext("GID") or ""),
        ("opennebula_version", VERSION),
        ("stime", vm.findtext("STIME") or ""),
        ("deployment_time", str(around.deployment_time)),
        ("pci_devices", ""),
    )
    return [
        "\t<metadata>",
        '\t\t<one:vm xmlns:one="http://opennebula.org/xmlns/libvirt/1.0">',
        *(f"\t\t\t<one:{tag}>{text}</one:{tag}>" for tag, text in rows),
        "\t\t</one:vm>",
        "\t</metadata>",
    ]
