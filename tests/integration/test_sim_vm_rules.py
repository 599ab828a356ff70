"""What machines of the simulator may do in which state, and what failures leave behind."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from one_kvm_migrate.sim.vm import cloning, monitor, scheduler
from tests.simvm import GIB_KIB, MACHINE, StepCloud

ACTION, INTERNAL, ALLOCATE, AUTHORIZATION, NO_EXISTS = 0x800, 0x2000, 0x4000, 0x200, 0x400


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[StepCloud]:
    made = StepCloud(tmp_path)
    yield made
    made.sim.stop()


# -- creation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("MEMORY=1", "CPU attribute must be a positive float or integer value."),
        ("CPU=x\nMEMORY=1", "CPU attribute must be a positive float or integer value."),
        ("CPU=1", "MEMORY attribute must be a positive integer value."),
        ("CPU=1\nMEMORY=1\nVCPU=0", "VCPU attribute must be a positive integer value."),
        ("CPU=1\nMEMORY=1\nMEMORY_RESIZE_MODE=x", "Unsupported MEMORY_RESIZE_MODE : X"),
        ("CPU=1\nMEMORY=1\nDISK=[IMAGE_ID=77]", "Image with ID: 77 does not exist"),
        ("CPU=1\nMEMORY=1\nDISK=[IMAGE=none]", "User 0 does not own an image with name: none"),
        ("CPU=1\nMEMORY=1\nNIC=[NETWORK_ID=9]", "Virtual network with ID: 9 does not exist"),
        ("CPU=1\nMEMORY=1\nDISK=[TYPE=fs]", "SIZE must be an integer greater than 0"),
    ],
)
def test_a_wrong_description_is_refused_and_takes_nothing(
    cloud: StepCloud, text: str, why: str
) -> None:
    found, code = cloud.refused("one.vm.allocate", f"{text}\nDISK=[IMAGE_ID=0]", False)
    assert why in found and code == ALLOCATE
    assert etree.fromstring(cloud.ask("one.image.info", 0)).findtext("RUNNING_VMS") == "0"
    assert cloud.ask("one.vmpool.info", -2, -1, -1, -2) == "<VM_POOL/>"


def test_a_refusal_half_way_gives_back_what_was_taken(cloud: StepCloud) -> None:
    text = "CPU=1\nMEMORY=1\nDISK=[IMAGE_ID=0]\nNIC=[NETWORK_ID=0]\nNIC=[NETWORK_ID=0,IP=9.9.9.9]"
    cloud.refused("one.vm.allocate", text, False)
    assert etree.fromstring(cloud.ask("one.image.info", 0)).findtext("STATE") == "1"
    assert etree.fromstring(cloud.ask("one.vn.info", 0)).findtext("USED_LEASES") == "0"


def test_a_persistent_image_has_one_user(cloud: StepCloud) -> None:
    image = cloud.add_image("kept", "PERSISTENT=YES")
    text = f"CPU=1\nMEMORY=1\nDISK=[IMAGE_ID={image}]"
    oid = cloud.ask("one.vm.allocate", text, False)
    found, code = cloud.refused("one.vm.allocate", text, False)
    assert "USED_PERS" in found and code == ALLOCATE
    cloud.ask("one.vm.action", "terminate", oid)
    assert cloud.state(oid) == "DONE"
    cloud.ask("one.vm.allocate", text, False)


def test_names_and_the_two_templates(cloud: StepCloud) -> None:
    oid = cloud.ask("one.vm.allocate", "CPU=1\nMEMORY=1\nNOTE=x\nHYPERVISOR=kvm", True)
    vm = cloud.vm(oid)
    assert vm.findtext("NAME") == f"one-{oid}"
    assert cloud.state(oid) == "HOLD"
    assert [item.tag for item in vm.iterfind("USER_TEMPLATE/*")] == ["HYPERVISOR", "NOTE"]
    assert vm.findtext("TEMPLATE/AUTOMATIC_REQUIREMENTS") == "!(PIN_POLICY = PINNED)"
    assert vm.findtext("TEMPLATE/OS/UUID")


def test_users_without_rights(cloud: StepCloud) -> None:
    cloud.ask("one.user.allocate", "ana", "pw", "core", [1])
    ana = "ana:pw"
    oid = cloud.ask("one.vm.allocate", "CPU=1\nMEMORY=1", False)
    for call in (("one.vm.info", oid), ("one.vm.action", "terminate", oid)):
        assert cloud.answer(*call, session=ana)[2] == AUTHORIZATION
    raw = "CPU=1\nMEMORY=1\nRAW=[TYPE=kvm,DATA=x]"
    done, text, code = cloud.answer("one.vm.allocate", raw, False, session=ana)[:3]
    assert (done, code) == (False, AUTHORIZATION) and "RAW/DATA" in text
    own = cloud.answer("one.vm.allocate", "CPU=1\nMEMORY=1", False, session=ana)[1]
    assert cloud.answer("one.vm.deploy", own, 0, session=ana)[2] == AUTHORIZATION
    assert cloud.answer("one.vm.info", own, session=ana)[0]
    pool = cloud.answer("one.vmpool.info", -2, -1, -1, -1, session=ana)[1]
    assert [vm.findtext("ID") for vm in etree.fromstring(pool)] == [str(own)]


def test_quotas_count_machines(cloud: StepCloud) -> None:
    user = cloud.ask("one.user.allocate", "ana", "pw", "core", [1])
    cloud.ask("one.user.quota", user, "VM=[VMS=1,MEMORY=100,CPU=4]")
    ask = cloud.answer
    assert not ask("one.vm.allocate", "CPU=1\nMEMORY=101", False, session="ana:pw")[0]
    done, oid = ask("one.vm.allocate", "CPU=1\nMEMORY=90", False, session="ana:pw")[:2]
    assert done
    text, code = ask("one.vm.allocate", "CPU=1\nMEMORY=1", False, session="ana:pw")[1:3]
    assert code == AUTHORIZATION and "VMS" in text
    assert not ask("one.vm.resize", oid, "MEMORY=101", False, session="ana:pw")[0]
    assert ask("one.vm.resize", oid, "MEMORY=95", False, session="ana:pw")[0]
    assert ask("one.vm.action", "terminate", oid, session="ana:pw")[0]
    assert ask("one.vm.allocate", "CPU=1\nMEMORY=100", False, session="ana:pw")[0]


def test_a_machine_waits_for_an_image_that_is_being_made(cloud: StepCloud) -> None:
    text = "NAME=later\nTYPE=DATABLOCK\nSIZE=1\nFORMAT=qcow2"
    image = cloud.ask("one.image.allocate", text, 1)
    oid = cloud.ask("one.vm.allocate", f"CPU=1\nMEMORY=1\nDISK=[IMAGE_ID={image}]", False)
    assert cloud.state(oid) == "CLONING"
    cloning.check(cloud.sim)
    assert cloud.state(oid) == "CLONING"
    cloud.work()
    cloning.check(cloud.sim)
    assert cloud.state(oid) == "PENDING"
    assert cloud.vm(oid).findtext("TEMPLATE/DISK/SOURCE")
    assert etree.fromstring(cloud.ask("one.image.info", image)).findtext("STATE") == "2"


# -- life cycle ---------------------------------------------------------------------------


def test_each_state_is_seen_on_the_way(cloud: StepCloud) -> None:
    oid = cloud.ask("one.vm.allocate", MACHINE, False)
    cloud.ask("one.vm.deploy", oid, 0, False, 0, "")
    seen = [cloud.state(oid)]
    while cloud.work(1):
        seen.append(cloud.state(oid))
    assert seen == ["PROLOG", "BOOT", "RUNNING"]
    assert cloud.vm(oid).findtext("DEPLOY_ID") == "answer-of-deploy"
    assert cloud.share(0) == (100, GIB_KIB // 2, 1)
    cloud.ask("one.vm.action", "stop", oid)
    seen = [cloud.state(oid)]
    while cloud.work(1):
        seen.append(cloud.state(oid))
    assert seen == ["SAVE_STOP", "EPILOG_STOP", "STOPPED"]
    assert cloud.share(0) == (0, 0, 0)
    cloud.ask("one.vm.action", "resume", oid)
    cloud.ask("one.vm.deploy", oid, 1, False, -1, "")
    seen = [cloud.state(oid)]
    while cloud.work(1):
        seen.append(cloud.state(oid))
    assert seen == ["PROLOG_RESUME", "BOOT_STOPPED", "RUNNING"]
    assert cloud.share(1) == (100, GIB_KIB // 2, 1)


REFUSALS = {
    "HOLD": ["hold", "resume", "suspend", "stop", "poweroff", "reboot", "undeploy", "resched"],
    "PENDING": ["release", "resume", "suspend", "stop", "poweroff-hard", "reboot-hard"],
    "RUNNING": ["hold", "release", "resume"],
    "POWEROFF": ["hold", "release", "suspend", "stop", "poweroff", "reboot"],
    "DONE": ["hold", "release", "resume", "terminate", "terminate-hard", "undeploy-hard"],
}


@pytest.mark.parametrize("state", REFUSALS)
def test_actions_that_a_state_does_not_allow(cloud: StepCloud, state: str) -> None:
    oid = cloud.ask("one.vm.allocate", MACHINE, state == "HOLD")
    if state in ("RUNNING", "POWEROFF"):
        cloud.ask("one.vm.deploy", oid, 0, False, 0, "")
    if state == "DONE":
        cloud.ask("one.vm.action", "terminate", oid)
    cloud.work()
    if state == "POWEROFF":
        cloud.ask("one.vm.action", "poweroff", oid)
        cloud.work()
    assert cloud.state(oid) == state
    for verb in REFUSALS[state]:
        text, code = cloud.refused("one.vm.action", verb, oid)
        assert code == ACTION
        assert text.endswith(f"This action is not available for state {state}"), verb
    assert cloud.state(oid) == state
    assert cloud.work() == 0


@pytest.mark.parametrize(
    ("script", "verb", "error", "state"),
    [
        ("shutdown", "terminate", "SHUTDOWN: noExitCode: 1", "RUNNING"),
        ("cancel", "poweroff-hard", "SHUTDOWN: noExitCode: 1", "RUNNING"),
        ("save", "suspend", "SAVE: noExitCode: 1", "RUNNING"),
        ("save", "stop", "SAVE: noExitCode: 1", "RUNNING"),
        ("reset", "reboot-hard", "REBOOT: noExitCode: 1", "RUNNING"),
        ("reboot", "reboot", "REBOOT: noExitCode: 1", "RUNNING"),
    ],
)
def test_a_failed_action_leaves_the_machine_running(
    cloud: StepCloud, script: str, verb: str, error: str, state: str
) -> None:
    oid = cloud.running()
    cloud.fail(script)
    cloud.ask("one.vm.action", verb, oid)
    cloud.work()
    assert (cloud.state(oid), cloud.error(oid)) == (state, error)
    assert cloud.vm(oid).findtext("HISTORY_RECORDS/HISTORY/ACTION") == "0"


@pytest.mark.parametrize(
    ("verb", "script", "failed"),
    [("poweroff", "deploy", "POWEROFF"), ("suspend", "restore", "SUSPENDED")],
)
def test_a_failed_resume_goes_back(cloud: StepCloud, verb: str, script: str, failed: str) -> None:
    oid = cloud.running()
    cloud.ask("one.vm.action", verb, oid)
    cloud.work()
    cloud.fail(script, "nothing works")
    cloud.ask("one.vm.action", "resume", oid)
    cloud.work()
    assert cloud.state(oid) == failed
    assert "nothing works" in cloud.error(oid)


def test_a_stopped_simulator_goes_on_where_it_was(cloud: StepCloud) -> None:
    oid = cloud.ask("one.vm.allocate", MACHINE, False)
    cloud.ask("one.vm.deploy", oid, 0, False, 0, "")
    cloud.work(1)
    assert cloud.state(oid) == "BOOT"
    cloud.restart()
    assert cloud.state(oid) == "BOOT"
    cloud.work()
    assert cloud.state(oid) == "RUNNING"


def test_recover(cloud: StepCloud) -> None:
    cloud.fail("deploy")
    oid = cloud.ask("one.vm.allocate", MACHINE, False)
    cloud.ask("one.vm.deploy", oid, 0, False, 0, "")
    cloud.work()
    assert cloud.state(oid) == "BOOT_FAILURE"
    assert cloud.error(oid) == "DEPLOY: noExitCode: 1"
    cloud.ask("one.vm.recover", oid, 2)
    cloud.work()
    assert cloud.state(oid) == "BOOT_FAILURE"
    cloud.ask("one.vm.recover", oid, 1)
    assert cloud.state(oid) == "RUNNING"
    text, code = cloud.refused("one.vm.recover", oid, 0)
    assert code == ACTION and "RUNNING" in text
    cloud.ask("one.vm.recover", oid, 4)
    cloud.work()
    assert cloud.state(oid) == "PENDING"
    assert cloud.share(0) == (0, 0, 0)
    cloud.ask("one.vm.recover", oid, 3)
    cloud.work()
    assert cloud.state(oid) == "DONE"
    assert cloud.refused("one.vm.recover", oid, 9)[1] == ACTION


def test_a_late_answer_is_ignored(cloud: StepCloud) -> None:
    oid = cloud.ask("one.vm.allocate", MACHINE, False)
    cloud.ask("one.vm.deploy", oid, 0, False, 0, "")
    cloud.work(1)
    cloud.ask("one.vm.recover", oid, 0)
    assert cloud.state(oid) == "BOOT_FAILURE"
    cloud.work()
    assert cloud.state(oid) == "BOOT_FAILURE"


# -- migration ----------------------------------------------------------------------------


@pytest.mark.parametrize("live", [True, False])
def test_a_failed_migration_stays_at_home(cloud: StepCloud, live: bool) -> None:
    oid = cloud.running()
    cloud.fail("migrate" if live else "save")
    cloud.ask("one.vm.migrate", oid, 1, live, False, -1, 0)
    assert cloud.share(1)[2] == 1
    cloud.work()
    assert cloud.state(oid) == "RUNNING"
    assert cloud.vm(oid).findall("HISTORY_RECORDS/HISTORY/HID")[-1].text == "0"
    assert (cloud.share(0)[2], cloud.share(1)[2]) == (1, 0)


@pytest.mark.parametrize(
    ("live", "kind", "path"),
    [
        (True, 0, ["MIGRATE", "RUNNING"]),
        (False, 0, ["SAVE_MIGRATE", "PROLOG_MIGRATE", "BOOT_MIGRATE", "RUNNING"]),
        (False, 1, ["SAVE_MIGRATE", "PROLOG_MIGRATE", "BOOT", "RUNNING"]),
        (False, 2, ["SAVE_MIGRATE", "PROLOG_MIGRATE", "BOOT", "RUNNING"]),
    ],
)
def test_ways_to_another_host(cloud: StepCloud, live: bool, kind: int, path: list[str]) -> None:
    oid = cloud.running()
    cloud.ask("one.vm.migrate", oid, 1, live, True, -1, kind)
    seen = [cloud.state(oid)]
    while cloud.work(1):
        seen.append(cloud.state(oid))
    assert seen == path
    assert (cloud.share(0)[2], cloud.share(1)[2]) == (0, 1)


@pytest.mark.parametrize("verb", ["poweroff", "suspend"])
def test_a_machine_that_is_off_moves_without_driver(cloud: StepCloud, verb: str) -> None:
    oid = cloud.running()
    cloud.ask("one.vm.action", verb, oid)
    cloud.work()
    before = cloud.state(oid)
    cloud.fail("migrate")
    cloud.ask("one.vm.migrate", oid, 1, True, False, -1, 0)
    assert cloud.state(oid).startswith("PROLOG_MIGRATE_")
    cloud.work()
    assert cloud.state(oid) == before
    assert (cloud.share(0)[2], cloud.share(1)[2]) == (0, 1)


def test_migrations_that_cannot_be(cloud: StepCloud) -> None:
    oid = cloud.running("CPU=1\nMEMORY=1024")
    assert cloud.refused("one.vm.migrate", oid, 1, True, False, 1, 0)[1] == ACTION
    assert cloud.refused("one.vm.migrate", oid, 1, False, False, -1, 7)[1] == ACTION
    cloud.running("CPU=1\nMEMORY=512")
    other = cloud.ask("one.vm.allocate", "CPU=1\nMEMORY=7800", False)
    text, code = cloud.refused("one.vm.deploy", other, 0, True, 0, "")
    assert "memory" in text and code == ACTION
    cloud.ask("one.vm.deploy", other, 1, True, 0, "")
    text, code = cloud.refused("one.vm.migrate", oid, 1, True, True, -1, 0)
    assert "memory" in text and code == ACTION
    assert cloud.refused("one.vm.migrate", other, 0, True, False, -1, 0)[1] == ACTION


# -- changes ------------------------------------------------------------------------------


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
    vm = cloud.vm(oid)
    assert vm.findtext("TEMPLATE/CONTEXT/ETH0_IP") == vm.findtext("TEMPLATE/NIC/IP")
    cloud.fail("detach_disk")
    cloud.ask("one.vm.detach", oid, 0)
    cloud.work()
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


# -- scheduler, monitor, pools ------------------------------------------------------------


def test_the_scheduler_takes_the_host_with_most_room(cloud: StepCloud) -> None:
    cloud.running("CPU=1\nMEMORY=1024")
    oid = cloud.ask("one.vm.allocate", MACHINE, False)
    held = cloud.ask("one.vm.allocate", MACHINE, True)
    scheduler.schedule(cloud.sim)
    cloud.work()
    assert cloud.state(oid) == "RUNNING"
    assert cloud.vm(oid).findtext("HISTORY_RECORDS/HISTORY/HID") == "1"
    assert cloud.state(held) == "HOLD"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('CPU=1\nMEMORY=1\nSCHED_REQUIREMENTS="HYPERVISOR=\\"vbox\\""', "meets the requirements"),
        ('CPU=1\nMEMORY=1\nSCHED_REQUIREMENTS="((("', "bad requirements"),
        ("CPU=9\nMEMORY=1", "enough capacity"),
        ('CPU=1\nMEMORY=1\nSCHED_DS_REQUIREMENTS="NAME=none"', "system datastore"),
    ],
)
def test_a_machine_that_fits_nowhere_waits_and_says_why(
    cloud: StepCloud, text: str, why: str
) -> None:
    oid = cloud.ask("one.vm.allocate", text, False)
    scheduler.schedule(cloud.sim)
    assert cloud.state(oid) == "PENDING"
    assert why in (cloud.vm(oid).findtext("USER_TEMPLATE/SCHED_MESSAGE") or "")


def test_a_disabled_host_gets_nothing(cloud: StepCloud) -> None:
    for number in (0, 1):
        cloud.ask("one.host.status", number, 1)
    oid = cloud.ask("one.vm.allocate", "CPU=1\nMEMORY=1", False)
    scheduler.schedule(cloud.sim)
    assert cloud.state(oid) == "PENDING"


def test_monitor_reports(cloud: StepCloud) -> None:
    oid = cloud.running()
    for value in ("1", "2"):
        monitor.add_sample(cloud.sim, oid, {"CPU": value, "MEMORY": "7"})
    assert cloud.vm(oid).findtext("MONITORING/CPU") == "2"
    assert cloud.ask("one.vm.monitoring", oid).count("<MONITORING>") == 2
    assert cloud.ask("one.vmpool.monitoring", -2, 0).count("<MONITORING>") == 1
    assert cloud.ask("one.vmpool.monitoring", -2, 60).count("<MONITORING>") == 2
    monitor.report_poweroff(cloud.sim, oid)
    assert cloud.state(oid) == "POWEROFF"
    monitor.report_poweroff(cloud.sim, oid)
    monitor.report_running(cloud.sim, oid, "other-uuid")
    assert cloud.state(oid) == "RUNNING"
    assert cloud.vm(oid).findtext("DEPLOY_ID") == "other-uuid"
    assert len(cloud.vm(oid).findall("HISTORY_RECORDS/HISTORY")) == 2


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
