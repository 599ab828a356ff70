"""Machines that failed: deleting them, trying again, and what becomes of their images."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from tests.simvm import MACHINE, OK, StepCloud

READY, USED, ERROR, USED_PERS = "1", "2", "5", "8"
ACTION = 0x800
RETRY, DELETE, RECREATE, DELETE_DB = 2, 3, 4, 5


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[StepCloud]:
    made = StepCloud(tmp_path)
    yield made
    made.sim.stop()


def add_persistent(cloud: StepCloud) -> int:
    """A persistent image, ready to be used."""
    oid = cloud.add_image("mine", "PERSISTENT=YES")
    cloud.settle()
    return oid


def start(cloud: StepCloud, image: int) -> int:
    """A machine with *image* as its second disk, as far as it gets."""
    oid: int = cloud.ask("one.vm.allocate", f"{MACHINE}DISK=[IMAGE_ID={image}]", False)
    cloud.ask("one.vm.deploy", oid, 0, False, 0, "")
    cloud.work()
    return oid


def states(cloud: StepCloud, *images: int) -> list[str]:
    """STATE of images."""
    documents = [etree.fromstring(cloud.ask("one.image.info", image)) for image in images]
    return [document.findtext("STATE") or "" for document in documents]


def give_up(cloud: StepCloud, oid: int, how: str) -> None:
    """Delete a machine with an action, or with one.vm.recover."""
    if how == "delete":
        cloud.ask("one.vm.recover", oid, DELETE)
    else:
        cloud.ask("one.vm.action", how, oid)


@pytest.mark.parametrize("how", ["terminate", "terminate-hard", "delete"])
def test_a_persistent_image_of_a_machine_that_did_not_boot_is_in_doubt(
    cloud: StepCloud, how: str
) -> None:
    mine = add_persistent(cloud)
    cloud.fail("deploy")
    oid = start(cloud, mine)
    assert cloud.state(oid) == "BOOT_FAILURE"
    assert states(cloud, 0, mine) == [USED, USED_PERS]
    give_up(cloud, oid, how)
    assert cloud.state(oid) == "CLEANUP_DELETE"
    cloud.work()
    assert cloud.state(oid) == "DONE"
    assert states(cloud, 0, mine) == [READY, ERROR]
    assert cloud.share(0) == (0, 0, 0)
    assert etree.fromstring(cloud.ask("one.vn.info", 0)).findtext("USED_LEASES") == "0"
    assert not list((cloud.sim.var / "datastores" / "0").iterdir())
    assert cloud.refused("one.vm.allocate", f"MEMORY=64\nCPU=1\nDISK=[IMAGE_ID={mine}]", False)
    cloud.ask("one.image.enable", mine, True)
    assert states(cloud, mine) == [READY]


def test_a_machine_whose_disks_could_not_be_made_fails_the_same_way(cloud: StepCloud) -> None:
    mine = add_persistent(cloud)
    source = etree.fromstring(cloud.ask("one.image.info", 0)).findtext("SOURCE") or ""
    Path(source).unlink()
    oid = start(cloud, mine)
    assert cloud.state(oid) == "PROLOG_FAILURE"
    cloud.ask("one.vm.action", "terminate-hard", oid)
    cloud.work()
    assert cloud.state(oid) == "DONE"
    assert states(cloud, 0, mine) == [READY, ERROR]
    cloud.ask("one.image.delete", mine, False)
    cloud.settle()
    assert cloud.refused("one.image.info", mine)


def test_an_image_that_others_use_stays_in_use(cloud: StepCloud) -> None:
    other = cloud.running()
    cloud.fail("deploy")
    oid = start(cloud, add_persistent(cloud))
    give_up(cloud, oid, "terminate")
    cloud.work()
    assert states(cloud, 0) == [USED]
    cloud.ask("one.vm.action", "terminate-hard", other)
    cloud.work()
    assert states(cloud, 0) == [READY]


def test_deleting_a_running_machine_leaves_its_image_in_doubt(cloud: StepCloud) -> None:
    mine = add_persistent(cloud)
    oid = start(cloud, mine)
    assert cloud.state(oid) == "RUNNING"
    give_up(cloud, oid, "delete")
    cloud.work()
    assert states(cloud, 0, mine) == [READY, ERROR]


@pytest.mark.parametrize("rest", ["poweroff", "suspend", "stop", "undeploy"])
def test_deleting_a_machine_at_rest_does_not(cloud: StepCloud, rest: str) -> None:
    mine = add_persistent(cloud)
    oid = start(cloud, mine)
    cloud.ask("one.vm.action", rest, oid)
    cloud.work()
    give_up(cloud, oid, "delete")
    assert cloud.state(oid) == "DONE"
    cloud.work()
    assert states(cloud, 0, mine) == [READY, READY]
    assert cloud.share(0) == (0, 0, 0)
    assert not list((cloud.sim.var / "datastores" / "0").iterdir())


@pytest.mark.parametrize("how", ["terminate", "terminate-hard"])
def test_terminating_in_the_normal_way_does_not(cloud: StepCloud, how: str) -> None:
    mine = add_persistent(cloud)
    oid = start(cloud, mine)
    give_up(cloud, oid, how)
    cloud.work()
    assert states(cloud, 0, mine) == [READY, READY]


def test_dropping_only_the_record_does_not(cloud: StepCloud) -> None:
    mine = add_persistent(cloud)
    oid = start(cloud, mine)
    cloud.ask("one.vm.recover", oid, DELETE_DB)
    assert cloud.state(oid) == "DONE"
    assert states(cloud, mine) == [READY]
    assert cloud.share(0) == (0, 0, 0)


@pytest.mark.parametrize("rest", ["poweroff", "suspend"])
def test_a_machine_at_rest_is_not_recreated(cloud: StepCloud, rest: str) -> None:
    oid = cloud.running()
    cloud.ask("one.vm.action", rest, oid)
    cloud.work()
    text, code = cloud.refused("one.vm.recover", oid, RECREATE)
    assert code == ACTION
    assert "Resume it first" in text


def test_trying_again_deploys_again(cloud: StepCloud) -> None:
    mine = add_persistent(cloud)
    cloud.fail("deploy", "no bridge")
    oid = start(cloud, mine)
    assert (cloud.state(oid), "no bridge" in cloud.error(oid)) == ("BOOT_FAILURE", True)
    cloud.script("deploy", OK)
    cloud.ask("one.vm.recover", oid, RETRY)
    assert cloud.state(oid) == "BOOT"
    cloud.work()
    assert cloud.state(oid) == "RUNNING"
    assert cloud.vm(oid).findtext("DEPLOY_ID") == "answer-of-deploy-one"
    assert states(cloud, 0, mine) == [USED, USED_PERS]


def test_a_delete_that_was_interrupted_goes_on(cloud: StepCloud) -> None:
    mine = add_persistent(cloud)
    cloud.fail("deploy")
    oid = start(cloud, mine)
    give_up(cloud, oid, "terminate")
    cloud.restart()
    assert cloud.state(oid) == "CLEANUP_DELETE"
    cloud.work()
    assert cloud.state(oid) == "DONE"
    assert states(cloud, 0, mine) == [READY, ERROR]


@pytest.mark.parametrize("rest", ["poweroff", "undeploy"])
def test_a_machine_at_rest_boots_again(cloud: StepCloud, rest: str) -> None:
    oid = cloud.running()
    cloud.ask("one.vm.action", rest, oid)
    cloud.work()
    cloud.ask("one.vm.action", "resume", oid)
    if rest == "undeploy":
        assert cloud.state(oid) == "PENDING"
        cloud.ask("one.vm.deploy", oid, 0, False, -1, "")
    cloud.work()
    assert cloud.state(oid) == "RUNNING"
    assert cloud.share(0)[2] == 1
