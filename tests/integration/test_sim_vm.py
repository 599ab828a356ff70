"""Machines of the simulator with the real driver, a real libvirtd and real qemu (TCG)."""

import os
import socket
import subprocess
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import DeadlineExceeded
from one_kvm_migrate.lab.cloud import bridge
from one_kvm_migrate.lab.libvirtd import PrivateLibvirtd
from one_kvm_migrate.sim.service import HostConfig, Sim, SimConfig
from one_kvm_migrate.sim.states import LcmState, VmState

REMOTES = Path(__file__).parents[2] / "remotes"
SESSION = "oneadmin:opennebula"
EMULATOR = "/usr/bin/qemu-system-x86_64"
BRIDGE = f"okmt{os.getpid() % 10**6}"
TIMEOUT_S = 30.0
DESCRIPTION = """\
NAME="guest"
CPU="0.1"
VCPU="1"
VCPU_MAX="3"
MEMORY="96"
MEMORY_MAX="128"
OS=[ ARCH="x86_64", BOOT="disk0" ]
GRAPHICS=[ TYPE="VNC", LISTEN="127.0.0.1", RANDOM_PASSWD="YES" ]
CONTEXT=[ NETWORK="YES", SET_HOSTNAME="$NAME" ]
NIC=[ NETWORK="lab", MODEL="e1000" ]
"""


@dataclass(frozen=True, slots=True)
class Cloud:
    """A simulator with one host, an image and a network."""

    sim: Sim
    libvirt_uri: str

    def ask(self, method: str, *params: Any) -> Any:
        """One call as oneadmin; its value."""
        done, value = self.answer(method, *params)[:2]
        assert done, value
        return value

    def answer(self, method: str, *params: Any) -> list[Any]:
        """One call as oneadmin; the whole answer."""
        server = xmlrpc.client.ServerProxy(self.sim.endpoint)
        found: list[Any] = getattr(server, method)(SESSION, *params)
        return found

    def vm(self, oid: int) -> etree._Element:
        """one.vm.info"""
        return etree.fromstring(self.ask("one.vm.info", oid))

    def wait(self, oid: int, state: VmState, lcm: LcmState = LcmState.LCM_INIT) -> etree._Element:
        """Wait until the machine is in that state, and return its document."""

        def there() -> etree._Element | None:
            vm = self.vm(oid)
            found = (vm.findtext("STATE"), vm.findtext("LCM_STATE"))
            return vm if found == (str(int(state)), str(int(lcm))) else None

        try:
            return wait_until(there, Deadline(TIMEOUT_S), what=f"{state.name} {lcm.name}")
        except DeadlineExceeded as exc:
            seen = etree.tostring(self.vm(oid), pretty_print=True).decode()
            log = (self.sim.dir / "log" / f"{oid}.log").read_text()
            raise AssertionError(f"{exc}\n{seen}\n{log}") from exc

    def running(self, oid: int) -> etree._Element:
        """Wait for RUNNING."""
        return self.wait(oid, VmState.ACTIVE, LcmState.RUNNING)

    def domain(self, oid: int) -> etree._Element | None:
        """The live domain's XML, or None."""
        connection = libvirt.open(self.libvirt_uri)
        try:
            names = {item.name(): item for item in connection.listAllDomains()}
            found = names.get(f"one-{oid}")
            return None if found is None else etree.fromstring(found.XMLDesc())
        finally:
            connection.close()


@pytest.fixture
def cloud(tmp_path: Path, libvirtd: PrivateLibvirtd) -> Iterator[Cloud]:
    settings = SimConfig(
        dir=tmp_path / "one",
        libvirt_uri=libvirtd.uri,
        domain_type="qemu",
        emulator=EMULATOR,
        remotes_source=REMOTES,
        hosts=(HostConfig(name="localhost"),),
        monitor_interval_s=0.3,
        vnc_base_port=20000,
    )
    with bridge(BRIDGE, "10.213.46.1/24"), Sim(settings) as sim:
        made = Cloud(sim, libvirtd.uri)
        # Taps are called one-<machine>-<nic>: other tests may have a machine 0 just now. The
        # console ports that come of it stay below those the kernel hands out to anybody.
        sim.store.new_id("vm", first=100 + os.getpid() % 9000)
        network = f"NAME=lab\nVN_MAD=dummy\nBRIDGE={BRIDGE}\nAR=[TYPE=IP4,IP=10.213.46.10,SIZE=9]"
        made.ask("one.vn.allocate", network, -1)
        yield made
        _destroy_all(libvirtd.uri)


def _destroy_all(uri: str) -> None:
    connection = libvirt.open(uri)
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        domain.destroy()
    connection.close()


