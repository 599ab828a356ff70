"""Life cycle of machines: which actions are possible when, and what failures leave."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from one_kvm_migrate.sim.vm import monitor
from tests.simvm import GIB_KIB, MACHINE, StepCloud

ACTION = 0x800


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[StepCloud]:
    made = StepCloud(tmp_path)
    yield made
    made.sim.stop()


def test_each_state_is_seen_on_the_way(cloud: StepCloud) -> None:
    oid = cloud.ask("one.vm.allocate", MACHINE, False)
    cloud.ask("one.vm.deploy", oid, 0, False, 0, "")
    seen = [cloud.state(oid)]
    while cloud.work(1):
        seen.append(cloud.state(oid))
    assert seen == ["PROLOG", "BOOT", "RUNNING"]
    # The host's prefix was put before the script.
    assert cloud.vm(oid).findtext("DEPLOY_ID") == "answer-of-deploy-one"
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
        ("cancel", "poweroff-hard", "CANCEL: noExitCode: 1", "RUNNING"),
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
