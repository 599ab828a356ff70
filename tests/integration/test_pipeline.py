"""run, resume and rollback against the simulator, without a hypervisor."""

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from one_kvm_migrate.errors import Cancelled, Unreachable
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.credentials import find
from one_kvm_migrate.pipeline.journal import Journal
from one_kvm_migrate.pipeline.outcome import report
from one_kvm_migrate.pipeline.plan import Plan, RunOptions
from one_kvm_migrate.pipeline.planner import Request, make_plan
from one_kvm_migrate.pipeline.runner import Runner

from .cloud import MAC, Cloud, make_machine, running_cloud

NOTHING: dict[str, list[str]] = {
    "images": [],
    "templates": [],
    "vms": [],
    "ranges": [],
    "files": [],
}
# new run, run active, (intent, done) for convert, register, mac, template, run done.
WRITES = 11


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def vbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_machine(tmp_path_factory.mktemp("vms") / "web")


@pytest.fixture(autouse=True)
def clean_cloud(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test starts and ends with an empty cloud."""
    yield
    if "cloud" in request.fixturenames:
        assert request.getfixturevalue("cloud").leftovers() == NOTHING


def planned(cloud: Cloud, client: Client, vbox: Path, **options: Any) -> Plan:
    request = Request(
        sources=(vbox,),
        datastore=cloud.datastore,
        network=cloud.network,
        name=None,
        options=RunOptions(instantiate=False, **options),
    )
    return make_plan(client, request)


def tree(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def migrate(cloud: Cloud, *arguments: str | Path) -> Any:
    return cloud.run(
        "run", *arguments, "-d", cloud.datastore, "--network", "lab", "--no-instantiate"
    )


def test_run_and_rollback_as_a_user(cloud: Cloud, vbox: Path) -> None:
    before = tree(vbox.parent)
    done = migrate(cloud, vbox, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (machine,) = result["machines"]
    (image,) = machine["images"]
    assert machine["state"] == "done" and machine["vm_id"] is None
    assert tree(vbox.parent) == before
    path = Path(image["path"])
    assert hashlib.sha256(path.read_bytes()).hexdigest() == image["sha256"]
    assert image["ratio"] > 1 and image["virtual_bytes"] == 8 << 20

    stored = cloud.document("one.image.info", image["id"])
    base = cloud.document("one.datastore.info", 1).findtext("BASE_PATH")
    assert stored.findtext("SOURCE") == f"{base}/{path.name}" and "//" in str(base)
    assert stored.findtext("STATE") == "1" and stored.findtext("PERSISTENT") == "1"
    assert stored.findtext("FORMAT") == "qcow2" and stored.findtext("SIZE") == "8"
    assert stored.findtext("TEMPLATE/OKM_SHA256") == image["sha256"]
    assert stored.findtext("TEMPLATE/OKM_RUN_ID") == result["run_id"]

    template = cloud.document("one.template.info", machine["template_id"]).find("TEMPLATE")
    assert template is not None
    assert template.findtext("DISK/IMAGE_ID") == str(image["id"])
    assert template.findtext("NIC/MAC") == MAC
    assert template.findtext("GRAPHICS/TYPE") == "VNC"
    assert template.findtext("GRAPHICS/LISTEN") == "127.0.0.1"
    assert template.findtext("MEMORY") == "256"
    assert cloud.ranges() == [MAC]

    again = migrate(cloud, vbox)
    assert again.returncode == 33
    assert "the name web is already taken by template" in again.stderr
    assert len(list(cloud.folder().iterdir())) == 1

    for _ in range(2):
        undone = cloud.run("rollback", result["run_id"])
        assert undone.returncode == 0, undone.stderr
        assert cloud.leftovers() == NOTHING
    resumed = cloud.run("resume", result["run_id"])
    assert resumed.returncode == 60 and "was rolled back" in resumed.stderr
    listed = json.loads(cloud.run("runs", "--json").stdout)
    assert listed[0] == {**listed[0], "run": result["run_id"], "state": "rolled-back"}


def test_plan_changes_nothing_and_shows_all(cloud: Cloud, vbox: Path) -> None:
    done = cloud.run("plan", "--no-instantiate", vbox, "-d", "default", "--network", "0", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    (machine,) = data["machines"]
    (disk,) = machine["disks"]
    assert disk["needed_bytes"] >= disk["estimate_bytes"] > 0
    assert data["totals"]["estimate_s"] > 0
    assert 'GRAPHICS = [ TYPE = "VNC"' in machine["template"]
    text = cloud.run("plan", "--no-instantiate", vbox, "-d", "default")
    assert "total:" in text.stdout and "left out: no --network" in text.stdout


class Dying(Journal):
    """A journal that kills the process before or after its n-th write."""

    def __init__(self, state_dir: Path, *, at: int, before: bool) -> None:
        super().__init__(state_dir)
        self.at = at
        self.before = before
        self.writes = 0

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        self.writes += 1
        if self.before and self.writes == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        super()._write(statement, values)
        if self.writes == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(cloud: Cloud, vbox: Path, state: Path, *, at: int, before: bool) -> None:
    """Do a run in a child process that dies at the given journal write."""
    child = os.fork()
    if child == 0:
        try:
            with cloud.client() as client:
                journal = Dying(state, at=at, before=before)
                Runner(client, journal).start(planned(cloud, client, vbox))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.timeout(300)
@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
def test_killed_at_any_write_a_resume_finishes(
    cloud: Cloud, vbox: Path, tmp_path: Path, before: bool
) -> None:
    for at in range(1 if not before else 2, WRITES + 1):
        state = tmp_path / str(at)
        run_until_killed(cloud, vbox, state, at=at, before=before)
        with cloud.client() as client, Journal(state) as journal:
            (row,) = journal.runs()
            runner = Runner(client, journal)
            runner.resume(row.run_id)
            outcome = report(journal, row.run_id)
            assert outcome["state"] == "done", (at, outcome)
            assert outcome["machines"][0]["state"] == "done"
            left = cloud.leftovers()
            assert {key: len(value) for key, value in left.items()} == {
                "images": 1,
                "templates": 1,
                "vms": 0,
                "ranges": 1,
                "files": 1,
            }, at
            image = outcome["machines"][0]["images"][0]
            assert hashlib.sha256(Path(image["path"]).read_bytes()).hexdigest() == image["sha256"]
            runner.rollback(row.run_id)
        assert cloud.leftovers() == NOTHING, at


@pytest.mark.timeout(300)
@pytest.mark.parametrize("before", [False, True], ids=["after", "before"])
def test_killed_at_any_write_a_rollback_leaves_nothing(
    cloud: Cloud, vbox: Path, tmp_path: Path, before: bool
) -> None:
    for at in range(1 if not before else 2, WRITES + 1):
        state = tmp_path / str(at)
        run_until_killed(cloud, vbox, state, at=at, before=before)
        with cloud.client() as client, Journal(state) as journal:
            Runner(client, journal).rollback(journal.runs()[0].run_id)
        assert cloud.leftovers() == NOTHING, at


def test_killed_while_qemu_img_writes(cloud: Cloud, vbox: Path, tmp_path: Path) -> None:
    """A half-written file of an earlier try is neither registered nor left."""
    run_until_killed(cloud, vbox, tmp_path, at=3, before=False)
    with cloud.client() as client, Journal(tmp_path) as journal:
        (row,) = journal.runs()
        partial = cloud.folder() / f"okm-{row.run_id}-0-0.partial"
        partial.write_bytes(b"half")
        runner = Runner(client, journal)
        runner.resume(row.run_id)
        assert report(journal, row.run_id)["state"] == "done"
        assert not partial.exists()
        runner.rollback(row.run_id)


class LosingClient(Client):
    """Loses the answer of the first call of a method, after the server has done it."""

    def __init__(self, cloud: Cloud, method: str) -> None:
        super().__init__(find(environ=cloud.environ, home=Path("/nonexistent")))
        self.method = method

    def call(self, method: str, *params: Any) -> str | int:
        value = super().call(method, *params)
        if method == self.method:
            self.method = ""
            raise Unreachable(f"the answer to {method} was lost")
        return value


@pytest.mark.parametrize("method", ["one.image.allocate", "one.template.allocate", "one.vn.add_ar"])
def test_a_lost_answer_makes_no_duplicate(
    cloud: Cloud, vbox: Path, tmp_path: Path, method: str
) -> None:
    with LosingClient(cloud, method) as client, Journal(tmp_path) as journal:
        runner = Runner(client, journal)
        run_id = runner.start(planned(cloud, client, vbox))
        outcome = report(journal, run_id)
        assert (outcome["state"], outcome["exit_code"]) == ("failed", 32)
        runner.resume(run_id)
        assert report(journal, run_id)["state"] == "done"
        assert len(cloud.names("image", "IMAGE")) == 1
        assert len(cloud.names("template", "VMTEMPLATE")) == 1
        assert cloud.ranges() == [MAC]
        runner.rollback(run_id)


class StoppingClient(Client):
    """Is stopped by a signal in the middle of a method."""

    def __init__(self, cloud: Cloud, method: str) -> None:
        super().__init__(find(environ=cloud.environ, home=Path("/nonexistent")))
        self.method = method

    def call(self, method: str, *params: Any) -> str | int:
        if method == self.method:
            self.method = ""
            raise Cancelled("stopped by signal 15")
        return super().call(method, *params)


def test_a_stopped_run_is_kept_and_says_how_to_go_on(
    cloud: Cloud, vbox: Path, tmp_path: Path
) -> None:
    with StoppingClient(cloud, "one.template.allocate") as client, Journal(tmp_path) as journal:
        runner = Runner(client, journal)
        with pytest.raises(Cancelled) as caught:
            runner.start(planned(cloud, client, vbox))
        run_id = journal.runs()[0].run_id
        assert f"resume {run_id}" in caught.value.sentence()
        assert len(cloud.names("image", "IMAGE")) == 1
        runner.resume(run_id)
        assert report(journal, run_id)["state"] == "done"
        runner.rollback(run_id)


def test_a_changed_source_is_not_mixed_in(cloud: Cloud, tmp_path: Path) -> None:
    vbox = make_machine(tmp_path / "vm", "changing")
    with cloud.client() as client, Journal(tmp_path / "state") as journal:
        plan = planned(cloud, client, vbox)
        os.utime(vbox.with_suffix(".vdi"))
        run_id = Runner(client, journal).start(plan)
        outcome = report(journal, run_id)
        assert outcome["exit_code"] == 14
        assert outcome["machines"][0]["images"][0]["path"] is None


def test_one_failing_machine_never_stops_the_rest(cloud: Cloud, tmp_path: Path) -> None:
    good = make_machine(tmp_path / "a", "good", mac=None)
    bad = make_machine(tmp_path / "b", "bad", mac=None)
    bad.with_suffix(".vdi").unlink()
    done = migrate(cloud, bad, good, "--json")
    result = json.loads(done.stdout)
    states = {machine["name"]: machine["state"] for machine in result["machines"]}
    assert states == {"bad": "refused", "good": "done"}
    assert done.returncode not in (0, 1) and "bad" in done.stderr
    assert cloud.run("rollback", result["run_id"]).returncode == 0


def test_two_processes_on_one_run(cloud: Cloud, vbox: Path) -> None:
    done = migrate(cloud, vbox, "--json")
    run_id = json.loads(done.stdout)["run_id"]
    with Journal(Path(cloud.environ["OKM_STATE_DIR"])) as journal, journal.lock(run_id):
        busy = cloud.run("rollback", run_id)
    assert busy.returncode == 61 and str(os.getpid()) in busy.stderr
    assert cloud.run("rollback", run_id).returncode == 0