def add_image(cloud: Cloud, name: str, *, persistent: bool = False) -> int:
    """A 64 MiB qcow2 in the datastore, registered with SOURCE; its number."""
    base = etree.fromstring(cloud.ask("one.datastore.info", 1)).findtext("BASE_PATH")
    source = f"{base}/{name}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", source, "64M"], check=True)
    keep = "YES" if persistent else "NO"
    text = f'NAME={name}\nTYPE=OS\nSOURCE="{source}"\nFORMAT=qcow2\nSIZE=64\nPERSISTENT={keep}'
    number: int = cloud.ask("one.image.allocate", f"{text}\nDEV_PREFIX=vd", 1)
    return number


def start(cloud: Cloud, description: str = DESCRIPTION) -> int:
    """A machine in RUNNING."""
    image = add_image(cloud, "system")
    text = f'{description}DISK=[ IMAGE_ID="{image}" ]\n'
    template = cloud.ask("one.template.allocate", text)
    oid: int = cloud.ask("one.template.instantiate", template, "", False, "", False)
    cloud.running(oid)
    return oid


def test_life_of_a_machine(cloud: Cloud) -> None:
    """Scheduled, running with a console, resized, off, on, and gone with all it had."""
    oid = start(cloud)
    vm, domain = cloud.vm(oid), cloud.domain(oid)
    assert domain is not None
    assert vm.findtext("NAME") == f"guest-{oid}"
    assert vm.findtext("DEPLOY_ID") == domain.findtext("uuid")
    port = int(vm.findtext("TEMPLATE/GRAPHICS/PORT") or "")
    with socket.create_connection(("127.0.0.1", port), timeout=10) as console:
        assert console.recv(4) == b"RFB "
    directory = Path(vm.findtext("HISTORY_RECORDS/HISTORY/DS_ID") or "")
    disk = cloud.sim.var / "datastores" / directory / str(oid) / "disk.0"
    assert disk.is_symlink() and disk.resolve().name == "0"

    # Memory would need a guest whose balloon answers; the demo's has one.
    cloud.ask("one.vm.resize", oid, "VCPU=2", True)
    vm = cloud.running(oid)
    assert vm.findtext("TEMPLATE/VCPU") == "2", vm.findtext("USER_TEMPLATE/ERROR")
    domain = cloud.domain(oid)
    assert domain is not None
    assert domain.xpath("string(vcpu/@current)") == "2"

    cloud.ask("one.vm.action", "poweroff-hard", oid)
    cloud.wait(oid, VmState.POWEROFF)
    assert cloud.domain(oid) is None
    cloud.ask("one.vm.action", "resume", oid)
    vm = cloud.running(oid)
    assert [item.text for item in vm.iterfind("HISTORY_RECORDS/HISTORY/ACTION")] == [
        "35",
        "20",
        "0",
    ]

    cloud.ask("one.vm.action", "terminate-hard", oid)
    vm = cloud.wait(oid, VmState.DONE)
    assert cloud.domain(oid) is None
    assert not disk.parent.exists()
    assert vm.find("TEMPLATE/GRAPHICS/PORT") is None
    image = etree.fromstring(cloud.ask("one.image.info", 0))
    assert (image.findtext("STATE"), image.findtext("RUNNING_VMS")) == ("1", "0")
    host = etree.fromstring(cloud.ask("one.host.info", 0))
    assert host.findtext("HOST_SHARE/CPU_USAGE") == "0"
    assert etree.fromstring(cloud.ask("one.vn.info", 0)).findtext("USED_LEASES") == "0"


def test_resize_beyond_the_maximum_goes_back(cloud: Cloud) -> None:
    oid = start(cloud)
    cloud.ask("one.vm.resize", oid, "VCPU=4\nMEMORY=100", True)
    vm = wait_until(
        lambda: cloud.running(oid)
        if cloud.vm(oid).find("USER_TEMPLATE/ERROR") is not None
        else None,
        Deadline(TIMEOUT_S),
        what="the refusal",
    )
    assert vm.findtext("TEMPLATE/VCPU") == "1"
    assert vm.findtext("TEMPLATE/MEMORY") == "96"
    assert vm.find("TEMPLATE/RESIZE") is None
    assert "RESIZE: " in (vm.findtext("USER_TEMPLATE/ERROR") or "")


def test_a_machine_whose_domain_vanishes_is_powered_off(cloud: Cloud) -> None:
    oid = start(cloud)
    _destroy_all(cloud.libvirt_uri)
    vm = cloud.wait(oid, VmState.POWEROFF)
    assert vm.findtext("HISTORY_RECORDS/HISTORY/ACTION") == "44"


def test_samples_of_a_running_machine(cloud: Cloud) -> None:
    oid = start(cloud)

    def sampled() -> etree._Element | None:
        vm = cloud.vm(oid)
        return vm if vm.find("MONITORING/MEMORY") is not None else None

    vm = wait_until(sampled, Deadline(TIMEOUT_S), what="a sample")
    assert int(vm.findtext("MONITORING/MEMORY") or "") > 0
    assert "<MONITORING_DATA><MONITORING>" in cloud.ask("one.vm.monitoring", oid)


