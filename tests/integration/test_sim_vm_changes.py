"""Changing machines, and the lists of them."""

from collections.abc import Iterator
from pathlib import Path

import pyone
import pytest
from lxml import etree

from one_kvm_migrate.sim.vm import monitor
from tests.simvm import GIB_KIB, MACHINE, StepCloud

ACTION, INTERNAL, NO_EXISTS = 0x800, 0x2000, 0x400


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[StepCloud]:
    made = StepCloud(tmp_path)
    yield made
    made.sim.stop()


def test_resize_by_state(cloud: StepCloud) -> None:
    oid = cloud.running()
    cloud.ask("one.vm.resize", oid, "MEMORY=1024\nCPU=2\nVCPU=3", True)
    assert cloud.vm(oid).findtext("TEMPLATE/RESIZE/MEMORY") == "512"
    assert cloud.share(0) == (200, GIB_KIB, 1)
    cloud.work()
    assert cloud.vm(oid).find("TEMPLATE/RESIZE") is None
    cloud.fail("resize", "too much")
    cloud.ask("one.vm.resize", oid, "MEMORY=2048\nVCPU=4", True)
    cloud.work()
    vm = cloud.vm(oid)
    assert (vm.findtext("TEMPLATE/MEMORY"), vm.findtext("TEMPLATE/VCPU")) == ("1024", "3")
    assert cloud.error(oid) == "RESIZE: too much"
    assert cloud.share(0) == (200, GIB_KIB, 1)
    text, code = cloud.refused("one.vm.resize", oid, "MEMORY=900000", True)
    assert code == ACTION and "memory" in text
    assert cloud.refused("one.vm.resize", oid, "CPU=-1", True)[1] == INTERNAL
    cloud.ask("one.vm.resize", oid, "", True)
    assert cloud.work() == 0


def test_a_failed_attach_leaves_nothing(cloud: StepCloud) -> None:
    oid = cloud.running()
    image = cloud.add_image("more")
    cloud.fail("attach_disk")
    cloud.ask("one.vm.attach", oid, f"DISK=[IMAGE_ID={image}]")
    assert len(cloud.vm(oid).findall("TEMPLATE/DISK")) == 2
    cloud.work()
    assert cloud.error(oid) == "ATTACHDISK: noExitCode: 1"
    assert len(cloud.vm(oid).findall("TEMPLATE/DISK")) == 1
    assert etree.fromstring(cloud.ask("one.image.info", image)).findtext("STATE") == "1"
    assert not (cloud.sim.var / "datastores" / "0" / str(oid) / "disk.2").exists()
    cloud.fail("attach_nic")
    cloud.ask("one.vm.attachnic", oid, "NIC=[NETWORK_ID=0]")
    cloud.work()
    vm = cloud.vm(oid)
    assert len(vm.findall("TEMPLATE/NIC")) == 1
    assert vm.find("TEMPLATE/CONTEXT/ETH1_IP") is None
    assert etree.fromstring(cloud.ask("one.vn.info", 0)).findtext("USED_LEASES") == "1"


def test_a_failed_detach_keeps_everything(cloud: StepCloud) -> None:
    oid = cloud.running()
    cloud.fail("detach_nic")
    cloud.ask("one.vm.detachnic", oid, 0)
    cloud.work()
    assert cloud.error(oid) == "DETACHNIC: noExitCode: 1"
    vm = cloud.vm(oid)
    assert vm.findtext("TEMPLATE/CONTEXT/ETH0_IP") == vm.findtext("TEMPLATE/NIC/IP")
    cloud.fail("detach_disk")
    cloud.ask("one.vm.detach", oid, 0)
    cloud.work()
    assert cloud.error(oid) == "DETACHDISK: noExitCode: 1"
    assert cloud.vm(oid).find("TEMPLATE/DISK/ATTACH") is None
    assert cloud.refused("one.vm.detach", oid, 5)[1] == ACTION
    assert cloud.refused("one.vm.detachnic", oid, 5)[1] == ACTION


def test_snapshots_that_fail(cloud: StepCloud) -> None:
    oid = cloud.running()
    cloud.ask("one.vm.snapshotcreate", oid, "first")
    cloud.work()
    cloud.fail("snapshot_delete")
    cloud.ask("one.vm.snapshotdelete", oid, 0)
    cloud.work()
    assert cloud.error(oid) == "SNAPSHOTDELETE: no"
    assert cloud.vm(oid).findtext("TEMPLATE/SNAPSHOT/NAME") == "first"
    assert cloud.vm(oid).find("TEMPLATE/SNAPSHOT/ACTIVE") is None
    cloud.fail("snapshot_create")
    assert cloud.ask("one.vm.snapshotcreate", oid, "second") == 1
    cloud.work()
    assert len(cloud.vm(oid).findall("TEMPLATE/SNAPSHOT")) == 1
    assert cloud.refused("one.vm.snapshotrevert", oid, 7)[1] == ACTION


def test_disk_snapshots_keep_their_tree(cloud: StepCloud) -> None:
    oid = cloud.running()
    cloud.ask("one.vm.action", "poweroff", oid)
    cloud.work()
    for number in (0, 1):
        assert cloud.ask("one.vm.disksnapshotcreate", oid, 0, f"s{number}") == number
        cloud.work()
    assert cloud.refused("one.vm.disksnapshotdelete", oid, 0, 0)[0].endswith("has children")
    assert cloud.refused("one.vm.disksnapshotdelete", oid, 0, 1)[0].endswith("active one")
    cloud.ask("one.vm.disksnapshotrevert", oid, 0, 0)
    cloud.work()
    cloud.ask("one.vm.disksnapshotdelete", oid, 0, 1)
    cloud.work()
    vm = cloud.vm(oid)
    assert [s.findtext("NAME") for s in vm.iterfind("SNAPSHOTS/SNAPSHOT")] == ["s0"]
    assert vm.findtext("TEMPLATE/DISK/DISK_SNAPSHOT_TOTAL_SIZE") == "64"
    assert cloud.refused("one.vm.disksnapshotcreate", oid, 9, "x")[1] == ACTION


