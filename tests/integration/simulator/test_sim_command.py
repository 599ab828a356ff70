"""The command ``sim``: what it says, refuses, makes, and leaves behind."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyone
import pytest

from one_kvm_migrate import cli
from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.sim.objects import vnets
from one_kvm_migrate.sim.service import Sim, SimConfig
from tests.integration.simulator.asker import TIMEOUT_S, Asker

PROGRAM = str(Path(sys.executable).with_name("one-kvm-migrate"))
MAIN = "import sys; from one_kvm_migrate.cli.main import main; sys.exit(main())"
ANY_LIBVIRT = "test:///default"


def start(*options: str | Path) -> "subprocess.Popen[str]":
    argv = [PROGRAM, "sim", *map(str, options)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refusal(*options: str | Path, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """Status and the one line of a start that fails."""
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "sim", *map(str, options)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd="/",  # else the package is taken from here
        env={**os.environ, **(environ or {})},
    )
    assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr
    return done.returncode, done.stderr


@contextmanager
def served(folder: Path, *options: str) -> Iterator[list[str]]:
    """A running simulator in *folder*; the list is filled with what it said at its end."""
    said: list[str] = []
    ready = folder.with_name("ready.json")
    process = start("--dir", folder, "--port", "0", "--ready-file", ready, *options)
    try:
        wait_until(lambda: ready.exists() or None, Deadline(TIMEOUT_S), what="the simulator")
        yield said
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    said += [*out.splitlines(), *err.splitlines()]


def test_it_serves_until_told_to_stop(tmp_path: Path) -> None:
    folder, ready = tmp_path / "s", tmp_path / "ready.json"
    with served(folder) as said:
        told = json.loads(ready.read_text())
        auth = folder / "one_auth"
        assert auth.stat().st_mode & 0o777 == 0o600
        one = pyone.OneServer(told["endpoint"], session=auth.read_text().strip())
        assert one.system.version() == "7.5.80"
    assert said == [
        told["endpoint"],
        f"export ONE_XMLRPC={told['endpoint']} ONE_AUTH={auth}",
        "datastores: system, default, files",
        "hosts: none",
        "networks: none",
    ]
    assert not ready.exists()


def test_a_taken_port_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, error = refusal("--dir", tmp_path / "new" / "t", "--port", port)
    assert status == 3
    assert f"port {port}" in error
    assert list(tmp_path.iterdir()) == []


def test_networks_are_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "s"
    for _ in range(2):
        with served(folder, "--network", "lab=br0", "--network", "other lab=br1") as said:
            pass
        assert said[-1] == "networks: lab, other lab"
    status, error = refusal("--dir", folder, "--port", "0", "--network", "lab=br7")
    assert status == 3
    assert "the network lab is on bridge br0 already, not on br7" in error
    with Sim(SimConfig(dir=folder)) as sim:
        nets = [Asker(sim).xml("one.vn.info", oid) for oid in (0, 1)]
    for net, bridge, address in zip(nets, ("br0", "br1"), ("10.9.0.10", "10.9.1.10"), strict=True):
        assert (net.findtext("VN_MAD"), net.findtext("BRIDGE")) == ("dummy", bridge)
        assert net.findtext("STATE") == str(vnets.READY)
        assert [ar.findtext("IP") for ar in net.findall("AR_POOL/AR")] == [address]
        assert net.findtext("AR_POOL/AR/SIZE") == "200"


@pytest.mark.parametrize(
    ("options", "status"),
    [
        (("--port", "70000"), 2),
        (("--remotes", "/none"), 3),
        (("--network", "lab"), 2),
        (("--network", "=br0"), 2),
        (("--network", "lab=a-name-too-long-for-it"), 2),
        (("--network", "lab=br/0"), 2),
        (("--network", f"{'n' * 129}=br0"), 3),
    ],
)
def test_wrong_options(tmp_path: Path, options: tuple[str, ...], status: int) -> None:
    assert refusal("--dir", tmp_path / "t", *options)[0] == status


def test_another_password_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one_auth").write_text("oneadmin:first\n")
    status, error = refusal("--dir", tmp_path, "--password", "second", "--port", "0")
    assert status == 3
    assert "another password" in error
    assert "second" not in error


def test_an_installed_package_has_no_driver_scripts(tmp_path: Path) -> None:
    package = tmp_path / "site" / "one_kvm_migrate"
    shutil.copytree(Path(cli.__file__).parents[1], package)
    environ = {"PYTHONPATH": str(package.parent)}
    options = ("--dir", tmp_path / "t", "--port", "0", "--libvirt-uri", ANY_LIBVIRT)
    status, error = refusal(*options, environ=environ)
    assert status == 3
    assert error.endswith("the driver scripts are not here. Give --remotes CHECKOUT/remotes.\n")
    assert not (tmp_path / "t").exists()


def test_remotes_without_the_driver_are_refused(tmp_path: Path) -> None:
    (tmp_path / "remotes").mkdir()
    options = ("--libvirt-uri", ANY_LIBVIRT, "--remotes", tmp_path / "remotes")
    status, error = refusal("--dir", tmp_path / "t", "--port", "0", *options)
    assert status == 3
    assert f"the driver scripts are not here, in {tmp_path}/remotes" in error


def test_the_help_says_the_default_domain_type() -> None:
    done = subprocess.run([PROGRAM, "sim", "--help"], capture_output=True, text=True, check=True)
    assert "(default auto)" in " ".join(done.stdout.split())