def test_a_machine_with_the_old_chipset(cloud: Cloud) -> None:
    """The context CD sits on IDE there, whatever its name is."""
    description = DESCRIPTION.replace('ARCH="x86_64"', 'ARCH="x86_64", MACHINE="pc"')
    domain = cloud.domain(start(cloud, description))
    assert domain is not None
    assert "pc-i440fx" in str(domain.xpath("string(os/type/@machine)"))
    assert domain.xpath("//disk[@device='cdrom']/target/@bus") == ["ide"]
    assert domain.xpath("//disk[@device='disk']/target/@bus") == ["virtio"]


def test_undeployed_and_back(cloud: Cloud) -> None:
    oid = start(cloud)
    cloud.ask("one.vm.action", "undeploy-hard", oid)
    vm = cloud.wait(oid, VmState.UNDEPLOYED)
    assert vm.find("TEMPLATE/GRAPHICS/PORT") is None
    cloud.ask("one.vm.action", "resume", oid)
    cloud.running(oid)


def test_a_machine_that_did_not_boot_is_tried_again(cloud: Cloud) -> None:
    name = f"{BRIDGE}b"
    network = f"NAME=later\nVN_MAD=dummy\nBRIDGE={name}\nAR=[TYPE=ETHER,SIZE=1]"
    cloud.ask("one.vn.allocate", network, -1)
    image = add_image(cloud, "system", persistent=True)
    description = DESCRIPTION.replace('NETWORK="lab"', 'NETWORK="later"')
    oid = cloud.ask("one.vm.allocate", f'{description}DISK=[ IMAGE_ID="{image}" ]\n', False)
    vm = cloud.wait(oid, VmState.ACTIVE, LcmState.BOOT_FAILURE)
    assert "DEPLOY: " in (vm.findtext("USER_TEMPLATE/ERROR") or "")
    with bridge(name, "10.213.47.1/24"):
        cloud.ask("one.vm.recover", oid, 2)
        cloud.running(oid)
        assert cloud.domain(oid) is not None
        cloud.ask("one.vm.recover", oid, 3)
        cloud.wait(oid, VmState.DONE)
    assert cloud.domain(oid) is None
    document = etree.fromstring(cloud.ask("one.image.info", image))
    assert (document.findtext("STATE"), document.findtext("RUNNING_VMS")) == ("5", "0")


def test_disk_snapshot_revert_and_copy_while_off(cloud: Cloud) -> None:
    oid = start(cloud)
    cloud.ask("one.vm.action", "poweroff-hard", oid)
    cloud.wait(oid, VmState.POWEROFF)
    assert cloud.ask("one.vm.disksnapshotcreate", oid, 0, "before") == 0
    cloud.wait(oid, VmState.POWEROFF)
    disk = cloud.sim.var / "datastores" / "0" / str(oid) / "disk.0"
    assert disk.resolve().name == "1"
    _write(disk, b"after")
    assert _read(disk) == b"after"
    cloud.ask("one.vm.disksnapshotrevert", oid, 0, 0)
    vm = cloud.wait(oid, VmState.POWEROFF)
    assert _read(disk) == bytes(5)
    assert vm.findtext("SNAPSHOTS/SNAPSHOT/ACTIVE") == "YES"

    _write(disk, b"saved")
    image = cloud.ask("one.vm.disksaveas", oid, 0, "copy", "", -1)
    cloud.wait(oid, VmState.POWEROFF)
    document = etree.fromstring(cloud.ask("one.image.info", image))
    assert document.findtext("STATE") == "1"
    assert _read(Path(document.findtext("SOURCE") or "")) == b"saved"
    cloud.ask("one.vm.diskresize", oid, 0, "80")
    vm = cloud.wait(oid, VmState.POWEROFF)
    assert vm.findtext("TEMPLATE/DISK/SIZE") == "80"
    cloud.ask("one.vm.action", "terminate", oid)
    cloud.wait(oid, VmState.DONE)


