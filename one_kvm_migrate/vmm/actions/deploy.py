"""Create a domain from the XML on stdin and print its UUID."""

import os
import xml.etree.ElementTree as ET

import libvirt

from one_kvm_migrate import __version__
from one_kvm_migrate.errors import ConfigError
from one_kvm_migrate.vmm import document, domain, domxml, files, host, hostmem, snapshots, wishes
from one_kvm_migrate.vmm.call import Call
from one_kvm_migrate.vmm.conn import DriverError, connect, reason
from one_kvm_migrate.vmm.kvmrc import Settings
from one_kvm_migrate.vmm.log import Log

DOMAIN_TYPES = ("keep", "kvm", "qemu", "auto")


def timeout_s(settings: Settings) -> float:
    """Seconds for libvirt to start the guest."""
    return settings.seconds("DEPLOY_TIMEOUT", 300)


def run(call: Call) -> str:
    """Write the deployment file, start the domain, return its UUID.

    A domain of the same UUID that runs already is what was asked for: safe to run again.
    Raises OkmError; then no domain was made and nothing but the deployment file is left.
    """
    path = call.argv[0]
    text = document.plain(call.read_stdin())
    root = document.parse(text, "the deployment file")
    conn = connect(call.uri)
    running = _running(conn, root)
    if running is not None:
        call.log.info(f"domain {running} runs already")
        return running
    files.write(path, text)
    changes = _adapt(call, conn, root, _directory(path))
    if changes:
        for change in changes:
            call.log.info(change)
        text = domxml.serialise(root)
        files.write(path, text)
    hostmem.compact(call.settings, hostmem.ON_START, call.log)
    return _create(call, conn, root, text)


def _directory(path: str) -> str:
    return os.path.dirname(path) or "."


def _running(conn: "libvirt.virConnect", root: ET.Element) -> str | None:
    uuid = document.value(root, "uuid")
    dom = domain.find(conn, uuid) if uuid else None
    return uuid if dom is not None and domain.is_alive(dom) else None


def _adapt(call: Call, conn: "libvirt.virConnect", root: ET.Element, vm_dir: str) -> list[str]:
    """All changes that this host and the machine's own wishes make necessary."""
    changes = domxml.resolve_links(root, host.link_target)
    changes += domxml.fit_emulator(root, call.settings.text("EMULATOR"), os.path.exists)
    changes += _fit_type(call.settings, conn, root)
    changes += domxml.relax_cache(root, host.direct_works)
    return changes + wishes.apply(root, _wanted(vm_dir, call.log), vm_dir)


def _fit_type(settings: Settings, conn: "libvirt.virConnect", root: ET.Element) -> list[str]:
    choice = settings.text("DOMAIN_TYPE", "keep").lower()
    if choice not in DOMAIN_TYPES:
        raise ConfigError(
            f"DOMAIN_TYPE={choice} in okm.conf is none of {', '.join(DOMAIN_TYPES)}",
            hint="Correct remotes/etc/vmm/kvm/okm.conf and run onehost sync.",
        )
    if choice == "keep":
        return domxml.set_type(root, root.get("type", "kvm"), "")
    if choice != "auto":
        return domxml.set_type(root, choice, f"DOMAIN_TYPE={choice}")
    obstacle = host.kvm_obstacle(conn, document.value(root, "devices/emulator") or None)
    if obstacle:
        return domxml.set_type(root, "qemu", f"KVM cannot be used here ({obstacle})")
    return domxml.set_type(root, "kvm", "KVM can be used here")


def _wanted(vm_dir: str, log: Log) -> dict[str, str]:
    """OKM attributes from the ``vm.xml`` that the front-end left beside the deployment file."""
    path = os.path.join(vm_dir, "vm.xml")
    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.error(f"cannot read {path}: {error.strerror}")
        return {}
    return wishes.of_machine(document.parse(content, "the machine's vm.xml"))


def _create(call: Call, conn: "libvirt.virConnect", root: ET.Element, text: bytes) -> str:
    path = call.argv[0]
    nvram = _make_nvram(call.settings, root)
    try:
        dom = conn.createXML(text.decode("utf-8"), 0)
    except libvirt.libvirtError as error:
        if nvram:
            files.discard(nvram)
        # The reason before the path: oned cuts what users see after some hundred characters.
        raise DriverError(f"Could not create domain: {reason(error)} ({path})") from error
    uuid = str(dom.UUIDString())
    # Also how an administrator sees in the machine's log which driver is in use.
    call.log.info(f"domain {uuid} started by kvm_py {__version__}")
    snapshots.redefine(dom, _directory(path), call.log)
    return uuid


def _make_nvram(settings: Settings, root: ET.Element) -> str:
    """Copy the firmware's variables if the machine has none yet; the path if copied, or ""."""
    path, template = document.value(root, "os/nvram"), settings.text("OVMF_NVRAM")
    if not path or not template:
        return ""  # libvirt finds a template by itself, or says that it has none
    return path if files.copy_once(template, path) else ""
