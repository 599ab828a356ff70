"""Domains of our own for tests: the demo guest under libvirt, by emulation."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
from lxml import etree

from one_kvm_migrate.proof.vnc import VncEndpoint
from one_kvm_migrate.secret import Secret

PASSWORD = "s3cr3t!x"
AGENT = (
    "<channel type='unix'><source mode='bind'/>"
    "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
)
SERIAL = "<serial type='pty'><target port='0'/></serial>"
NIC = "<interface type='user'><mac address='08:00:27:01:02:03'/><model type='e1000'/></interface>"
DISK = (
    "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
    "<source file='{path}'/><target dev='sda' bus='sata'/></disk>"
)
TEMPLATE = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>{memory_max_mib}</memory>
  <currentMemory unit='MiB'>{memory_mib}</currentMemory>
  <vcpu current='1'>2</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>{boot}</os>
  <features><acpi/><apic/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {devices}
    <graphics type='vnc' listen='127.0.0.1' autoport='yes' passwd='{password}'/>
    <video><model type='vga'/></video>
    <memballoon model='virtio'/>
  </devices>
</domain>
"""


def overlay(base: Path, path: Path) -> Path:
    """A qcow2 file over the VDI *base*, so that a test can write without spoiling it."""
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "vdi", "-b", str(base), str(path)]
    subprocess.run(argv, check=True, timeout=30)
    return path


@contextmanager
def domain(
    uri: str,
    name: str,
    devices: str,
    *,
    boot: str = "",
    memory_mib: int = 384,
    memory_max_mib: int = 512,
) -> Iterator[Any]:
    """A running transient domain, destroyed at the end."""
    xml = TEMPLATE.format(
        name=name,
        devices=devices,
        boot=boot,
        password=PASSWORD,
        memory_mib=memory_mib,
        memory_max_mib=memory_max_mib,
    )
    connection = libvirt.open(uri)
    try:
        made = connection.createXML(xml)
        try:
            yield made
        finally:
            if runs(made):
                made.destroy()
    finally:
        connection.close()


def runs(made: Any) -> bool:
    """False also for a transient domain that is gone."""
    try:
        return bool(made.isActive())
    except libvirt.libvirtError as exc:
        if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return False
        raise


def endpoint(made: Any, password: str = PASSWORD) -> VncEndpoint:
    """Where the domain's console listens."""
    graphics = etree.fromstring(made.XMLDesc()).find("devices/graphics")
    assert graphics is not None
    port = int(graphics.attrib["port"])
    return VncEndpoint(host="127.0.0.1", port=port, password=Secret(password))
