"""Many machines at once, and a simulator that is stopped in the middle of its work."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lxml import etree

from one_kvm_migrate.deadline import Deadline, wait_until
from tests.simvm import MACHINE, StepCloud

CLIENTS = 12
SLOW = "#!/bin/sh\ncat > /dev/null\necho $$ > {pid}\nsleep 60\n"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[StepCloud]:
    made = StepCloud(tmp_path, step=False)
    made.ask("one.vn.add_ar", 0, "AR=[TYPE=IP4,IP=10.0.1.1,SIZE=20]")
    yield made
    made.sim.stop()


def test_machines_of_many_clients_at_once(cloud: StepCloud) -> None:
    """Nothing is given twice, nothing is lost, and all is given back."""
    text = MACHINE.replace("MEMORY=512", "MEMORY=16").replace("CPU=1", "CPU=0.1")

    def start(number: int) -> int:
        oid: int = cloud.ask("one.vm.allocate", text, False)
        cloud.ask("one.vm.deploy", oid, number % 2, True, 0, "")
        return oid

    with ThreadPoolExecutor(CLIENTS) as pool:
        numbers = list(pool.map(start, range(CLIENTS)))
    cloud.settle()
    assert {cloud.state(oid) for oid in numbers} == {"RUNNING"}
    documents = [cloud.vm(oid) for oid in numbers]
    for path in ("TEMPLATE/GRAPHICS/PORT", "TEMPLATE/NIC/IP", "TEMPLATE/OS/UUID"):
        assert len({vm.findtext(path) for vm in documents}) == CLIENTS
    assert [cloud.share(host)[2] for host in (0, 1)] == [CLIENTS // 2, CLIENTS // 2]
    image = etree.fromstring(cloud.ask("one.image.info", 0))
    assert image.findtext("RUNNING_VMS") == str(CLIENTS)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda oid: cloud.ask("one.vm.action", "terminate-hard", oid), numbers))
    cloud.settle()
    assert {cloud.state(oid) for oid in numbers} == {"DONE"}
    assert [cloud.share(host) for host in (0, 1)] == [(0, 0, 0), (0, 0, 0)]
    image = etree.fromstring(cloud.ask("one.image.info", 0))
    assert (image.findtext("RUNNING_VMS"), image.findtext("STATE")) == ("0", "1")
    assert etree.fromstring(cloud.ask("one.vn.info", 0)).findtext("USED_LEASES") == "0"
    assert not list((cloud.sim.var / "datastores" / "0").iterdir())


def test_stopping_ends_the_script_and_starting_does_it_again(
    cloud: StepCloud, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    good = (cloud.driver / "deploy").read_text()
    cloud.script("deploy", SLOW.format(pid=pid_file))
    oid = cloud.ask("one.vm.allocate", MACHINE, False)
    cloud.ask("one.vm.deploy", oid, 0, False, 0, "")
    wait_until(
        lambda: pid_file.exists() and pid_file.read_text().strip(),
        Deadline(20),
        what="the script to start",
    )
    began = time.monotonic()
    cloud.sim.stop()
    assert time.monotonic() - began < 20
    assert not Path(f"/proc/{pid_file.read_text().strip()}").exists()
    cloud.script("deploy", good)
    cloud.sim = cloud.new_sim()
    cloud.sim.start()
    cloud.settle()
    assert cloud.state(oid) == "RUNNING"
