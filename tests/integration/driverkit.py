"""The installed driver, a private libvirtd, and domains as OpenNebula writes them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import libvirt
from lxml import etree

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.tools.run import run

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "tests" / "data" / "recordings" / "driver_vmm_small"
EMULATOR = "/usr/bin/qemu-system-x86_64"
UUID = "21e46f09-5fbb-45cb-b2dc-215a1e474a0d"
LOG_PREFIXES = ("INFO: ", "ERROR: ", "WARN: ", "DEBUG: ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What OpenNebula sees of one call."""

    rc: int
    stdout: str
    stderr: str

    @property
    def log(self) -> list[str]:
        """Lines for the machine's log."""
        return [x for x in self.stderr.splitlines() if x.startswith(LOG_PREFIXES)]

    @property
    def message(self) -> str:
        """The error message users would see; all plain lines together, as oned joins them."""
        return "".join(x for x in self.stderr.splitlines() if not x.startswith(LOG_PREFIXES))


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """The driver as ``install.sh`` puts it on a host, with settings of its own."""

    remotes: Path
    uri: str
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def install(cls, where: Path, uri: str) -> "Driver":
        """Install below *where* and use the libvirtd at *uri*."""
        run([str(ROOT / "install.sh"), "--dir", str(where / "remotes")], deadline=Deadline(30))
        driver = cls(remotes=where / "remotes", uri=uri)
        driver.set()
        return driver

    def set(self, **values: str) -> None:
        """Write kvmrc with *values*; what is not named gets the value that tests need."""
        merged = {"LIBVIRT_URI": self.uri, "SHUTDOWN_TIMEOUT": "3", "EMULATOR": EMULATOR, **values}
        lines = [f"export {key}='{value}'\n" for key, value in merged.items()]
        (self.remotes / "etc" / "vmm" / "kvm" / "kvmrc").write_text("".join(lines))

    def script(self, action: str) -> str:
        """Path of an action's entry script."""
        return str(self.remotes / "vmm" / "kvm_py" / action)

    def call(self, action: str, *argv: str, stdin: bytes = b"", timeout_s: float = 60) -> Answer:
        """Run *action* as the ssh session would."""
        done = run(
            [self.script(action), *argv],
            deadline=Deadline(timeout_s),
            ok=range(256),
            stdin=stdin,
            env={"PATH": os.environ["PATH"], "HOME": "/root"},
        )
        return Answer(rc=done.rc, stdout=done.stdout.decode(), stderr=done.stderr_tail)

    def deploy(self, vm_dir: Path, xml: bytes, timeout_s: float = 60) -> Answer:
        """Deploy with the file name oned would give."""
        path = str(vm_dir / "deployment.0")
        return self.call("deploy", path, "host", "0", "host", stdin=xml, timeout_s=timeout_s)

    def resize(self, request: bytes, timeout_s: float = 60) -> Answer:
        """Resize the standard domain."""
        return self.call("resize", UUID, "0", "host", stdin=request, timeout_s=timeout_s)

    def domains(self) -> list[str]:
        """UUIDs of the domains that exist."""
        connection = libvirt.open(self.uri)
        try:
            return sorted(domain.UUIDString() for domain in connection.listAllDomains())
        finally:
            connection.close()

    def live(self) -> etree._Element:
        """Definition of the standard domain."""
        connection = libvirt.open(self.uri)
        try:
            return etree.fromstring(connection.lookupByUUIDString(UUID).XMLDesc())
        finally:
            connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How the recorded domain is changed to run on this machine."""

    machine: str = "pc"
    vcpus: tuple[int, int] = (1, 4)
    memory_mib: tuple[int, int] = (64, 128)
    disk_format: str = "raw"
    agent: bool = False
    modules: bool = False


def domain_xml(vm_dir: Path, shape: Shape | None = None) -> bytes:
    """The domain of recording deploy.01 with its disk.0 in *vm_dir*, no context CD, a user NIC.

    Memory modules (``modules``) are written as oned does for MEMORY_RESIZE_MODE=HOTPLUG.
    """
    shape = shape or Shape()
    root = etree.fromstring((RECORDINGS / "deploy.01" / "stdin").read_bytes())
    _fit_size(root, shape)
    one(root, "os/type").set("machine", shape.machine)
    one(root, "devices/emulator").text = EMULATOR
    for element in list(root.iterfind("devices/disk[@device='cdrom']")):
        drop(element)
    one(root, "devices/disk/source").set("file", str(vm_dir / "disk.0"))
    one(root, "devices/disk/driver").set("type", shape.disk_format)
    for element in list(root.iterfind("devices/controller[@type='pci']")):
        drop(element)
    nic = one(root, "devices/interface")
    nic.set("type", "user")
    for name in ("source", "driver"):
        drop(one(nic, name))
    one(nic, "model").set("type", "e1000")
    drop(one(root, "devices/graphics"))
    if not shape.agent:
        drop(one(root, "devices/channel"))
    return etree.tostring(root)


def _fit_size(root: etree._Element, shape: Shape) -> None:
    current, most = shape.vcpus
    one(root, "vcpu").set("current", str(current))
    one(root, "vcpu").text = str(most)
    now_kib, most_kib = (mib * 1024 for mib in shape.memory_mib)
    if not shape.modules:
        one(root, "memory").text, one(root, "currentMemory").text = str(most_kib), str(now_kib)
        return
    one(root, "memory").text = str(now_kib)
    limit = etree.Element("maxMemory", {"slots": "4"})
    limit.text = str(most_kib)
    root.replace(one(root, "currentMemory"), limit)
    cell = {"id": "0", "cpus": f"0-{most - 1}", "memory": str(now_kib), "unit": "KiB"}
    numa = etree.SubElement(etree.SubElement(root, "cpu"), "numa")
    etree.SubElement(numa, "cell", cell)


def one(root: etree._Element, path: str) -> etree._Element:
    """The first element at *path*, which must exist."""
    found = root.find(path)
    assert found is not None, path
    return found


def drop(element: etree._Element) -> None:
    """Take *element* out of its document."""
    parent = element.getparent()
    assert parent is not None
    parent.remove(element)


def okm_document(**values: str) -> bytes:
    """A ``vm.xml`` with OKM attributes."""
    vm = etree.Element("VM")
    vector = etree.SubElement(etree.SubElement(vm, "USER_TEMPLATE"), "OKM")
    for key, value in values.items():
        etree.SubElement(vector, key).text = value
    return etree.tostring(vm)


def resize_document(new: Sequence[object], old: Sequence[object], mode: str = "") -> bytes:
    """An action document that asks for (CPU, VCPU, MEMORY) *new* in place of *old*."""
    root = etree.Element("VMM_DRIVER_ACTION_DATA")
    template = etree.SubElement(etree.SubElement(root, "VM"), "TEMPLATE")
    former = etree.SubElement(template, "RESIZE")
    for parent, values in ((template, new), (former, old)):
        for key, value in zip(("CPU", "VCPU", "MEMORY"), values, strict=True):
            etree.SubElement(parent, key).text = str(value)
    etree.SubElement(template, "MEMORY_RESIZE_MODE").text = mode
    return etree.tostring(root)


def recording(name: str) -> tuple[list[str], bytes, Answer]:
    """argv, stdin and answer of a recorded call."""
    where = RECORDINGS / name
    argv = (where / "argv").read_text().splitlines()
    answer = Answer(
        rc=int((where / "rc").read_text()),
        stdout=(where / "stdout").read_text(),
        stderr=(where / "stderr").read_text(),
    )
    return argv, (where / "stdin").read_bytes(), answer


def has_socket(pid: int) -> bool:
    """True once process *pid* has a socket, which a driver script has from its connection on."""
    links = [os.readlink(x) for x in Path(f"/proc/{pid}/fd").iterdir() if x.is_symlink()]
    return any(link.startswith("socket:") for link in links)
