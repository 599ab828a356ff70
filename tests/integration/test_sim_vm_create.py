"""Making machines in the simulator, and where they are put."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from one_kvm_migrate.sim.vm import cloning, scheduler
from tests.simvm import MACHINE, StepCloud

ALLOCATE, AUTHORIZATION = 0x4000, 0x200


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[StepCloud]:
    made = StepCloud(tmp_path)
    yield made
    made.sim.stop()


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
        ('CPU=1\nMEMORY=1\nNAME="a\tb"', "Invalid NAME"),
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


def test_a_new_owner_is_charged(cloud: StepCloud) -> None:
    user = cloud.ask("one.user.allocate", "ana", "pw", "core", [1])
    cloud.ask("one.user.quota", user, "VM=[VMS=1]")
    for name in ("a", "b"):
        cloud.ask("one.vm.allocate", f"CPU=1\nMEMORY=1\nNAME={name}", False)
    cloud.ask("one.vm.chown", 0, user, -1)
    assert cloud.refused("one.vm.chown", 1, user, -1)[1] == AUTHORIZATION
    assert cloud.vm(1).findtext("UNAME") == "oneadmin"
    cloud.ask("one.vm.chown", 0, 0, -1)
    cloud.ask("one.vm.chown", 1, user, -1)


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


def test_the_scheduler_takes_the_host_with_most_room(cloud: StepCloud) -> None:
    cloud.running("CPU=1\nMEMORY=1024")
    oid = cloud.ask("one.vm.allocate", MACHINE, False)
    held = cloud.ask("one.vm.allocate", MACHINE, True)
    scheduler.place_waiting(cloud.sim)
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
    scheduler.place_waiting(cloud.sim)
    assert cloud.state(oid) == "PENDING"
    assert why in (cloud.vm(oid).findtext("USER_TEMPLATE/SCHED_MESSAGE") or "")


def test_a_disabled_host_gets_nothing(cloud: StepCloud) -> None:
    for number in (0, 1):
        cloud.ask("one.host.status", number, 1)
    oid = cloud.ask("one.vm.allocate", "CPU=1\nMEMORY=1", False)
    scheduler.place_waiting(cloud.sim)
    assert cloud.state(oid) == "PENDING"