def test_updateconf_keeps_what_is_not_the_users(cloud: StepCloud) -> None:
    oid = cloud.running()
    before = cloud.vm(oid)
    text = "GRAPHICS=[TYPE=SPICE,PORT=1]\nOS=[BOOT=nic0]\nCONTEXT=[NETWORK=YES,WHO=$NAME]\nCPU=9"
    cloud.ask("one.vm.updateconf", oid, text, 0)
    after = cloud.vm(oid)
    for path in ("GRAPHICS/PORT", "OS/UUID", "CONTEXT/DISK_ID", "CONTEXT/TARGET", "CPU"):
        same = before.findtext(f"TEMPLATE/{path}")
        assert after.findtext(f"TEMPLATE/{path}") == same, path
    assert after.findtext("TEMPLATE/GRAPHICS/TYPE") == "SPICE"
    assert after.findtext("TEMPLATE/NIC/ORDER") == "1"
    assert after.findtext("TEMPLATE/CONTEXT/ETH0_IP")
    assert cloud.work() == 1
    cloud.ask("one.vm.action", "suspend", oid)
    cloud.work()
    assert cloud.refused("one.vm.updateconf", oid, text, 0)[1] == ACTION


def test_rename_update_chmod_lock(cloud: StepCloud) -> None:
    oid = cloud.ask("one.vm.allocate", "CPU=1\nMEMORY=1\nNAME=a", False)
    cloud.ask("one.vm.allocate", "CPU=1\nMEMORY=1\nNAME=b", False)
    cloud.ask("one.vm.rename", oid, "b")
    assert cloud.refused("one.vm.rename", oid, "")[1] == ACTION
    cloud.ask("one.vm.update", oid, "X=1", 0)
    cloud.ask("one.vm.update", oid, "Y=2", 1)
    assert [i.tag for i in cloud.vm(oid).iterfind("USER_TEMPLATE/*")] == ["X", "Y"]
    cloud.ask("one.vm.chmod", oid, -1, -1, -1, 1, -1, -1, -1, -1, -1)
    assert cloud.vm(oid).findtext("PERMISSIONS/GROUP_U") == "1"
    cloud.ask("one.vm.lock", oid, 4, False)
    assert cloud.vm(oid).findtext("LOCK/LOCKED") == "4"
    cloud.ask("one.vm.unlock", oid)
    assert cloud.refused("one.vm.info", 999)[1] == NO_EXISTS


def test_pools_filter_and_page(cloud: StepCloud) -> None:
    numbers = [
        cloud.ask("one.vm.allocate", f"CPU=1\nMEMORY=1\nNAME=vm{n}", False) for n in range(4)
    ]
    cloud.ask("one.vm.action", "terminate", numbers[0])
    cloud.ask("one.vm.action", "hold", numbers[1])

    def ids(*params: object) -> list[int]:
        pool = etree.fromstring(cloud.ask("one.vmpool.info", *params))
        return [int(item.text or "") for item in pool.iterfind("VM/ID")]

    assert ids(-2, -1, -1, -1) == [3, 2, 1]
    assert ids(-2, -1, -1, -2) == [3, 2, 1, 0]
    assert ids(-2, -1, -1, 2) == [1]
    assert ids(-2, 1, 2, -1) == [2, 1]
    assert ids(-2, 0, -2, -1) == [3, 2]
    assert ids(-2, -1, -1, -1, "NAME=vm2") == [2]
    assert ids(-2, -1, -1, -1, "vm3") == [3]
    several = etree.fromstring(cloud.ask("one.vmpool.infoset", "1,3", True))
    assert len(several.findall("VM/TEMPLATE/CPU")) == 2
    everything = etree.fromstring(cloud.ask("one.vmpool.infoextended", -2, -1, -1, -1))
    assert len(everything.findall("VM/BACKUPS")) == 3


def test_console_ports_do_not_repeat(cloud: StepCloud) -> None:
    ports = {cloud.vm(cloud.running(MACHINE)).findtext("TEMPLATE/GRAPHICS/PORT") for _ in range(3)}
    assert len(ports) == 3


def test_pyone_reads_machines(cloud: StepCloud) -> None:
    oid = cloud.running()
    monitor.add_sample(cloud.sim, oid, {"CPU": "1.5", "MEMORY": "7"})
    one = pyone.OneServer(cloud.sim.endpoint, session="oneadmin:opennebula")
    vm = one.vm.info(oid)
    assert (vm.STATE, vm.LCM_STATE) == (pyone.VM_STATE.ACTIVE, pyone.LCM_STATE.RUNNING)
    assert vm.TEMPLATE["DISK"]["IMAGE"] == "system"
    assert vm.HISTORY_RECORDS.HISTORY[0].HOSTNAME == "one"
    assert [found.ID for found in one.vmpool.info(-2, -1, -1, -1).VM] == [oid]
    assert one.vmpool.infoextended(-2, -1, -1, -1).VM[0].TEMPLATE["VMID"] == str(oid)
    assert one.vm.monitoring(oid).MONITORING[0].CPU == 1.5
    with pytest.raises(pyone.OneActionException, match="not available for state RUNNING"):
        one.vm.action("resume", oid)
    with pytest.raises(pyone.OneNoExistsException):
        one.vm.info(99)
