"""bin/demo as a user runs it: its numbers are real, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import Cancelled, RunLocked
from one_kvm_migrate.lab.demo import run_name
from one_kvm_migrate.lab.leftovers import look

# A test run in the background hands down an ignored SIGINT, as shells do.
DEMO = ["env", "--default-signal=INT", sys.executable, "-m", "one_kvm_migrate.lab.demo", "--dir"]
MARK = "OKM_TEST_ROOT"
STAGES = {"build_machine", "start_cloud", "inspect", "plan", "migrate", "check_inside", "resize"}


def start(folder: Path) -> "subprocess.Popen[str]":
    # Its own mark, so that only what this demo starts is looked for afterwards.
    environ = {**os.environ, MARK: str(folder)}
    return subprocess.Popen(
        [*DEMO, str(folder)],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_clean(folder: Path) -> None:
    name = run_name(folder)
    places = (Path("/run", name), Path("/sys/class/net", name))

    def clean() -> bool:
        return not look(str(folder)).processes and not any(place.exists() for place in places)

    wait_until(clean, Deadline(15), what=f"the demo to be gone: {look(str(folder)).processes}")


@pytest.mark.timeout(280)
def test_the_whole_demo(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = start(folder)
    output, errors = process.communicate(timeout=270)
    assert (process.returncode, errors) == (0, "")
    result = json.loads((folder / "result.json").read_text())
    assert result["source_bytes"] == (folder / "machine" / "demo.vdi").stat().st_size
    assert result["image_bytes"] == Path(result["image_path"]).stat().st_size
    assert result["ratio"] == round(result["source_bytes"] / result["image_bytes"], 2) > 1
    assert result["vm_state"] == "RUNNING"
    assert result["proof"]["verdict"] == "proven"
    assert result["resize"]["before"]["nproc"] == 1
    assert result["resize"]["after"]["nproc"] == 2
    gained = (
        result["resize"]["after"]["memory_total_mib"]
        - result["resize"]["before"]["memory_total_mib"]
    )
    assert 200 <= gained <= 300
    assert set(result["ids"]) == {"datastore", "host", "network", "image", "template", "vm"}
    assert set(result["seconds"]) >= STAGES
    with Image.open(result["screenshot"]) as image:
        assert image.format == "PNG"
    assert "$ one-kvm-migrate run " in output
    assert result["domain_type"] == "qemu (emulated)"
    assert "The VM was RUNNING, domain type qemu (emulated)" in output
    assert "serial line: " in output
    assert '(what "onevm resize 0 --cpu 2 --vcpu 2 --memory 768 --enforce" sends)' in output
    auth = (folder / "one" / "one_auth").read_text().strip()
    assert auth.partition(":")[2] not in output
    wait_clean(folder)


@pytest.mark.timeout(120)
def test_ctrl_c_stops_everything(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    process = start(folder)
    ready = folder / "one" / "ready.json"
    wait_until(ready.exists, Deadline(60), what="the demo's OpenNebula")

    locked = subprocess.run(
        [*DEMO, str(folder)], capture_output=True, text=True, timeout=30, check=False
    )
    assert locked.returncode == RunLocked.exit_code
    assert "another bin/demo works in" in locked.stderr

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == Cancelled.exit_code
    assert errors == "bin/demo: stopped by Ctrl-C; everything it started is stopped.\n"
    wait_clean(folder)