def _qemu_io(disk: Path, command: str) -> str:
    argv = ["qemu-io", "-f", "qcow2", "-c", command, str(disk)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return done.stdout


def _write(disk: Path, text: bytes) -> None:
    source = disk.parent / "pattern"
    source.write_bytes(text)
    _qemu_io(disk, f"write -s {source} 0 512")
    source.unlink()


def _read(disk: Path) -> bytes:
    raw = disk.parent / "read.raw"
    argv = ["qemu-img", "convert", "-q", "-f", "qcow2", "-O", "raw", str(disk), str(raw)]
    subprocess.run(argv, check=True)
    with raw.open("rb") as stream:
        found = stream.read(5)
    raw.unlink()
    return found


def test_persistent_and_volatile_disks_and_nics_while_off(cloud: Cloud) -> None:
    oid = start(cloud)
    cloud.ask("one.vm.action", "poweroff-hard", oid)
    cloud.wait(oid, VmState.POWEROFF)
    kept = add_image(cloud, "kept", persistent=True)
    cloud.ask("one.vm.attach", oid, f'DISK=[ IMAGE_ID="{kept}" ]')
    cloud.wait(oid, VmState.POWEROFF)
    cloud.ask("one.vm.attach", oid, "DISK=[ TYPE=fs, SIZE=8, FORMAT=qcow2 ]")
    cloud.wait(oid, VmState.POWEROFF)
    cloud.ask("one.vm.attach", oid, "DISK=[ TYPE=swap, SIZE=8 ]")
    cloud.wait(oid, VmState.POWEROFF)
    cloud.ask("one.vm.attachnic", oid, 'NIC=[ NETWORK="lab" ]')
    vm = cloud.wait(oid, VmState.POWEROFF)
    assert [d.findtext("TARGET") for d in vm.iterfind("TEMPLATE/DISK")] == [
        "vda",
        "vdb",
        "sdb",
        "sdc",
    ]
    assert len(vm.findall("TEMPLATE/NIC")) == 2
    assert etree.fromstring(cloud.ask("one.image.info", kept)).findtext("STATE") == "8"
    cloud.ask("one.vm.action", "resume", oid)
    cloud.running(oid)
    domain = cloud.domain(oid)
    assert domain is not None
    assert len(domain.findall("devices/disk")) == 5
    cloud.ask("one.vm.action", "poweroff-hard", oid)
    cloud.wait(oid, VmState.POWEROFF)
    cloud.ask("one.vm.detachnic", oid, 1)
    cloud.ask("one.vm.detach", oid, 2)
    vm = cloud.wait(oid, VmState.POWEROFF)
    assert len(vm.findall("TEMPLATE/DISK")) == 3
    cloud.ask("one.vm.action", "terminate-hard", oid)
    cloud.wait(oid, VmState.DONE)
    document = etree.fromstring(cloud.ask("one.image.info", kept))
    assert document.findtext("STATE") == "1"
    assert Path(document.findtext("SOURCE") or "").is_file()


def test_a_driver_that_fails_is_told_and_can_be_retried(cloud: Cloud) -> None:
    script = cloud.sim.remotes / "vmm" / "kvm_py" / "deploy"
    good = script.read_bytes()
    script.write_text("#!/bin/sh\necho 'INFO: deploy: trying' >&2\necho 'no luck' >&2\nexit 3\n")
    image = add_image(cloud, "system")
    template = cloud.ask("one.template.allocate", f'{DESCRIPTION}DISK=[ IMAGE_ID="{image}" ]\n')
    oid = cloud.ask("one.template.instantiate", template, "named", False, "", False)
    vm = cloud.wait(oid, VmState.ACTIVE, LcmState.BOOT_FAILURE)
    assert (vm.findtext("USER_TEMPLATE/ERROR") or "").endswith("DEPLOY: no luckExitCode: 3")
    assert vm.findtext("NAME") == "named"
    script.write_bytes(good)
    cloud.ask("one.vm.recover", oid, 2)
    cloud.running(oid)
    cloud.ask("one.vm.recover", oid, 3)
    cloud.wait(oid, VmState.DONE)
    assert cloud.domain(oid) is None


def test_live_disk_snapshot_and_live_copy(cloud: Cloud) -> None:
    """The running domain goes on in a new overlay; its disk is copied while it is held."""
    oid = start(cloud)
    disk = cloud.sim.var / "datastores" / "0" / str(oid) / "disk.0"
    assert cloud.ask("one.vm.disksnapshotcreate", oid, 0, "live") == 0
    vm = cloud.running(oid)
    assert vm.find("USER_TEMPLATE/ERROR") is None, vm.findtext("USER_TEMPLATE/ERROR")
    assert vm.findtext("SNAPSHOTS/SNAPSHOT/NAME") == "live"
    domain = cloud.domain(oid)
    assert domain is not None
    assert disk.resolve().name == "1"
    source = domain.find("devices/disk[@device='disk']/source")
    assert source is not None and str(source.get("file")).endswith("snap/1")

    image = cloud.ask("one.vm.disksaveas", oid, 0, "copy", "", -1)
    vm = cloud.running(oid)
    assert vm.find("USER_TEMPLATE/ERROR") is None, vm.findtext("USER_TEMPLATE/ERROR")
    document = etree.fromstring(cloud.ask("one.image.info", image))
    assert document.findtext("STATE") == "1"
    assert _read(Path(document.findtext("SOURCE") or "")) == bytes(5)
