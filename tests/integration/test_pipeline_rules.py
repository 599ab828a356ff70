"""What a run may touch, what it refuses before copying, and how it ends when disturbed."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import Cancelled, PlanChanged
from one_kvm_migrate.opennebula.client import Client
from one_kvm_migrate.opennebula.credentials import find
from one_kvm_migrate.opennebula.template import Attributes, to_xml
from one_kvm_migrate.pipeline.journal import Journal
from one_kvm_migrate.pipeline.planner import make_plan
from one_kvm_migrate.pipeline.runner import Runner

from .cloud import COMMAND, MAC, Cloud, make_machine, running_cloud
from .test_pipeline import NOTHING, planned


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def vbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_machine(tmp_path_factory.mktemp("vms") / "web")


@pytest.fixture(autouse=True)
def clean_cloud(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "cloud" in request.fixturenames:
        assert request.getfixturevalue("cloud").leftovers() == NOTHING


def run_id_of(cloud: Cloud, *arguments: str | Path) -> str:
    done = cloud.run("run", *arguments, "-d", "default", "--no-instantiate", "--json")
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["run_id"])


def test_rollback_keeps_its_hands_off_another_cloud(
    cloud: Cloud, vbox: Path, tmp_path: Path
) -> None:
    ours = run_id_of(cloud, vbox)
    with running_cloud(tmp_path) as other:
        theirs = run_id_of(other, make_machine(tmp_path / "vm", "bob"))
        before = other.leftovers()
        journal = cloud.environ["OKM_STATE_DIR"]
        for command in ("rollback", "resume"):
            wrong = other.run(command, ours, "--state-dir", journal)
            assert wrong.returncode == 62, wrong.stderr
            assert "belongs to oneadmin at" in wrong.stderr
        assert other.leftovers() == before
        assert other.run("rollback", theirs).returncode == 0
    assert cloud.run("rollback", ours).returncode == 0


def test_the_same_endpoint_may_be_another_cloud(cloud: Cloud, vbox: Path, tmp_path: Path) -> None:
    with cloud.client() as client, Journal(tmp_path) as journal:
        runner = Runner(client, journal)
        run_id = runner.start(planned(cloud, client, vbox))
        row = journal.run(run_id)
        moved = row.plan.replace("//datastores/1", "//datastores/7")
        journal._write("UPDATE runs SET plan = ? WHERE run_id = ?", (moved, run_id))
        with pytest.raises(PlanChanged, match="is not the one of run"):
            runner.rollback(run_id)
        journal._write("UPDATE runs SET plan = ? WHERE run_id = ?", (row.plan, run_id))
        runner.rollback(run_id)


def test_rollback_spares_the_range_and_clones_of_others(
    cloud: Cloud, vbox: Path, tmp_path: Path
) -> None:
    first = run_id_of(cloud, vbox, "--network", "lab", "--name", "a")
    with Journal(Path(cloud.environ["OKM_STATE_DIR"])) as journal:
        second = run_id_of(cloud, vbox, "--network", "lab", "--name", "b")
        # As if it had been killed before it knew that the range was there already.
        journal.intend(second, 0, "mac:0", 2)
    assert cloud.run("rollback", second).returncode == 0
    assert cloud.ranges() == [MAC]
    with cloud.client() as one:
        template = one.document("one.templatepool.info", -2, -1, -1).findtext("VMTEMPLATE/ID")
        clone = one.number("one.template.clone", int(template or -1), "precious", False)
        assert cloud.run("rollback", first).returncode == 0
        assert cloud.names("template", "VMTEMPLATE") == ["precious"]
        one.call("one.template.delete", clone, False)


def test_an_image_in_error_is_rolled_back_too(cloud: Cloud, vbox: Path) -> None:
    done = cloud.run("run", vbox, "-d", "default", "--no-instantiate", "--json")
    result = json.loads(done.stdout)
    Path(result["machines"][0]["images"][0]["path"]).unlink()
    undone = cloud.run("rollback", result["run_id"])
    assert undone.returncode == 0, undone.stderr


def test_names_and_macs_are_judged_before_copying(cloud: Cloud, tmp_path: Path) -> None:
    odd = make_machine(tmp_path / "odd", "R&D 'lab'", mac=None)
    plan = cloud.run("plan", "--no-instantiate", odd, "-d", "default", "--json")
    (machine,) = json.loads(plan.stdout)["machines"]
    assert machine["name"] == "R-D -lab-" and "becomes R-D -lab-" in machine["warnings"][-1]
    run_id = run_id_of(cloud, odd)
    assert cloud.names("image", "IMAGE") == ["R-D -lab-"]
    assert cloud.run("rollback", run_id).returncode == 0

    one = make_machine(tmp_path / "one", "one")
    two = make_machine(tmp_path / "two", "two")
    group = make_machine(tmp_path / "group", "group", mac="01:00:5e:00:00:01")
    done = cloud.run(
        "plan", "--no-instantiate", one, two, group, "-d", "default", "--network", "lab"
    )
    assert done.returncode == 33
    assert f"the MAC address {MAC} of two is used twice" in done.stderr
    assert "01:00:5e:00:00:01 is no address of a network adapter" in done.stderr
    assert (
        cloud.run(
            "plan", "--no-instantiate", one, two, "-d", "default", "--network", "0", "--new-mac"
        ).returncode
        == 0
    )


@pytest.mark.parametrize(
    ("extra", "code", "words"),
    [
        (("BRIDGE_LIST", "nas1"), 33, "BRIDGE_LIST"),
        (("DRIVER", "raw"), 33, "holds raw images only"),
        (("LIMIT_MB", "1"), 20, "below its LIMIT_MB"),
    ],
)
def test_datastores_that_will_not_do(
    cloud: Cloud, vbox: Path, extra: tuple[str, str], code: int, words: str
) -> None:
    base: Attributes = [("NAME", f"ds-{extra[0]}"), ("DS_MAD", "fs"), ("TM_MAD", "ssh")]
    with cloud.client() as one:
        number = one.number("one.datastore.allocate", to_xml([*base, extra]), -1)
        folder = one.document("one.datastore.info", number).findtext("BASE_PATH")
    Path(str(folder)).mkdir(parents=True, exist_ok=True)
    done = cloud.run("run", vbox, "-d", str(number), "-q")
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr


def test_every_format_of_a_plan_and_of_a_refused_run(cloud: Cloud, vbox: Path) -> None:
    for flag, first in (("-j", "{"), ("-y", "endpoint:"), ("-x", "<PLAN>"), ("--csv", "machine,")):
        done = cloud.run("plan", "--no-instantiate", vbox, "-d", "default", flag)
        assert done.returncode == 0 and done.stdout.startswith(first), (flag, done.stderr)
    refused = cloud.run("run", "/nowhere.vbox", "-d", "default", "--json")
    assert refused.returncode == 10
    assert json.loads(refused.stdout)["failed_sources"][0]["exit_code"] == 10
    low = ["plan", "--no-instantiate", str(vbox), "-d", "default", "--memory-max", "10", "-j"]
    (machine,) = json.loads(cloud.run(*low).stdout)["machines"]
    assert "--memory-max 10 is below what the machine has, 256 is used" in machine["warnings"]
    listen = cloud.run("plan", "--no-instantiate", vbox, "-d", "default", "--listen", "bogus")
    assert listen.returncode == 2 and "not an IP address" in listen.stderr


class CancellingClient(Client):
    """Is stopped by a signal when a method is called for the n-th time."""

    def __init__(self, cloud: Cloud, method: str, count: int = 1) -> None:
        super().__init__(find(environ=cloud.environ, home=Path("/nonexistent")))
        self.method, self.count = method, count

    def call(self, method: str, *params: Any) -> str | int:
        if method == self.method:
            self.count -= 1
            if self.count == 0:
                raise Cancelled("stopped by signal 15")
        return super().call(method, *params)


def test_a_cancelled_rollback_stops_and_can_be_repeated(
    cloud: Cloud, vbox: Path, tmp_path: Path
) -> None:
    other = make_machine(tmp_path / "vm", "other", mac=None)
    with cloud.client() as client, Journal(tmp_path / "state") as journal:
        plan = planned(cloud, client, vbox)
        both = make_plan(client, _request_for(cloud, vbox, other))
        assert len(both.machines) == 2 and plan.machines
        run_id = Runner(client, journal).start(both)
        with (
            CancellingClient(cloud, "one.image.delete") as stopping,
            pytest.raises(Cancelled),
        ):
            Runner(stopping, journal).rollback(run_id)
        assert len(cloud.names("image", "IMAGE")) == 2
        assert str(journal.run(run_id).state) == "failed"
        Runner(client, journal).rollback(run_id)


def _request_for(cloud: Cloud, *sources: Path) -> Any:
    from one_kvm_migrate.pipeline.plan import RunOptions
    from one_kvm_migrate.pipeline.planner import Request

    return Request(
        sources=sources,
        datastore=cloud.datastore,
        network=None,
        name=None,
        options=RunOptions(instantiate=False),
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_with_130_and_a_way_on(
    cloud: Cloud, tmp_path: Path, number: signal.Signals
) -> None:
    big = tmp_path / "big.raw"
    with big.open("wb") as stream:
        for _ in range(48):
            stream.write(os.urandom(1 << 20))
    argv = [*COMMAND, "run", str(big), "-d", "default", "--no-instantiate"]
    # A test run in the background hands down an ignored SIGINT, as shells do.
    argv = ["env", "--default-signal=INT,HUP", *argv]
    process = subprocess.Popen(argv, env=cloud.environ, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr:
        wait_until(
            lambda: any(cloud.folder().glob("*.partial")) or process.poll() is not None,
            Deadline(30),
            what="the conversion to begin",
            interval_s=0.01,
        )
        process.send_signal(number)
        errors = process.stderr.read()
    assert process.wait(30) == 130, errors
    assert "resume 20" in errors and "Traceback" not in errors
    assert not list(cloud.folder().iterdir())
    run_id = errors.split("rollback ")[1].split(".")[0]
    assert cloud.run("rollback", run_id).returncode == 0


def test_a_reader_that_leaves_changes_nothing(cloud: Cloud, vbox: Path) -> None:
    command = " ".join([*COMMAND, "run", str(vbox), "-d default --no-instantiate"])
    script = f"set -o pipefail; {command} 2>&1 | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], env=cloud.environ, check=False)
    assert done.returncode == 0
    assert cloud.names("image", "IMAGE") == ["web"]
    newest = json.loads(cloud.run("runs", "--json").stdout)[0]
    assert newest["state"] == "done"
    assert cloud.run("rollback", newest["run"]).returncode == 0
